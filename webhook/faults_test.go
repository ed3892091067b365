package webhook_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/webhook"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// Each operation of the courier fails at its first, second, third … call, in
// both flavours, until a run meets no fault: everything arrives, and a repeat
// carries the same id and the same bytes (the ATS of these tests checks both).
func TestAFaultOfTheStoreAtAnyCallLosesNothing(t *testing.T) {
	for _, kind := range []storetest.FaultKind{storetest.Failed, storetest.FailedButPersisted} {
		for _, op := range []string{"Due", "Attempt", "Outcome", "PurgesPending", "SetEndpoint"} {
			for nth := 1; ; nth++ {
				met := false
				t.Run(fmt.Sprintf("%s call %d flavour %d", op, nth, kind), func(t *testing.T) {
					met = deliverWithFault(t, kind, op, nth)
				})
				if !met {
					break
				}
			}
		}
	}
}

func deliverWithFault(t *testing.T, kind storetest.FaultKind, op string, nth int) (met bool) {
	inWorld(t, func(w *world) {
		calls := 0
		w.fault = func(called string) storetest.FaultKind {
			if called != op {
				return storetest.NoFault
			}
			if calls++; calls != nth {
				return storetest.NoFault
			}
			met = true
			return kind
		}
		w.threads(3)
		w.mail("thread0", "cand_0")
		w.purge("cand_2")
		w.start()
		w.after(30 * time.Second)
		w.fault = nil
		w.expect(4, 0, 0)
		if met {
			w.log.expect("outbox_failed", "outbox_recovered")
		}
	})
	return met
}

func TestTheSameTroubleIsLoggedOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(1)
		w.fault = func(op string) storetest.FaultKind {
			if op == "Attempt" {
				return storetest.Failed
			}
			return storetest.NoFault
		}
		w.start()
		w.after(time.Hour)
		w.log.expect("outbox_failed")
		w.fault = nil
		w.after(time.Minute)
		w.expect(1, 0, 0)
		w.log.expect("outbox_failed", "outbox_recovered")
	})
}

func TestACrashBetweenPostAndOutcomeRepeatsTheSamePost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(1)
		w.fault = func(op string) storetest.FaultKind {
			if op == "Outcome" {
				return storetest.Failed
			}
			return storetest.NoFault
		}
		w.start()
		w.after(time.Minute)
		if err := w.stop(); err == nil {
			t.Error("a courier that could not record its last outcome says nothing")
		}
		w.fault = nil
		w.start()
		w.after(time.Minute)
		w.expect(1, 0, 0)
		posts := w.ats.all(accepted)
		if len(posts) != 2 || posts[0].id != posts[1].id || posts[0].body != posts[1].body {
			t.Errorf("%d posts, want the same one twice", len(posts))
		}
	})
}

// purged is a purge and when it was committed.
type purged struct {
	ref string
	at  time.Time
}

// chaos drives a courier through ten random days and then a few quiet ones.
type chaos struct {
	*world
	rngMu sync.Mutex // posts draw side by side
	rng   *rand.Rand
	until time.Time
	alive map[string]bool // candidates
	gone  []purged
	mood  webhook.Kind
}

func TestRandomDaysEndWithEverythingDelivered(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ats.stripped = true
				c := &chaos{world: w, rng: rand.New(rand.NewPCG(seed, 1)), until: time.Now().AddDate(0, 0, 10), alive: map[string]bool{}}
				c.run()
			})
		})
	}
}

// draw returns a random number below n.
func (c *chaos) draw(n int) int {
	c.rngMu.Lock()
	defer c.rngMu.Unlock()
	return c.rng.IntN(n)
}

func (c *chaos) run() {
	c.ats.answer = c.answer
	c.ats.takes = func(post) time.Duration { return time.Duration(c.draw(3000)) * time.Millisecond }
	c.start()
	c.after(0) // Run has begun before anything changes
	for i := 0; time.Now().Before(c.until); i++ {
		c.step(i)
		c.after(time.Duration(c.draw(2*3600)) * time.Second)
	}
	c.fault, c.mood = nil, webhook.Accepted
	if err := c.courier.Resume(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.after(4 * 24 * time.Hour)
	c.judge()
}

// step is one thing that happens.
func (c *chaos) step(i int) {
	ref := fmt.Sprintf("cand_%d", c.draw(6))
	switch c.draw(10) {
	case 0, 1:
		c.fault = nil
		c.mood = []webhook.Kind{webhook.Accepted, webhook.Accepted, webhook.EndpointFailure, webhook.Throttled, webhook.EventFailure, webhook.Gone}[c.draw(6)]
	case 2:
		c.fault = nil
		c.restart()
	case 3:
		if c.alive[ref] {
			c.fault = nil
			c.purge(ref)
			c.gone = append(c.gone, purged{ref, time.Now()})
			c.alive[ref] = false
		}
	case 4:
		c.fault = c.faults
	case 5:
		c.fault = nil
		if err := c.courier.Resume(c.Context()); err != nil {
			c.Fatal(err)
		}
	default:
		c.fault = nil
		if !c.alive[ref] {
			c.candidates(ref)
			c.alive[ref] = true
		}
		c.mail(fmt.Sprintf("thread%d", c.draw(8)), ref)
	}
}

func (c *chaos) faults(op string) storetest.FaultKind {
	switch op {
	case "Due", "Attempt", "Outcome", "SetEndpoint", "PurgesPending":
		return []storetest.FaultKind{storetest.NoFault, storetest.NoFault, storetest.Failed, storetest.FailedButPersisted}[c.draw(4)]
	}
	return storetest.NoFault
}

// answer is the endpoint's mood, with a tenth of the posts going the other way.
func (c *chaos) answer(p post) webhook.Result {
	mood := c.mood
	if time.Now().Before(c.until) && c.draw(10) == 0 {
		mood = webhook.EndpointFailure
	}
	switch mood {
	case webhook.EndpointFailure:
		return answers(500+c.draw(3), "")
	case webhook.EventFailure:
		return answers(422, "")
	case webhook.Throttled:
		return answers(429, fmt.Sprint(c.draw(7200)))
	case webhook.Gone:
		return answers(410, "")
	default:
		return answers(200, "")
	}
}

// judge checks what must hold at the end: nothing waits, what died had its tries
// and was no purge, and from a purge until the ATS took its candidate.purged no
// post began that names the candidate.
func (c *chaos) judge() {
	if waiting := c.events(store.EventPending); len(waiting) > 0 {
		c.Errorf("%d events still wait after quiet days, the first is %s with %d tries, due %v", len(waiting), waiting[0].Type, waiting[0].Tries, waiting[0].Due)
	}
	for _, e := range c.events(store.EventDead) {
		if e.Tries < len(webhook.RetryDelays()) || e.Type == store.CandidatePurged {
			c.Errorf("%s died after %d tries", e.Type, e.Tries)
		}
	}
	for _, g := range c.gone {
		told := c.ats.all(func(p post) bool {
			return accepted(p) && p.Type == string(store.CandidatePurged) && p.Data.Candidate == g.ref && !p.at.Before(g.at)
		})
		if len(told) == 0 {
			c.Errorf("the ATS was never told that %s was purged", g.ref)
			continue
		}
		late := c.ats.all(func(p post) bool { return p.names(g.ref) && p.at.After(g.at) && p.at.Before(told[0].at) })
		if len(late) > 0 {
			c.Errorf("%d posts that name %s began after its purge and before the ATS took it", len(late), g.ref)
		}
	}
}
