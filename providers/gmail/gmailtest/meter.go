package gmailtest

import (
	"maps"
	"slices"
	"time"
)

// meter counts units and calls.
type meter struct {
	units   int
	calls   map[string]int
	seen    map[string]int // calls of a kind since the server was made: Request.N
	gets    map[string]int // reads of each mail
	refused int
	most    int // units of one user in any minute
	users   map[string][]spent
	project []spent
	days    []spent
}

type spent struct {
	at    time.Time
	units int
}

func newMeter() meter {
	return meter{calls: map[string]int{}, seen: map[string]int{}, gets: map[string]int{}, users: map[string][]spent{}}
}

// Usage is what was asked of the server since it was made or ResetUsage.
type Usage struct {
	Units int
	// Calls counts answered calls by kind, refusals for quota apart.
	Calls map[string]int
	// Gets counts the reads of each mail.
	Gets map[string]int
	// Refused counts calls that a budget refused.
	Refused int
	// MostPerMinute is the most units of one user in any 60 seconds.
	MostPerMinute int
}

// Total counts the calls.
func (u Usage) Total() int {
	n := 0
	for _, c := range u.Calls {
		n += c
	}
	return n
}

// Usage returns the meter.
func (s *Server) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meter
	return Usage{m.units, maps.Clone(m.calls), maps.Clone(m.gets), m.refused, m.most}
}

// ResetUsage sets the meter to zero; budgets stay as spent as they are.
func (s *Server) ResetUsage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.units, s.meter.refused, s.meter.most = 0, 0, 0
	clear(s.meter.calls)
	clear(s.meter.gets)
}

// charge spends the units of a call; false when a budget does not hold them.
func (s *Server) charge(user, call, id string) bool {
	m, units, now := &s.meter, s.opts.Prices[call], s.now()
	mine := within(m.users[user], now, time.Minute)
	all := within(m.project, now, time.Minute)
	day := within(m.days, now, 24*time.Hour)
	m.users[user], m.project, m.days = mine, all, day
	if over(mine, units, s.opts.UserPerMinute) || over(all, units, s.opts.ProjectPerMinute) || over(day, units, s.opts.ProjectPerDay) {
		m.refused++
		return false
	}
	m.users[user] = append(mine, spent{now, units})
	m.project = append(all, spent{now, units})
	if s.opts.ProjectPerDay > 0 {
		m.days = append(day, spent{now, units})
	}
	m.most = max(m.most, sum(m.users[user]))
	m.units += units
	m.calls[call]++
	if call == "get" {
		m.gets[id]++
	}
	return true
}

// within drops what is older than a window.
func within(ss []spent, now time.Time, window time.Duration) []spent {
	i := slices.IndexFunc(ss, func(s spent) bool { return now.Sub(s.at) < window })
	if i < 0 {
		return nil
	}
	return ss[i:]
}

func over(ss []spent, units, budget int) bool { return budget > 0 && sum(ss)+units > budget }

func sum(ss []spent) int {
	n := 0
	for _, s := range ss {
		n += s.units
	}
	return n
}
