package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"mailsyncd/store"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// queue is how many events are claimed for each post that may run. The loop
	// commits while posts run, and a queue keeps them busy meanwhile; every
	// claim also is a payload in memory.
	queue = 8
	// recheck bounds how long the loop sleeps: a wake-up that got lost, or a
	// clock that jumped, costs a minute.
	recheck = time.Minute
	// keepAccepted is how exactly the time of the last acceptance survives a
	// restart. It only ever makes a dead letter later.
	keepAccepted = time.Minute
	// troubleMin and troubleMax bound the wait after an error of the store.
	troubleMin = time.Second
	troubleMax = 30 * time.Second
	// lastCommit bounds the commit of the outcomes at the end.
	lastCommit = 10 * time.Second
)

// Config configures a Courier.
type Config struct {
	Outbox store.Outbox
	Poster Poster
	Log    *slog.Logger
	// Registerer takes the courier's metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Stats, if not nil, gives the outbox metrics.
	Stats Stats
	// Concurrency is how many posts run at once; 0 means 8.
	Concurrency int
	// Grace is how long posts in flight may take to finish at the end; 0 means
	// 30 s.
	Grace time.Duration
	// Jitter returns a number in [0, 1) that lengthens a wait; nil means random.
	Jitter func() float64
}

// Courier delivers the outbox: it claims due events, posts them and records what
// became of them. Streams run in parallel, each with one event in flight.
type Courier struct {
	outbox      store.Outbox
	log         *slog.Logger
	metrics     *metrics
	concurrency int
	grace       time.Duration
	jitter      func() float64

	wake chan struct{} // capacity 1: something may have changed

	beat atomic.Int64 // when the loop last took a turn, Unix ns; 0: never

	// flight and trouble belong to the loop.
	flight  flight
	trouble trouble

	// keep is held from a change of the durable state until it is written, so
	// that an operator's word and the loop's do not overwrite each other. It is
	// taken before mu.
	keep   sync.Mutex
	loaded bool
	kept   store.Endpoint // as last written

	mu       sync.Mutex
	poster   Poster
	health   health
	shown    shown
	outcomes []store.Outcome // of ended attempts, not yet recorded
	stopping bool
	purging  map[string]bool // refs whose candidate.purged is undelivered; replaced, never changed
}

// New returns a courier that Run sets to work. It fails when its metrics are
// registered already.
func New(cfg Config) (*Courier, error) {
	c := &Courier{
		outbox:      cfg.Outbox,
		log:         cfg.Log,
		metrics:     newMetrics(),
		concurrency: orDefault(cfg.Concurrency, 8),
		grace:       orDefault(cfg.Grace, 30*time.Second),
		jitter:      cfg.Jitter,
		wake:        make(chan struct{}, 1),
		flight:      newFlight(),
		poster:      cfg.Poster,
		shown:       shown{state: StateOK},
	}
	if c.jitter == nil {
		c.jitter = rand.Float64
	}
	if cfg.Registerer == nil {
		return c, nil
	}
	if err := c.metrics.register(cfg.Registerer, c, cfg.Stats); err != nil {
		return nil, fmt.Errorf("registering the webhook's metrics: %w", err)
	}
	return c, nil
}

// Notify tells the courier that the outbox may hold something new. It never
// blocks.
func (c *Courier) Notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Beat returns when the loop last took a turn, zero before the first. It does so
// every minute at least, whatever the endpoint does: an older beat means that the
// loop hangs.
func (c *Courier) Beat() time.Time {
	if ns := c.beat.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Use makes p the poster of all attempts that begin from now on, for a
// configuration that changed, and tries it at once if the endpoint was paused.
func (c *Courier) Use(p Poster) {
	c.watch(func(h *health) {
		c.poster = p
		h.retry()
	})
	c.Notify()
}

// Run delivers until ctx ends. Then it takes nothing new, lets the posts in
// flight finish for at most Config.Grace, records their outcomes, and returns
// nil; an error says that outcomes could not be recorded, which repeats their
// posts at the next start.
func (c *Courier) Run(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	posts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	jobs := make(chan job, c.concurrency*queue)
	var workers sync.WaitGroup
	for range c.concurrency {
		workers.Go(func() {
			for j := range jobs {
				c.deliver(posts, j)
			}
		})
	}
	c.loop(ctx, jobs)
	c.stop(jobs)
	defer time.AfterFunc(c.grace, cut).Stop()
	workers.Wait()
	return c.finish(ctx)
}

// stop lets the queue run empty without posting it.
func (c *Courier) stop(jobs chan<- job) {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	close(jobs)
}

// finish records what the last posts brought, although ctx has ended.
func (c *Courier) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCommit)
	defer cancel()
	if err := errors.Join(c.record(ctx), c.remember(ctx)); err != nil {
		return fmt.Errorf("recording the last deliveries (they will be posted again): %w", err)
	}
	return nil
}

// loop runs rounds: when the next event is due, when somebody notifies, when a
// post ends.
func (c *Courier) loop(ctx context.Context, jobs chan<- job) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.beat.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.wake:
		}
		timer.Reset(c.round(ctx, jobs))
	}
}

// round records what has ended and claims what is due. It returns how long
// nothing is to be done unless somebody notifies.
func (c *Courier) round(ctx context.Context, jobs chan<- job) (wait time.Duration) {
	var err error
	defer func() { wait = c.settle(ctx, wait, err) }()
	if err = c.record(ctx); err != nil {
		return 0
	}
	if err = c.remember(ctx); err != nil {
		return 0
	}
	if err = c.recall(ctx); err != nil {
		return 0
	}
	wait, err = c.claim(ctx, jobs)
	return wait
}

// record commits the outcomes of ended attempts. On an error they are kept, and
// their events stay in flight.
func (c *Courier) record(ctx context.Context) error {
	c.mu.Lock()
	outcomes := c.outcomes
	c.outcomes = nil
	c.mu.Unlock()
	if len(outcomes) == 0 {
		return nil
	}
	if err := c.outbox.Outcome(ctx, outcomes); err != nil {
		c.mu.Lock()
		c.outcomes = append(outcomes, c.outcomes...)
		c.mu.Unlock()
		return fmt.Errorf("recording outcomes: %w", err)
	}
	for _, o := range outcomes {
		c.logDead(o)
		c.flight.remove(o.No)
	}
	return nil
}

// logDead tells of an event that is given up.
func (c *Courier) logDead(o store.Outcome) {
	if o.State != store.EventDead {
		return
	}
	e := c.flight.events[o.No]
	c.log.Warn("an event is given up; `mailsyncd deliveries replay` brings it back",
		"event", "dead_letter", "id", e.ID, "type", e.Type, "tries", e.Tries, "result", o.Result)
}

// trouble is the state of the loop's own difficulties with the store.
type trouble struct {
	text  string
	delay time.Duration
}

// settle is the verdict of a round: an error is logged when its text changes,
// and the next round waits a growing time.
func (c *Courier) settle(ctx context.Context, wait time.Duration, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	if err == nil {
		if c.trouble.text != "" {
			c.log.Info("the outbox works again", "event", "outbox_recovered")
		}
		c.trouble = trouble{}
		return wait
	}
	if text := err.Error(); text != c.trouble.text {
		c.trouble.text = text
		c.log.Error("the outbox cannot be used; delivery waits", "event", "outbox_failed", "err", err)
	}
	c.trouble.delay = min(max(2*c.trouble.delay, troubleMin), troubleMax)
	return c.trouble.delay
}
