package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
)

// yard is a fleet on a memory store whose faults a test plays. Its schedule does
// not run: what it knows is what is looked at.
type yard struct {
	*fleet
	t     *testing.T
	store *storetest.Memory

	mu    sync.Mutex
	fault func(op string) storetest.FaultKind
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{t: t}
	y.store = storetest.NewMemory(storetest.MemoryOptions{Fault: func(op string) storetest.FaultKind {
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.fault == nil {
			return storetest.NoFault
		}
		return y.fault(op)
	}})
	y.fleet = newFleet(fleetParts{
		store: y.store, directory: func() *directory.Snapshot { return nil },
		matcher: func() *matcher.Matcher { return nil },
		dial:    func(config.Mailbox) (providers.Opener, error) { return providertest.NewFake(), nil },
		metrics: mailbox.NewMetrics(prometheus.NewRegistry()), log: slog.New(slog.DiscardHandler),
	}, schedule.Limits{Concurrency: 4})
	return y
}

// failing plays a fault at every call of one operation; "" ends it.
func (y *yard) failing(op string, kind storetest.FaultKind) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.fault = func(called string) storetest.FaultKind {
		if called == op {
			return kind
		}
		return storetest.NoFault
	}
}

// boxes is a configuration of these mailboxes.
func boxes(ids ...string) *config.Config {
	c := config.Default()
	for _, id := range ids {
		c.Mailboxes = append(c.Mailboxes, config.Mailbox{
			ID: id, Interval: time.Hour, IMAP: config.IMAP{Host: "mail.example", Port: 993, Username: id},
		})
	}
	return &c
}

func (y *yard) applied(cfg *config.Config) {
	y.t.Helper()
	if err := y.apply(y.t.Context(), cfg); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) put(row store.Mailbox) {
	y.t.Helper()
	if err := y.store.SetMailbox(y.t.Context(), row, nil, time.Now()); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) state(id string) store.MailboxState {
	y.t.Helper()
	row, err := y.store.Mailbox(y.t.Context(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	return row.State
}

func (y *yard) wantScheduled(id string, want bool) {
	y.t.Helper()
	if _, known := y.schedule.Status(id); known != want {
		y.t.Errorf("%s in the schedule: %v, want %v", id, known, want)
	}
}

// dyingContext ends as soon as somebody looks at it a second time: whoever asked
// for a change hung up in its middle.
type dyingContext struct {
	context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	asked  bool
}

func (c *dyingContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		c.cancel()
	}
	c.asked = true
	return c.Context.Err()
}

func TestChangeWhoseCallerHangsUpIsCarriedOut(t *testing.T) {
	y := newYard(t)
	y.applied(boxes("ann", "bob", "eve"))
	y.put(store.Mailbox{ID: "eve", State: store.MailboxActive})
	cfg := boxes("ann", "bob")
	cfg.Mailboxes[0].Interval, cfg.Mailboxes[1].Interval = time.Minute, time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	if err := y.apply(&dyingContext{Context: ctx, cancel: cancel}, cfg); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"ann", "bob"} {
		y.wantScheduled(id, true)
		if m := y.member(id); m.cfg.Interval != time.Minute {
			t.Errorf("%s has not taken the change", id)
		}
	}
	y.wantScheduled("eve", false)
	if got := y.state("eve"); got != store.MailboxRemoved {
		t.Errorf("eve is %s", got)
	}
}

// A store that fails in the middle of a change leaves nobody unscheduled, says
// so, and the same configuration is carried out to its end the next time.
func TestChangeThatTheStoreInterrupts(t *testing.T) {
	for _, kind := range []storetest.FaultKind{storetest.Failed, storetest.FailedButPersisted} {
		for _, op := range []string{"Mailbox", "SetMailbox", "Mailboxes"} {
			y := newYard(t)
			y.applied(boxes("ann", "bob", "eve"))
			y.put(store.Mailbox{ID: "ann", State: store.MailboxRemoved}) // a write is owed
			y.put(store.Mailbox{ID: "bob", State: store.MailboxPaused})
			y.put(store.Mailbox{ID: "eve", State: store.MailboxActive})
			cfg := boxes("ann", "bob")
			cfg.Mailboxes[0].Interval, cfg.Mailboxes[1].Interval = time.Minute, time.Minute
			y.failing(op, kind)
			if err := y.apply(t.Context(), cfg); !errors.Is(err, storetest.ErrFault) {
				t.Errorf("%s: the fault was not told: %v", op, err)
			}
			y.wantScheduled("ann", true)
			if v := y.pass(t.Context(), "bob"); op == "Mailbox" && !errors.Is(v.Err, storetest.ErrFault) {
				t.Errorf("%s: a mailbox that may be paused was polled: %v", op, v.Err)
			}
			y.failing("", kind)
			y.applied(cfg)
			y.wantScheduled("ann", true)
			y.wantScheduled("bob", false)
			y.wantScheduled("eve", false)
			if a, b, e := y.state("ann"), y.state("bob"), y.state("eve"); a != store.MailboxActive || b != store.MailboxPaused || e != store.MailboxRemoved {
				t.Errorf("%s: ann is %s, bob %s, eve %s", op, a, b, e)
			}
		}
	}
}

func TestMailboxThatLeftWhileNoDaemonRan(t *testing.T) {
	y := newYard(t)
	y.put(store.Mailbox{ID: "ghost", State: store.MailboxActive})
	y.put(store.Mailbox{ID: "ann", State: store.MailboxActive})
	y.applied(boxes("ann"))
	if got := y.state("ghost"); got != store.MailboxRemoved {
		t.Errorf("the mailbox that is not configured is %s", got)
	}
	if got := y.state("ann"); got != store.MailboxActive {
		t.Errorf("the configured one is %s", got)
	}
}

func TestWhatAChangeMeansForARefusedMailbox(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*config.Mailbox)
		parked bool
	}{
		{"another user name is tried at once", func(m *config.Mailbox) { m.IMAP.Username = "ann@mail.example" }, false},
		{"another host is tried at once", func(m *config.Mailbox) { m.IMAP.Host = "imap.example" }, false},
		{"another interval is no reason to try", func(m *config.Mailbox) { m.Interval = time.Minute }, true},
	} {
		y := newYard(t)
		y.put(store.Mailbox{ID: "ann", State: store.MailboxUnauthorized, Tries: 3, Since: time.Now(), LastSuccess: time.Now()})
		cfg := boxes("ann")
		y.applied(cfg)
		if s, _ := y.schedule.Status("ann"); s.State != schedule.Parked {
			t.Fatalf("a refused mailbox is %s", s.State)
		}
		next := boxes("ann")
		c.change(&next.Mailboxes[0])
		y.applied(next)
		s, _ := y.schedule.Status("ann")
		if parked := s.State == schedule.Parked; parked != c.parked {
			t.Errorf("%s: the mailbox is %s", c.what, s.State)
		}
		if !c.parked && time.Until(s.Due) > time.Second {
			t.Errorf("%s: due in %v", c.what, time.Until(s.Due))
		}
	}
}

func TestSuspendedMailboxWhoseUserIsTakenFromIt(t *testing.T) {
	y := newYard(t)
	y.put(store.Mailbox{ID: "ann", State: store.MailboxSuspended})
	cfg := boxes("ann")
	cfg.Mailboxes[0].User = "usr_1"
	y.applied(cfg)
	y.wantScheduled("ann", false)
	y.applied(boxes("ann"))
	y.wantScheduled("ann", true)
	if got := y.state("ann"); got != store.MailboxActive {
		t.Errorf("it is %s", got)
	}
}

// Whatever meets: a mailbox whose last word was pause is not in the schedule.
func TestPauseBesideReloads(t *testing.T) {
	y := newYard(t)
	quick, slow := boxes("ann"), boxes("ann")
	quick.Mailboxes[0].Interval = time.Minute
	y.applied(slow)
	for range 200 {
		var both sync.WaitGroup
		both.Go(func() {
			if err := y.pause(t.Context(), "ann"); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := errors.Join(y.apply(t.Context(), quick), y.usersChanged(t.Context()), y.apply(t.Context(), slow)); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		y.wantScheduled("ann", false)
		if got := y.state("ann"); got != store.MailboxPaused {
			t.Fatalf("paused, it is %s", got)
		}
		if err := y.resume(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		y.wantScheduled("ann", true)
	}
}

func TestPauseOfWhomNobodyKnows(t *testing.T) {
	y := newYard(t)
	if err := y.pause(t.Context(), "nobody"); !errors.Is(err, errNoMember) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := y.pause(gone, "nobody"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone: %v", err)
	}
}

func TestForgettingThatFailsLeavesAMailboxScheduled(t *testing.T) {
	for _, kind := range []storetest.FaultKind{storetest.Failed, storetest.FailedButPersisted} {
		y := newYard(t)
		y.applied(boxes("ann"))
		y.failing("ForgetMailbox", kind)
		if err := y.forget(t.Context(), "ann"); !errors.Is(err, storetest.ErrFault) {
			t.Errorf("the fault was not told: %v", err)
		}
		y.wantScheduled("ann", true)
	}
}
