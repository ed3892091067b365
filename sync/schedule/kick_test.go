package schedule_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

func TestAKickRunsAKeyAtOnceAndReturnsItsError(t *testing.T) {
	for name, want := range map[string]error{"success": nil, "failure": errBroken} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.make(schedule.Config{})
				r.work = takes(time.Second, schedule.Verdict{Err: want})
				r.Set("a", hourly(""))
				r.begin()
				after(time.Minute)
				answer := r.kick("a")
				r.wantNoAnswer(answer)
				after(time.Second)
				r.wantAnswer(answer, want)
				r.wantRuns("a", time.Minute)
			})
		})
	}
}

func TestAKickIsSatisfiedByARunThatBeganAfterIt(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(10*time.Second, schedule.Verdict{})
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		after(5 * time.Second)
		answer := r.kick("a") // a run is in progress: it may have read past what the kick is about
		after(6 * time.Second)
		r.wantNoAnswer(answer)
		after(9 * time.Second)
		r.wantAnswer(answer, nil)
		r.wantRuns("a", 0, 10*time.Second)
	})
}

func TestKicksShareTheRunThatIsQueued(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}})
		r.work = takes(10*time.Second, schedule.Verdict{})
		r.begin()
		r.Set("busy", schedule.Entry{Interval: 10 * time.Hour})
		r.Set("a", hourly(""))
		synctest.Wait()
		first, second := r.kick("a"), r.kick("a")
		after(5 * time.Second)
		third := r.kick("a")
		after(15 * time.Second)
		r.wantAnswer(first, nil)
		r.wantAnswer(second, nil)
		r.wantAnswer(third, nil)
		r.wantRuns("a", 10*time.Second)
	})
}

func TestAKickGoesBeforeWhatIsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}, Spread: time.Nanosecond})
		r.work = takes(time.Second, schedule.Verdict{})
		for _, k := range names("overdue", 100) {
			r.Set(k, schedule.Entry{Interval: time.Hour, LastSuccess: time.Now().Add(-20 * time.Hour)})
		}
		r.Set("a", hourly(""))
		r.begin()
		answer := r.kick("a")
		after(2 * time.Second)
		r.wantAnswer(answer, nil)
	})
}

func TestKicksWithoutEndStarveNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}})
		r.work = takes(time.Minute, schedule.Verdict{})
		r.Set("a", hourly(""))
		r.Set("b", hourly(""))
		r.Set("patient", hourly(""))
		r.begin()
		for range 4000 { // nearly three days in which two keys are always kicked
			go r.Kick(t.Context(), "a")
			go r.Kick(t.Context(), "b")
			after(time.Minute)
		}
		if n := len(r.begins("patient")); n < 2 {
			t.Errorf("the patient key ran %d times in 66 hours, want it once a day at least", n)
		}
	})
}

func TestAKickWaitsForAllTheWorkOfARunThatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		var left box[int]
		left.set(3)
		r.work = func(context.Context, string) schedule.Verdict {
			left.set(left.get() - 1)
			return schedule.Verdict{Again: left.get() > 0}
		}
		r.Set("a", hourly(""))
		r.begin()
		answer := r.kick("a")
		r.wantAnswer(answer, nil)
		if left.get() != 0 {
			t.Errorf("answered with %d runs of work left", left.get())
		}
		if st := r.wantState("a", schedule.Waiting); time.Until(st.Due) != time.Hour {
			t.Errorf("due in %v, want an hour", time.Until(st.Due))
		}
	})
}

func TestAKickEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(time.Hour, schedule.Verdict{})
		r.Set("a", hourly(""))
		r.begin()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Kick(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		r.wantState("a", schedule.Running)
	})
}

func TestAKickOfWhatIsNotThereIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.begin()
		if err := r.Kick(t.Context(), "a"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("got %v, want ErrUnknown", err)
		}
	})
}

func TestAKickBeforeRunWaitsForIt(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.Set("a", hourly(""))
		answer := r.kick("a")
		after(time.Minute)
		r.wantNoAnswer(answer)
		r.begin()
		r.wantAnswer(answer, nil)
	})
}

func TestAKickCutsAWaitShort(t *testing.T) {
	rows := []struct {
		name    string
		verdict schedule.Verdict
	}{
		{"after a failure", schedule.Verdict{Err: errBroken}},
		{"that the server asked for", schedule.Verdict{Err: errBroken, RetryAfter: 3 * time.Hour}},
		{"of a key that its run parked", schedule.Verdict{Err: errBroken, Park: true}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.make(schedule.Config{})
				r.work = takes(0, row.verdict)
				r.begin()
				r.Set("a", schedule.Entry{Interval: time.Hour})
				synctest.Wait()
				answer := r.kick("a")
				r.wantAnswer(answer, errBroken)
			})
		})
	}
}

func TestAKickOfAllTriesWhatNobodyForbade(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		verdicts := map[string]schedule.Verdict{
			"fine":      {},
			"failing":   {Err: errBroken},
			"throttled": {Err: errBroken, RetryAfter: 3 * time.Hour},
			"refused":   {Err: errBroken, Park: true},
		}
		var mended box[bool]
		r.work = func(_ context.Context, key string) schedule.Verdict {
			if key == "throttled" && mended.get() {
				return schedule.Verdict{}
			}
			return verdicts[key]
		}
		r.begin()
		for key := range verdicts {
			r.Set(key, schedule.Entry{Host: key, Interval: 12 * time.Hour})
		}
		r.Set("paused", hourly(""))
		if _, err := r.Park("paused", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.clear()
		got := r.KickAll(t.Context())
		want := map[string]error{
			"failing": errBroken, "throttled": schedule.ErrAsked, "refused": schedule.ErrParked, "paused": schedule.ErrParked,
		}
		for key, err := range want {
			if !errors.Is(got[key], err) {
				t.Errorf("%s: %v, want %v", key, got[key], err)
			}
		}
		if len(got) != len(want) || len(r.all()) != 2 {
			t.Errorf("answers %v after %d runs, want %d answers and the runs of fine and failing", got, len(r.all()), len(want))
		}
		mended.set(true)
		after(4 * time.Hour)
		if err, refused := r.KickAll(t.Context())["throttled"]; refused {
			t.Errorf("after its pause the throttled key answers %v, want to be tried", err)
		}
	})
}

func TestAKickOfAllEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = func(ctx context.Context, key string) schedule.Verdict {
			if key == "slow" {
				return takes(time.Hour, schedule.Verdict{})(ctx, key)
			}
			return schedule.Verdict{}
		}
		r.Set("slow", hourly("s"))
		r.Set("fast", hourly("f"))
		r.begin()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := r.KickAll(ctx)
		if len(got) != 1 || !errors.Is(got["slow"], context.DeadlineExceeded) {
			t.Errorf("got %v, want the slow key alone to be missing", got)
		}
	})
}
