package storetest_test

import (
	"errors"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

// TestMemoryFaults holds the two flavours of a fault to what they say: the
// caller sees the same error, and only one of them leaves anything behind.
func TestMemoryFaults(t *testing.T) {
	for _, row := range []struct {
		name     string
		kind     storetest.FaultKind
		version  uint64 // of the walk afterwards
		notified int
	}{
		{"a failed operation leaves nothing behind", storetest.Failed, 0, 0},
		{"a persisted one leaves everything behind", storetest.FailedButPersisted, 1, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			notified, faulty := 0, ""
			m := storetest.NewMemory(storetest.MemoryOptions{
				Notify: func() { notified++ },
				Fault: func(op string) storetest.FaultKind {
					if op == faulty {
						return row.kind
					}
					return storetest.NoFault
				},
			})
			ctx, w := t.Context(), store.Walk{Mailbox: "rita"}
			rows := []store.Row{{Kind: "candidate", Ref: "nora", Active: []string{"nora@x.example"}}}
			if err := m.Change(ctx, store.Change{Put: rows, Now: time.Unix(0, 0)}); err != nil {
				t.Fatal(err)
			}
			faulty = "Advance"
			batch := store.Batch{Messages: []store.Matched{{
				ID: "msg_a", Mailbox: store.Holding{ID: "rita"}, Pairs: []store.Pair{{Candidate: "nora", Key: "nora@x.example"}},
			}}}
			done, err := m.Advance(ctx, w, 0, batch)
			if !errors.Is(err, storetest.ErrFault) || done != (store.Advanced{}) {
				t.Errorf("got %+v, %v", done, err)
			}
			again := m.Reopen()
			if _, err := m.Walk(ctx, w); !errors.Is(err, storetest.ErrClosed) {
				t.Errorf("the old handle gives %v", err)
			}
			st, err := again.Walk(ctx, w)
			if err != nil || st.Version != row.version || notified != row.notified {
				t.Errorf("version %d, %d notifications, %v", st.Version, notified, err)
			}
		})
	}
}
