package mailbox

import (
	"context"
	"errors"
	"fmt"

	"mailsyncd/providers"
	"mailsyncd/store"
)

// tasks goes on with the walks that operators asked for, the oldest task first.
// A task's since stands for the horizon: it may reach further back than the
// mailbox's own.
func (p *pass) tasks(ctx context.Context) error {
	owed, err := p.cfg.Store.Owed(ctx, p.cfg.ID)
	if err != nil {
		return fmt.Errorf("reading the tasks: %w", err)
	}
	for _, o := range owed {
		err := p.task(ctx, o)
		if errors.Is(err, store.ErrConflict) {
			continue // cancelled, or its candidate was purged, while its page was read
		}
		if err != nil || p.report.More {
			return err
		}
	}
	return nil
}

// task walks one task's mailbox to its end or to the end of the budget.
func (p *pass) task(ctx context.Context, o store.OwedWalk) error {
	query := providers.Query{Since: o.Task.Since, Addresses: o.Task.Addresses}
	sc := scope{origin: taskOrigin(o.Task.Kind), horizon: o.Task.Since, only: o.Task.Candidate}
	walk := o.State
	for !p.spent() {
		page, err := p.search(ctx, query, walk.Cursor)
		if err != nil {
			return fmt.Errorf("walking for task %s: %w", o.Task.ID, err)
		}
		b := p.decide(page, sc)
		b.State, b.Done, b.Again = walk, !page.More, o.Task.Kind == store.TaskRedeliver
		b.State.Cursor = string(page.Next)
		b.State.Scanned += uint64(len(page.Messages))
		b.State.Matched += uint64(len(b.Messages))
		if o.Task.DryRun {
			b.Messages = nil // counted, and that is all
		}
		if walk, err = p.commit(ctx, o.Task.ID, walk.Version, b, nil); err != nil || b.Done {
			return err
		}
	}
	return nil
}

// taskOrigin is why a task's messages are delivered.
func taskOrigin(k store.TaskKind) store.Origin {
	if k == store.TaskResync {
		return store.OriginResync
	}
	return store.OriginRedeliver
}
