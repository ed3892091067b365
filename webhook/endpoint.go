package webhook

import (
	"context"
	"fmt"
	"time"

	"mailsyncd/store"
)

// Status is the endpoint as operators see it.
type Status struct {
	State State
	// Reason is why it is not StateOK, one of the Reason constants.
	Reason string
	// Failures counts endpoint failures since the last acceptance.
	Failures int
	// LastError is the last failure and what to do, "" after an acceptance.
	LastError string
	// LastAccepted is the last 2xx; zero when there never was one.
	LastAccepted time.Time
	// NextProbe is when a paused endpoint is tried again; zero otherwise.
	NextProbe time.Time
}

// Status returns the present state of the endpoint.
func (c *Courier) Status() Status {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	state, reason := c.health.state(now)
	return Status{
		State:        state,
		Reason:       reason,
		Failures:     c.health.failures,
		LastError:    c.health.lastErr,
		LastAccepted: c.health.durable.LastAccepted,
		NextProbe:    c.health.next(now),
	}
}

// Pause stops delivery until Resume, also over a restart. Posts in flight end by
// themselves.
func (c *Courier) Pause(ctx context.Context) error {
	return c.order(ctx, func(h *health, now time.Time) { h.disable(now, ReasonOperator) })
}

// Resume ends every pause and posts at once.
func (c *Courier) Resume(ctx context.Context) error {
	return c.order(ctx, func(h *health, now time.Time) { h.enable(now) })
}

// order applies an operator's word and writes it down. When it cannot be written
// it holds until the next restart, or until the loop has written it.
func (c *Courier) order(ctx context.Context, change func(*health, time.Time)) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	c.watch(func(h *health) { change(h, time.Now()) })
	defer c.Notify()
	return c.remember(ctx)
}

// load reads the durable state, once.
func (c *Courier) load(ctx context.Context) error {
	c.keep.Lock()
	defer c.keep.Unlock()
	if c.loaded {
		return nil
	}
	e, err := c.outbox.Endpoint(ctx)
	if err != nil {
		return fmt.Errorf("reading the webhook's state: %w", err)
	}
	c.mu.Lock()
	c.health = newHealth(e, time.Now())
	state, reason := c.health.state(time.Now())
	c.shown = shown{state: state, reason: reason}
	c.mu.Unlock()
	c.kept, c.loaded = e, true
	if state == StateDisabled {
		c.log.Error("the webhook is off since before the start; `mailsyncd webhook resume` switches it on", "event", "webhook_disabled", "reason", reason)
	}
	return nil
}

// remember writes the durable state if it differs from what is written, the time
// of the last acceptance only now and then.
func (c *Courier) remember(ctx context.Context) error {
	c.keep.Lock()
	defer c.keep.Unlock()
	c.mu.Lock()
	e := c.health.durable
	c.mu.Unlock()
	if same := e.Disabled == c.kept.Disabled && e.NotBefore.Equal(c.kept.NotBefore); same && e.LastAccepted.Sub(c.kept.LastAccepted) < keepAccepted {
		return nil
	}
	if err := c.outbox.SetEndpoint(ctx, e); err != nil {
		return fmt.Errorf("keeping the webhook's state: %w", err)
	}
	c.kept = e
	return nil
}

// judge notes a result and returns the outcome of its event.
func (c *Courier) judge(j job, r Result, now time.Time) (o store.Outcome) {
	c.watch(func(h *health) {
		h.note(j, r, now)
		o = h.verdict(j, r, now, c.jitter())
	})
	return o
}

// note moves the health by a result.
func (h *health) note(j job, r Result, now time.Time) {
	if r.Err != nil {
		h.lastErr = r.Err.Error()
	}
	switch r.Kind {
	case Accepted:
		h.accepted(now)
	case EndpointFailure:
		h.failed(now, j.event.Stream, j.gate)
	case EventFailure:
		h.refused(now)
	case Throttled:
		h.throttled(now, r.After, j.gate)
	case Gone:
		h.disable(now, ReasonGone)
	}
}

// shown is what the log last said of the endpoint.
type shown struct {
	state        State
	reason, text string
}

// watch changes the health and logs what an operator should know of it: a change
// of state, and another reason for the same one. A pause that ended by the clock
// is over in the log when something was accepted.
func (c *Courier) watch(change func(*health)) {
	now := time.Now()
	c.mu.Lock()
	change(&c.health)
	state, reason := c.health.state(now)
	was, is := c.shown, shown{state, reason, c.health.lastErr}
	if state == StateOK && is.text != "" {
		is = was
	}
	c.shown = is
	next := c.health.next(now)
	c.mu.Unlock()
	switch same := was.state == is.state && was.reason == is.reason; {
	case is.state == StateOK && !same:
		c.log.Info("the webhook is delivered to again", "event", "webhook_resumed")
	case is.state == StatePaused && is != was:
		c.log.Warn("the webhook is paused; events wait and lose no tries", "event", "webhook_paused", "reason", reason, "err", is.text, "next", next)
	case is.state == StateDisabled && !same:
		c.log.Error("the webhook is off; `mailsyncd webhook resume` switches it on", "event", "webhook_disabled", "reason", reason, "err", is.text)
	}
}
