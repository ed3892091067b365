package webhook

import (
	"time"

	"mailsyncd/store"
)

// verdict is what the outbox remembers of one attempt. It looks at the health of
// the endpoint, after the result was noted there, but does not change it.
//
// The question behind it is whose fault a failure was. A status that judges the
// event (400, 413, 422) is the event's. Any other is the endpoint's, unless the
// endpoint took something else since it was last asked to take this event: then
// it costs the event a try. So an outage costs nothing, however long it lasts,
// and an event on which the receiver always stumbles is found out as soon as
// another one passes.
func (h *health) verdict(j job, r Result, now time.Time, jitter float64) store.Outcome {
	e := j.event
	o := store.Outcome{No: e.No, Version: e.Version, State: store.EventPending, Result: r.Code, Due: now, At: now}
	switch {
	case r.Kind == Accepted:
		o.State = store.EventDelivered
	case r.Kind == Throttled, r.Kind == Gone:
		o.Refund = true // the endpoint's state says when, not the event's
	case r.Kind == EndpointFailure && !h.acceptedSince(j.asked):
		o.Refund, o.Due = true, now.Add(h.putOff(e.Tries-1, jitter))
	case e.Tries >= maxTries && h.mayDie(e):
		o.State = store.EventDead
	default:
		o.Due = now.Add(retryDelay(e.Tries, jitter))
	}
	return o
}

// putOff is the wait of an event that failed with the endpoint. While the
// endpoint is paused its probes say when, and a due event is one that can be the
// probe. An event that has failed by itself before keeps its distance.
func (h *health) putOff(tries int, jitter float64) time.Duration {
	own := retryDelay(tries, jitter)
	if h.paused {
		return own
	}
	return max(own, probeDelay(h.setbacks-1))
}

// unrenderable is the outcome for an event that has no body. The endpoint has no
// part in it, so its tries are all that keeps it from the dead letters.
func unrenderable(e store.Event, now time.Time, jitter float64) store.Outcome {
	o := store.Outcome{No: e.No, Version: e.Version, State: store.EventPending, Result: resultUnrenderable, At: now}
	o.Due = now.Add(retryDelay(e.Tries, jitter))
	if e.Tries >= maxTries && e.Type != store.CandidatePurged {
		o.State = store.EventDead
	}
	return o
}

// withheld is the outcome of a claim that was not posted, or cut off by the
// shutdown: as if it had not been.
func withheld(e store.Event, now time.Time) store.Outcome {
	return store.Outcome{No: e.No, Version: e.Version, State: store.EventPending, Result: e.LastResult, Due: now, Refund: true, At: now}
}

// mayDie tells whether an event whose tries are used up is given up: only when
// the endpoint took something else since it first failed, and never a
// candidate.purged, because the ATS must learn of it.
func (h *health) mayDie(e store.Event) bool {
	return e.Type != store.CandidatePurged && !e.FirstFailure.IsZero() && h.acceptedSince(e.FirstFailure)
}
