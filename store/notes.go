package store

import "context"

// Notes keeps the few things that the daemon as a whole remembers over a restart
// and that belong to nobody's mail, by name.
type Notes interface {
	// Note returns what was noted last under a name; nil when nothing was.
	Note(ctx context.Context, name string) ([]byte, error)
	// SetNote replaces it; durable when it returns.
	SetNote(ctx context.Context, name string, value []byte) error
}
