package main

import (
	"context"
	"slices"
	"time"

	"mailsyncd/sync/mailbox"
)

// A reconcile reads and commits like a pass and must not overlap one, so it runs
// in the schedule's slot of its mailbox, right behind a pass: whoever asks
// leaves a call with the mailbox and kicks it.

// reconcileCall is somebody who waits for the proof of one mailbox.
type reconcileCall struct {
	ctx    context.Context // of who waits: without them the work ends
	of     *member
	since  time.Time
	repair bool

	done   chan struct{} // closed once the two below are there
	result mailbox.Reconciliation
	err    error
}

// ask leaves a call with a mailbox.
func (f *fleet) ask(ctx context.Context, m *member, since time.Time, repair bool) *reconcileCall {
	c := &reconcileCall{ctx: ctx, of: m, since: since, repair: repair, done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	m.calls = append(m.calls, c)
	return c
}

// serve answers the calls of a mailbox after a pass. A pass that failed would
// only have them fail in the same way.
func (f *fleet) serve(ctx context.Context, m *member, failed error) {
	f.mu.Lock()
	calls := m.calls
	m.calls = nil
	f.mu.Unlock()
	for _, c := range calls {
		if c.err = failed; failed == nil {
			c.run(ctx, m.box)
		}
		close(c.done)
	}
}

// run works until the slot's context or the caller's ends.
func (c *reconcileCall) run(ctx context.Context, box *mailbox.Mailbox) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.ctx, stop)()
	c.result, c.err = box.Reconcile(ctx, c.since, c.repair)
}

// answer returns the outcome of a call once its mailbox was kicked and the run
// has ended with kicked. A call that no run came to is taken back.
func (f *fleet) answer(c *reconcileCall, kicked error) (mailbox.Reconciliation, error) {
	select {
	case <-c.done:
		return c.result, c.err
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.of.calls = slices.DeleteFunc(c.of.calls, func(other *reconcileCall) bool { return other == c })
	if kicked == nil {
		kicked = errNotServed
	}
	return mailbox.Reconciliation{}, kicked
}
