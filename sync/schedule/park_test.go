package schedule_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

func TestAKeyThatItsRunParksIsProbedRarely(t *testing.T) {
	rows := []struct {
		name    string
		verdict schedule.Verdict
		every   time.Duration
	}{
		{"every hour unless it says otherwise", schedule.Verdict{Err: errBroken, Park: true}, time.Hour},
		{"as often as it says", schedule.Verdict{Err: errBroken, Park: true, ProbeAfter: 6 * time.Hour}, 6 * time.Hour},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.make(schedule.Config{})
				r.work = takes(0, row.verdict)
				r.begin()
				r.Set("a", schedule.Entry{Interval: time.Minute})
				after(24 * time.Hour)
				r.wantState("a", schedule.Parked)
				got := r.begins("a")
				for i := 1; i < len(got); i++ {
					if gap := got[i] - got[i-1]; gap < row.every || gap > row.every*11/10 {
						t.Errorf("probe %d came after %v, want %v and up to a tenth more", i, gap, row.every)
					}
				}
				if len(got) < 4 {
					t.Errorf("%d runs in a day, want probes", len(got))
				}
			})
		})
	}
}

func TestAParkedKeyStaysParkedWhenItsProbeFailsForAnotherReason(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		var verdict box[schedule.Verdict]
		verdict.set(schedule.Verdict{Err: errBroken, Park: true})
		r.work = func(context.Context, string) schedule.Verdict { return verdict.get() }
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Minute})
		synctest.Wait()
		verdict.set(schedule.Verdict{Err: errBroken}) // the network, say
		after(5 * time.Hour)
		r.wantState("a", schedule.Parked)
		if n := len(r.begins("a")); n > 6 {
			t.Errorf("%d runs in 5 hours, want a probe an hour", n)
		}
		verdict.set(schedule.Verdict{})
		after(66 * time.Minute)
		if st := r.wantState("a", schedule.Waiting); st.Tries != 0 {
			t.Errorf("%d tries after a success, want none", st.Tries)
		}
	})
}

func TestARestartDoesNotTryARefusedCredentialAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}})
		for _, k := range names("k", 600) {
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Minute, Parked: true, ProbeAfter: time.Hour})
		}
		r.Set("never", schedule.Entry{Host: "h", Interval: time.Minute, Parked: true})
		r.begin()
		after(time.Hour)
		first := map[string]time.Duration{}
		for _, sp := range r.all() {
			if _, seen := first[sp.key]; !seen {
				first[sp.key] = sp.began
			}
		}
		early := 0
		for _, at := range first {
			if at < 6*time.Minute {
				early++
			}
		}
		if len(first) != 600 || early > 120 {
			t.Errorf("%d keys probed in the first hour, %d of them in its first tenth; want 600 spread over it", len(first), early)
		}
		r.wantRuns("never")
	})
}

func TestParkingStopsAKeyForGood(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.Set("a", hourly(""))
		r.begin()
		if _, err := r.Park("a", 0); err != nil {
			t.Fatal(err)
		}
		after(48 * time.Hour)
		r.wantRuns("a")
		if st := r.wantState("a", schedule.Parked); !st.Due.IsZero() {
			t.Errorf("due at %v, want never", st.Due)
		}
		if err := r.Kick(t.Context(), "a"); !errors.Is(err, schedule.ErrParked) {
			t.Errorf("a kick answered %v, want ErrParked", err)
		}
		if err := r.Unpark("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.wantRuns("a", 48*time.Hour)
	})
}

func TestParkingEndsARunThatThenDoesNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		var cause box[error]
		r.work = func(ctx context.Context, _ string) schedule.Verdict {
			<-ctx.Done()
			cause.set(context.Cause(ctx))
			<-time.After(time.Second)
			return schedule.Verdict{Err: errBroken}
		}
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		synctest.Wait()
		waits := r.kick("a")
		idle, err := r.Park("a", 0)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.wantAnswer(waits, schedule.ErrParked)
		select {
		case <-idle:
			t.Fatal("the channel is closed while the run goes on")
		default:
		}
		<-idle
		if !errors.Is(cause.get(), schedule.ErrParked) {
			t.Errorf("the run's context ended because %v, want ErrParked", cause.get())
		}
		if st := r.wantState("a", schedule.Parked); st.Tries != 0 {
			t.Errorf("%d tries, want the ended run not to count", st.Tries)
		}
	})
}

func TestParkingTakesAKeyOutOfTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}})
		r.work = takes(time.Minute, schedule.Verdict{})
		r.begin()
		r.Set("busy", schedule.Entry{Host: "h", Interval: time.Hour})
		synctest.Wait()
		r.Set("a", schedule.Entry{Host: "h", Interval: time.Hour})
		synctest.Wait()
		r.wantState("a", schedule.Ready)
		if _, err := r.Park("a", 3*time.Hour); err != nil {
			t.Fatal(err)
		}
		after(4 * time.Hour)
		r.wantRuns("a", 3*time.Hour)
	})
}

func TestUnparkingARunningKeyRunsItOnceMore(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		// The run began with the old password; the new one came meanwhile.
		var verdict box[schedule.Verdict]
		verdict.set(schedule.Verdict{Err: errBroken, Park: true})
		r.work = func(ctx context.Context, key string) schedule.Verdict {
			v := verdict.get()
			takes(10*time.Second, v)(ctx, key)
			return v
		}
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		after(5 * time.Second)
		verdict.set(schedule.Verdict{})
		if err := r.Unpark("a"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		r.wantRuns("a", 0, 10*time.Second)
		r.wantState("a", schedule.Waiting)
	})
}

func TestUnparkingForgetsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(0, schedule.Verdict{Err: errBroken})
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		after(12 * time.Hour)
		r.clear()
		if err := r.Unpark("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st, _ := r.Status("a"); st.Tries != 1 || len(r.all()) != 1 {
			t.Errorf("%d tries after %d runs, want the first failure of a new row", st.Tries, len(r.all()))
		}
	})
}

func TestParkingWhatIsNotThereIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		if _, err := r.Park("a", 0); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("Park answered %v, want ErrUnknown", err)
		}
		if err := r.Unpark("a"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("Unpark answered %v, want ErrUnknown", err)
		}
	})
}

func TestRemovingEndsARun(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = func(ctx context.Context, _ string) schedule.Verdict {
			<-ctx.Done()
			<-time.After(time.Second)
			return schedule.Verdict{Err: context.Cause(ctx)}
		}
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		synctest.Wait()
		waits := r.kick("a")
		gone, again := r.Remove("a"), r.Remove("a")
		synctest.Wait()
		r.wantAnswer(waits, schedule.ErrRemoved)
		if _, known := r.Status("a"); known {
			t.Error("the key is still known")
		}
		<-gone
		<-again
		if all := r.all(); len(all) != 1 || all[0].ended != time.Second {
			t.Errorf("runs %v, want one that ended by itself after its context", all)
		}
		<-r.Remove("a") // nothing left to wait for
	})
}

func TestAKeyThatComesBackWaitsForItsOldRun(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		first := true
		r.work = func(ctx context.Context, _ string) schedule.Verdict {
			if first {
				first = false
				<-ctx.Done()
				<-time.After(time.Minute) // slow to let go
			}
			return schedule.Verdict{}
		}
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		after(time.Second)
		r.Remove("a")
		r.Set("a", schedule.Entry{Interval: time.Hour})
		answer := r.kick("a")
		after(time.Minute)
		r.wantAnswer(answer, nil)
		r.wantRuns("a", 0, time.Minute+time.Second) // the rig fails if two run at once
	})
}

func TestAKeyThatComesBackAndGoesAgainLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = func(ctx context.Context, _ string) schedule.Verdict {
			<-ctx.Done()
			<-time.After(time.Minute)
			return schedule.Verdict{}
		}
		r.begin()
		r.Set("a", schedule.Entry{Interval: time.Hour})
		synctest.Wait()
		r.Remove("a")
		r.Set("a", schedule.Entry{Interval: time.Hour})
		<-r.Remove("a")
		after(3 * time.Hour)
		r.wantRuns("a", 0)
		if left := r.Snapshot(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
