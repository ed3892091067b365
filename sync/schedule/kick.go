package schedule

import (
	"context"
	"time"
)

// kickLead is how much longer overdue a kicked key counts than it is: it goes
// before everything but what has waited more than a day, so that kicks without
// end cannot starve the others.
const kickLead = 24 * time.Hour

// Kick has a key run as soon as its host permits, and waits for the end of a run
// that began after the call: it joins one that is queued, never one in progress.
// It returns that run's error. A wait after failures is cut short, and so is a
// pause the server asked for: somebody asked for this key by name. A key that is
// parked without a probe is not run: ErrParked.
func (s *Scheduler) Kick(ctx context.Context, key string) error {
	o, err := s.kick(key)
	if err != nil {
		return err
	}
	return o.wait(ctx)
}

// KickAll kicks every key that may be tried without being named, and waits for
// all of them. It returns the error of each key whose run failed, that is parked
// (ErrParked), whose server asked for a pause (ErrAsked), or whose run had not
// ended when the context did (its cause; the run still comes). A key without an
// entry was run.
func (s *Scheduler) KickAll(ctx context.Context) map[string]error {
	failed := make(map[string]error)
	for key, o := range s.kickAll(failed) {
		if err := o.wait(ctx); err != nil {
			failed[key] = err
		}
	}
	return failed
}

// wait prefers an outcome that is known to a context that has ended.
func (o *outcome) wait(ctx context.Context) error {
	select {
	case <-o.done:
		return o.err
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Scheduler) kick(key string) (*outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, known := s.jobs[key]
	switch {
	case s.state == stopped:
		return nil, ErrStopped
	case !known:
		return nil, ErrUnknown
	case j.parked && j.probe == 0:
		return nil, ErrParked
	}
	s.nudge()
	return s.expect(j, s.clock.now()), nil
}

// kickAll kicks what may be kicked without anybody naming it: a parked key is
// tried by its probe only, or a kick every minute would lock the account.
func (s *Scheduler) kickAll(refused map[string]error) map[string]*outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	waiting := make(map[string]*outcome, len(s.jobs))
	for key, j := range s.jobs {
		switch {
		case s.state == stopped:
			refused[key] = ErrStopped
		case j.parked:
			refused[key] = ErrParked
		case j.asked && j.due > now:
			refused[key] = ErrAsked
		default:
			waiting[key] = s.expect(j, now)
		}
	}
	s.nudge()
	return waiting
}

// expect returns the outcome of the next run that begins, and makes that soon.
func (s *Scheduler) expect(j *job, now time.Duration) *outcome {
	s.renew(j)
	if j.run == nil {
		s.hurry(j, now)
	}
	return j.pending[0]
}

// hurry brings a job that is not running to the front of its host's queue.
func (s *Scheduler) hurry(j *job, now time.Duration) {
	j.owed = min(j.owed, now-kickLead)
	s.ready(j, now)
}
