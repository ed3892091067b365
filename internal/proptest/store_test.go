package proptest_test

import (
	"time"

	"mailsyncd/store"
)

// replayDead brings every dead letter back.
func (w *world) replayDead() error {
	_, err := w.mem.Replay(w.ctx, store.EventFilter{State: store.EventDead}, time.Now())
	return err
}

// expire erases the payloads of what was delivered longer ago.
func (w *world) expire(age time.Duration) {
	before := time.Now().Add(-age)
	for more := true; more; {
		var err error
		if more, err = w.mem.Expire(w.ctx, store.Expiry{Delivered: before, Tasks: before}); err != nil {
			w.fail(broken, "retention: %v", err)
			return
		}
	}
}
