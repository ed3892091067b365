package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/matcher"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
)

// errNotAsked is why a mailbox is not opened for an explanation.
type errNotAsked struct{ state store.MailboxState }

func (e errNotAsked) Error() string { return "it is " + string(e.state) + " and not opened" }

// explainMail looks for a mail in every mailbox, or in one, and decides each
// copy again. It works beside the passes, few mailboxes at a time.
func (d inquiryDesk) explainMail(ctx context.Context, messageID, only string) (*admin.ExplainedMail, error) {
	messageID = strings.Trim(strings.TrimSpace(messageID), "<>")
	if messageID == "" || strings.ContainsFunc(messageID, notPrintable) {
		return nil, admin.Invalid("this is not a Message-ID; copy it from the mail's header, with or without angle brackets")
	}
	cfg := d.cfg.Load()
	ids, err := taskDesk(d).boxes(cfg, only)
	if err != nil {
		return nil, err
	}
	out := &admin.ExplainedMail{Asked: len(ids)}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sessionsAtOnce(cfg))
	for _, id := range ids {
		g.Go(func() error {
			copies, row, err := d.explainIn(ctx, id, messageID)
			if ctx.Err() != nil {
				return admin.Unavailable("the call ended before every mailbox was asked")
			}
			mu.Lock()
			defer mu.Unlock()
			out.Copies = append(out.Copies, copies...)
			switch {
			case err != nil:
				out.Failed = append(out.Failed, d.unexplained(ctx, id, err))
			case !tried(row.State):
				out.Unpolled = append(out.Unpolled, admin.WaitingMailbox{Mailbox: id, State: string(row.State)})
			}
			return nil
		})
	}
	err = g.Wait()
	slices.SortStableFunc(out.Copies, func(a, b admin.ExplainedCopy) int { return cmp.Compare(a.Mailbox, b.Mailbox) })
	slices.SortFunc(out.Failed, func(a, b admin.FailedMailbox) int { return cmp.Compare(a.Mailbox, b.Mailbox) })
	slices.SortFunc(out.Unpolled, func(a, b admin.WaitingMailbox) int { return cmp.Compare(a.Mailbox, b.Mailbox) })
	return out, err
}

func notPrintable(r rune) bool { return r <= ' ' || r == 0x7f }

// sessionsAtOnce spares the mail servers: these sessions come on top of those of
// the schedule.
func sessionsAtOnce(cfg *config.Config) int {
	return max(1, min(cfg.Sync.Concurrency, cfg.Sync.PerHost.Connections)/2)
}

// unexplained says why a mailbox gave no answer.
func (d inquiryDesk) unexplained(ctx context.Context, id string, err error) admin.FailedMailbox {
	var closed errNotAsked
	if errors.As(err, &closed) {
		return admin.FailedMailbox{Mailbox: id, Error: err.Error(), Action: unpolled(closed.state)}
	}
	return d.failed(ctx, id, err)
}

// explainIn asks one mailbox. One whose user is disabled stays shut, and one
// whose credential was refused is not tried: that may lock the account.
func (d inquiryDesk) explainIn(ctx context.Context, id, messageID string) ([]admin.ExplainedCopy, store.Mailbox, error) {
	m := d.fleet.member(id)
	if m == nil {
		return nil, store.Mailbox{}, mailbox.ErrNotReady
	}
	row, err := m.box.Row(ctx)
	if err != nil {
		return nil, row, err
	}
	if row.State == store.MailboxSuspended || row.State == store.MailboxUnauthorized {
		return nil, row, errNotAsked{row.State}
	}
	found, err := m.box.Explain(ctx, messageID)
	if err != nil {
		return nil, row, err
	}
	copies := make([]admin.ExplainedCopy, len(found))
	for i, e := range found {
		if copies[i], err = d.explainCopy(ctx, row, e); err != nil {
			return nil, row, err
		}
	}
	return copies, row, nil
}

// explainCopy joins the decision with what the ledger has.
func (d inquiryDesk) explainCopy(ctx context.Context, row store.Mailbox, e mailbox.Explained) (admin.ExplainedCopy, error) {
	c := admin.ExplainedCopy{Mailbox: row.ID, Verdict: verdictOn(e.Decision)}
	kept, err := d.store.Message(ctx, e.Message)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return c, fmt.Errorf("asking the ledger: %w", err)
	}
	pairs := map[string]store.LedgerPair{}
	for _, p := range kept.Pairs {
		pairs[p.Candidate] = p
	}
	if c.Verdict == admin.VerdictNoCandidate && len(pairs) == 0 {
		return c, nil // not even where it lies is said
	}
	c.Folder, c.Arrival, c.Horizon = e.Folder, e.Arrival, e.Horizon
	for _, m := range e.Decision.Matches {
		match, err := d.explainMatch(ctx, row, m, pairs[m.Ref])
		if err != nil {
			return c, err
		}
		c.Matches = append(c.Matches, match)
		delete(pairs, m.Ref)
	}
	for _, r := range e.Decision.Refusals {
		c.Refusals = append(c.Refusals, refusal(r))
	}
	for _, p := range kept.Pairs {
		if _, left := pairs[p.Candidate]; left {
			c.Kept = append(c.Kept, admin.KeptPair{Candidate: p.Candidate, State: string(p.State), Event: p.Event, Since: p.At})
		}
	}
	return c, nil
}

func verdictOn(d matcher.Decision) string {
	switch {
	case len(d.Matches) > 0:
		return admin.VerdictMatched
	case len(d.Refusals) > 0:
		return admin.VerdictRefused
	}
	return admin.VerdictNoCandidate
}

func refusal(r matcher.Refusal) admin.Refusal {
	return admin.Refusal{Candidate: r.Ref, Guard: string(r.Guard), Detail: r.Detail, Fields: r.Fields, Mend: r.Guard.Mend()}
}

func (d inquiryDesk) explainMatch(ctx context.Context, row store.Mailbox, m matcher.Match, p store.LedgerPair) (admin.Match, error) {
	out := admin.Match{
		Candidate: m.Ref, Address: m.Address, Fields: m.Fields,
		State: string(p.State), Event: p.Event, Since: p.At,
	}
	c, err := d.candidate(ctx, m.Ref)
	if err != nil && !isNotFound(err) { // it may have gone since the decision
		return out, err
	}
	out.Jobs = d.jobs(c.Jobs)
	if out.State == "" {
		out.Note, err = d.whyNotYet(ctx, row, m.Ref)
	}
	return out, err
}

// jobs are a candidate's jobs with what they count as.
func (d *daemon) jobs(refs []string) []admin.Job {
	jobs := []admin.Job{}
	for _, ref := range refs {
		state, _ := d.snapshot().Job(ref) // one that was never seen counts as open
		jobs = append(jobs, admin.Job{Ref: ref, State: string(state)})
	}
	return jobs
}

// whyNotYet says why a mail that matches is not in the ledger.
func (d inquiryDesk) whyNotYet(ctx context.Context, row store.Mailbox, ref string) (string, error) {
	owed, err := d.lookBackOwed(ctx, row.LookedBack, ref)
	switch {
	case err != nil:
		return "", err
	case !tried(row.State):
		return "the mailbox is " + string(row.State) + ", the mail is delivered when it is polled again", nil
	case row.Horizon.IsZero():
		return "the mailbox has not been polled yet, its first walk delivers the mail", nil
	case (owed || !row.OwedSince.IsZero()) && d.fleet.walksDaily(row.ID):
		return "old mail of this mailbox has not been read for the candidate yet, the walk of the day does; `mailsyncd reconcile` does not wait for it", nil
	case owed:
		return "old mail of this mailbox has not been walked for the candidate yet, the next pass does", nil
	}
	return "the next pass delivers it; if not, `mailsyncd reconcile --repair` does", nil
}

// lookBackOwed tells that a mailbox which looked back up to a revision owes a
// candidate a look-back. A log that does not reach back far enough says that it
// may.
func (d *daemon) lookBackOwed(ctx context.Context, lookedBack uint64, ref string) (bool, error) {
	upTo := d.snapshot().Revision()
	if upTo <= lookedBack {
		return false, nil
	}
	acts, whole, err := d.store.Activations(ctx, lookedBack, upTo)
	if err != nil {
		return false, fmt.Errorf("reading the activations: %w", err)
	}
	return !whole || slices.ContainsFunc(acts, func(a store.Activation) bool {
		return a.Ref == ref || a.Key == "" // of everybody
	}), nil
}

// isNotFound tells that the socket would answer 404.
func isNotFound(err error) bool {
	var p *admin.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}
