package webhook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"mailsyncd/store"
)

// job is one claimed event on its way to a post.
type job struct {
	event store.Event
	gate  uint64 // the endpoint's gate at the claim
	// asked is the attempt before this one, or this one if it is the first. If
	// the endpoint took something else since then, it is in working order.
	asked time.Time
}

// claim takes as many due events as the endpoint bears, counts their attempts in
// one commit and queues them. It returns when it should be asked again.
func (c *Courier) claim(ctx context.Context, jobs chan<- job) (time.Duration, error) {
	now := time.Now()
	c.mu.Lock()
	width, again := c.health.width(now, cap(jobs))
	gate := c.health.gate
	c.mu.Unlock()
	if width == 0 {
		return until(now, again), nil
	}
	events, next, err := c.pick(ctx, now, width-len(c.flight.events))
	if err != nil {
		return 0, err
	}
	if err := c.attempt(ctx, now, gate, events, jobs); err != nil {
		return 0, err
	}
	return until(now, next), nil
}

// until is the wait until t, at most recheck; a zero t is never.
func until(now, t time.Time) time.Duration {
	if t.IsZero() {
		return recheck
	}
	return min(max(t.Sub(now), 0), recheck)
}

// pick puts up to n due events in flight. The zero time is returned when it
// filled all places: then the end of a post is what comes next.
//
// The order of the two reads matters: a purge that commits after Due is found by
// PurgesPending, and one that commits after both has changed the event's
// version, so that Attempt leaves it out.
func (c *Courier) pick(ctx context.Context, now time.Time, n int) (picked []store.Event, next time.Time, err error) {
	defer func() {
		if err != nil {
			c.release(picked)
		}
	}()
	passed := make(map[uint64]bool)
	skip := func(no uint64) bool { return passed[no] || c.flight.holds(no) }
	for asOf := now; len(picked) < n; {
		heads, due, err := c.outbox.Due(ctx, asOf, n-len(picked), skip)
		switch {
		case err != nil:
			return picked, time.Time{}, fmt.Errorf("reading the outbox: %w", err)
		case len(heads) == 0 && asOf.Equal(now) && due.Sub(now) > longestDelay:
			asOf = due // written by a clock that ran ahead: due now
			continue
		case len(heads) == 0:
			return picked, due, nil
		}
		purging, err := c.purges(ctx)
		if err != nil {
			return picked, time.Time{}, err
		}
		for _, e := range heads {
			passed[e.No] = true
			if c.flight.admits(e, purging) {
				c.flight.add(e)
				picked = append(picked, e)
			}
		}
	}
	return picked, time.Time{}, nil
}

// recall takes back what is claimed, not yet posted, and names a candidate that
// was purged since: deliver looks there before it posts. A purge notifies, so
// this is a moment later at most. When it cannot be known, all is taken back.
func (c *Courier) recall(ctx context.Context) error {
	if len(c.flight.events) == 0 {
		return nil
	}
	_, err := c.purges(ctx)
	if err != nil {
		c.watch(func(h *health) { h.close() })
	}
	return err
}

// purges reads the refs whose candidate.purged is undelivered.
func (c *Courier) purges(ctx context.Context) (map[string]bool, error) {
	pending, err := c.outbox.PurgesPending(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading pending purges: %w", err)
	}
	set := make(map[string]bool, len(pending))
	for _, ref := range pending {
		set[ref] = true
	}
	c.mu.Lock()
	c.purging = set
	c.mu.Unlock()
	return set, nil
}

func (c *Courier) release(events []store.Event) {
	for _, e := range events {
		c.flight.remove(e.No)
	}
}

// attempt counts the attempts and queues what was counted. An event that changed
// meanwhile leaves the flight and is picked again. An event that cannot be
// rendered is counted too, so that its tries end.
func (c *Courier) attempt(ctx context.Context, now time.Time, gate uint64, events []store.Event, jobs chan<- job) error {
	if len(events) == 0 {
		return nil
	}
	attempts := make([]store.Attempt, len(events))
	asked := make(map[uint64]time.Time, len(events))
	for i, e := range events {
		asked[e.No] = e.LastAttempt
		attempts[i] = store.Attempt{No: e.No, Version: e.Version, Body: c.body(e), At: now}
	}
	counted, err := c.outbox.Attempt(ctx, attempts)
	c.release(events)
	if err != nil {
		return fmt.Errorf("counting attempts: %w", err)
	}
	for _, e := range counted {
		c.flight.add(e)
		if e.Body == nil {
			c.end(unrenderable(e, now, c.jitter()))
			continue
		}
		if e.Attempts == 1 {
			asked[e.No] = now
		}
		jobs <- job{event: e, gate: gate, asked: asked[e.No]} // never blocks: the flight is no larger than the queue
	}
	return nil
}

// body is the event's frozen body, or its first one; nil when it cannot be
// rendered, which is logged once an attempt.
func (c *Courier) body(e store.Event) []byte {
	if e.Body != nil {
		return e.Body
	}
	body, err := contained(e, Render)
	if err != nil {
		c.metrics.attempts.WithLabelValues(resultUnrenderable).Inc()
		c.log.Error("an event cannot be rendered; please report this", "event", "event_unrenderable", "id", e.ID, "type", e.Type, "err", err)
	}
	return body
}

// contained renders and survives a panic. Its value is not told, because it may
// quote the event; the stack holds no values.
func contained(e store.Event, render func(store.Event) ([]byte, error)) (body []byte, err error) {
	defer func() {
		if recover() != nil {
			body, err = nil, errors.New("rendering panicked at "+string(debug.Stack()))
		}
	}()
	return render(e)
}

// deliver makes one attempt of a claimed event, unless the endpoint was closed,
// a candidate purged or the courier stopped since the claim.
func (c *Courier) deliver(ctx context.Context, j job) {
	poster, ok := c.open(j)
	if !ok {
		c.end(withheld(j.event, time.Now()))
		return
	}
	begun := time.Now()
	r := poster.Post(ctx, j.event.ID, j.event.Body)
	now := time.Now()
	if ctx.Err() != nil && r.Kind != Accepted {
		c.end(withheld(j.event, now)) // cut off by the end of the grace
		return
	}
	c.metrics.attempts.WithLabelValues(string(r.Kind)).Inc()
	c.metrics.duration.Observe(now.Sub(begun).Seconds())
	c.end(c.judge(j, r, now))
}

func (c *Courier) open(j job) (Poster, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.poster, !c.stopping && j.gate == c.health.gate && !overtakes(j.event, c.purging)
}

// end hands an outcome to the loop.
func (c *Courier) end(o store.Outcome) {
	c.mu.Lock()
	c.outcomes = append(c.outcomes, o)
	c.mu.Unlock()
	c.Notify()
}
