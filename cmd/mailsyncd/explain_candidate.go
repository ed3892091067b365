package main

import (
	"context"
	"fmt"
	"slices"

	"mailsyncd/admin"
	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/message"
	"mailsyncd/store"
	dirsync "mailsyncd/sync/directory"
)

// explainCandidate says why mail of a candidate is matched or not, and what of
// it is still under way. A ref that nothing is known of gets an answer too.
func (d inquiryDesk) explainCandidate(ctx context.Context, ref string) (*admin.ExplainedCandidate, error) {
	c, err := d.candidate(ctx, ref)
	if isNotFound(err) {
		return &admin.ExplainedCandidate{Ref: ref, State: admin.StateUnknown, Mend: mendUnknown}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &admin.ExplainedCandidate{
		Ref: ref, State: string(c.State), Matched: c.Live() && c.Inactive == "", Inactive: c.Inactive,
		Mend: mendInactive(c.Inactive), MissingSince: c.MissingSince, Purged: c.Purged, Jobs: d.jobs(c.Jobs),
	}
	if !c.Live() {
		out.State, out.Matched, out.Inactive, out.Mend = "deleted", false, "", mendDeleted
		return out, nil // nothing else is kept of it
	}
	d.explainAddresses(out, c)
	for _, part := range []func(context.Context, *admin.ExplainedCandidate) error{d.countMails, d.owedLookBacks, d.runningTasks} {
		if err := part(ctx, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const mendUnknown = "the directory has no candidate with this ref: let the ATS write its record, or check the spelling"

// explainAddresses decides an ordinary mail from each of the candidate's
// addresses. The mail is made up: it says what the address alone leads to.
func (d inquiryDesk) explainAddresses(out *admin.ExplainedCandidate, c dirsync.Shown) {
	guards, snap := d.guards.Load(), d.snapshot()
	for _, address := range c.Emails {
		key := message.Fold(address)
		a := admin.ExplainedAddress{Address: address, Shared: others(snap.Lookup(key), c.Ref), Refusals: []admin.Refusal{}}
		h := message.Header{From: []message.Address{{Addr: address, Key: key}}}
		for _, r := range guards.Decide(matcher.Mail{Header: &h}, snap).Refusals {
			if r.Ref == c.Ref {
				a.Refusals = append(a.Refusals, refusal(r))
			}
		}
		out.Addresses = append(out.Addresses, a)
	}
}

// others are the candidates behind an address, but for one.
func others(entries []directory.Entry, ref string) []string {
	refs := []string{}
	for _, e := range entries {
		if e.Ref != ref {
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// ledgerPage is how many messages of a candidate are read at a time.
const ledgerPage = 1000

// countMails counts the candidate's messages by the state of their events.
func (d inquiryDesk) countMails(ctx context.Context, out *admin.ExplainedCandidate) error {
	for after, more := "", true; more; {
		page, err := d.store.CandidateMessages(ctx, out.Ref, after, ledgerPage)
		if err != nil {
			return fmt.Errorf("asking the ledger: %w", err)
		}
		for _, m := range page {
			countMail(&out.Mails, m, out.Ref)
			after = m.ID
		}
		more = len(page) == ledgerPage
	}
	return nil
}

func countMail(n *admin.MailCounts, m store.LedgerMessage, ref string) {
	for _, p := range m.Pairs {
		if p.Candidate != ref {
			continue
		}
		switch p.State {
		case store.PairDelivered:
			n.Delivered++
		case store.PairPending:
			n.Pending++
		case store.PairHeld:
			n.Held++
		case store.PairDead:
			n.Dead++
		}
	}
}

// owedLookBacks lists the mailboxes whose old mail has not been walked for the
// candidate. Many mailboxes stand at one revision, which is asked for once.
func (d inquiryDesk) owedLookBacks(ctx context.Context, out *admin.ExplainedCandidate) error {
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return fmt.Errorf("listing the mailboxes: %w", err)
	}
	asked := map[uint64]bool{}
	for _, row := range rows {
		if row.Horizon.IsZero() || row.State == store.MailboxRemoved {
			continue // its first walk comes, or none
		}
		owed, known := asked[row.LookedBack]
		if !known {
			if owed, err = d.lookBackOwed(ctx, row.LookedBack, out.Ref); err != nil {
				return err
			}
			asked[row.LookedBack] = owed
		}
		if owed {
			out.LookBack = append(out.LookBack, row.ID)
		}
	}
	slices.Sort(out.LookBack)
	if n := len(out.LookBack); n > maxTrouble {
		out.LookBack, out.LookBackLeftOut = out.LookBack[:maxTrouble], n-maxTrouble
	}
	return nil
}

// runningTasks lists the tasks that work for the candidate now.
func (d inquiryDesk) runningTasks(ctx context.Context, out *admin.ExplainedCandidate) error {
	all, err := d.store.Tasks(ctx)
	if err != nil {
		return fmt.Errorf("listing the tasks: %w", err)
	}
	for _, t := range all {
		if t.State == store.TaskRunning && (t.Candidate == out.Ref || t.Candidate == "" && t.Kind != store.TaskReread) {
			out.Tasks = append(out.Tasks, task(t))
		}
	}
	return nil
}
