// Package schedule says when: it runs a function for each of many keys, again
// and again, and knows nothing of what the function does.
//
// A key is due an interval after its last success; what is overdue longest goes
// first. Between two runs a key costs a few hundred bytes and no goroutine: one
// heap holds what waits, one loop sleeps until the first of it is due, and a
// goroutine exists for a run only.
//
// What keeps servers and other keys safe:
//
//   - never two runs of one key at once, never more than Limits.Concurrency in all;
//   - keys name a host, and a host sees so many runs at a time and so many
//     starts a minute;
//   - a host that hangs cannot take every slot: while other hosts have nothing
//     running, up to a quarter of the slots is kept for their first run, and a
//     host that was unreachable gets one run at a time until it answers;
//   - a failure waits by a table with full jitter, a server that asks for a pause
//     gets it, a parked key is tried rarely or not at all;
//   - a restart, a machine that slept and a stalled process owe each key one run,
//     and those are spread over a while, each key at a place of its own.
//
// An operator's kick goes through the same door and the same limits: it waits
// for a run that began after it.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

var (
	// ErrUnknown says that there is no such key.
	ErrUnknown = errors.New("the schedule does not know this key")
	// ErrRemoved says that the key was removed before the run ended.
	ErrRemoved = errors.New("removed from the schedule")
	// ErrParked says that the key is parked and not tried by itself.
	ErrParked = errors.New("parked: it is not run until it is unparked")
	// ErrAsked says that the last run asked for a pause (Verdict.RetryAfter) that
	// is not over.
	ErrAsked = errors.New("a pause was asked for and is not over")
	// ErrStopped says that the schedule has ended.
	ErrStopped = errors.New("the schedule has stopped")
	// ErrTimeout is the cause of a run's context that ended by Config.Timeout.
	ErrTimeout = errors.New("the run took longer than it may")
)

// Config is what a schedule is made of.
type Config struct {
	// Run does the work of one key. It must return soon after its context ends.
	// A panic counts as a failure. Required.
	Run func(ctx context.Context, key string) Verdict
	// Limits hold until Limit changes them.
	Limits Limits
	// Spread is the longest time over which keys that are overdue at the start,
	// or after a sleep, are distributed: at most this, at most a key's interval,
	// and 50 ms a key when they are few. Zero: 10 minutes.
	Spread time.Duration
	// ProbeEvery is how often a key that a run parked is tried. Zero: an hour.
	ProbeEvery time.Duration
	// Timeout ends a run's context. Zero: never; Run then has to bound itself.
	Timeout time.Duration
	// Wall is the wall clock. Nil: time.Now. Only differences from the process's
	// own clock matter: they are sleep, or somebody set the clock.
	Wall func() time.Time
	// Log gets panics of Run and nothing else. Nil: nowhere.
	Log *slog.Logger
}

// Limits bound what runs at a time.
type Limits struct {
	Concurrency int // runs at a time over all hosts; under 1 counts as 1
	PerHost     PerHost
}

// PerHost bounds what one host sees.
type PerHost struct {
	Connections int // runs at a time; 0: no bound but Concurrency
	PerMinute   int // starts in any minute; 0: no bound
}

// Entry is one key as the caller knows it. LastSuccess and what follows it seed
// a key that is new to the schedule, after a restart; for a known key the
// schedule knows better and they are ignored.
type Entry struct {
	Host     string        // keys with one host share its limits; "" is a host like any other
	Interval time.Duration // from a success to the next run; under a second counts as one
	// LastSuccess is when the last complete run ended; zero: never.
	LastSuccess time.Time
	// NotBefore ends a wait that was begun before a restart; zero: none.
	NotBefore time.Time
	// Tries counts the failures in a row so far.
	Tries int
	// Parked keys are not run by themselves, but for a probe every ProbeAfter;
	// 0: no probe.
	Parked     bool
	ProbeAfter time.Duration
}

// Verdict is how a run ended.
type Verdict struct {
	// Err is why it failed; nil: it did all of its work.
	Err error
	// RetryAfter is how long the server asked to be left alone; at most 6 hours
	// are granted. It may stand beside a success.
	RetryAfter time.Duration
	// Park says that trying again does not help until somebody changes
	// something; the key is probed every ProbeAfter (0: Config.ProbeEvery).
	Park       bool
	ProbeAfter time.Duration
	// HostDown says that the failure is the host's, not the key's: it could not
	// be reached or did not answer. The host then gets one run at a time.
	HostDown bool
	// Again says that work is left: the key runs again soon, behind what is
	// overdue, and whoever waits for it waits on. Progress, not yet a success.
	Again bool
}

const (
	defaultSpread = 10 * time.Minute
	defaultProbe  = time.Hour
	// spreadStep is what one overdue key adds to the window it is spread over: a
	// small fleet starts at once.
	spreadStep = 50 * time.Millisecond
	// tick is how long the loop sleeps at most. A sleeping machine's timers
	// stand still, so the loop must look at the clock by itself.
	tick = time.Minute
	// stalled is the time between two turns after which everything that came due
	// meanwhile is spread anew.
	stalled = 3 * tick
)

// Scheduler is a schedule. Its methods may be called from any goroutine, before
// Run, during it and after it, but not from within Config.Run when they wait.
type Scheduler struct {
	cfg  Config
	wake chan struct{} // capacity 1: something changed, take a turn

	mu      sync.Mutex
	clock   *clock
	limits  Limits
	pace    pace
	jobs    map[string]*job
	leaving map[string]*run  // runs of keys that were removed, until they end
	waiting queue[*job]      // by due
	hosts   map[string]*host // those with keys, runs or a pace to remember
	open    queue[*host]     // may start a run, have one already; by their head's rank
	fresh   queue[*host]     // may start a run, have none
	paced   queue[*host]     // must rest; by when they have
	idle    int              // hosts that have keys and no run
	running int
	turned  time.Duration // time of the last turn
	beat    time.Time     // the same by the wall clock
	state   lifeState
	runs    sync.WaitGroup
}

// lifeState is where a schedule's life stands.
type lifeState int

const (
	notStarted lifeState = iota
	started
	stopped
)

// New returns a schedule without keys. Nothing runs before Run.
func New(cfg Config) *Scheduler {
	if cfg.Spread == 0 {
		cfg.Spread = defaultSpread
	}
	if cfg.ProbeEvery == 0 {
		cfg.ProbeEvery = defaultProbe
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		clock:   newClock(cfg.Wall),
		jobs:    make(map[string]*job),
		leaving: make(map[string]*run),
		hosts:   make(map[string]*host),
		waiting: jobQueue(func(a, b *job) bool { return a.due < b.due }),
		open:    hostQueue(firstRanked),
		fresh:   hostQueue(firstRanked),
		paced:   hostQueue(func(a, b *host) bool { return a.free < b.free }),
	}
	s.setLimits(cfg.Limits)
	return s
}

// Run runs keys until the context ends, then waits for the runs in progress,
// whose contexts end with it. It returns nil then; calling it twice is an error.
func (s *Scheduler) Run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
			timer.Reset(s.turn(ctx))
		case <-timer.C:
			timer.Reset(s.turn(ctx))
		}
	}
	s.end()
	return nil
}

// begin spreads what is overdue after a restart.
func (s *Scheduler) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != notStarted {
		return fmt.Errorf("a schedule can be run once: %w", ErrStopped)
	}
	s.state = started
	s.turned = s.clock.now()
	s.spread(s.turned)
	return nil
}

// end waits for the runs in progress and answers everybody who waits for one
// that will not come.
func (s *Scheduler) end() {
	s.mu.Lock()
	s.state = stopped
	s.mu.Unlock()
	s.runs.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		j.answer(ErrStopped)
	}
}

// turn moves what is due to its host's queue, starts what may start, and
// returns how long nothing will happen by itself.
func (s *Scheduler) turn(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	if now-s.turned > stalled {
		s.spread(now)
	}
	s.turned, s.beat = now, s.clock.date(now, now)
	for s.waiting.len() > 0 && s.waiting.head().due <= now {
		s.ready(s.waiting.head(), now)
	}
	s.rest(now)
	for h := s.next(); h != nil; h = s.next() {
		s.start(ctx, h, now)
	}
	return s.sleep(now)
}

// sleep returns the time until the next key is due or host has rested.
func (s *Scheduler) sleep(now time.Duration) time.Duration {
	next := now + tick
	if s.waiting.len() > 0 {
		next = min(next, s.waiting.head().due)
	}
	if s.paced.len() > 0 {
		next = min(next, s.paced.head().free)
	}
	return max(0, next-now)
}

// spread distributes everything that is overdue, each key at its own place, so
// that neither servers nor we get it all at once.
func (s *Scheduler) spread(now time.Duration) {
	overdue := 0
	for _, j := range s.waiting.items {
		if j.due <= now {
			overdue++
		}
	}
	for _, j := range s.waiting.items {
		if j.due <= now {
			j.due = now + share(j.key, s.window(j, overdue))
		}
	}
	s.waiting.reorder()
}

// window is the time over which a key is spread together with others.
func (s *Scheduler) window(j *job, keys int) time.Duration {
	return min(s.cfg.Spread, time.Duration(keys)*spreadStep, j.interval)
}

// Limit changes the limits. Runs in progress go on even when they are now too
// many.
func (s *Scheduler) Limit(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLimits(l)
	now := s.clock.now()
	for _, h := range s.hosts {
		s.settle(h, now)
	}
	s.nudge()
}

func (s *Scheduler) setLimits(l Limits) {
	l.Concurrency = max(1, l.Concurrency)
	s.limits, s.pace = l, l.PerHost.pace()
}

// nudge makes the loop take a turn soon.
func (s *Scheduler) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
