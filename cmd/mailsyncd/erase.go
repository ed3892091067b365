package main

import (
	"context"
	"errors"
	"time"

	"mailsyncd/store"
)

const (
	// eraseEvery is how often it is looked whether the file must be rewritten.
	eraseEvery = 10 * time.Minute
	// rewriteEvery is the least time between two rewrites, an hour less than the
	// day within which a purge's last trace has to be gone.
	rewriteEvery = 23 * time.Hour
)

// eraseLeftovers rewrites the store's file when purges have left their bytes in
// its free pages: at the start if there are any, else at most daily. It has a
// goroutine of its own, because a rewrite of a large file takes minutes.
func (d *daemon) eraseLeftovers(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for atStart := true; ; atStart = false {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := d.eraseOnce(ctx, atStart); errors.Is(err, store.ErrUnusable) {
			return err
		}
		timer.Reset(eraseEvery)
	}
}

// eraseOnce rewrites the file if it is time to, and logs what came of it.
func (d *daemon) eraseOnce(ctx context.Context, atStart bool) error {
	begun := time.Now()
	e, err := d.store.Erasure(ctx)
	if err == nil && rewriteDue(e, atStart, begun) {
		if err = d.store.Rewrite(ctx, begun); err == nil {
			d.log.Info("the store's file was rewritten: nothing is left in it of what was erased",
				"event", "store_rewritten", "erased", e.Pending, "duration", time.Since(begun).Round(time.Millisecond))
		}
	}
	if err != nil && ctx.Err() == nil {
		d.log.Error("traces of erased candidates are still in the store's file; it is tried again",
			"event", "rewrite_failed", "err", err)
	}
	return err
}

// rewriteDue tells that something waits for a rewrite and the last one is long
// enough ago.
func rewriteDue(e store.Erasure, atStart bool, now time.Time) bool {
	return e.Pending > 0 && (atStart || now.Sub(e.LastRewrite) >= rewriteEvery)
}

// erasurePending is how long the oldest purge waits for its last trace to go.
func erasurePending(e store.Erasure, now time.Time) time.Duration {
	if e.Pending == 0 || e.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(e.Oldest))
}
