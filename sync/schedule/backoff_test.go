package schedule_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

func TestFailuresWaitByTheTable(t *testing.T) {
	longest := []time.Duration{
		30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, time.Hour, time.Hour,
	}
	total := make([]time.Duration, len(longest))
	const keys = 200
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000}})
		r.work = takes(0, schedule.Verdict{Err: errBroken})
		r.begin()
		for _, k := range names("k", keys) {
			r.Set(k, schedule.Entry{Interval: 15 * time.Minute})
		}
		after(24 * time.Hour)
		for _, k := range names("k", keys) {
			got := r.begins(k)
			for i, most := range longest {
				wait := got[i+1] - got[i]
				if wait < time.Second || wait > most {
					t.Fatalf("after failure %d the wait was %v, want one second to %v", i+1, wait, most)
				}
				total[i] += wait
			}
		}
		for i, most := range longest {
			if mean := total[i] / keys; mean < most*2/5 || mean > most*3/5 {
				t.Errorf("after failure %d the mean wait was %v, want about half of %v: full jitter", i+1, mean, most)
			}
		}
	})
}

func TestAKeyWithALongIntervalIsNotTriedMoreOftenForFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(0, schedule.Verdict{Err: errBroken})
		for _, k := range names("k", 50) {
			r.Set(k, schedule.Entry{Interval: 24 * time.Hour, Tries: 20})
		}
		r.begin()
		after(10 * 24 * time.Hour)
		if n := len(r.all()); n > 50*25 || n < 50*15 {
			t.Errorf("%d runs of 50 keys in 10 days, want about 20 each: half the interval on average", n)
		}
	})
}

func TestASuccessForgetsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.work = takes(0, schedule.Verdict{})
		r.Set("a", schedule.Entry{Interval: time.Hour, Tries: 9})
		r.begin()
		after(time.Minute)
		if st := r.wantState("a", schedule.Waiting); st.Tries != 0 {
			t.Errorf("%d tries, want none", st.Tries)
		}
	})
}

func TestAServersWishIsGranted(t *testing.T) {
	rows := []struct {
		name     string
		verdict  schedule.Verdict
		from, to time.Duration
	}{
		{"never sooner, up to a tenth later", schedule.Verdict{Err: errBroken, RetryAfter: 100 * time.Minute},
			100 * time.Minute, 110 * time.Minute},
		{"even when it is shorter than the table", schedule.Verdict{Err: errBroken, RetryAfter: 2 * time.Second},
			2 * time.Second, 2200 * time.Millisecond},
		{"six hours at most", schedule.Verdict{Err: errBroken, RetryAfter: 1000 * time.Hour}, 6 * time.Hour, 6*time.Hour + 36*time.Minute},
		{"beside a success, when it is longer than the interval", schedule.Verdict{RetryAfter: 3 * time.Hour},
			3 * time.Hour, 3*time.Hour + 18*time.Minute},
		{"beside a success, not when it is shorter", schedule.Verdict{RetryAfter: 10 * time.Minute}, time.Hour, time.Hour},
		{"by a parked key too", schedule.Verdict{Err: errBroken, Park: true, RetryAfter: 5 * time.Hour}, 5 * time.Hour, 5 * time.Hour},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.make(schedule.Config{})
				r.work = takes(0, row.verdict)
				r.begin()
				for _, k := range names("k", 50) {
					r.Set(k, schedule.Entry{Interval: time.Hour})
				}
				synctest.Wait()
				if st, _ := r.Status("k0000"); !st.Asked {
					t.Error("the status does not tell that the wait was asked for")
				}
				after(row.to)
				for _, k := range names("k", 50) {
					if got := r.begins(k)[1]; got < row.from || got > row.to {
						t.Fatalf("ran again after %v, want %v to %v", got, row.from, row.to)
					}
				}
			})
		})
	}
}

func TestWorkThatIsLeftGoesOnSoonButBehindWhatIsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}, Spread: time.Nanosecond})
		r.work = func(ctx context.Context, key string) schedule.Verdict {
			return takes(10*time.Second, schedule.Verdict{Again: key == "endless"})(ctx, key)
		}
		r.Set("endless", schedule.Entry{Interval: time.Hour, LastSuccess: time.Now().Add(-20 * time.Hour)})
		for _, k := range names("k", 5) {
			r.Set(k, schedule.Entry{Interval: time.Hour, LastSuccess: time.Now().Add(-2 * time.Hour)})
		}
		r.begin()
		after(75 * time.Second)
		r.wantRuns("endless", 0, 60*time.Second, 71*time.Second)
		if st, _ := r.Status("endless"); time.Since(st.LastSuccess) < 20*time.Hour {
			t.Errorf("last success %v: work that goes on is not a success yet", st.LastSuccess)
		}
	})
}

func TestARunThatTakesTooLongLosesItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Timeout: 5 * time.Minute})
		r.work = takes(time.Hour, schedule.Verdict{})
		r.Set("a", hourly(""))
		r.begin()
		answer := r.kick("a")
		after(5 * time.Minute)
		r.wantAnswer(answer, schedule.ErrTimeout)
	})
}

func TestAPanicIsAFailureOfItsKeyAlone(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		r.work = func(_ context.Context, key string) schedule.Verdict {
			if key == "bad" {
				panic("nora@example.net")
			}
			return schedule.Verdict{}
		}
		r.Set("bad", hourly(""))
		r.Set("good", hourly(""))
		r.begin()
		if err := r.Kick(t.Context(), "bad"); err == nil || strings.Contains(err.Error(), "nora") {
			t.Errorf("the kick answered %v, want an error without the panic's value", err)
		}
		if err := r.Kick(t.Context(), "good"); err != nil {
			t.Errorf("the other key answered %v", err)
		}
		if st := r.wantState("bad", schedule.Waiting); st.Tries != 1 {
			t.Errorf("%d tries, want the panic to count as a failure", st.Tries)
		}
	})
	if got := log.String(); !strings.Contains(got, "event=run_panicked key=bad") || strings.Contains(got, "nora") {
		t.Errorf("the log says %q, want the key and not the panic's value", got)
	}
}

func TestSnapshotShowsEveryKey(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1}})
		r.work = takes(time.Minute, schedule.Verdict{})
		if !r.Beat().IsZero() {
			t.Error("a beat before the loop runs")
		}
		r.begin()
		r.Set("d", schedule.Entry{Host: "h", Interval: time.Hour})
		synctest.Wait()
		r.Set("c", schedule.Entry{Host: "h", Interval: time.Hour})
		r.Set("b", hourly("h"))
		r.Set("a", schedule.Entry{Host: "h", Interval: time.Hour, Parked: true, ProbeAfter: time.Hour})
		after(time.Second)
		want := []schedule.State{schedule.Parked, schedule.Waiting, schedule.Ready, schedule.Running}
		all := r.Snapshot()
		if len(all) != len(want) {
			t.Fatalf("%d keys, want %d", len(all), len(want))
		}
		for i, st := range all {
			if st.Key != string(rune('a'+i)) || st.State != want[i] || st.Host != "h" {
				t.Errorf("status %+v, want key %c %s", st, 'a'+i, want[i])
			}
		}
		if due := time.Until(all[1].Due); due != time.Hour-time.Second {
			t.Errorf("due in %v", due)
		}
		if since := time.Since(all[3].Since); since != time.Second {
			t.Errorf("running for %v, want a second", since)
		}
		if _, known := r.Status("nobody"); known {
			t.Error("an unknown key has a status")
		}
		after(10 * time.Minute)
		if age := time.Since(r.Beat()); age > time.Minute {
			t.Errorf("the loop's last beat is %v old", age)
		}
	})
}
