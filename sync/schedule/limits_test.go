package schedule_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

// most returns how many runs went on at once at worst, among those the filter
// accepts.
func most(spans []span, filter func(span) bool) int {
	type edge struct {
		at time.Duration
		by int
	}
	var edges []edge
	for _, sp := range spans {
		if !filter(sp) {
			continue
		}
		edges = append(edges, edge{sp.began, 1})
		if sp.ended >= 0 {
			edges = append(edges, edge{sp.ended, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.by - b.by // an end makes room for a beginning
	})
	now, worst := 0, 0
	for _, e := range edges {
		now += e.by
		worst = max(worst, now)
	}
	return worst
}

func ofHost(host string) func(span) bool {
	return func(sp span) bool { return strings.HasPrefix(sp.key, host) }
}

func anywhere(span) bool { return true }

func TestNoMoreRunsThanConcurrency(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 7}})
		r.work = takes(10*time.Second, schedule.Verdict{})
		for _, k := range names("k", 100) {
			r.Set(k, schedule.Entry{Host: k, Interval: time.Hour})
		}
		r.begin()
		after(10 * time.Minute)
		if got := most(r.all(), anywhere); got != 7 {
			t.Errorf("%d runs at once, want 7", got)
		}
		if n := len(r.all()); n != 100 {
			t.Errorf("%d runs, want 100", n)
		}
	})
}

func TestAConcurrencyOfZeroCountsAsOne(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{})
		r.Limit(schedule.Limits{})
		r.Set("a", hourly(""))
		r.begin()
		r.wantAnswer(r.kick("a"), nil)
	})
}

func TestAHostAloneMayUseEverySlot(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 8, PerHost: schedule.PerHost{Connections: 8}}})
		r.work = takes(time.Minute, schedule.Verdict{})
		for _, k := range names("h", 50) {
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Hour})
		}
		r.begin()
		after(5 * time.Minute)
		if got := most(r.all(), anywhere); got != 8 {
			t.Errorf("%d runs at once, want all 8 slots in use", got)
		}
	})
}

func TestAHostSeesNoMoreConnectionsThanItMay(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{Connections: 3}}})
		r.work = takes(10*time.Second, schedule.Verdict{})
		for _, host := range []string{"x", "y"} {
			for _, k := range names(host, 40) {
				r.Set(k, schedule.Entry{Host: host, Interval: time.Hour})
			}
		}
		r.begin()
		after(10 * time.Minute)
		for _, host := range []string{"x", "y"} {
			if got := most(r.all(), ofHost(host)); got != 3 {
				t.Errorf("host %s saw %d runs at once, want 3", host, got)
			}
		}
	})
}

func TestAHostSeesNoMoreStartsAMinuteThanItMay(t *testing.T) {
	for _, perMinute := range []int{1, 2, 3, 4, 5, 7, 16, 59, 60, 61, 600} {
		for _, connections := range []int{0, 1, 2, 8, 100} {
			t.Run(fmt.Sprintf("%d a minute over %d connections", perMinute, connections), func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 1000,
						PerHost: schedule.PerHost{Connections: connections, PerMinute: perMinute}}})
					for _, k := range names("k", 3*perMinute+5) {
						r.Set(k, schedule.Entry{Host: "h", Interval: 2 * time.Second})
					}
					r.begin()
					after(4 * time.Minute)
					full := fullestMinute(r.all())
					if full > perMinute {
						t.Errorf("%d starts in one minute, want at most %d", full, perMinute)
					}
					if full < perMinute {
						t.Errorf("%d starts in the fullest minute, want all of the %d that are allowed", full, perMinute)
					}
				})
			})
		}
	}
}

// fullestMinute returns the most starts that any minute saw.
func fullestMinute(spans []span) int {
	worst := 0
	for i, first := 0, 0; i < len(spans); i++ {
		for spans[i].began-spans[first].began >= time.Minute {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return worst
}

func TestTakingKeysOutAndInDoesNotBuyStarts(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{PerMinute: 4}}})
		r.begin()
		for range 300 {
			r.Set("a", schedule.Entry{Host: "h", Interval: time.Second})
			after(500 * time.Millisecond)
			<-r.Remove("a")
			after(500 * time.Millisecond)
		}
		if full := fullestMinute(r.all()); full != 4 {
			t.Errorf("%d starts in one minute, want 4", full)
		}
	})
}

func TestLimitsChangeAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 2, PerHost: schedule.PerHost{Connections: 2, PerMinute: 1}}})
		r.work = takes(time.Minute, schedule.Verdict{})
		for _, k := range names("k", 60) {
			r.Set(k, schedule.Entry{Host: "h", Interval: 10 * time.Hour})
		}
		r.begin()
		after(10 * time.Second)
		if n := len(r.all()); n != 1 {
			t.Fatalf("%d runs, want 1", n)
		}
		r.Limit(schedule.Limits{Concurrency: 30, PerHost: schedule.PerHost{Connections: 20}})
		after(10 * time.Second)
		if got := most(r.all(), anywhere); got != 20 {
			t.Errorf("%d runs at once after the limits rose, want 20", got)
		}
		r.Limit(schedule.Limits{Concurrency: 5, PerHost: schedule.PerHost{Connections: 5}})
		after(time.Minute)
		r.clear()
		after(2 * time.Minute)
		if got := most(r.all(), anywhere); got != 5 {
			t.Errorf("%d runs at once after the limits fell, want 5", got)
		}
	})
}

// TestHostsThatHangStarveNobody gives two hosts a thousand keys each that never
// answer before their time is up, and asks for the keys of a healthy one.
func TestHostsThatHangStarveNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{
			Limits:  schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{Connections: 8}},
			Timeout: 10 * time.Minute,
		})
		r.work = func(ctx context.Context, key string) schedule.Verdict {
			if strings.HasPrefix(key, "hung") {
				<-ctx.Done()
				return schedule.Verdict{Err: context.Cause(ctx), HostDown: true}
			}
			return takes(time.Second, schedule.Verdict{})(ctx, key)
		}
		for _, k := range slices.Concat(names("hungA", 1000), names("hungB", 1000)) {
			r.Set(k, schedule.Entry{Host: k[:5], Interval: time.Hour, LastSuccess: time.Now().Add(-20 * time.Hour)})
		}
		for _, k := range names("well", 200) {
			r.Set(k, schedule.Entry{Host: "well", Interval: time.Hour})
		}
		r.begin()
		after(9 * time.Minute) // the first runs still hang, nobody knows yet that the hosts are down
		for _, k := range names("well", 200) {
			if n := len(r.begins(k)); n != 1 {
				t.Fatalf("%s ran %d times while others hung, want once", k, n)
			}
		}
		after(3*time.Hour - 9*time.Minute)
		for _, k := range names("well", 200) {
			if n := len(r.begins(k)); n != 3 {
				t.Fatalf("%s ran %d times in 3 hours, want it every hour", k, n)
			}
		}
		late := slices.DeleteFunc(r.all(), func(sp span) bool { return sp.began < 30*time.Minute })
		if got := most(late, ofHost("hung")); got > 2 {
			t.Errorf("hosts known to be down hold %d runs, want one each", got)
		}
	})
}

func TestAHostThatAnswersAgainGetsAllItsConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{Connections: 8}}})
		var up box[bool]
		r.work = func(ctx context.Context, key string) schedule.Verdict {
			if !up.get() {
				return takes(30*time.Second, schedule.Verdict{Err: errBroken, HostDown: true})(ctx, key)
			}
			return takes(30*time.Second, schedule.Verdict{})(ctx, key)
		}
		for _, k := range names("k", 100) {
			r.Set(k, schedule.Entry{Host: "h", Interval: time.Hour})
		}
		r.begin()
		after(time.Minute)
		up.set(true)
		after(time.Minute)
		r.clear()
		after(5 * time.Minute)
		if got := most(r.all(), anywhere); got != 8 {
			t.Errorf("%d runs at once, want 8 again", got)
		}
	})
}

func TestAKeyThatMovesTakesItsPlaceInTheNewHostsQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.make(schedule.Config{Limits: schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{Connections: 1}}})
		r.work = takes(time.Hour, schedule.Verdict{})
		r.begin()
		r.Set("busy", schedule.Entry{Host: "old", Interval: time.Hour})
		synctest.Wait()
		r.Set("a", schedule.Entry{Host: "old", Interval: time.Hour})
		after(time.Second)
		r.wantState("a", schedule.Ready)
		r.Set("a", schedule.Entry{Host: "new", Interval: time.Hour})
		synctest.Wait()
		r.wantRuns("a", time.Second)
	})
}
