package webhook

import (
	"slices"

	"mailsyncd/store"
)

// flight is the set of claimed events: from the claim to the recorded outcome.
// Only the courier's loop uses it.
type flight struct {
	events  map[uint64]store.Event
	streams map[string]bool
	refs    map[string]int // candidate ref → events that name it
}

func newFlight() flight {
	return flight{events: make(map[uint64]store.Event), streams: make(map[string]bool), refs: make(map[string]int)}
}

// admits tells whether an event may join, given the refs whose candidate.purged
// is undelivered. A stream has one event in flight; an entry whose predecessor
// a purge removed in flight is the case that the outbox cannot see. A
// candidate.purged waits for the posts that name its candidate, and everything
// else that names it waits for the candidate.purged.
func (f flight) admits(e store.Event, purging map[string]bool) bool {
	if f.streams[e.Stream] {
		return false
	}
	if e.Type == store.CandidatePurged {
		return !slices.ContainsFunc(refs(e), func(ref string) bool { return f.refs[ref] > 0 })
	}
	return !overtakes(e, purging)
}

// overtakes tells whether an event would pass the candidate.purged of a
// candidate that it names.
func overtakes(e store.Event, purging map[string]bool) bool {
	if e.Type == store.CandidatePurged {
		return false
	}
	return slices.ContainsFunc(refs(e), func(ref string) bool { return purging[ref] })
}

func (f flight) add(e store.Event) {
	f.events[e.No] = e
	f.streams[e.Stream] = true
	for _, ref := range refs(e) {
		f.refs[ref]++
	}
}

func (f flight) remove(no uint64) {
	e, ok := f.events[no]
	if !ok {
		return
	}
	delete(f.events, no)
	delete(f.streams, e.Stream)
	for _, ref := range refs(e) {
		if f.refs[ref]--; f.refs[ref] == 0 {
			delete(f.refs, ref)
		}
	}
}

func (f flight) holds(no uint64) bool {
	_, ok := f.events[no]
	return ok
}

// refs are the candidates that an event names.
func refs(e store.Event) []string {
	if len(e.Candidates) == 0 && e.Data != nil && e.Data.Purged != nil {
		return []string{e.Data.Purged.Candidate}
	}
	return e.Candidates
}
