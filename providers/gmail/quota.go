package gmail

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mailsyncd/providers"
)

// Call is one kind of API call: what Prices prices and metrics count.
type Call string

// The calls that this package makes, and no others.
const (
	CallProfile Call = "profile" // users.getProfile
	CallLabels  Call = "labels"  // users.labels.list
	CallHistory Call = "history" // users.history.list
	CallList    Call = "list"    // users.messages.list
	CallGet     Call = "get"     // users.messages.get
)

// Prices are the quota units that Google charges for a call.
type Prices struct {
	Profile, Labels, History, List, Get int
}

// Of returns the units of one call.
func (p Prices) Of(c Call) int {
	switch c {
	case CallProfile:
		return p.Profile
	case CallLabels:
		return p.Labels
	case CallHistory:
		return p.History
	case CallList:
		return p.List
	default:
		return p.Get
	}
}

// Quota is what a Google Cloud project may spend.
type Quota struct {
	Prices Prices
	// UserPerMinute is what one user may cost in any minute.
	UserPerMinute int
	// ProjectPerMinute is what all users together may cost in any minute.
	ProjectPerMinute int
	// ProjectPerDay is what all users together may cost in any 24 hours.
	ProjectPerDay int
}

// NewProjectQuota holds for Cloud projects that began to use the Gmail API on
// or after 1 May 2026.
func NewProjectQuota() Quota {
	return Quota{
		Prices:           Prices{Profile: 1, Labels: 1, History: 2, List: 5, Get: 20},
		UserPerMinute:    6_000,
		ProjectPerMinute: 1_200_000,
		ProjectPerDay:    80_000_000,
	}
}

// OldProjectQuota holds for Cloud projects that used the Gmail API before.
func OldProjectQuota() Quota {
	q := NewProjectQuota()
	q.Prices.Get = 5
	q.UserPerMinute = 15_000
	return q
}

// Validate reports budgets that no call fits in.
func (q Quota) Validate() error {
	var errs []error
	for _, c := range []Call{CallProfile, CallLabels, CallHistory, CallList, CallGet} {
		if q.Prices.Of(c) < 1 {
			errs = append(errs, fmt.Errorf("the price of %s is %d units; write at least 1", c, q.Prices.Of(c)))
		}
	}
	for _, b := range []struct {
		name  string
		units int
	}{{"user per minute", q.UserPerMinute}, {"project per minute", q.ProjectPerMinute}, {"project per day", q.ProjectPerDay}} {
		if least := 2 * q.dearest(); b.units < least {
			errs = append(errs, fmt.Errorf("the budget of units a %s is %d; write at least %d, two of the dearest calls", b.name, b.units, least))
		}
	}
	return errors.Join(errs...)
}

func (q Quota) dearest() int {
	p := q.Prices
	return max(p.Profile, p.Labels, p.History, p.List, p.Get)
}

// Time estimates how long one user's calls of that many units take.
func (q Quota) Time(units int) time.Duration {
	b := newBucket(q.UserPerMinute, q.dearest(), time.Time{})
	return time.Duration(max(0, float64(units)-b.burst) / b.rate * float64(time.Second))
}

// Limiter keeps the calls of a Cloud project within its quota. One serves every
// mailbox of the project. A nil *Limiter limits nothing.
//
// It delays a call for a bounded time; a call that would have to wait longer
// fails with a providers.ThrottledError that says for how long. A restart begins
// with fresh budgets of a minute, and what Google still remembers then shows as
// refusals, which the limiter also obeys; the day, which may cost money, goes on
// with Spent and Resume.
type Limiter struct {
	quota   Quota
	maxWait time.Duration

	mu      sync.Mutex
	users   map[string]*bucket
	project *bucket
	day     day
	swept   time.Time
}

// maxWait is the longest that Take delays a call: far more than the pace of one
// mailbox asks for, and short enough for a daemon that wants to stop or go on
// with somebody else.
const maxWait = 30 * time.Second

// NewLimiter makes a limiter whose budgets are full. The quota must be valid.
func NewLimiter(q Quota) *Limiter {
	now := time.Now()
	return &Limiter{
		quota: q, maxWait: maxWait,
		users:   map[string]*bucket{},
		project: newBucket(q.ProjectPerMinute, q.dearest(), now),
		day:     day{budget: int64(q.ProjectPerDay)},
		swept:   now,
	}
}

// Take returns when a call may be made for the user behind key, and has then
// spent its units.
func (l *Limiter) Take(ctx context.Context, key string, c Call) error {
	if l == nil {
		return ctx.Err()
	}
	units := l.quota.Prices.Of(c)
	deadline := time.Now().Add(l.maxWait)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		wait, budget := l.try(key, units, time.Now())
		if wait == 0 {
			return nil
		}
		if time.Now().Add(wait).After(deadline) {
			return &providers.ThrottledError{After: wait, Err: fmt.Errorf("the quota of Gmail units is spent for now (%s); the work goes on by itself", budget)}
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try spends the units of all three budgets at once, or of none and says how
// long to wait, and for which of them. Spending ahead of time would let a budget refill before the
// call is made, and two bursts meet within one minute.
func (l *Limiter) try(key string, units int, now time.Time) (wait time.Duration, budget string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	user := l.user(key, now)
	for _, b := range []struct {
		name string
		wait time.Duration
	}{
		{"google.user_per_minute", user.wait(units, now)},
		{"google.project_per_minute", l.project.wait(units, now)},
		{"google.project_per_day", l.day.wait(units, now)},
	} {
		if b.wait > wait {
			wait, budget = b.wait, b.name
		}
	}
	if wait > 0 {
		return wait, budget
	}
	user.level -= float64(units)
	l.project.level -= float64(units)
	l.day.spend(units)
	return 0, ""
}

func (l *Limiter) user(key string, now time.Time) *bucket {
	b := l.users[key]
	if b == nil {
		b = newBucket(l.quota.UserPerMinute, l.quota.dearest(), now)
		l.users[key] = b
	}
	return b
}

// DaySpent is what a project spent in the last 24 hours and the hour at hand.
type DaySpent struct {
	Hour  int64     `json:"hour"` // the hour at hand, counted from 1970
	Units [25]int64 `json:"units"`
}

// Over tells that nothing of it counts any more.
func (s DaySpent) Over(now time.Time) bool {
	return now.Unix()/secondsPerHour-s.Hour >= int64(len(s.Units))
}

// Spent tells what was spent, for Resume in another process.
func (l *Limiter) Spent() DaySpent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return DaySpent{l.day.hour, l.day.cells}
}

// Resume begins with what another process has spent. It must come before the first
// Take. What no process of ours wrote counts as nothing.
func (l *Limiter) Resume(s DaySpent) {
	if s.Hour < 0 || slices.ContainsFunc(s.Units[:], func(units int64) bool { return units < 0 }) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.day.hour, l.day.cells = s.Hour, s.Units
}

// sweepEvery is how often buckets are dropped that say nothing any more.
const sweepEvery = 10 * time.Minute

func (l *Limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for key, b := range l.users {
		if b.refill(now); b.fresh(now) {
			delete(l.users, key)
		}
	}
}

// Refused notes that the server refused a call of this user for its rate, and
// asked for a pause (zero: it did not say). The user's pace is halved and
// recovers by a tenth a minute. Refused returns how long nothing is asked.
func (l *Limiter) Refused(key string, after time.Duration) time.Duration {
	if l == nil {
		return after
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return l.user(key, now).refused(now, after)
}

// RefusedProject notes that the server refused a call because the whole project
// has spent its budget: nothing is asked for any mailbox until after.
func (l *Limiter) RefusedProject(after time.Duration) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.project.pauseUntil(time.Now().Add(after))
}

// bucket is a token bucket. Burst and rate are chosen so that no minute,
// wherever it begins, sees more than the budget: burst + 60 s · rate = budget.
type bucket struct {
	burst, rate float64 // units, units a second
	level       float64 // units that may be spent now
	at          time.Time
	factor      float64 // of the rate; 1, halved by each refusal
	refusals    int     // in a row, without a full recovery between
	notBefore   time.Time
}

const (
	// A fifth of a minute's budget may be spent at once: a usual poll never
	// waits. The other four fifths are the pace of long walks.
	burstShare = 5
	// The pace after many refusals: it must still end.
	leastFactor = 1.0 / 16
	// recovery of the factor a minute.
	recovery = 0.1
	// maxPause bounds the pause after a refusal that names none.
	maxPause = 64 * time.Second
)

func newBucket(perMinute, dearest int, now time.Time) *bucket {
	burst := max(float64(perMinute)/burstShare, float64(dearest))
	return &bucket{burst: burst, rate: (float64(perMinute) - burst) / 60, level: burst, at: now, factor: 1}
}

// refill brings the bucket up to now. The level grows at the pace before the
// recovery, which errs on the safe side.
func (b *bucket) refill(now time.Time) {
	passed := now.Sub(b.at).Seconds()
	if passed <= 0 {
		return
	}
	b.at = now
	b.level = min(b.burst, b.level+passed*b.rate*b.factor)
	if b.factor = min(1, b.factor+passed/60*recovery); b.factor == 1 {
		b.refusals = 0
	}
}

// fresh tells that the bucket is as one that was just made.
func (b *bucket) fresh(now time.Time) bool {
	return b.level == b.burst && b.factor == 1 && !now.Before(b.notBefore)
}

// wait returns how long it takes until the units are there; 0 when they are.
func (b *bucket) wait(units int, now time.Time) time.Duration {
	b.refill(now)
	if now.Before(b.notBefore) {
		return b.notBefore.Sub(now)
	}
	missing := float64(units) - b.level
	if missing <= 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(math.Ceil(missing/(b.rate*b.factor)*float64(time.Second))))
}

// refused halves the pace and pauses: as long as the server said, else 1, 2, 4
// … 64 s with up to a second on top, so that many do not come back at once.
func (b *bucket) refused(now time.Time, after time.Duration) time.Duration {
	b.refill(now)
	if now.Before(b.notBefore) { // calls that were in flight together count once
		b.pauseUntil(now.Add(after))
		return b.notBefore.Sub(now)
	}
	if after <= 0 {
		after = min(maxPause, time.Second<<min(b.refusals, 6)) + rand.N(time.Second)
	}
	b.refusals++
	b.factor = max(leastFactor, b.factor/2)
	b.level = 0
	b.pauseUntil(now.Add(after))
	return after
}

func (b *bucket) pauseUntil(t time.Time) {
	if t.After(b.notBefore) {
		b.notBefore = t
	}
}

// day counts what was spent in the hour at hand and the 24 before it: never
// less than what was spent in the last 24 hours.
type day struct {
	budget int64
	cells  [25]int64 // units, by hour modulo 25
	hour   int64     // the hour at hand, counted from 1970
}

const secondsPerHour = 3600

func (d *day) wait(units int, now time.Time) time.Duration {
	d.roll(now.Unix() / secondsPerHour)
	var spent int64
	for _, c := range d.cells {
		spent += c
	}
	over := spent + int64(units) - d.budget
	if over <= 0 {
		return 0
	}
	return d.until(over).Sub(now)
}

// until says when at least that many units are forgotten.
func (d *day) until(units int64) time.Time {
	n := int64(len(d.cells))
	for h := d.hour - n + 1; h <= d.hour; h++ {
		if units -= d.cells[h%n]; units <= 0 {
			return time.Unix((h+n)*secondsPerHour, 0)
		}
	}
	return time.Unix((d.hour+n)*secondsPerHour, 0)
}

// roll forgets the hours that lie behind. When a clock that was ahead is put
// right, all that it counted becomes spent in the hour at hand: in the future it
// would be spent until that comes.
func (d *day) roll(hour int64) {
	n := int64(len(d.cells))
	if hour < d.hour-1 { // one hour less is a clock that is put right by a second
		var spent int64
		for _, c := range d.cells {
			spent += c
		}
		*d = day{budget: d.budget, hour: hour}
		d.cells[hour%n] = spent
	}
	for h := max(d.hour+1, hour-n+1); h <= hour; h++ {
		d.cells[h%n] = 0
	}
	d.hour = max(d.hour, hour)
}

func (d *day) spend(units int) { d.cells[d.hour%int64(len(d.cells))] += int64(units) }
