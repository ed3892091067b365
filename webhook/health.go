package webhook

import (
	"time"

	"mailsyncd/store"
)

// State is the state of the endpoint as operators see it.
type State string

// The states of the endpoint.
const (
	StateOK       State = "ok"       // events are posted as they come
	StatePaused   State = "paused"   // comes back by itself
	StateDisabled State = "disabled" // comes back with `mailsyncd webhook resume`
)

// Reasons why the endpoint is paused or disabled: the label values of
// mailsyncd_webhook_paused. The last two are also store.Endpoint.Disabled.
const (
	ReasonFailing   = "failing"   // three streams in a row failed; one probe at a time
	ReasonThrottled = "throttled" // the endpoint asked for it
	ReasonOperator  = "operator"  // `mailsyncd webhook pause`
	ReasonGone      = "gone"      // the endpoint answered 410
)

// pauseAfter is how many streams must fail in a row, none of them twice, before
// it is the endpoint. A poison event that makes the receiver answer 500 fails
// for ever on one stream, and must not stop the others.
const pauseAfter = 3

// maxRamp only keeps the ramp from growing for ever; the courier's own limit is
// far below.
const maxRamp = 1 << 16

// health is what the courier knows of the endpoint: pure state, moved by results
// and by the operator, with the time given. It decides how much may be posted
// (width), and what a result means for its event (verdict).
type health struct {
	durable store.Endpoint // what survives a restart
	lastErr string         // text of the last failure, for status and the log

	failing   map[string]bool // streams that failed since the last acceptance; at most pauseAfter
	paused    bool            // failing reached pauseAfter
	setbacks  int             // failures, and pauses of unknown length, in a row; from 0 again when paused
	failures  int             // endpoint failures since the last acceptance, for status
	nextProbe time.Time       // while paused

	// gate counts the closings. A post that was claimed before the last one
	// tells nothing new about the endpoint, and if it has not begun it must not.
	gate uint64
	// ramp is how many may be in flight: 1 after trouble and one more with each
	// acceptance, which doubles it about every round trip, so that an endpoint
	// that comes back is not run over by the backlog.
	ramp int
}

// newHealth takes up the durable state. Times that a clock running ahead wrote
// are brought back to what they can be.
func newHealth(e store.Endpoint, now time.Time) health {
	if e.LastAccepted.After(now) {
		e.LastAccepted = now
	}
	if limit := now.Add(maxRetryAfter); e.NotBefore.After(limit) {
		e.NotBefore = limit
	}
	return health{durable: e, failing: make(map[string]bool), ramp: 1}
}

// state says what the endpoint is and why.
func (h *health) state(now time.Time) (State, string) {
	switch {
	case h.durable.Disabled != "":
		return StateDisabled, h.durable.Disabled
	case now.Before(h.durable.NotBefore):
		return StatePaused, ReasonThrottled
	case h.paused:
		return StatePaused, ReasonFailing
	default:
		return StateOK, ""
	}
}

// width is how many posts may be in flight together, at most limit; and when to
// ask again if that is none (zero: when something else happens).
func (h *health) width(now time.Time, limit int) (int, time.Time) {
	switch state, reason := h.state(now); {
	case state == StateDisabled:
		return 0, time.Time{}
	case reason == ReasonThrottled:
		return 0, h.durable.NotBefore
	case reason == ReasonFailing && now.Before(h.nextProbe):
		return 0, h.nextProbe
	case reason == ReasonFailing:
		return 1, time.Time{}
	default:
		return min(h.ramp, limit), time.Time{}
	}
}

// next is when an endpoint that is paused is tried again; zero when it is not.
func (h *health) next(now time.Time) time.Time {
	switch _, reason := h.state(now); reason {
	case ReasonThrottled:
		return h.durable.NotBefore
	case ReasonFailing:
		return h.nextProbe
	default:
		return time.Time{}
	}
}

// accepted notes a 2xx.
func (h *health) accepted(now time.Time) {
	h.durable.LastAccepted = now
	h.lastErr = ""
	h.setbacks, h.failures = 0, 0
	h.paused = false
	clear(h.failing)
	h.ramp = min(h.ramp+1, maxRamp)
}

// failed notes an endpoint failure of a post that was claimed at gate.
func (h *health) failed(now time.Time, stream string, gate uint64) {
	h.failures++
	if gate != h.gate {
		return
	}
	if len(h.failing) < pauseAfter {
		h.failing[stream] = true
	}
	switch {
	case h.paused:
		h.setbacks++
		h.nextProbe = now.Add(probeDelay(h.setbacks))
	case len(h.failing) == pauseAfter:
		h.paused, h.setbacks = true, 0
		h.nextProbe = now.Add(probeDelay(0))
		h.close()
	default:
		h.setbacks++
	}
}

// refused notes that the endpoint refused an event for its content. That says
// little about the endpoint; as a probe it still was one.
func (h *health) refused(now time.Time) {
	if h.paused {
		h.nextProbe = now.Add(probeDelay(h.setbacks))
	}
}

// throttled notes that the endpoint asked for a pause, of unknown length if
// after is zero. Posts claimed before the last closing may lengthen the pause.
func (h *health) throttled(now time.Time, after time.Duration, gate uint64) {
	if after == 0 && gate != h.gate {
		return
	}
	if after == 0 {
		after = probeDelay(h.setbacks)
		h.setbacks++
	}
	if until := now.Add(after); until.After(h.durable.NotBefore) {
		h.durable.NotBefore = until
	}
	h.close()
}

// disable switches the endpoint off until enable.
func (h *health) disable(now time.Time, reason string) {
	if h.durable.Disabled == "" {
		h.durable.Disabled, h.durable.Since = reason, now
	}
	h.close()
}

// enable switches the endpoint on and forgets every pause: the operator, or a
// new configuration, says that it is worth a try now.
func (h *health) enable(now time.Time) {
	h.durable.Disabled, h.durable.Since = "", now
	h.retry()
}

// retry forgets every pause but leaves a disabled endpoint off.
func (h *health) retry() {
	h.durable.NotBefore = time.Time{}
	h.lastErr = ""
	h.paused, h.setbacks, h.nextProbe = false, 0, time.Time{}
	clear(h.failing)
	h.ramp = 1
}

// close lets nothing out that was claimed before.
func (h *health) close() {
	h.gate++
	h.ramp = 1
}

// acceptedSince tells whether the endpoint took anything after t.
func (h *health) acceptedSince(t time.Time) bool {
	return h.durable.LastAccepted.After(t)
}
