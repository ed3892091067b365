package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/sync/schedule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

// span is one run that was seen.
type span struct {
	key          string
	began, ended time.Duration // since the rig was made; ended is -1 while it runs
}

// rig is a schedule in virtual time whose runs are written down. It checks by
// itself that no key runs twice at once.
type rig struct {
	*schedule.Scheduler
	t     *testing.T
	start time.Time
	// work is what a run does; nil succeeds at once.
	work func(ctx context.Context, key string) schedule.Verdict

	mu    sync.Mutex
	spans []*span
	busy  map[string]bool
	stop  context.CancelFunc
	ended chan error
}

// inBubble runs f in virtual time with a rig; whatever was started is stopped
// afterwards.
func inBubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, start: time.Now(), busy: map[string]bool{}}
		defer r.halt()
		f(t, r)
	})
}

// make creates the schedule without running it.
func (r *rig) make(cfg schedule.Config) {
	cfg.Run = r.run
	if cfg.Limits.Concurrency == 0 {
		cfg.Limits.Concurrency = 16
	}
	r.Scheduler = schedule.New(cfg)
}

// begin runs the schedule.
func (r *rig) begin() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- r.Run(ctx) }()
	synctest.Wait()
}

// halt stops the schedule and waits for it.
func (r *rig) halt() {
	if r.stop == nil {
		return
	}
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run returned %v, want nil", err)
	}
	r.stop = nil
}

func (r *rig) run(ctx context.Context, key string) schedule.Verdict {
	r.mu.Lock()
	if r.busy[key] {
		r.t.Errorf("two runs of %s at once", key)
	}
	r.busy[key] = true
	sp := &span{key: key, began: time.Since(r.start), ended: -1}
	r.spans = append(r.spans, sp)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		sp.ended, r.busy[key] = time.Since(r.start), false
	}()
	if r.work == nil {
		return schedule.Verdict{}
	}
	return r.work(ctx, key)
}

// begins returns when the key's runs began.
func (r *rig) begins(key string) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Duration
	for _, sp := range r.spans {
		if sp.key == key {
			out = append(out, sp.began)
		}
	}
	return out
}

// all returns a copy of what was seen, in order of beginning.
func (r *rig) all() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]span, len(r.spans))
	for i, sp := range r.spans {
		out[i] = *sp
	}
	return out
}

// clear forgets what was seen.
func (r *rig) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = nil
}

func (r *rig) wantRuns(key string, want ...time.Duration) {
	r.t.Helper()
	got := r.begins(key)
	if len(got) != len(want) {
		r.t.Fatalf("%s ran at %v, want %v", key, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			r.t.Fatalf("%s ran at %v, want %v", key, got, want)
		}
	}
}

func (r *rig) wantState(key string, want schedule.State) schedule.Status {
	r.t.Helper()
	st, ok := r.Status(key)
	if !ok || st.State != want {
		r.t.Fatalf("%s is %q (known: %v), want %q", key, st.State, ok, want)
	}
	return st
}

// kick starts a kick and returns where its answer comes.
func (r *rig) kick(key string) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- r.Kick(r.t.Context(), key) }()
	synctest.Wait()
	return answer
}

func (r *rig) wantAnswer(answer <-chan error, want error) {
	r.t.Helper()
	select {
	case err := <-answer:
		if !errors.Is(err, want) {
			r.t.Fatalf("the kick answered %v, want %v", err, want)
		}
	default:
		r.t.Fatalf("the kick has not answered, want %v", want)
	}
}

func (r *rig) wantNoAnswer(answer <-chan error) {
	r.t.Helper()
	select {
	case err := <-answer:
		r.t.Fatalf("the kick answered %v already", err)
	default:
	}
}

// after lets virtual time pass until everything is at rest again.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// takes is work that lasts a while, or until its context ends.
func takes(d time.Duration, v schedule.Verdict) func(context.Context, string) schedule.Verdict {
	return func(ctx context.Context, _ string) schedule.Verdict {
		select {
		case <-time.After(d):
			return v
		case <-ctx.Done():
			return schedule.Verdict{Err: context.Cause(ctx)}
		}
	}
}

// hourly is a key that just had a success.
func hourly(host string) schedule.Entry {
	return schedule.Entry{Host: host, Interval: time.Hour, LastSuccess: time.Now()}
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%04d", prefix, i)
	}
	return out
}

// box holds a value that the test sets and runs read.
type box[T any] struct {
	mu sync.Mutex
	v  T
}

func (b *box[T]) set(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.v = v
}

func (b *box[T]) get() T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.v
}
