package main

import (
	"context"
	"fmt"
)

// gate is a lock for work that may wait for a disk or for the end of a pass:
// whoever stands before it can give up.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// enter returns nil once nobody else is inside, or ctx's error. What was entered
// has to be left.
func (g gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("before a change: %w", err)
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("while another change was under way: %w", ctx.Err())
	}
}

func (g gate) leave() { <-g }
