package mailbox

import (
	"context"
	"time"

	"mailsyncd/store"
)

// Where a header costs quota, old mail is not read three times a day for three
// reasons. One walk a day serves all: it reads every header since the earliest
// time that any of them asks for, decides each with the directory as it is, and
// the ledger drops what was delivered. What is left was owed by a look-back, or
// missed by a poll.

// collected goes on with the walk of this day, or begins it when its time has
// come and something is owed.
func (p *pass) collected(ctx context.Context, row store.Mailbox, walk store.WalkState) error {
	if walk.Version > 0 && len(walk.Addresses) > 0 {
		// A look-back from before its mailbox was read daily. It reads what it asks
		// for, and this walk's end says that everything was read.
		if err := p.drop(ctx, taskLookBack); err != nil {
			return err
		}
		walk = store.WalkState{}
	}
	if walk.Version == 0 {
		var owed bool
		var err error
		if walk, owed, err = p.collect(ctx, row); err != nil || !owed {
			return err
		}
	}
	origin := store.OriginLookback
	if walk.Revision == 0 {
		origin = store.OriginRepair
	}
	before := p.report.Matched
	err := p.walkBack(ctx, taskLookBack, walk, scope{origin: origin, horizon: row.Horizon}, func(r *store.Mailbox) {
		r.LookedBack = max(r.LookedBack, walk.Revision)
		r.LastAudit = walk.Started
		if !walk.Since.After(r.OwedSince) || !walk.Since.After(r.Horizon) {
			r.OwedSince = time.Time{}
		}
		if !walk.Since.After(walk.Started.Add(-p.cfg.Backfill)) || !walk.Since.After(r.Horizon) {
			// It read the window and delivered what it found: nothing of it is
			// unaccounted for.
			r.LastReconcile, r.Unaccounted = walk.Started, 0
		}
	})
	if found := p.report.Matched - before; found > 0 && origin == store.OriginRepair {
		p.cfg.Log.Warn("the daily walk found mail that polling had missed",
			"event", "audit_found", "matched", found)
	}
	return err
}

// collect makes the walk that everything owed now has in common. The end of a
// mailbox's first walk counts as one: it has just read it all, or asked for it, and
// then owes the rest (OwedSince).
func (p *pass) collect(ctx context.Context, row store.Mailbox) (store.WalkState, bool, error) {
	now := time.Now().UTC()
	due := now.Sub(row.LastAudit) >= p.cfg.WalkEvery
	if !due && !p.asked {
		return store.WalkState{}, false, nil
	}
	walk, owed, err := p.owed(ctx, row.LookedBack, row.Horizon)
	if err != nil || !owed && !due && row.OwedSince.IsZero() {
		return walk, false, err
	}
	since := now.Add(-auditWindow)
	if p.reconcileDue(row) {
		since = earlier(since, now.Add(-p.cfg.Backfill))
	}
	if owed {
		since = earlier(since, walk.Since)
	}
	if !row.OwedSince.IsZero() {
		since = earlier(since, row.OwedSince)
		walk.Revision = max(walk.Revision, row.LookedBack) // it is owed, not an audit's find
	}
	if since.Before(row.Horizon) {
		since = row.Horizon
	}
	// Without addresses: whoever asks for all is served by every header.
	return store.WalkState{Since: since, Started: now, Revision: walk.Revision}, true, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
