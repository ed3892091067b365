package schedule_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

func TestAKeyIsDueAnIntervalAfterItsLastSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(10*time.Minute, schedule.Verdict{})
		r.Set("a", schedule.Entry{Interval: time.Hour, LastSuccess: time.Now().Add(-20 * time.Minute)})
		r.begin()
		after(170 * time.Minute)
		// 40 minutes are left of the first hour; then each run's end counts.
		r.wantRuns("a", 40*time.Minute, 110*time.Minute)
	})
}

func TestAKeyThatIsNewRunsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.begin()
		after(time.Minute)
		r.Set("a", schedule.Entry{Interval: time.Hour})
		synctest.Wait()
		r.wantRuns("a", time.Minute)
	})
}

func TestTheLongestOverdueGoesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}, Spread: time.Nanosecond})
		r.work = takes(time.Second, schedule.Verdict{})
		for key, overdue := range map[string]time.Duration{"b": 5, "d": 1, "a": 9, "c": 3} {
			r.Set(key, schedule.Entry{Host: key, Interval: time.Hour, LastSuccess: time.Now().Add(-time.Hour - overdue*time.Minute)})
		}
		r.begin()
		after(10 * time.Second)
		var order []string
		for _, sp := range r.all() {
			order = append(order, sp.key)
		}
		if want := []string{"a", "b", "c", "d"}; !slices.Equal(order, want) {
			t.Errorf("ran in the order %v, want %v", order, want)
		}
	})
}

func TestASuccessNotedByAWrongClockDoesNotSilenceAKey(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.Set("a", schedule.Entry{Interval: time.Hour, LastSuccess: time.Now().AddDate(5, 0, 0)})
		r.Set("b", schedule.Entry{Interval: time.Hour, NotBefore: time.Now().AddDate(5000, 0, 0)})
		r.begin()
		after(7 * time.Hour)
		if n := len(r.begins("a")); n != 7 {
			t.Errorf("a ran %d times in 7 hours, want 7", n)
		}
		if got := r.begins("b"); len(got) == 0 || got[0] != 6*time.Hour {
			t.Errorf("b ran at %v, want its first run after the longest wait there is", got)
		}
	})
}

func TestAWaitSurvivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.Set("a", schedule.Entry{Interval: time.Hour, NotBefore: time.Now().Add(10 * time.Minute), Tries: 3})
		r.begin()
		if st := r.wantState("a", schedule.Waiting); st.Tries != 3 {
			t.Errorf("%d tries, want 3", st.Tries)
		}
		after(time.Hour)
		r.wantRuns("a", 10*time.Minute)
	})
}

func TestSetOfAKnownKeyDoesNotDisturbIt(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(5*time.Minute, schedule.Verdict{})
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		after(time.Minute)
		// A reload knows an old last success only, and moves the key elsewhere.
		r.Set("a", schedule.Entry{Host: "other", Interval: 2 * time.Hour, LastSuccess: time.Now().AddDate(0, 0, -1)})
		after(5 * time.Hour)
		r.wantRuns("a", 0, 5*time.Minute+2*time.Hour, 10*time.Minute+4*time.Hour)
		if st, _ := r.Status("a"); st.Host != "other" {
			t.Errorf("host %q, want the new one", st.Host)
		}
	})
}

func TestAChangedIntervalCountsFromTheLastSuccess(t *testing.T) {
	rows := []struct {
		name     string
		interval time.Duration
		want     time.Duration // of the next run, since the last
	}{
		{"longer", 2 * time.Hour, 2 * time.Hour},
		{"shorter, still ahead", 45 * time.Minute, 45 * time.Minute},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.make(schedule.Config{})
				r.Set("a", hourly(""))
				r.begin()
				after(30 * time.Minute)
				r.Set("a", schedule.Entry{Interval: row.interval})
				after(2*time.Hour - 30*time.Minute)
				if got := r.begins("a"); got[0] != row.want {
					t.Errorf("ran at %v, want %v", got[0], row.want)
				}
			})
		})
	}
}

func TestShorteningEveryIntervalDoesNotStampede(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}})
		keys := names("k", 600)
		for _, k := range keys {
			r.Set(k, hourly("h"))
		}
		r.begin()
		after(50 * time.Minute)
		for _, k := range keys {
			r.Set(k, schedule.Entry{Host: "h", Interval: 15 * time.Minute})
		}
		after(14*time.Minute + 59*time.Second)
		if got := len(r.all()); got < 600 {
			t.Errorf("%d of 600 keys ran within the new interval", got)
		}
		wantFlat(t, r.all(), 10*time.Minute, 600)
	})
}

// wantFlat checks that no tenth of the window has more than twice its share of
// the first runs.
func wantFlat(t *testing.T, spans []span, window time.Duration, keys int) {
	t.Helper()
	first := map[string]time.Duration{}
	begin := spans[0].began
	for _, sp := range spans {
		if _, seen := first[sp.key]; !seen {
			first[sp.key] = sp.began
		}
	}
	tenths := map[int64]int{}
	for _, at := range first {
		if at-begin > window {
			t.Fatalf("a first run came %v after the beginning, want it within %v", at-begin, window)
		}
		tenths[int64((at-begin)*10/window)]++
	}
	for i, n := range tenths {
		if n > keys/5+3 {
			t.Errorf("tenth %d has %d of %d runs", i, n, keys)
		}
	}
}

func TestARestartStampedesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 100_000}})
		const keys = 20_000
		for _, k := range names("k", keys) {
			r.Set(k, schedule.Entry{Host: k, Interval: time.Hour, LastSuccess: time.Now().Add(-5 * time.Hour)})
		}
		r.begin()
		after(10 * time.Minute)
		if got := len(r.all()); got != keys {
			t.Fatalf("%d runs in the first 10 minutes, want %d", got, keys)
		}
		wantFlat(t, r.all(), 10*time.Minute, keys)
	})
}

func TestAKeyHasTheSamePlaceAfterEveryRestart(t *testing.T) {
	first := func() (begins []time.Duration) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}})
			for _, k := range names("k", 200) {
				r.Set(k, schedule.Entry{Interval: time.Hour})
			}
			r.begin()
			after(time.Minute)
			for _, k := range names("k", 200) {
				begins = append(begins, r.begins(k)...)
			}
		})
		return begins
	}
	if a, b := first(), first(); len(a) != 200 || !slices.Equal(a, b) {
		t.Errorf("two starts put the keys at different places, or not all of them ran: %d, %d", len(a), len(b))
	}
}

func TestASmallFleetStartsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		for _, k := range names("k", 5) {
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Hour})
		}
		r.begin()
		after(250 * time.Millisecond)
		if got := len(r.all()); got != 5 {
			t.Errorf("%d of 5 keys ran in the first quarter of a second", got)
		}
	})
}

func TestAReloadThatAddsEverythingAgainDoesNotStampede(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}})
		keys := names("k", 600)
		for _, k := range keys {
			r.Set(k, hourly("h"))
		}
		r.begin()
		after(time.Minute)
		for _, k := range keys {
			<-r.Remove(k)
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Hour, LastSuccess: time.Now().Add(-20 * time.Hour)})
		}
		after(40 * time.Second)
		if got := len(r.all()); got != 600 {
			t.Errorf("%d of 600 keys ran", got)
		}
		wantFlat(t, r.all(), 30*time.Second, 600)
	})
}

// shifted is a wall clock that the test can set.
type shifted struct{ by atomic.Int64 }

func (c *shifted) set(by time.Duration) { c.by.Store(int64(by)) }

func (c *shifted) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

func TestAMachineThatSleptCatchesUpOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var wall shifted
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}, Wall: wall.now})
		for i, k := range names("k", 600) {
			age := time.Duration(i) * 6 * time.Second
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Hour, LastSuccess: time.Now().Add(-age)})
		}
		r.begin()
		wall.set(8 * time.Hour) // the process's own clock stood still meanwhile
		after(10 * time.Minute)
		if got := len(r.all()); got != 600 {
			t.Errorf("%d runs after the sleep, want one of each of 600 keys", got)
		}
		wantFlat(t, r.all(), 40*time.Second, 600)
		if st, _ := r.Status("k0000"); time.Until(st.LastSuccess) < 7*time.Hour {
			t.Errorf("last success %v, want it by the wall clock", st.LastSuccess)
		}
	})
}

func TestAClockSetBackSilencesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var wall shifted
		r.make(schedule.Config{Wall: wall.now})
		r.Set("a", hourly(""))
		r.begin()
		wall.set(-48 * time.Hour)
		after(3*time.Hour + time.Minute)
		r.wantRuns("a", time.Hour, 2*time.Hour, 3*time.Hour)
	})
}

func TestAClockSetForwardCostsOneRun(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var wall shifted
		r.make(schedule.Config{Wall: wall.now})
		r.Set("a", hourly(""))
		r.begin()
		after(30 * time.Second)
		wall.set(100 * 24 * time.Hour)
		after(50 * time.Minute)
		if n := len(r.begins("a")); n != 1 {
			t.Fatalf("%d runs for 2400 that the clock skipped, want 1", n)
		}
		wall.set(0)
		after(50 * time.Minute)
		if n := len(r.begins("a")); n != 2 {
			t.Errorf("%d runs, want the next an hour after the first", n)
		}
	})
}

func TestASlewedClockIsNoSleep(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var wall shifted
		r.make(schedule.Config{Wall: wall.now})
		r.Set("a", hourly(""))
		r.begin()
		for i := range 59 {
			wall.set(time.Duration(i) * 2 * time.Second)
			after(time.Minute)
		}
		r.wantRuns("a")
	})
}

func TestRunTwiceIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.begin()
		if err := r.Run(t.Context()); !errors.Is(err, schedule.ErrStopped) {
			t.Errorf("the second Run returned %v, want ErrStopped", err)
		}
	})
}

func TestStoppingEndsRunsAndWaitsForThem(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}})
		r.work = func(ctx context.Context, _ string) schedule.Verdict {
			<-ctx.Done()
			<-time.After(5 * time.Second) // it writes down what it has
			return schedule.Verdict{Err: ctx.Err()}
		}
		r.Set("a", schedule.Entry{Interval: time.Hour})
		r.Set("b", schedule.Entry{Interval: time.Hour})
		r.begin()
		after(time.Second)
		waits := r.kick("b")
		r.halt()
		for _, sp := range r.all() {
			if sp.ended != 6*time.Second {
				t.Errorf("%s ended at %v, want its own end before Run's", sp.key, sp.ended)
			}
		}
		if n := len(r.all()); n != 1 {
			t.Errorf("%d runs, want none to begin while stopping", n)
		}
		synctest.Wait()
		r.wantAnswer(waits, schedule.ErrStopped)
		if err := r.Kick(t.Context(), "a"); !errors.Is(err, schedule.ErrStopped) {
			t.Errorf("a kick after the end answered %v, want ErrStopped", err)
		}
		if got := r.KickAll(t.Context()); !errors.Is(got["a"], schedule.ErrStopped) || len(got) != 2 {
			t.Errorf("a kick of all after the end answered %v, want ErrStopped for both", got)
		}
	})
}
