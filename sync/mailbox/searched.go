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
		p.report.More = true
		return p.drop(ctx, taskSearch)
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

// owe notes that a walk of the window began which only asks: the headers since
// then are read later.
func (p *pass) owe(r *store.Mailbox, since time.Time) {
	if p.cfg.hinted() && (r.OwedSince.IsZero() || since.Before(r.OwedSince)) {
		r.OwedSince = since
	}
}

// owing is what a page of the main walk changes in the mailbox's row: nothing,
// unless the window begins again there. A walk of the day that runs has not seen
// what came since it was listed, so it begins again too.
func (p *pass) owing(ctx context.Context, page providers.Page, since time.Time) (func(*store.Mailbox), error) {
	if page.Reset == "" || !p.cfg.hinted() {
		return nil, nil
	}
	return func(r *store.Mailbox) { p.owe(r, since) }, p.drop(ctx, taskLookBack)
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
