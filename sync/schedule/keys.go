package schedule

import (
	"context"
	"time"
)

// job is one key. It stands in exactly one place: in Scheduler.waiting until it
// is due, in its host's ready queue until a slot is free, in a run, or, parked
// without a probe, nowhere.
type job struct {
	key         string
	host        *host
	interval    time.Duration
	lastSuccess time.Time // zero: never
	tries       int       // failures in a row

	due  time.Duration // waiting: when it may run
	owed time.Duration // ready: when it should have run, its rank
	in   *queue[*job]  // the queue that holds it, nil when none
	pos  int           // its index there

	parked bool
	probe  time.Duration // of a parked key; 0: never
	asked  bool          // due was set by the server's wish for a pause

	run *run // in progress; nil when none
	// pending are waited for by kicks: the next run that begins answers them.
	// Kicks share one, more come together only by runs that end with Again.
	pending []*outcome
}

// outcome is what a kick waits for. err may be read once done is closed.
type outcome struct {
	done chan struct{}
	err  error
}

// run is one run in progress.
type run struct {
	key      string
	host     *host // the key's host when it began
	began    time.Duration
	cancel   context.CancelCauseFunc
	outcomes []*outcome
	// overruled is why the verdict does not count: the key was parked or removed
	// meanwhile. nil: it counts.
	overruled error
	done      chan struct{} // closed when it has ended
}

// overrule ends the run's context; what it says afterwards does not count.
func (r *run) overrule(why error) {
	r.overruled = why
	r.cancel(why)
}

func jobQueue(less func(a, b *job) bool) queue[*job] {
	return queue[*job]{less: less, place: func(j *job) *int { return &j.pos }}
}

// enter puts the job into a queue, leave takes it out of the one it is in.
func (j *job) enter(q *queue[*job]) {
	q.push(j)
	j.in = q
}

func (j *job) leave() {
	if j.in != nil {
		j.in.remove(j)
		j.in = nil
	}
}

// answer ends what waits for a run of this key.
func (j *job) answer(err error) {
	answer(j.pending, err)
	j.pending = nil
}

func answer(outcomes []*outcome, err error) {
	for _, o := range outcomes {
		o.err = err
		close(o.done)
	}
}

// Set adds a key or changes host and interval of a known one, without
// disturbing a run in progress. A key that never had a success is run as soon as
// its host permits; one that is overdue gets its place in a spread.
func (s *Scheduler) Set(key string, e Entry) {
	e.Interval = max(e.Interval, time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	if j, known := s.jobs[key]; known {
		s.change(j, e, now)
	} else {
		s.add(key, e, now)
	}
	s.nudge()
}

// add makes a job of an entry. A key that was removed while it ran and comes
// back waits for that run.
func (s *Scheduler) add(key string, e Entry, now time.Duration) {
	j := &job{
		key: key, host: s.host(e.Host), interval: e.Interval, lastSuccess: e.LastSuccess, tries: e.Tries,
		parked: e.Parked, probe: e.ProbeAfter, run: s.leaving[key],
	}
	delete(s.leaving, key)
	s.jobs[key] = j
	j.host.keys++
	s.settle(j.host, now)
	j.owed = s.firstOwed(e, now)
	j.due = j.owed
	if !e.NotBefore.IsZero() {
		j.due = max(j.due, min(s.clock.place(e.NotBefore, now), now+maxRetryAfter))
	}
	switch {
	case j.parked: // a restart is no reason to try a refused credential
		j.due = now + share(key, j.probe)
	case j.due < now && s.state == started: // a reload may add everything again
		j.due = now + share(key, s.window(j, len(s.jobs)))
	}
	s.await(j)
}

// firstOwed is when a key that comes from the store should run. A success that
// lies in the future was noted by a wrong clock and counts as now.
func (s *Scheduler) firstOwed(e Entry, now time.Duration) time.Duration {
	if e.LastSuccess.IsZero() {
		return now
	}
	return min(s.clock.place(e.LastSuccess, now), now) + e.Interval
}

// change moves a known key to another host or interval.
func (s *Scheduler) change(j *job, e Entry, now time.Duration) {
	if j.host.name != e.Host {
		s.rehost(j, e.Host, now)
	}
	by := e.Interval - j.interval
	j.interval = e.Interval
	if by == 0 || j.in != &s.waiting || j.parked || j.asked || j.tries > 0 {
		return // its time was not set by the interval
	}
	j.due, j.owed = j.due+by, j.owed+by
	if j.due < now { // one setting may shorten every interval
		j.due = now + share(j.key, min(s.cfg.Spread, j.interval))
	}
	s.waiting.moved(j)
}

func (s *Scheduler) rehost(j *job, name string, now time.Duration) {
	old, h := j.host, s.host(name)
	isReady := j.in == &old.ready
	if isReady {
		j.leave()
	}
	old.keys--
	h.keys++
	j.host = h
	if isReady {
		j.enter(&h.ready)
	}
	s.settle(old, now)
	s.settle(h, now)
}

// Remove takes a key out. A run in progress has its context ended; the channel
// is closed once no run of this key is left.
func (s *Scheduler) Remove(key string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, known := s.jobs[key]
	if !known {
		return ended(s.leaving[key])
	}
	delete(s.jobs, key)
	j.answer(ErrRemoved)
	j.leave()
	j.host.keys--
	if j.run != nil {
		j.run.overrule(ErrRemoved)
		s.leaving[key] = j.run
	}
	s.settle(j.host, s.clock.now())
	s.nudge()
	return ended(j.run)
}

// ended returns a channel that is closed when the run, if there is one, has
// ended.
func ended(r *run) <-chan struct{} {
	if r != nil {
		return r.done
	}
	none := make(chan struct{})
	close(none)
	return none
}

// Park stops running a key by itself, but for a probe as often as given (0:
// never). A run in progress has its context ended and does not count; the
// channel is closed once it has ended. Kicks that wait get ErrParked.
func (s *Scheduler) Park(key string, probe time.Duration) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, known := s.jobs[key]
	if !known {
		return nil, ErrUnknown
	}
	now := s.clock.now()
	j.parked, j.probe, j.asked, j.due = true, probe, false, now+probe
	j.answer(ErrParked)
	if j.run != nil {
		j.run.overrule(ErrParked)
		return ended(j.run), nil
	}
	s.takeOut(j, now)
	s.await(j)
	s.nudge()
	return ended(nil), nil
}

// Unpark makes a key run as soon as its host permits, as if it had never
// failed: a credential changed, an operator resumes it. It may be used on a key
// that merely backs off.
func (s *Scheduler) Unpark(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, known := s.jobs[key]
	if !known {
		return ErrUnknown
	}
	now := s.clock.now()
	j.parked, j.probe, j.asked, j.tries = false, 0, false, 0
	j.due, j.owed = now, min(j.owed, now)
	if j.run != nil {
		s.renew(j) // what runs may still use the old credential
		return nil
	}
	s.takeOut(j, now)
	s.await(j)
	s.nudge()
	return nil
}

// renew has a running key run once more when it has ended.
func (s *Scheduler) renew(j *job) {
	if len(j.pending) == 0 {
		j.pending = append(j.pending, &outcome{done: make(chan struct{})})
	}
}

// takeOut takes a job out of whatever queue it is in.
func (s *Scheduler) takeOut(j *job, now time.Duration) {
	wasReady := j.in == &j.host.ready
	j.leave()
	if wasReady {
		s.settle(j.host, now)
	}
}

// await puts a job that stands nowhere where it belongs until it is due.
func (s *Scheduler) await(j *job) {
	if j.run == nil && (!j.parked || j.probe > 0) {
		j.enter(&s.waiting)
	}
}

// ready puts a job that is due, or was kicked, into its host's queue.
func (s *Scheduler) ready(j *job, now time.Duration) {
	j.leave()
	j.enter(&j.host.ready)
	s.settle(j.host, now)
}
