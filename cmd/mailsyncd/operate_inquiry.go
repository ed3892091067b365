package main

import (
	"context"
	"errors"
	"time"

	"mailsyncd/admin"
	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
)

// inquiryDesk answers "why" and "is it all there". The answers about a mail and
// about a candidate are in explain_mail.go and explain_candidate.go.
type inquiryDesk struct{ *daemon }

// Explain answers about a mail or a candidate, whichever was asked for.
func (d inquiryDesk) Explain(ctx context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	if d.snapshot() == nil {
		return admin.Explanation{}, admin.Conflict("no complete directory has been read yet, so nothing can be decided; check directory.file")
	}
	if q.Candidate != "" {
		c, err := d.explainCandidate(ctx, q.Candidate)
		return admin.Explanation{Candidate: c}, err
	}
	m, err := d.explainMail(ctx, q.MessageID, q.Mailbox)
	return admin.Explanation{Mail: m}, err
}

// ---- messages ----------------------------------------------------------

func (d inquiryDesk) CandidateMessages(ctx context.Context, q admin.CandidateMessageQuery) (admin.CandidateMessageList, error) {
	list := admin.CandidateMessageList{Items: []admin.CandidateMessage{}}
	if _, err := d.candidate(ctx, q.Candidate); err != nil {
		return list, err
	}
	found, err := d.store.CandidateMessages(ctx, q.Candidate, q.After, q.Limit+1)
	if err != nil {
		return list, err
	}
	if len(found) > q.Limit {
		found = found[:q.Limit]
		list.Next = found[q.Limit-1].ID
	}
	for _, m := range found {
		list.Items = append(list.Items, candidateMessage(m, q.Candidate))
	}
	return list, nil
}

// candidateMessage is a message with what concerns one candidate: of the others
// it names, nothing is said.
func candidateMessage(m store.LedgerMessage, ref string) admin.CandidateMessage {
	out := admin.CandidateMessage{ID: m.ID, Thread: m.Thread, Mailboxes: []admin.MessageHolder{}}
	for _, h := range m.Holdings {
		out.Mailboxes = append(out.Mailboxes, admin.MessageHolder{ID: h.ID, User: h.User, Link: h.Link})
	}
	for _, p := range m.Pairs {
		if p.Candidate == ref {
			out.Address, out.Fields = p.Address, p.Fields
			out.State, out.Event, out.Since = string(p.State), p.Event, p.At
		}
	}
	return out
}

// ---- reconcile ---------------------------------------------------------

// errNotServed is the failure of a mailbox that left the schedule while somebody
// waited for it.
var errNotServed = errors.New("it was not polled; `mailsyncd status` says why")

func (d inquiryDesk) Reconcile(ctx context.Context, r admin.Reconcile) (admin.Reconciliation, error) {
	if r.Since.After(time.Now()) {
		return admin.Reconciliation{}, admin.Invalid("since lies in the future; choose an earlier time")
	}
	ids, err := taskDesk(d).boxes(d.cfg.Load(), r.Mailbox)
	if err != nil {
		return admin.Reconciliation{}, err
	}
	calls := make(map[string]*reconcileCall, len(ids))
	for _, id := range ids {
		if m := d.fleet.member(id); m != nil {
			calls[id] = d.fleet.ask(ctx, m, r.Since, r.Repair)
		}
	}
	failed := d.kick(ctx, r.Mailbox)
	sum := admin.Reconciliation{Total: newCounts()}
	for _, id := range ids {
		if calls[id] == nil {
			sum.Failed = append(sum.Failed, admin.FailedMailbox{Mailbox: id, Error: mailbox.ErrNotReady.Error()})
			continue
		}
		proof, err := d.fleet.answer(calls[id], failed[id])
		d.enter(ctx, &sum, id, proof, err)
	}
	if ctx.Err() != nil {
		return sum, admin.Unavailable("the call ended before every mailbox was reconciled")
	}
	return sum, nil
}

// kick has one mailbox polled, or all, and waits for it.
func (d *daemon) kick(ctx context.Context, id string) map[string]error {
	if id == "" {
		return d.fleet.kickAll(ctx)
	}
	return map[string]error{id: d.fleet.schedule.Kick(ctx, id)}
}

// enter adds the outcome of one mailbox.
func (d inquiryDesk) enter(ctx context.Context, sum *admin.Reconciliation, id string, proof mailbox.Reconciliation, err error) {
	if err != nil {
		sum.Failed = append(sum.Failed, d.failed(ctx, id, err))
		return
	}
	c := newCounts()
	c.Messages, c.Delivered, c.Pending, c.Held, c.Dead = proof.Messages, proof.Delivered, proof.Pending, proof.Held, proof.Dead
	c.Unaccounted, c.Repaired = proof.Unaccounted, proof.Repaired
	for guard, n := range proof.Refused {
		c.Refused[string(guard)] = n
	}
	sum.Mailboxes = append(sum.Mailboxes, admin.ReconciledMailbox{Mailbox: id, Since: proof.Since, Counts: c})
	add(&sum.Total, c)
}

func newCounts() admin.ReconcileCounts { return admin.ReconcileCounts{Refused: map[string]int{}} }

func add(total *admin.ReconcileCounts, c admin.ReconcileCounts) {
	total.Messages += c.Messages
	total.Delivered += c.Delivered
	total.Pending += c.Pending
	total.Held += c.Held
	total.Dead += c.Dead
	total.Unaccounted += c.Unaccounted
	total.Repaired += c.Repaired
	for guard, n := range c.Refused {
		total.Refused[guard] += n
	}
}

// failed says why a mailbox could not be asked, and what to do.
func (d *daemon) failed(ctx context.Context, id string, err error) admin.FailedMailbox {
	switch {
	case errors.Is(err, schedule.ErrUnknown), errors.Is(err, schedule.ErrRemoved), errors.Is(err, schedule.ErrParked), errors.Is(err, errNotServed):
		row, rowErr := d.store.Mailbox(ctx, id)
		if rowErr == nil && !tried(row.State) {
			return admin.FailedMailbox{
				Mailbox: id, Class: row.Class, Error: "it is " + string(row.State) + " and not polled", Action: unpolled(row.State),
			}
		}
		return admin.FailedMailbox{Mailbox: id, Error: err.Error()}
	case errors.Is(err, schedule.ErrAsked):
		return d.failedAs(id, providers.ClassThrottled, err)
	case errors.Is(err, mailbox.ErrNotReady), errors.Is(err, store.ErrFull), errors.Is(err, schedule.ErrStopped):
		return admin.FailedMailbox{Mailbox: id, Error: err.Error()}
	}
	return d.failedAs(id, providers.Classify(err), err)
}

func (d *daemon) failedAs(id string, class providers.Class, err error) admin.FailedMailbox {
	return admin.FailedMailbox{Mailbox: id, Class: string(class), Error: err.Error(), Action: d.action(id, class)}
}

// action says what to do about a failure of a mailbox, by its provider.
func (d *daemon) action(id string, class providers.Class) string {
	m, _ := d.cfg.Load().Mailbox(id)
	return mailbox.ActionFor(string(m.Provider), class)
}

// unpolled says what makes a mailbox polled again, by the state it is in.
func unpolled(state store.MailboxState) string {
	switch state {
	case store.MailboxPaused:
		return "`mailsyncd mailbox resume` polls it again"
	case store.MailboxSuspended:
		return "its ATS user is disabled; it resumes when the user is enabled"
	case store.MailboxUnauthorized:
		return mailbox.Action(providers.ClassUnauthorized)
	}
	return ""
}
