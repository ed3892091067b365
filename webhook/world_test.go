package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

// post is one attempt as the ATS saw it.
type post struct {
	at       time.Time
	id, body string
	received
	result webhook.Result
}

// ats is a receiver in virtual time. It checks what every receiver may rely on:
// one post at a time for a stream, rising seq, one body for an id unless a purge
// stripped it.
type ats struct {
	t *testing.T
	// answer decides a post; nil accepts.
	answer func(p post) webhook.Result
	// takes is how long a post is in flight.
	takes func(p post) time.Duration

	mu       sync.Mutex
	posts    []post
	flying   map[string]int // stream → posts in flight
	inFlight int
	most     int               // in flight together since it was last reset
	last     map[string]uint64 // stream → seq of the last accepted post
	bodies   map[string]string // id → body
	stripped bool              // purges may change a body
}

func newATS(t *testing.T) *ats {
	return &ats{t: t, flying: map[string]int{}, last: map[string]uint64{}, bodies: map[string]string{}}
}

// Post implements webhook.Poster.
func (a *ats) Post(ctx context.Context, id string, body []byte) webhook.Result {
	p := post{at: time.Now(), id: id, body: string(body), received: decode(a.t, body)}
	a.arrive(p)
	defer a.leave(p)
	if a.takes != nil && !sleep(ctx, a.takes(p)) {
		return webhook.Result{Kind: webhook.EndpointFailure, Code: "canceled", Err: context.Cause(ctx)}
	}
	a.mu.Lock() // see world.publish
	answer := a.answer
	a.mu.Unlock()
	p.result = webhook.Result{Kind: webhook.Accepted, Code: "204"}
	if answer != nil {
		p.result = answer(p)
	}
	a.note(p)
	return p.result
}

// sleep waits in virtual time.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (a *ats) arrive(p post) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flying[p.Stream.Key]++
	a.inFlight++
	a.most = max(a.most, a.inFlight)
	if a.flying[p.Stream.Key] > 1 {
		a.t.Errorf("two posts of stream %s are in flight together", p.Stream.Key)
	}
	if was, ok := a.bodies[p.id]; ok && was != p.body && !a.stripped {
		a.t.Errorf("event %s came with two bodies", p.id)
	}
	a.bodies[p.id] = p.body
}

func (a *ats) leave(p post) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flying[p.Stream.Key]--
	a.inFlight--
}

func (a *ats) note(p post) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.posts = append(a.posts, p)
	if p.result.Kind != webhook.Accepted {
		return
	}
	if p.Stream.Seq < a.last[p.Stream.Key] {
		a.t.Errorf("stream %s: seq %d was accepted after %d", p.Stream.Key, p.Stream.Seq, a.last[p.Stream.Key])
	}
	a.last[p.Stream.Key] = p.Stream.Seq
}

// all returns the posts so far for which keep is true.
func (a *ats) all(keep func(p post) bool) []post {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.posts), func(p post) bool { return !keep(p) })
}

func accepted(p post) bool { return p.result.Kind == webhook.Accepted }

// answers is a result as a status gives it.
func answers(status int, retryAfter string) webhook.Result {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return webhook.Classify(status, h, time.Now())
}

func unreachable() webhook.Result {
	return webhook.Result{Kind: webhook.EndpointFailure, Code: "network", Err: errors.New("no route to the endpoint")}
}

// world is one courier with its store and its ATS in virtual time.
type world struct {
	*testing.T
	ats      *ats
	mem      *storetest.Memory
	outbox   store.Outbox // mem, unless a test puts something between
	courier  *webhook.Courier
	registry *prometheus.Registry
	log      *logbook
	jitter   float64
	fault    func(op string) storetest.FaultKind
	mails    int
	ended    chan error
	cancel   context.CancelFunc
}

// inWorld runs a test in a bubble with a courier that has not begun to run.
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, ats: newATS(t), log: &logbook{t: t}}
		w.mem = storetest.NewMemory(storetest.MemoryOptions{
			Notify: func() {
				if w.courier != nil {
					w.courier.Notify()
				}
			},
			Fault: func(op string) storetest.FaultKind {
				w.publish()
				if w.fault == nil {
					return storetest.NoFault
				}
				return w.fault(op)
			},
		})
		w.outbox = w.mem
		f(w)
		w.stop()
	})
}

// start makes a courier and runs it.
func (w *world) start() {
	w.Helper()
	w.registry = prometheus.NewRegistry()
	c, err := webhook.New(webhook.Config{
		Outbox: w.outbox, Poster: w.ats, Log: slog.New(w.log), Stats: w.mem,
		Registerer: w.registry, Jitter: func() float64 { return w.jitter },
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	w.courier, w.cancel, w.ended = c, cancel, make(chan error, 1)
	go func() { w.ended <- c.Run(ctx) }()
}

// stop ends the courier, if it runs, and waits for it.
func (w *world) stop() error {
	if w.cancel == nil {
		return nil
	}
	w.publish()
	w.cancel()
	w.cancel = nil
	return <-w.ended
}

// restart ends the courier and the store's handle and begins anew, as a deploy
// does.
func (w *world) restart() {
	w.Helper()
	if err := w.stop(); err != nil {
		w.Errorf("stopping: %v", err)
	}
	w.mem = w.mem.Reopen()
	w.outbox = w.mem
	w.start()
}

// publish makes what the test changed (answer, takes, fault) visible to the
// courier's goroutines, which take the same lock before they look.
func (w *world) publish() {
	w.ats.mu.Lock()
	defer w.ats.mu.Unlock()
}

// after lets virtual time pass and waits until everything has settled.
func (w *world) after(d time.Duration) {
	w.publish()
	time.Sleep(d)
	synctest.Wait()
}

// candidates puts candidates into the directory and takes back their tombstones.
func (w *world) candidates(refs ...string) {
	w.Helper()
	c := store.Change{Now: time.Now(), Clear: refs}
	for _, ref := range refs {
		c.Put = append(c.Put, store.Row{Kind: "candidate", Ref: ref, Active: []string{ref + "@example.net"}})
	}
	w.change(c)
}

func (w *world) purge(ref string) {
	w.Helper()
	w.change(store.Change{Now: time.Now(), Purges: []store.Purge{{Ref: ref, Reason: "deleted"}}})
}

func (w *world) change(c store.Change) {
	w.Helper()
	rev, _, err := w.mem.Revision(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	c.From = rev
	if err := w.mem.Change(w.Context(), c); err != nil {
		w.Fatal(err)
	}
}

// mail brings one mail of a thread that names candidates: one event.
func (w *world) mail(thread string, candidates ...string) {
	w.Helper()
	w.mails++
	id := fmt.Sprintf("%s.%d@example.net", thread, w.mails)
	m := store.Matched{
		ID: fmt.Sprintf("msg_%d", w.mails), Mailbox: store.Holding{ID: "rita"}, Received: time.Now(), Direction: "inbound",
		Header: message.Header{MessageID: id, References: []string{thread + "@example.net"}, Date: time.Now(), Subject: "PRIVATE SUBJECT"},
	}
	for _, ref := range candidates {
		m.Pairs = append(m.Pairs, store.Pair{Candidate: ref, Key: ref + "@example.net", Address: ref + "@example.net", Fields: []string{"from"}})
	}
	w.advance(m)
}

func (w *world) advance(ms ...store.Matched) {
	w.Helper()
	walk := store.Walk{Mailbox: "rita"}
	at, err := w.mem.Walk(w.Context(), walk)
	if err != nil {
		w.Fatal(err)
	}
	b := store.Batch{Origin: store.OriginPoll, Messages: ms, Now: time.Now()}
	done, err := w.mem.Advance(w.Context(), walk, at.Version, b)
	if err != nil {
		w.Fatal(err)
	}
	if done.Events == 0 {
		w.Fatal("the mail made no event")
	}
}

// threads brings one mail to each of n threads with a candidate each.
func (w *world) threads(n int) {
	w.Helper()
	for i := range n {
		ref := fmt.Sprintf("cand_%d", i)
		w.candidates(ref)
		w.mail(fmt.Sprintf("thread%d", i), ref)
	}
}

// events returns the events in a state, as the store has them.
func (w *world) events(state store.EventState) []store.Event {
	w.Helper()
	es, err := w.mem.Events(context.WithoutCancel(w.Context()), store.EventFilter{State: state, Limit: 1 << 20})
	if err != nil {
		w.Fatal(err)
	}
	return es
}

// expect holds the outbox to counts of delivered, pending and dead events.
func (w *world) expect(delivered, pending, dead int) {
	w.Helper()
	d, p, x := len(w.events(store.EventDelivered)), len(w.events(store.EventPending)), len(w.events(store.EventDead))
	if d != delivered || p != pending || x != dead {
		w.Errorf("%d delivered, %d pending, %d dead; want %d, %d, %d", d, p, x, delivered, pending, dead)
	}
}

// state holds the courier's status to a state and a reason.
func (w *world) state(state webhook.State, reason string) {
	w.Helper()
	if s := w.courier.Status(); s.State != state || s.Reason != reason {
		w.Errorf("the webhook is %s (%s), want %s (%s)", s.State, s.Reason, state, reason)
	}
}

// metric returns the value of one series, and whether it is there.
func (w *world) metric(name, label string) (float64, bool) {
	w.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
		}
	}
	return 0, false
}

// logbook keeps the "event" of each line and fails on anything personal.
type logbook struct {
	t     *testing.T
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (l *logbook) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logbook) WithGroup(string) slog.Handler            { return l }

func (l *logbook) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	code := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			code = a.Value.String()
		}
		line += " " + a.String()
		return true
	})
	if code == "" {
		l.t.Errorf("a log line without event: %s", line)
	}
	if strings.Contains(line, "@") || strings.Contains(line, "PRIVATE") {
		l.t.Errorf("a log line tells of a mail: %s", line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, code)
	return nil
}

func (l *logbook) expect(codes ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, codes) {
		l.t.Errorf("the log says %q, want %q", l.lines, codes)
	}
}
