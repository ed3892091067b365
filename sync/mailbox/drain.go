package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
)

// When the provider forgot its position, the window it walks again begins this
// long before the last complete poll: a poll that was complete for us may have
// missed mail that another server of the same cluster had not shown yet.
const resetMargin = 72 * time.Hour

// A poll that finds nothing writes nothing, but once a day the time of the last
// success is written down: after a restart it says how far back to walk and who
// is overdue.
const successEvery = 24 * time.Hour

// drain reads what is new, page by page. A first pass walks the window.
func (p *pass) drain(ctx context.Context) error {
	row, err := p.Row(ctx)
	if err != nil {
		return err
	}
	walk, err := p.cfg.Store.Walk(ctx, p.walk(""))
	if err != nil {
		return fmt.Errorf("reading the cursor: %w", err)
	}
	if walk.Version == 0 {
		if walk, row, err = p.begin(ctx, row); err != nil {
			return err
		}
	}
	for !p.spent() {
		since := p.windowStart(row)
		page, err := p.next(ctx, walk, since)
		if err != nil {
			return err
		}
		if walk, err = p.take(ctx, row, walk, page, since); err != nil {
			return err
		}
		if !page.More {
			return p.polled(ctx)
		}
	}
	return nil
}

// begin commits the start of the main walk: the cursor, the horizon, and the
// directory revision from which later activations are owed a look-back. A
// mailbox that comes back after its cursor was dropped keeps its horizon, and
// still owes the look-backs of the time it was away.
func (p *pass) begin(ctx context.Context, row store.Mailbox) (store.WalkState, store.Mailbox, error) {
	now := time.Now().UTC()
	// Read before the walk begins: whoever becomes matchable while it runs is
	// walked for again.
	revision := p.cfg.Directory().Revision()
	if row.Horizon.IsZero() {
		row.Horizon, row.LookedBack = now.Add(-p.cfg.Backfill), revision
	}
	since := p.windowStart(row)
	p.owe(&row, since)
	cur, err := p.session.Start(ctx, since)
	if err != nil {
		return store.WalkState{}, row, fmt.Errorf("starting the first walk: %w", err)
	}
	b := store.Batch{State: store.WalkState{Cursor: string(cur), Started: now}, Revision: revision, Now: now}
	walk, err := p.commit(ctx, "", 0, b, func(r *store.Mailbox) {
		r.Horizon, r.LookedBack, r.OwedSince = row.Horizon, row.LookedBack, row.OwedSince
	})
	return walk, row, err
}

// next asks for the page after the cursor. Where the provider forgot the position
// the window begins again at since; here, if the provider cannot even do that by
// itself.
func (p *pass) next(ctx context.Context, walk store.WalkState, since time.Time) (providers.Page, error) {
	page, err := p.session.Next(ctx, providers.Cursor(walk.Cursor), providers.Window{Since: since})
	if errors.Is(err, providers.ErrCursorExpired) && !p.restarted {
		p.restarted = true // once a pass: a server that forgets at once is a failure
		cur, err := p.session.Start(ctx, since)
		if err != nil {
			return page, fmt.Errorf("walking the window again: %w", err)
		}
		return providers.Page{Next: cur, More: true, Reset: "cursor expired"}, nil
	}
	if err != nil {
		return page, fmt.Errorf("reading new mail: %w", err)
	}
	return page, nil
}

// windowStart is where a walk begins whose position the provider forgot: the
// earlier of (now − backfill) and (last complete poll − 3 days), so that a long
// outage leaves no gap. Before the first complete poll it is the horizon.
func (p *pass) windowStart(row store.Mailbox) time.Time {
	since := time.Now().UTC().Add(-p.cfg.Backfill)
	switch last := row.LastSuccess; {
	case last.IsZero():
		return row.Horizon
	case last.Add(-resetMargin).Before(since):
		return last.Add(-resetMargin)
	}
	return since
}

// take decides a page of the main walk and commits it with its cursor. A page
// that brought nothing and moved nothing is not written. since is where the window
// began again if the page says so.
func (p *pass) take(ctx context.Context, row store.Mailbox, walk store.WalkState, page providers.Page, since time.Time) (store.WalkState, error) {
	if page.Reset != "" {
		p.cfg.Log.Warn("position forgotten, walking the window again",
			"event", "cursor_reset", "cause", page.Reset)
	}
	if string(page.Next) == walk.Cursor && len(page.Messages) == 0 {
		return walk, nil
	}
	origin := store.OriginPoll
	if row.LastSuccess.IsZero() {
		origin = store.OriginBackfill
	}
	b := p.decide(page, scope{origin: origin, horizon: row.Horizon})
	b.State = walk
	b.State.Cursor = string(page.Next)
	b.State.Scanned += uint64(len(page.Messages))
	b.State.Matched += uint64(len(b.Messages))
	change := p.owing(row, page, since)
	if page.Reset != "" && change != nil {
		// A walk of the day that runs has not seen what came since it was listed, so
		// it begins again too.
		if err := p.drop(ctx, taskLookBack); err != nil {
			return walk, err
		}
	}
	if !page.More && succeeded(&row) {
		change = both(change, func(r *store.Mailbox) { succeeded(r) })
	}
	return p.commit(ctx, "", walk.Version, b, change)
}

func both(a, b func(*store.Mailbox)) func(*store.Mailbox) {
	if a == nil {
		return b
	}
	return func(r *store.Mailbox) { a(r); b(r) }
}

// polled notes a complete poll that ended without a page to write.
func (p *pass) polled(ctx context.Context) error {
	p.row.Lock()
	defer p.row.Unlock()
	row, err := p.Row(ctx)
	if err != nil || !succeeded(&row) {
		return err
	}
	if err := p.cfg.Store.SetMailbox(ctx, row, nil, time.Now().UTC()); err != nil {
		return fmt.Errorf("noting the poll: %w", err)
	}
	return nil
}

// succeeded notes in a row that a poll is complete, at most daily, and tells
// whether it did.
func succeeded(r *store.Mailbox) bool {
	now := time.Now().UTC()
	if now.Sub(r.LastSuccess) < successEvery {
		return false
	}
	r.LastSuccess = now
	if r.LastAudit.IsZero() {
		r.LastAudit = now // the first walk has just read it all
	}
	return true
}
