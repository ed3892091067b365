package main

import (
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers/gmail"
	"mailsyncd/store/storetest"
)

// A project whose last mailbox left keeps what it spent until its day is over.
func TestSpentQuotaOfAProjectWithoutMailboxes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := storetest.NewMemory(storetest.MemoryOptions{})
		process := func() *google {
			t.Helper()
			g := &google{limiters: map[string]*gmail.Limiter{}}
			if err := g.recall(t.Context(), notes); err != nil {
				t.Fatal(err)
			}
			return g
		}
		remember := func(g *google) {
			t.Helper()
			if err := g.remember(t.Context(), notes); err != nil {
				t.Fatal(err)
			}
		}
		first := process()
		l := gmail.NewLimiter(gmail.NewProjectQuota())
		if err := l.Take(t.Context(), "rita", gmail.CallGet); err != nil {
			t.Fatal(err)
		}
		first.limiters["left"] = l
		remember(first)
		second := process()
		second.limiters["stays"] = gmail.NewLimiter(gmail.NewProjectQuota())
		remember(second)
		if got := process().spent["left"]; got != l.Spent() {
			t.Errorf("%v is left of %v", got, l.Spent())
		}
		time.Sleep(26 * time.Hour)
		remember(process())
		if _, known := process().spent["left"]; known {
			t.Error("a day that is over is still noted")
		}
		if err := notes.SetNote(t.Context(), quotaNote, []byte("{not ours")); err != nil {
			t.Fatal(err)
		}
		if g := process(); g.spent != nil {
			t.Errorf("a note of another version was read as %v", g.spent)
		}
	})
}
