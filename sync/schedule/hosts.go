package schedule

import (
	"cmp"
	"context"
	"time"
)

// host is what keys share: its runs and its pace. It stands in one of the
// scheduler's queues open, fresh and paced, or in none while it has nothing to
// start or is at its limit.
type host struct {
	name    string
	keys    int
	running int
	down    bool // the last run could not reach it
	ready   queue[*job]
	pacer   pacer
	free    time.Duration // in paced: when it leaves
	idle    bool          // counted in Scheduler.idle
	in      *queue[*host]
	pos     int
}

func hostQueue(less func(a, b *host) bool) queue[*host] {
	return queue[*host]{less: less, place: func(h *host) *int { return &h.pos }}
}

// rank orders what is ready: longest overdue first; by key among equals, so
// that the order is the same every time.
func rank(a, b *job) int {
	return cmp.Or(cmp.Compare(a.owed, b.owed), cmp.Compare(a.key, b.key))
}

func firstRanked(a, b *host) bool { return rank(a.ready.head(), b.ready.head()) < 0 }

// host returns the host of that name, a new one if need be.
func (s *Scheduler) host(name string) *host {
	h, known := s.hosts[name]
	if !known {
		h = &host{name: name, ready: jobQueue(func(a, b *job) bool { return rank(a, b) < 0 })}
		s.hosts[name] = h
	}
	return h
}

// limit is how many runs the host may have at a time.
func (s *Scheduler) limit(h *host) int {
	connections := s.limits.PerHost.Connections
	if connections <= 0 {
		connections = s.limits.Concurrency
	}
	if h.down {
		return 1
	}
	return connections
}

// settle puts a host where it belongs after anything about it changed.
func (s *Scheduler) settle(h *host, now time.Duration) {
	s.countIdle(h)
	if h.in != nil {
		h.in.remove(h)
		h.in = nil
	}
	switch {
	case h.keys == 0 && h.running == 0:
		s.forget(h, now)
	case h.ready.len() == 0 || h.running >= s.limit(h):
	case h.pacer.wait(now, s.pace) > 0:
		h.free = now + h.pacer.wait(now, s.pace)
		h.enter(&s.paced)
	case h.running == 0:
		h.enter(&s.fresh)
	default:
		h.enter(&s.open)
	}
}

func (h *host) enter(q *queue[*host]) {
	q.push(h)
	h.in = q
}

// forget drops a host without keys once its pace is rested: a key that is taken
// out and put back must not start a new minute.
func (s *Scheduler) forget(h *host, now time.Duration) {
	if s.pace.period == 0 || h.pacer.rested <= now {
		delete(s.hosts, h.name)
		return
	}
	h.free = h.pacer.rested
	h.enter(&s.paced)
}

func (s *Scheduler) countIdle(h *host) {
	idle := h.keys > 0 && h.running == 0
	if idle == h.idle {
		return
	}
	h.idle = idle
	if idle {
		s.idle++
	} else {
		s.idle--
	}
}

// rest lets hosts go on whose pause for the sake of their pace is over.
func (s *Scheduler) rest(now time.Duration) {
	for s.paced.len() > 0 && s.paced.head().free <= now {
		s.settle(s.paced.head(), now)
	}
}

// kept is how many slots at most are kept for hosts without a run.
func (l Limits) kept() int {
	if l.Concurrency < 4 {
		return l.Concurrency / 2
	}
	return l.Concurrency / 4
}

// next returns the host that starts the next run, nil when there is none or no
// slot for it. The last slots are kept for hosts that have nothing running, as
// many as there are such hosts and at most a quarter of all: when runs of a few
// hosts hang, a healthy host gets its turn.
func (s *Scheduler) next() *host {
	slots := s.limits.Concurrency - s.running
	kept := min(s.idle, s.limits.kept())
	var best *host
	if slots > 0 && s.fresh.len() > 0 {
		best = s.fresh.head()
	}
	if slots > kept && s.open.len() > 0 {
		if h := s.open.head(); best == nil || firstRanked(h, best) {
			best = h
		}
	}
	return best
}

// start begins a run of the host's first key.
func (s *Scheduler) start(ctx context.Context, h *host, now time.Duration) {
	j := h.ready.head()
	j.leave()
	j.run = &run{key: j.key, host: h, began: now, outcomes: j.pending, done: make(chan struct{})}
	j.pending, j.asked = nil, false
	runCtx, cancel := context.WithCancelCause(ctx)
	j.run.cancel = cancel
	s.running++
	h.running++
	h.pacer.start(now, s.pace)
	s.settle(h, now)
	s.runs.Add(1)
	go s.round(runCtx, j.run)
}
