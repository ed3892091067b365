package proptest_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	dirsync "mailsyncd/sync/directory"
	"mailsyncd/sync/mailbox"
	"mailsyncd/webhook"
)

// kind is the promise that was broken.
type kind string

const (
	lost     kind = "nothing is lost"
	leak     kind = "nothing leaks"
	order    kind = "events come in order"
	identity kind = "an event is always the same"
	repeat   kind = "nothing is told without a reason"
	erasure  kind = "erasure is complete"
	broken   kind = "the parts work"
)

// violation is a broken promise.
type violation struct {
	kind kind
	text string
}

func (v *violation) String() string { return string(v.kind) + ": " + v.text }

// world is one life: the real parts on a memory store, scripted mail servers and
// an ATS, with the model beside them.
type world struct {
	ctx     context.Context
	script  script
	bug     bug
	shared  *shared
	mem     *storetest.Memory
	servers map[string]mailServer
	starts  int // of the daemon

	boxes   map[string]*mailbox.Mailbox
	keeper  *dirsync.Keeper
	courier *webhook.Courier
	halt    context.CancelFunc
	halted  chan error

	// floor is held by whoever moves the model and the receiver: the driver, but
	// while it waits, or a post. Virtual time already takes them in turn.
	floor    sync.Mutex
	model    *model
	receiver *receiver

	// quiet lets the driver ask the store without faults.
	quiet atomic.Bool
	// news tells that the store has something for the courier, which runs only
	// when the driver says so: a life must not depend on the scheduler.
	news atomic.Bool
	// cut is what happens in the middle of the step that runs, calls how many
	// calls it has made.
	cut     *cut
	calls   map[string]int
	passing []string // mailboxes whose passes run, the innermost last
	hit     bool     // the cut of the step that runs has happened
	killed  bool     // a cut killed the daemon in the middle of a step
	// trouble is what the courier's next calls on the store meet.
	trouble atomic.Pointer[step]
	left    atomic.Int32

	broken atomic.Pointer[violation]
	// lingers belongs to a planted bug: candidates whose stop the store missed.
	lingers map[string]bool
}

// shared is what all lives of a test use: nothing in it has a state that matters.
type shared struct {
	guards  *matcher.Matcher
	metrics *mailbox.Metrics
}

func newShared() (*shared, error) {
	cfg := matcher.Config{Domains: []string{"example.com"}, IgnoreFrom: []string{notice}, MaxRecipients: 20}
	for _, b := range boxes {
		cfg.Mailboxes = append(cfg.Mailboxes, matcher.Owner{ID: b, Addresses: []string{addressOf(b)}})
	}
	guards, err := matcher.New(cfg)
	return &shared{guards: guards, metrics: mailbox.NewMetrics(prometheus.NewRegistry())}, err
}

// fail notes the first broken promise; what comes after it is its consequence.
func (w *world) fail(k kind, format string, args ...any) {
	w.broken.CompareAndSwap(nil, &violation{k, fmt.Sprintf(format, args...)})
}

// await waits for something, and lets posts go on meanwhile.
func (w *world) await(f func()) {
	w.floor.Unlock()
	defer w.floor.Lock()
	f()
}

// sleep lets time pass. The odd end keeps the driver from waking together with a
// timer of the courier: who of the two comes first would be chance.
func (w *world) sleep(d time.Duration) { w.await(func() { time.Sleep(d + 7*time.Nanosecond) }) }

func (w *world) failed() bool { return w.broken.Load() != nil }

// newWorld starts the parts. The caller has the floor.
func newWorld(ctx context.Context, s script, b bug, sh *shared) *world {
	w := &world{
		ctx: ctx, script: s, bug: b, shared: sh, model: newModel(), calls: map[string]int{},
		servers: map[string]mailServer{}, lingers: map[string]bool{},
	}
	w.receiver = newReceiver(w)
	w.floor.Lock()
	o := storetest.MemoryOptions{Notify: func() { w.news.Store(true) }, Fault: w.fault}
	if s.tight {
		o.MaxEvents = 5
	}
	if w.model.short = s.short; s.short {
		o.ActivationLog = 2
	}
	w.mem = storetest.NewMemory(o)
	for _, b := range boxes {
		w.model.boxes[b].kind = s.kindOf(b)
		if kind := s.kindOf(b); kind.gmail() {
			g := newGmailServer(s.seed, kind.now(0), addressOf(b), w.candidates, w.serverFault(b))
			g.wire = w.bug.wire
			w.servers[b] = g
			continue
		}
		w.servers[b] = newFakeServer(w.serverFault(b))
	}
	w.start()
	return w
}

// ---- start and end of the daemon ---------------------------------------

// start makes the parts as a fresh process does, on what the store holds.
func (w *world) start() {
	w.startDirectory()
	w.boxes = map[string]*mailbox.Mailbox{}
	for _, id := range boxes {
		kind := w.script.kindOf(id).now(w.starts)
		if g, ok := w.servers[id].(*gmailServer); ok {
			g.connect(kind)
		}
		w.boxes[id] = mailbox.New(mailbox.Config{
			ID: id, User: userOf(id), Provider: "any", Opener: w.opener(id), Store: w.boxStore(),
			Directory: func() mailbox.Snapshot {
				if snap := w.keeper.Snapshot(); snap != nil {
					return snap
				}
				return nil
			},
			Matcher:  func() *matcher.Matcher { return w.shared.guards },
			Backfill: backfill, Reconcile: day, WalkEvery: w.walkEvery(id), Searches: kind == gmailAsks,
			Metrics: w.shared.metrics, Log: slog.New(logbook{w}),
		})
	}
	w.starts++
	w.startCourier()
}

func (w *world) startDirectory() {
	var st store.Directory = w.mem
	if w.bug.directory != nil {
		st = w.bug.directory(w, st)
	}
	w.keeper = dirsync.New(dirsync.Config{
		Settings: dirsync.Settings{Backfill: backfill}, Store: st, Logger: slog.New(logbook{w}),
	})
}

func (w *world) startCourier() {
	var out store.Outbox = w.mem
	if w.bug.outbox != nil {
		out = w.bug.outbox(w, out)
	}
	var poster webhook.Poster = w.receiver
	if w.bug.poster != nil {
		poster = w.bug.poster(w, poster)
	}
	c, err := webhook.New(webhook.Config{
		Outbox: &claims{Outbox: out, taken: w.receiver.claimed}, Poster: poster,
		Log: slog.New(logbook{w}), Jitter: func() float64 { return 0.5 },
	})
	if err != nil {
		w.fail(broken, "making the courier: %v", err)
		return
	}
	ctx, halt := context.WithCancel(w.ctx)
	w.courier, w.halt, w.halted = c, halt, make(chan error, 1)
	go func() { w.halted <- c.Run(ctx) }()
	w.await(synctest.Wait) // its first round comes before whatever the driver does next
}

// stopCourier ends the courier as SIGTERM does: posts in flight may finish.
func (w *world) stopCourier() {
	w.halt()
	w.await(func() { <-w.halted }) // its error says that an outcome was not recorded: a fault of ours
}

// kill ends the daemon as kill -9 does. Posts in flight have arrived at the ATS
// or not; nobody hears of it.
func (w *world) kill() {
	_ = w.mem.Close()
	close(w.receiver.cut)
	w.stopCourier()
	w.receiver.cut = make(chan struct{})
	w.mem = w.mem.Reopen()
	w.killed = false
	w.start()
	w.load()
}

// walkEvery is what the daemon says of a mailbox.
func (w *world) walkEvery(box string) time.Duration {
	if !w.script.kindOf(box).gmail() || w.bug.trusting && w.script.kindOf(box) == gmailAsks {
		return 0
	}
	return day
}

// candidates are the addresses to ask Google for.
func (w *world) candidates() []string {
	if snap := w.keeper.Snapshot(); snap != nil {
		return snap.Matchable()
	}
	return nil
}

func (w *world) opener(box string) providers.Opener {
	o := w.servers[box].opener()
	if w.script.slow > 0 {
		o = slowOpener{o, w}
	}
	if w.bug.opener != nil {
		o = w.bug.opener(w, box, o)
	}
	return o
}

func (w *world) boxStore() mailbox.Store {
	if w.bug.store != nil {
		return w.bug.store(w, w.mem)
	}
	return w.mem
}

// slowOpener makes each page take time.
type slowOpener struct {
	providers.Opener
	w *world
}

func (o slowOpener) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := o.Opener.Open(ctx)
	if err != nil {
		return nil, err
	}
	return slowSession{s, o.w}, nil
}

type slowSession struct {
	providers.Mailbox
	w *world
}

func (s slowSession) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	s.w.sleep(s.w.script.slow)
	return s.Mailbox.Next(ctx, cur, w)
}

func (s slowSession) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	s.w.sleep(s.w.script.slow)
	return s.Mailbox.Search(ctx, q, cur)
}

// claims tells the receiver what the courier has taken up.
type claims struct {
	store.Outbox
	taken func([]store.Event)
}

func (c *claims) Attempt(ctx context.Context, as []store.Attempt) ([]store.Event, error) {
	events, err := c.Outbox.Attempt(ctx, as)
	if err == nil {
		c.taken(events)
	}
	return events, err
}

// logbook holds the log to what it must not say, and hears what it must not
// have to say.
type logbook struct{ w *world }

func (l logbook) Enabled(context.Context, slog.Level) bool { return true }
func (l logbook) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logbook) WithGroup(string) slog.Handler            { return l }

func (l logbook) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		text := a.Value.String()
		if strings.Contains(text, "@") || strings.Contains(text, "SUBJECT") {
			l.w.fail(leak, "the log tells of a mail: %s %s=%s", r.Message, a.Key, text)
		}
		switch {
		case a.Key == "event" && text == "unaccounted":
			l.w.fail(lost, "the daily reconcile found mail that nobody delivered")
		case a.Key == "event" && text == "event_unrenderable":
			l.w.fail(broken, "an event could not be rendered")
		}
		return true
	})
	return nil
}

// ---- faults ------------------------------------------------------------

// courierCalls are the methods only the courier calls, from its own goroutine.
func courierCall(op string) bool {
	switch op {
	case "Due", "Attempt", "Outcome", "PurgesPending", "Endpoint", "SetEndpoint":
		return true
	}
	return false
}

// fault is asked before every call on the store.
func (w *world) fault(op string) storetest.FaultKind {
	switch {
	case courierCall(op): // before quiet, which is about the driver's own calls
		return w.courierFault(op)
	case w.quiet.Load():
		return storetest.NoFault
	}
	kind := w.storeCut(op)
	if op == "Advance" && len(w.passing) > 0 {
		w.model.committing(w.passing[len(w.passing)-1])
	}
	return kind
}

func (w *world) courierFault(op string) storetest.FaultKind {
	s := w.trouble.Load()
	if s == nil || s.mail != op || w.left.Add(-1) > 0 {
		return storetest.NoFault
	}
	w.trouble.Store(nil)
	return flavour(s.how)
}

func flavour(how string) storetest.FaultKind {
	switch how {
	case fails, crashes:
		return storetest.Failed
	case failsDone, crashesDone:
		return storetest.FailedButPersisted
	}
	return storetest.NoFault
}

// storeCut lets happen what the script wants before this call.
func (w *world) storeCut(op string) storetest.FaultKind {
	c := w.cut
	if c == nil || c.atServer() || c.op != "" && c.op != op {
		return storetest.NoFault
	}
	if w.calls[c.op]++; w.calls[c.op] != c.nth {
		return storetest.NoFault
	}
	w.cut, w.hit = nil, true
	if c.inner != nil {
		w.inside(*c.inner)
	}
	if c.how == crashes || c.how == crashesDone {
		_ = w.mem.Close() // whatever comes after this call finds the store closed
		w.killed = true
	}
	return flavour(c.how)
}

// serverFault is asked before every call on a mail server.
func (w *world) serverFault(box string) func(providertest.Op) error {
	return func(op providertest.Op) error {
		c := w.cut
		if c == nil || !c.atServer() || op == providertest.OpClose || len(w.passing) == 0 || w.passing[len(w.passing)-1] != box {
			return nil
		}
		if w.calls["server"]++; w.calls["server"] != c.nth {
			return nil
		}
		w.cut, w.hit = nil, true
		w.model.boxes[box].failures++
		switch c.how {
		case serverSlows:
			return providertest.Throttled(10 * time.Minute)
		case serverDenies:
			return providers.ErrUnauthorized
		default:
			return providertest.ErrCut
		}
	}
}
