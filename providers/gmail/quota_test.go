package gmail_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers/gmail"
)

// spending is what was let through, as somebody who only watches sees it.
type spending struct {
	mu   sync.Mutex
	rows []spent
}

type spent struct {
	at    time.Time
	user  string
	units int
}

func (s *spending) add(user string, units int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, spent{time.Now(), user, units})
}

// most is the most units of a user ("": all) in any window of that length.
func (s *spending) most(user string, window time.Duration) int {
	var rows []spent
	for _, r := range s.rows {
		if user == "" || r.user == user {
			rows = append(rows, r)
		}
	}
	most, sum, from := 0, 0, 0
	for _, r := range rows {
		sum += r.units
		for ; r.at.Sub(rows[from].at) >= window; from++ {
			sum -= rows[from].units
		}
		most = max(most, sum)
	}
	return most
}

var calls = []gmail.Call{gmail.CallProfile, gmail.CallLabels, gmail.CallHistory, gmail.CallList, gmail.CallGet}

// Random users with random calls, pauses and refusals: no window of a minute
// or a day, wherever it begins, costs more than its budget.
func TestLimiterNeverExceedsABudget(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomSpending(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// A restart does not open another day's budget, and the day ends all the same.
func TestADayGoesOnInAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := gmail.NewProjectQuota()
		q.ProjectPerDay = 100
		var before gmail.DaySpent
		for restart := range 5 {
			l := gmail.NewLimiter(q)
			l.Resume(before)
			if err := l.Take(t.Context(), "rita", gmail.CallGet); err != nil {
				t.Errorf("start %d: %v", restart, err)
			}
			before = l.Spent()
		}
		l := gmail.NewLimiter(q)
		l.Resume(before)
		if after, ok := throttled(l.Take(t.Context(), "rita", gmail.CallGet)); !ok || after < 23*time.Hour {
			t.Errorf("the sixth call of a day with five is let through, or comes after %v", after)
		}
		time.Sleep(25 * time.Hour)
		if err := l.Take(t.Context(), "rita", gmail.CallGet); err != nil {
			t.Errorf("on the next day: %v", err)
		}
	})
}

// A clock that was ahead when the day was noted must not close the project until
// then.
func TestADayThatWasNotedAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := gmail.NewProjectQuota()
		q.ProjectPerDay = 100
		ahead := gmail.DaySpent{Hour: time.Now().Add(30*24*time.Hour).Unix() / 3600}
		ahead.Units[3] = 90
		l := gmail.NewLimiter(q)
		l.Resume(ahead)
		if after, ok := throttled(l.Take(t.Context(), "rita", gmail.CallGet)); !ok || after > 26*time.Hour {
			t.Errorf("let through, or waits for %v: what was spent counts for a day", after)
		}
		time.Sleep(26 * time.Hour)
		for range 5 {
			if err := l.Take(t.Context(), "rita", gmail.CallGet); err != nil {
				t.Errorf("on the next day: %v", err)
			}
		}
		for _, odd := range []gmail.DaySpent{{Hour: -1}, {Units: [25]int64{-1 << 40}}} {
			l := gmail.NewLimiter(q)
			l.Resume(odd)
			if got := l.Spent(); got != (gmail.DaySpent{}) {
				t.Errorf("%v was taken", odd)
			}
		}
	})
}

func randomSpending(t *testing.T, rnd *rand.Rand) {
	q := gmail.NewProjectQuota()
	q.UserPerMinute = 40 + rnd.IntN(3_000)
	q.ProjectPerMinute = 40 + rnd.IntN(6_000)
	q.ProjectPerDay = 40 + rnd.IntN(300_000)
	if err := q.Validate(); err != nil {
		t.Fatal(err)
	}
	l := gmail.NewLimiter(q)
	var s spending
	var wg sync.WaitGroup
	users := 1 + rnd.IntN(5)
	for n := range users * 3 {
		own := rand.New(rand.NewPCG(rnd.Uint64(), 2))
		wg.Go(func() { spend(t, l, q, own, fmt.Sprint("user", n%users), &s) })
	}
	wg.Wait()
	for user := range users {
		if most := s.most(fmt.Sprint("user", user), time.Minute); most > q.UserPerMinute {
			t.Errorf("user%d spent %d units in a minute of %d", user, most, q.UserPerMinute)
		}
	}
	if most := s.most("", time.Minute); most > q.ProjectPerMinute {
		t.Errorf("the project spent %d units in a minute of %d", most, q.ProjectPerMinute)
	}
	if most := s.most("", 24*time.Hour); most > q.ProjectPerDay {
		t.Errorf("the project spent %d units in a day of %d", most, q.ProjectPerDay)
	}
	if len(s.rows) < 100 {
		t.Errorf("only %d calls were let through: the limiter limits too much", len(s.rows))
	}
}

// spend makes calls for about three days.
func spend(t *testing.T, l *gmail.Limiter, q gmail.Quota, rnd *rand.Rand, user string, s *spending) {
	end := time.Now().Add(72 * time.Hour)
	for range 800 {
		c := calls[rnd.IntN(len(calls))]
		err := l.Take(t.Context(), user, c)
		wait, isThrottled := throttled(err)
		switch {
		case err == nil:
			s.add(user, q.Prices.Of(c))
		case !isThrottled || wait <= 0:
			t.Errorf("Take: %v, after %v", err, wait)
			return
		default:
			time.Sleep(wait)
		}
		switch rnd.IntN(200) {
		case 0:
			time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Hour))))
		case 1:
			l.Refused(user, time.Duration(rnd.Int64N(int64(3*time.Minute))))
		case 2:
			l.RefusedProject(time.Duration(rnd.Int64N(int64(time.Hour))))
		}
		if time.Now().After(end) {
			return
		}
	}
}

func TestLimiterWaitsAtMostHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := gmail.NewLimiter(gmail.Quota{
			Prices:        gmail.Prices{Profile: 1, Labels: 1, History: 2, List: 5, Get: 20},
			UserPerMinute: 40, ProjectPerMinute: 1_000, ProjectPerDay: 1_000,
		})
		if err := l.Take(t.Context(), "a", gmail.CallGet); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		wait, ok := throttled(l.Take(t.Context(), "a", gmail.CallGet))
		if !ok || wait != time.Minute || time.Since(begun) != 0 {
			t.Errorf("a call that is due in a minute: throttled %v for %v, after %v", ok, wait, time.Since(begun))
		}
		if err := l.Take(t.Context(), "a", gmail.CallList); err != nil || time.Since(begun) != 15*time.Second {
			t.Errorf("a call that is due in 15 s came after %v: %v", time.Since(begun), err)
		}
		if err := l.Take(t.Context(), "b", gmail.CallGet); err != nil {
			t.Errorf("another user: %v", err)
		}
	})
}

func TestLimiterStopsWaitingWhenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := gmail.NewLimiter(gmail.NewProjectQuota())
		l.Refused("a", 20*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Take(ctx, "a", gmail.CallProfile); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Take: %v, want that the context ended", err)
		}
	})
}

func TestRefusalsSlowAUserDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := gmail.NewLimiter(gmail.NewProjectQuota())
		var last time.Duration
		for i, least := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 64} {
			least *= time.Second
			got := l.Refused("a", 0)
			if got < least || got > least+time.Second {
				t.Errorf("refusal %d pauses for %v, want %v and up to a second", i+1, got, least)
			}
			time.Sleep(got)
			last = got
		}
		burst := func() time.Duration {
			begun := time.Now()
			for range 50 {
				if err := l.Take(t.Context(), "a", gmail.CallGet); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(begun)
		}
		if took := burst(); took < 20*time.Second {
			t.Errorf("after a last pause of %v 1,000 units took %v, want a slow pace", last, took)
		}
		time.Sleep(15 * time.Minute)
		if took := burst(); took != 0 {
			t.Errorf("a quarter of an hour later a burst took %v", took)
		}
		if got := l.Refused("a", 0); got > 2*time.Second {
			t.Errorf("and the next refusal pauses for %v, want about one second again", got)
		}
	})
}

func TestOneRefusalPausesTheProject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := gmail.NewLimiter(gmail.NewProjectQuota())
		l.RefusedProject(time.Hour)
		for _, user := range []string{"a", "b"} {
			if wait, ok := throttled(l.Take(t.Context(), user, gmail.CallProfile)); !ok || wait != time.Hour {
				t.Errorf("user %s: throttled %v for %v", user, ok, wait)
			}
		}
	})
}

func TestNoLimiterLimitsNothing(t *testing.T) {
	var l *gmail.Limiter
	for range 10_000 {
		if err := l.Take(t.Context(), "a", gmail.CallGet); err != nil {
			t.Fatal(err)
		}
	}
	if l.RefusedProject(time.Hour); l.Refused("a", time.Second) != time.Second {
		t.Error("the server's pause is not passed on")
	}
}

func TestQuotaValidate(t *testing.T) {
	if err := errors.Join(gmail.NewProjectQuota().Validate(), gmail.OldProjectQuota().Validate()); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	q := gmail.NewProjectQuota()
	q.Prices.Get, q.UserPerMinute = 0, 9
	if err := q.Validate(); err == nil {
		t.Error("a price of nothing and a budget for one call are taken")
	}
}

func TestQuotaTime(t *testing.T) {
	tests := []struct {
		name  string
		q     gmail.Quota
		units int
		want  time.Duration
	}{
		{"a poll fits in the burst", gmail.NewProjectQuota(), 602, 0},
		{"10,000 headers of a new project", gmail.NewProjectQuota(), 200_101, 2_486 * time.Second},
		{"10,000 headers of an old project", gmail.OldProjectQuota(), 50_101, 235 * time.Second},
	}
	for _, tt := range tests {
		if got := tt.q.Time(tt.units).Truncate(time.Second); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
