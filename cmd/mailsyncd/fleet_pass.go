package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
)

// The fleet's passes: what the schedule runs, what an outcome means for the next,
// and how somebody who asked for one gets it.

// pass is what the schedule runs for a key.
func (f *fleet) pass(ctx context.Context, id string) schedule.Verdict {
	m := f.member(id)
	if m == nil {
		return schedule.Verdict{}
	}
	if err := f.mayPoll(ctx, m); err != nil {
		f.serve(ctx, m, err)
		return schedule.Verdict{Err: err, RetryAfter: stoppedRetry}
	}
	began := time.Now()
	report, err := m.box.Pass(ctx)
	f.mu.Lock()
	m.last = pass{began: began, ended: time.Now(), report: report, err: err}
	m.whole = m.whole || err == nil && !report.More
	f.mu.Unlock()
	f.serve(ctx, m, err)
	return verdict(report, err)
}

// mayPoll asks the store about a mailbox that is scheduled although the store
// did not say whether it is paused.
func (f *fleet) mayPoll(ctx context.Context, m *member) error {
	if !f.isUnsettled(m) {
		return nil
	}
	row, err := f.settled(ctx, m)
	if err == nil && notPolled(row.State) {
		err = fmt.Errorf("the mailbox is %s", row.State)
	}
	return err
}

// verdict says what a pass's outcome means for when the next one is.
func verdict(report mailbox.Report, err error) schedule.Verdict {
	v := schedule.Verdict{Err: err, Again: err == nil && report.More}
	var throttled *providers.ThrottledError
	switch {
	case ours(err):
		v.RetryAfter = stoppedRetry
	case errors.As(err, &throttled):
		v.RetryAfter = throttled.After
	case providers.Classify(err) == providers.ClassUnauthorized:
		v.Park, v.ProbeAfter = true, probeEvery
	case providers.Classify(err) == providers.ClassNetwork:
		v.HostDown = true
	}
	return v
}

// nudge has a mailbox polled soon, or with "" every one that may be tried
// without being named, and does not wait for it.
func (f *fleet) nudge(id string) {
	ctx, gone := context.WithCancel(context.Background())
	gone() // nobody waits
	if id == "" {
		f.kickAll(ctx)
		return
	}
	_ = f.schedule.Kick(ctx, id) // what cannot be polled now is polled when it can
}

// kickAll kicks every mailbox that may be tried without being named. A pause that
// was ours, while the outbox was full say, is no server's wish: it is cut short.
func (f *fleet) kickAll(ctx context.Context) map[string]error {
	for _, id := range f.ids() {
		s, _ := f.schedule.Status(id)
		if s.Asked && s.State != schedule.Parked && f.stoppedByUs(id) {
			_ = f.schedule.Unpark(id) // unknown: it has just been removed
		}
	}
	return f.schedule.KickAll(ctx)
}

// stoppedByUs tells that the newest pass of a mailbox failed for a reason that
// has nothing to do with the mailbox.
func (f *fleet) stoppedByUs(id string) bool {
	m := f.member(id)
	return m != nil && (f.isUnsettled(m) || ours(f.lastPass(m).err))
}

// ours tells that an error is the daemon's own state and not the mailbox's.
func ours(err error) bool {
	return errors.Is(err, mailbox.ErrNotReady) || errors.Is(err, store.ErrFull)
}

// errNoPass says that a mailbox was kicked and nothing ran.
var errNoPass = errors.New("the mailbox was changed or removed meanwhile; sync it again")

// passSince returns the pass that a kick waited for, or, if none began since, one
// that failed as the kick did.
func (f *fleet) passSince(id string, asked time.Time, kicked error) pass {
	if m := f.member(id); m != nil {
		last := f.lastPass(m)
		if !last.began.Before(asked) && (last.err == nil) == (kicked == nil) {
			return last
		}
	}
	return pass{began: asked, ended: time.Now(), err: cmp.Or(kicked, errNoPass)}
}

// lastPass returns the newest pass of this process over a mailbox.
func (f *fleet) lastPass(m *member) pass {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.last
}

// polledWhole tells that a pass of this process over a mailbox got to its end.
func (f *fleet) polledWhole(m *member) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.whole
}
