package providers

import (
	"log/slog"
	"sync"
)

// Notices are warnings of one mailbox that carry a number and are logged when
// the number is another than last time, so that a lasting state is said once.
// Safe for several goroutines.
type Notices struct {
	logger *slog.Logger // knows the mailbox
	mu     sync.Mutex
	told   map[string]int // by event
}

// NewNotices returns notices that go to a logger, with the provider's name.
func NewNotices(l *slog.Logger, provider string) *Notices {
	return &Notices{logger: l.With("provider", provider), told: map[string]int{}}
}

// Tell says that an event now counts n. Zero is remembered and not logged.
func (s *Notices) Tell(event, msg string, n int) {
	s.mu.Lock()
	changed := s.told[event] != n
	s.told[event] = n
	s.mu.Unlock()
	if changed && n > 0 {
		s.logger.Warn(msg, "event", event, "count", n)
	}
}
