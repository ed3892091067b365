package schedule

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// again is the pause before a key goes on with work that is left: long enough
// that a run which claims so for ever does not spin.
const again = time.Second

// round is one run, from its first line to its verdict.
func (s *Scheduler) round(ctx context.Context, r *run) {
	defer s.runs.Done()
	s.finish(r, s.call(ctx, r.key))
}

// call runs the work within its time. A panic is a failure of this key alone.
func (s *Scheduler) call(ctx context.Context, key string) (v Verdict) {
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.Timeout, ErrTimeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			// The type only: the value may hold what the work was reading.
			v = Verdict{Err: fmt.Errorf("the run panicked (%T); the log has the stack", p)}
			s.cfg.Log.Error("run panicked", "event", "run_panicked", "key", key,
				"panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		}
	}()
	return s.cfg.Run(ctx, key)
}

// finish gives back what the run held, lets the verdict count, and answers the
// kicks that wait for it.
func (s *Scheduler) finish(r *run, v Verdict) {
	r.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	s.release(r, v, now)
	j := s.jobs[r.key]
	switch {
	case r.overruled != nil:
		answer(r.outcomes, r.overruled)
	case v.Err == nil && v.Again:
		j.pending = append(j.pending, r.outcomes...)
	default:
		answer(r.outcomes, v.Err)
	}
	if j == nil || j.run != r {
		return // removed meanwhile
	}
	j.run = nil
	if r.overruled == nil {
		s.weigh(j, v, now)
	}
	s.queue(j, now)
}

// release gives back slot and host.
func (s *Scheduler) release(r *run, v Verdict, now time.Duration) {
	close(r.done)
	if s.leaving[r.key] == r {
		delete(s.leaving, r.key)
	}
	s.running--
	r.host.running--
	if r.overruled == nil {
		r.host.down = v.Err != nil && v.HostDown
	}
	s.settle(r.host, now)
	s.nudge()
}

// weigh says what the verdict means for the key's next run.
func (s *Scheduler) weigh(j *job, v Verdict, now time.Duration) {
	switch {
	case v.Err != nil:
		s.failed(j, v, now)
	case v.Again:
		j.tries, j.parked = 0, false
		j.due = now + again
	default:
		j.tries, j.parked = 0, false
		j.lastSuccess = s.clock.date(now, now)
		j.due = now + j.interval
	}
	if v.Err == nil && v.RetryAfter > 0 {
		j.due = max(j.due, now+retryWait(0, j.interval, v.RetryAfter))
	}
	j.asked = v.RetryAfter > 0
	j.owed = j.due
}

// failed sets the wait after a failure. A parked key stays parked when its probe
// fails for another reason: nothing says that what parked it was mended.
func (s *Scheduler) failed(j *job, v Verdict, now time.Duration) {
	j.tries++
	if v.Park {
		j.parked, j.probe = true, v.ProbeAfter
		if j.probe <= 0 {
			j.probe = s.cfg.ProbeEvery
		}
	}
	if j.parked {
		j.due = now + max(later(j.probe), min(v.RetryAfter, maxRetryAfter))
		return
	}
	j.due = now + retryWait(j.tries, j.interval, v.RetryAfter)
}

// queue puts a job that is not running back where it belongs: to the front when
// a kick waits for it.
func (s *Scheduler) queue(j *job, now time.Duration) {
	s.await(j)
	if len(j.pending) > 0 {
		s.hurry(j, now)
	}
}
