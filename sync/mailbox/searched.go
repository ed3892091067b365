package mailbox

import (
	"context"
	"fmt"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
)

// Where the server can be asked for the mail of an address, its answer comes at
// once and costs little, but nobody vouches for it: Gmail's search names no
// Sender, and no two servers search the same text. So it decides nothing. What
// was only asked for stays owed, and the walk of the day (collected) reads it.

// searched asks for the old mail of those who became matchable since it last
// asked. Too many to be asked for one by one wait for the walk of the day.
func (p *pass) searched(ctx context.Context, row store.Mailbox) error {
	walk, err := p.cfg.Store.Walk(ctx, p.walk(taskSearch))
	if err != nil {
		return fmt.Errorf("reading the search: %w", err)
	}
	if walk.Version > 0 && len(walk.Addresses) == 0 {
		// A purge took its addresses away. Without them it would read everything,
		// so it ends, and begins again for those who are left.
		if err := p.drop(ctx, taskSearch); err != nil {
			return err
		}
		walk = store.WalkState{}
	}
	if walk.Version == 0 {
		var owed bool
		walk, owed, err = p.owed(ctx, max(row.LookedBack, row.Searched), row.Horizon)
		if err != nil || !owed || walk.Addresses == nil {
			return err
		}
	}
	sc := scope{origin: store.OriginLookback, horizon: row.Horizon}
	return p.walkBack(ctx, taskSearch, walk, sc, func(r *store.Mailbox) {
		r.Searched = max(r.Searched, walk.Revision)
	})
}

// owe notes that the headers since a time are still to be read: a walk of the
// window began there which only asks.
func (p *pass) owe(r *store.Mailbox, since time.Time) {
	if since.Before(r.Horizon) {
		since = r.Horizon // no walk reads further back
	}
	if p.cfg.hinted() && (r.OwedSince.IsZero() || since.Before(r.OwedSince)) {
		r.OwedSince = since
	}
}

// owing is what a page of the main walk makes the mailbox owe: the window, if it
// begins again there, or began for the first time before anybody noted it (as
// another version of this program did, or without WalkEvery). Nil: nothing.
func (p *pass) owing(row store.Mailbox, page providers.Page, since time.Time) func(*store.Mailbox) {
	first := row.LastSuccess.IsZero() && row.OwedSince.IsZero()
	if !p.cfg.hinted() || page.Reset == "" && !first {
		return nil
	}
	return func(r *store.Mailbox) { p.owe(r, since) }
}

// unsearched ends the search of a mailbox where the server is not asked any more:
// its address must not stand in the store for ever.
func (p *pass) unsearched(ctx context.Context, row store.Mailbox) error {
	if err := p.drop(ctx, taskSearch); err != nil || row.Searched == 0 {
		return err
	}
	return p.change(ctx, func(r *store.Mailbox) { r.Searched = 0 })
}

// drop ends a walk without its verdict: what it was for stays owed.
func (p *pass) drop(ctx context.Context, task string) error {
	walk, err := p.cfg.Store.Walk(ctx, p.walk(task))
	if err != nil || walk.Version == 0 {
		return err
	}
	_, err = p.commit(ctx, task, walk.Version, store.Batch{Done: true, Now: time.Now().UTC()}, nil)
	return err
}
