package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/sync/schedule"
)

// worlds is how many random lives of a schedule are tried, each with opsEach
// operations. A failure prints the seed of its world; what operations and runs
// do depends on the seed alone.
const (
	worlds  = 200
	opsEach = 150
)

// life is one schedule under random operations, with a model of what it may do.
type life struct {
	*schedule.Scheduler
	t    *testing.T
	seed uint64
	dice *rand.Rand

	limits schedule.Limits
	calm   bool // every run succeeds at once

	mu     sync.Mutex
	runs   []*seenRun
	now    map[string]*seenRun // in progress, by key
	host   map[string]string   // of each key, as last set
	refuse map[string]int      // operations that may refuse a kick of the key: parked, removed
}

type seenRun struct {
	key, host    string
	began, ended time.Time
	verdict      schedule.Verdict
}

func (l *life) failf(format string, args ...any) {
	l.t.Errorf("seed %d: %s", l.seed, fmt.Sprintf(format, args...))
}

// run checks the limits as they are, and does what seed, key and number of the
// run say.
func (l *life) run(ctx context.Context, key string) schedule.Verdict {
	l.mu.Lock()
	r := &seenRun{key: key, host: l.host[key], began: time.Now()}
	n := 0
	for _, other := range l.runs {
		if other.key == key {
			n++
		}
	}
	l.checkBegin(r)
	l.runs = append(l.runs, r)
	l.now[key] = r
	calm := l.calm
	l.mu.Unlock()

	var took time.Duration
	if !calm {
		took, r.verdict = l.behaviour(key, n)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		r.verdict = schedule.Verdict{Err: context.Cause(ctx)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.now, key)
	r.ended = time.Now()
	return r.verdict
}

func (l *life) checkBegin(r *seenRun) {
	if l.now[r.key] != nil {
		l.failf("two runs of %s at once", r.key)
	}
	onHost := 1
	for _, other := range l.now {
		if other.host == r.host {
			onHost++
		}
	}
	if len(l.now)+1 > l.limits.Concurrency {
		l.failf("%d runs at once, the limit is %d", len(l.now)+1, l.limits.Concurrency)
	}
	if c := l.limits.PerHost.Connections; c > 0 && onHost > c {
		l.failf("%d runs on host %s at once, the limit is %d", onHost, r.host, c)
	}
	inMinute := 1
	for _, other := range l.runs {
		if other.host == r.host && r.began.Sub(other.began) < time.Minute {
			inMinute++
		}
	}
	if m := l.limits.PerHost.PerMinute; m > 0 && inMinute > m {
		l.failf("%d starts on host %s in a minute, the limit is %d", inMinute, r.host, m)
	}
}

// behaviour draws how long a run takes and how it ends.
func (l *life) behaviour(key string, n int) (time.Duration, schedule.Verdict) {
	d := rand.New(rand.NewPCG(l.seed, uint64(len(key))*7919+uint64(key[len(key)-1])*104729+uint64(n)))
	took := time.Duration(d.IntN(60)) * time.Second
	failed := errors.New("failed")
	switch d.IntN(10) {
	case 0:
		return took, schedule.Verdict{Err: failed}
	case 1:
		return took, schedule.Verdict{Err: failed, HostDown: true}
	case 2:
		return took, schedule.Verdict{Err: failed, Park: true, ProbeAfter: 20 * time.Minute}
	case 3:
		return took, schedule.Verdict{Err: failed, RetryAfter: time.Duration(d.IntN(100)) * time.Minute}
	case 4:
		return took, schedule.Verdict{Again: true}
	case 5:
		return 24 * time.Hour, schedule.Verdict{} // hangs
	default:
		return took, schedule.Verdict{}
	}
}

// operate does one random thing.
func (l *life) operate() {
	key := fmt.Sprintf("k%d", l.dice.IntN(12))
	switch l.dice.IntN(12) {
	case 0, 1, 2:
		l.set(key)
	case 3:
		l.mayRefuse(key)
		l.Remove(key)
	case 4:
		l.mayRefuse(key)
		l.Park(key, time.Duration(l.dice.IntN(2))*30*time.Minute)
	case 5:
		l.Unpark(key)
	case 6, 7, 8:
		go l.kick(key)
	case 9:
		go l.KickAll(l.t.Context())
	case 10:
		l.mu.Lock()
		l.limits.Concurrency = 1 + l.dice.IntN(6)
		limits := l.limits
		l.mu.Unlock()
		l.Limit(limits)
	default:
		<-time.After(time.Duration(l.dice.IntN(1800)) * time.Second)
	}
	synctest.Wait()
}

func (l *life) set(key string) {
	host := fmt.Sprintf("h%d", l.dice.IntN(4))
	l.mu.Lock()
	l.host[key] = host
	l.mu.Unlock()
	e := schedule.Entry{Host: host, Interval: time.Duration(1+l.dice.IntN(90)) * time.Minute}
	if l.dice.IntN(2) == 0 {
		e.LastSuccess = time.Now().Add(-time.Duration(l.dice.IntN(300)) * time.Minute)
	}
	l.Set(key, e)
}

func (l *life) mayRefuse(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse[key]++
}

// kick checks that the answer is that of a run which began after the question.
func (l *life) kick(key string) {
	l.mu.Lock()
	seen, refusals := len(l.runs), l.refuse[key]
	l.mu.Unlock()
	err := l.Kick(l.t.Context(), key)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, schedule.ErrUnknown), errors.Is(err, schedule.ErrStopped):
		return
	case errors.Is(err, schedule.ErrParked), errors.Is(err, schedule.ErrRemoved):
		if refusals == 0 && l.refuse[key] == 0 {
			l.failf("a kick of %s answered %v, and nobody parked or removed it", key, err)
		}
		return
	}
	for _, r := range l.runs[seen:] {
		if r.key == key && !r.ended.IsZero() && r.verdict.Err == err && (err != nil || !r.verdict.Again) {
			return
		}
	}
	l.failf("a kick of %s answered %v, which no run said that began after it", key, err)
}

// settleDown lets every run succeed, and checks that every key gets its runs.
func (l *life) settleDown() {
	l.mu.Lock()
	l.calm = true
	l.mu.Unlock()
	after(15 * time.Minute) // the hung ones lose their context
	for _, st := range l.Snapshot() {
		l.Unpark(st.Key)
	}
	after(2 * time.Hour)
	for _, st := range l.Snapshot() {
		if st.State == schedule.Parked || st.Tries != 0 || time.Since(st.LastSuccess) > 95*time.Minute {
			l.failf("%s starves: %s, last success %v ago, %d tries", st.Key, st.State, time.Since(st.LastSuccess), st.Tries)
		}
	}
}

func TestAnyLifeKeepsTheRules(t *testing.T) {
	for seed := range uint64(worlds) {
		if synctest.Test(t, func(t *testing.T) { live(t, seed) }); t.Failed() {
			return
		}
	}
}

func live(t *testing.T, seed uint64) {
	l := &life{
		t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 0)),
		now: map[string]*seenRun{}, host: map[string]string{}, refuse: map[string]int{},
	}
	l.limits = schedule.Limits{
		Concurrency: 1 + l.dice.IntN(6),
		PerHost:     schedule.PerHost{Connections: l.dice.IntN(4), PerMinute: []int{0, 1, 2, 5, 20}[l.dice.IntN(5)]},
	}
	l.Scheduler = schedule.New(schedule.Config{Run: l.run, Limits: l.limits, Timeout: 10 * time.Minute})
	for range l.dice.IntN(8) { // what is known before the start
		l.operate()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	for range opsEach {
		l.operate()
	}
	l.settleDown()
	cancel()
	if err := <-ended; err != nil {
		l.failf("Run returned %v", err)
	}
	synctest.Wait()
	if len(l.now) > 0 {
		l.failf("Run returned with %d runs in progress", len(l.now))
	}
}
