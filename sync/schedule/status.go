package schedule

import (
	"maps"
	"slices"
	"time"
)

// State is what a key is doing.
type State string

// The states of a key.
const (
	Waiting State = "waiting" // until Due
	Ready   State = "ready"   // due, waits for a slot or for its host's limits
	Running State = "running" // since Since
	Parked  State = "parked"  // not run by itself; Due is the next probe, zero: none
)

// Status is one key as it stands.
type Status struct {
	Key, Host   string
	State       State
	Due         time.Time // of the next run, or of the one that is ready; zero: none, or running
	Since       time.Time // Running: when the run began
	LastSuccess time.Time // zero: never
	Tries       int       // failures in a row
	Asked       bool      // Due was set by a server's wish for a pause
}

// Snapshot returns all keys in order.
func (s *Scheduler) Snapshot() []Status {
	s.mu.Lock()
	keys := slices.Collect(maps.Keys(s.jobs))
	s.mu.Unlock()
	slices.Sort(keys) // not under the lock: runs wait for it
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	out := make([]Status, 0, len(keys))
	for _, key := range keys {
		if j, known := s.jobs[key]; known {
			out = append(out, s.status(j, now))
		}
	}
	return out
}

// Status returns one key, false when it is unknown.
func (s *Scheduler) Status(key string) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, known := s.jobs[key]
	if !known {
		return Status{}, false
	}
	return s.status(j, s.clock.now()), true
}

// Beat returns when the loop last took a turn, zero before the first. It does
// so every minute at least: an older beat means that the loop hangs.
func (s *Scheduler) Beat() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beat
}

func (s *Scheduler) status(j *job, now time.Duration) Status {
	st := Status{Key: j.key, Host: j.host.name, LastSuccess: j.lastSuccess, Tries: j.tries, Asked: j.asked}
	switch {
	case j.run != nil:
		st.State, st.Since = Running, s.clock.date(j.run.began, now)
	case j.in == &j.host.ready:
		st.State, st.Due = Ready, s.clock.date(j.due, now)
	case j.parked:
		st.State = Parked
		if j.in != nil {
			st.Due = s.clock.date(j.due, now)
		}
	default:
		st.State, st.Due = Waiting, s.clock.date(j.due, now)
	}
	return st
}
