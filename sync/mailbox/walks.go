package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
)

const (
	// A look-back for more addresses than this walks every header of the window
	// instead of carrying the list along: reading headers is cheaper than
	// searching from about 20 addresses on, and the list is stored per walk.
	maxWalkAddresses = 200
	// The daily audit reads this much again.
	auditWindow = 72 * time.Hour
	auditEvery  = 24 * time.Hour
)

// lookBack walks old mail for the addresses that became matchable since this
// mailbox last looked back. It makes the order of arrival irrelevant: candidate
// first or mail first, the same pairs are delivered.
//
// It runs after drain: the drain was decided at a revision no older than the one
// read here minus what the walk below covers, so every mail is seen either by
// the drain with the candidate known, or by this walk.
func (p *pass) lookBack(ctx context.Context) error {
	row, err := p.Row(ctx)
	if err != nil {
		return err
	}
	ask := p.unsearched
	if p.cfg.hinted() {
		ask = p.searched
	}
	if err := ask(ctx, row); err != nil {
		return err
	}
	walk, err := p.cfg.Store.Walk(ctx, p.walk(taskLookBack))
	if err != nil {
		return fmt.Errorf("reading the look-back: %w", err)
	}
	if p.cfg.WalkEvery > 0 {
		return p.collected(ctx, row, walk)
	}
	if walk.Version == 0 {
		var owed bool
		if walk, owed, err = p.owed(ctx, row.LookedBack, row.Horizon); err != nil || !owed {
			return err
		}
	}
	sc := scope{origin: store.OriginLookback, horizon: row.Horizon}
	return p.walkBack(ctx, taskLookBack, walk, sc, func(r *store.Mailbox) {
		r.LookedBack = max(r.LookedBack, walk.Revision)
	})
}

// owed computes the look-back that a mailbox which looked back up to a revision
// owes now. Nothing is written when nothing is owed: the next pass asks the log
// again, from the same revision.
func (p *pass) owed(ctx context.Context, after uint64, horizon time.Time) (store.WalkState, bool, error) {
	upTo := p.cfg.Directory().Revision()
	if upTo <= after {
		return store.WalkState{}, false, nil
	}
	acts, whole, err := p.cfg.Store.Activations(ctx, after, upTo)
	if err != nil {
		return store.WalkState{}, false, fmt.Errorf("reading activations: %w", err)
	}
	if whole && len(acts) == 0 {
		return store.WalkState{}, false, nil
	}
	walk := store.WalkState{Revision: upTo, Started: time.Now().UTC()}
	if whole {
		walk.Since, walk.Addresses = p.earliest(acts), addresses(acts)
	} else {
		// The log of activations no longer reaches back, so nobody knows how old
		// the oldest is. All began after the first sync: the horizon covers them.
		walk.Since = horizon
	}
	return walk, true, nil
}

// earliest is where the look-back of these activations begins. Each stored its
// own beginning, so a walk that runs late does not lose mail off the edge.
func (p *pass) earliest(acts []store.Activation) time.Time {
	var since time.Time
	for _, a := range acts {
		if since.IsZero() || a.Since.Before(since) {
			since = a.Since
		}
	}
	return since
}

// addresses lists the activated addresses, or nil for "walk for all".
func addresses(acts []store.Activation) []string {
	seen := make(map[string]bool, len(acts))
	var keys []string
	for _, a := range acts {
		if a.Key == "" || len(keys) >= maxWalkAddresses {
			return nil
		}
		if !seen[a.Key] {
			seen[a.Key] = true
			keys = append(keys, a.Key)
		}
	}
	return keys
}

// audit reads the last days' headers once more and decides them again. What it
// finds undelivered was missed by the polls: a server that reused UIDs, a
// restored mailbox. No state of unmatched mail is kept for it.
func (p *pass) audit(ctx context.Context) error {
	row, err := p.Row(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	walk, err := p.cfg.Store.Walk(ctx, p.walk(taskAudit))
	if err != nil {
		return fmt.Errorf("reading the audit: %w", err)
	}
	if walk.Version == 0 {
		if p.cfg.WalkEvery > 0 || now.Sub(row.LastAudit) < auditEvery {
			return nil
		}
		walk = store.WalkState{Since: now.Add(-auditWindow), Started: now}
	}
	before := p.report.Matched
	sc := scope{origin: store.OriginRepair, horizon: row.Horizon}
	err = p.walkBack(ctx, taskAudit, walk, sc, func(r *store.Mailbox) { r.LastAudit = now })
	if found := p.report.Matched - before; found > 0 {
		p.cfg.Log.Warn("the daily audit found mail that polling had missed",
			"event", "audit_found", "matched", found)
	}
	return err
}

// Task is a walk of a mailbox as operators see it.
type Task struct {
	Name  string // "main", "lookback", "search", "audit"
	State store.WalkState
}

// Tasks lists the walks that have begun: the main one, and what runs beside it.
func (m *Mailbox) Tasks(ctx context.Context) ([]Task, error) {
	var tasks []Task
	for _, t := range []struct{ task, name string }{{"", "main"}, {taskLookBack, taskLookBack}, {taskSearch, taskSearch}, {taskAudit, taskAudit}} {
		state, err := m.cfg.Store.Walk(ctx, m.walk(t.task))
		if err != nil {
			return nil, fmt.Errorf("reading walk %s: %w", t.name, err)
		}
		if state.Version > 0 {
			tasks = append(tasks, Task{Name: t.name, State: state})
		}
	}
	return tasks, nil
}

// walkBack runs a walk over old mail to its end or to the end of the budget.
// Every page is committed with the walk's own cursor, so a killed daemon goes
// on where it stood; finish changes the mailbox's row with the last page.
//
// ErrConflict means that a purge made the walk begin again while its page was
// read: it is read from the start with the next pass.
func (p *pass) walkBack(ctx context.Context, task string, walk store.WalkState, sc scope, finish func(*store.Mailbox)) error {
	query := providers.Query{Since: walk.Since, Addresses: walk.Addresses}
	for !p.spent() {
		page, err := p.search(ctx, query, walk.Cursor)
		if err != nil {
			return fmt.Errorf("walking back (%s): %w", task, err)
		}
		b := p.decide(page, sc)
		b.State, b.Done = walk, !page.More
		b.State.Cursor = string(page.Next)
		b.State.Scanned += uint64(len(page.Messages))
		b.State.Matched += uint64(len(b.Messages))
		var mutate func(*store.Mailbox)
		if b.Done {
			mutate = finish
		}
		walk, err = p.commit(ctx, task, walk.Version, b, mutate)
		if errors.Is(err, store.ErrConflict) {
			p.report.More = true
			return nil
		}
		if err != nil || b.Done {
			return err
		}
	}
	return nil
}

// search asks for the page of a walk after its cursor. A cursor that the
// provider cannot place any more (another provider's, or one whose listing the
// server forgot) begins the walk again: the ledger drops what it repeats.
func (p *pass) search(ctx context.Context, q providers.Query, cursor string) (providers.Page, error) {
	page, err := p.session.Search(ctx, q, providers.Cursor(cursor))
	if errors.Is(err, providers.ErrCursorExpired) && cursor != "" {
		return p.session.Search(ctx, q, "")
	}
	return page, err
}
