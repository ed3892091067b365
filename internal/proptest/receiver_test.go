package proptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"mailsyncd/store"
	"mailsyncd/webhook"
)

// answers are the manners in which the ATS answers, until it is told another.
var answers = [...]string{accepts, accepts, accepts, isSlow, isDown, isBroken, refuses, throttles, isGone, forgetful}

const (
	accepts   = "accepts"
	isSlow    = "accepts slowly"
	isDown    = "cannot be reached"
	isBroken  = "answers 500"
	refuses   = "refuses some events"
	throttles = "asks for a pause"
	isGone    = "answers 410"
	forgetful = "accepts, but the answer is lost"
)

// body is what a receiver reads of an event.
type body struct {
	Type   store.EventType `json:"type"`
	Stream struct {
		Key   string `json:"key"`
		Epoch uint64 `json:"epoch"`
		Seq   uint64 `json:"seq"`
	} `json:"stream"`
	Data struct {
		Origin    store.Origin `json:"origin"`
		Candidate string       `json:"candidate"`
		Messages  json.RawMessage
	} `json:"data"`
	told []told
}

// told is one message of a thread.matched.
type told struct {
	ID         string `json:"id"`
	Candidates []struct {
		Ref string `json:"ref"`
	} `json:"candidates"`
}

func decode(raw []byte) (b body, err error) {
	if err = json.Unmarshal(raw, &b); err == nil && b.Type == store.ThreadMatched {
		err = json.Unmarshal(b.Data.Messages, &b.told)
	}
	return b, err
}

// refs lists the candidates that an event names.
func (b body) refs() (all []string) {
	for _, m := range b.told {
		for _, c := range m.Candidates {
			all = append(all, c.Ref)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (b body) pairs() (all []pair) {
	for _, m := range b.told {
		for _, c := range m.Candidates {
			all = append(all, pair{m.ID, c.Ref})
		}
	}
	return all
}

// receiver is the ATS, in virtual time. It holds every post to what the contract
// lets a receiver rely on, and to what the model allows.
type receiver struct {
	w   *world
	how string
	cut chan struct{} // closed when the daemon is killed

	tries    map[string]int
	bodies   map[string]string
	ids      map[string]string // "stream epoch seq" → webhook-id
	taken    map[string]bool   // webhook-ids that were accepted
	last     map[string]uint64 // stream and epoch → seq of its last first acceptance
	replayed map[string]bool   // dead letters come back late, whatever their seq
	flying   map[string]body
	claims   map[string]claim
	events   map[string]map[string]bool // message → events that told it, but for redeliveries
	again    map[string]map[string]bool // message → redeliveries
	posts    int
}

// claim is what the model knew when the courier took an event up: what a post
// may tell is decided there, because a purge lets posts in flight end.
type claim struct {
	lives   map[string]int
	gone    map[string]bool
	unknown map[string]bool // the ATS has not been told of the purge yet
	changes int             // purges so far
}

func newReceiver(w *world) *receiver {
	return &receiver{
		w: w, how: accepts, cut: make(chan struct{}), tries: map[string]int{}, bodies: map[string]string{},
		ids: map[string]string{}, taken: map[string]bool{}, last: map[string]uint64{}, replayed: map[string]bool{},
		flying: map[string]body{}, claims: map[string]claim{},
		events: map[string]map[string]bool{}, again: map[string]map[string]bool{},
	}
}

// claimed is called once the courier has counted attempts.
func (r *receiver) claimed(events []store.Event) {
	r.w.floor.Lock()
	defer r.w.floor.Unlock()
	m := r.w.model
	for _, e := range events {
		c := claim{lives: map[string]int{}, gone: map[string]bool{}, unknown: map[string]bool{}}
		for _, ref := range refs {
			c.lives[ref], c.gone[ref] = m.life(ref), m.gone(ref)
			c.unknown[ref] = m.lives[ref] > m.erased[ref]
			c.changes += m.lives[ref]
		}
		r.claims[e.ID] = c
	}
}

// Post implements webhook.Poster.
func (r *receiver) Post(ctx context.Context, id string, raw []byte) webhook.Result {
	b, err := decode(raw)
	if err != nil {
		r.w.fail(broken, "the body of an event is no JSON: %v", err)
	}
	p := r.arrive(id, string(raw), b)
	timer := time.NewTimer(p.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.cut:
	}
	return r.leave(ctx, id, b, p)
}

// flight is one post on its way.
type flight struct {
	luck  uint64
	takes time.Duration
	cut   <-chan struct{} // closed when the daemon is killed
}

var errLost = errors.New("no answer came")

// luck is a number that depends on nothing but the life and the attempt.
func (r *receiver) luck(id string, try int) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, r.w.script.seed, id, try)
	return h.Sum64()
}

// answer is what the ATS makes of an event, and what the courier hears of it.
func (r *receiver) answer(id string) (took bool, _ webhook.Result) {
	failed := func(kind webhook.Kind, code string) webhook.Result {
		return webhook.Result{Kind: kind, Code: code, Err: errLost}
	}
	switch r.how {
	case isDown:
		return false, failed(webhook.EndpointFailure, "network")
	case isBroken:
		return false, failed(webhook.EndpointFailure, "500")
	case refuses:
		if r.luck(id, 0)%2 == 0 {
			return false, failed(webhook.EventFailure, "422")
		}
	case throttles:
		r := failed(webhook.Throttled, "429")
		r.After = 10 * time.Minute
		return false, r
	case isGone:
		return false, failed(webhook.Gone, "410")
	case forgetful:
		return true, failed(webhook.EndpointFailure, "timeout")
	}
	return true, webhook.Result{Kind: webhook.Accepted, Code: "204"}
}

// ---- what every receiver may rely on -----------------------------------

// arrive checks a post as it comes in, and counts the attempts of its event.
func (r *receiver) arrive(id, raw string, b body) flight {
	r.w.floor.Lock()
	defer r.w.floor.Unlock()
	r.posts++
	r.tries[id]++
	r.checkIdentity(id, raw, b)
	r.checkPurges(id, b)
	r.checkPairs(id, b)
	for other, o := range r.flying {
		if o.Stream.Key == b.Stream.Key && other != id {
			r.w.fail(order, "two events of stream %s are in flight together", b.Stream.Key)
		}
	}
	r.flying[id] = b
	luck := r.luck(id, r.tries[id])
	takes := 100*time.Millisecond + time.Duration(luck%900_000)*time.Microsecond
	if r.how == isSlow {
		takes *= 30
	}
	return flight{luck, takes, r.cut}
}

// checkIdentity: one id for a number of a stream, one body for an id unless a
// purge took somebody out of it.
func (r *receiver) checkIdentity(id, raw string, b body) {
	place := fmt.Sprint(b.Stream.Key, " ", b.Stream.Epoch, " ", b.Stream.Seq)
	if known, ok := r.ids[place]; ok && known != id {
		r.w.fail(identity, "number %s has two webhook-ids", place)
	}
	r.ids[place] = id
	c, claimed := r.claims[id]
	if !claimed {
		r.w.fail(identity, "an event was posted whose attempt was not counted first")
	}
	was, known := r.bodies[id]
	if r.bodies[id] = raw; known && was != raw && c.changes == 0 {
		r.w.fail(identity, "an event (%s) came with two bodies and no purge between them", b.Type)
	}
}

// checkPurges: who was purged is named no more, and nothing overtakes the
// candidate.purged of somebody who came back.
func (r *receiver) checkPurges(id string, b body) {
	c := r.claims[id]
	for _, ref := range b.refs() {
		switch {
		case c.gone[ref]:
			r.w.fail(erasure, "an event names %s, who is purged", ref)
		case c.unknown[ref]:
			r.w.fail(erasure, "an event names %s before the candidate.purged was accepted", ref)
		}
	}
	if b.Type != store.CandidatePurged {
		return
	}
	for _, o := range r.flying {
		if slices.Contains(o.refs(), b.Data.Candidate) {
			r.w.fail(erasure, "candidate.purged of %s does not wait for a post that names the candidate", b.Data.Candidate)
		}
	}
}

// checkPairs: nothing is told that the model does not allow.
func (r *receiver) checkPairs(id string, b body) {
	for _, p := range b.pairs() {
		m := r.w.model
		if m.may[p] < r.claims[id].lives[p.ref] {
			r.w.fail(leak, "%s was told to belong to %s", r.w.nameOf(p.message), p.ref)
		}
	}
	for _, m := range b.told {
		if len(m.Candidates) == 0 {
			r.w.fail(leak, "%s was told without a candidate", r.w.nameOf(m.ID))
		}
	}
}

// leave ends a post: what the ATS makes of it, and what the courier hears. When
// the daemon is killed the request may have arrived; the answer cannot.
func (r *receiver) leave(ctx context.Context, id string, b body, p flight) webhook.Result {
	r.w.floor.Lock()
	defer r.w.floor.Unlock()
	delete(r.flying, id)
	took, result := r.answer(id)
	select {
	case <-p.cut:
		took, result = p.luck%2 == 0, webhook.Result{Kind: webhook.EndpointFailure, Code: "network", Err: errLost}
	default:
		if ctx.Err() != nil {
			took, result = false, webhook.Result{Kind: webhook.EndpointFailure, Code: "canceled", Err: ctx.Err()}
		}
	}
	if took {
		r.take(id, b)
	}
	return result
}

// take notes an acceptance.
func (r *receiver) take(id string, b body) {
	m := r.w.model
	for _, p := range b.pairs() {
		m.told[p] = max(m.told[p], r.claims[id].lives[p.ref])
	}
	if b.Type == store.CandidatePurged { // as often as it comes: a receiver erases what it has
		maps.DeleteFunc(m.told, func(p pair, _ int) bool { return p.ref == b.Data.Candidate })
	}
	if r.taken[id] {
		return
	}
	r.taken[id] = true
	stream := fmt.Sprint(b.Stream.Key, " ", b.Stream.Epoch)
	if b.Stream.Seq <= r.last[stream] && !r.replayed[id] {
		r.w.fail(order, "stream %s: number %d was first accepted after %d", b.Stream.Key, b.Stream.Seq, r.last[stream])
	}
	r.last[stream] = max(r.last[stream], b.Stream.Seq)
	if b.Type == store.CandidatePurged {
		m.erased[b.Data.Candidate]++
	}
	r.count(id, b)
}

// count notes which events told a message, and fails when there are more than
// it has candidates to tell of.
func (r *receiver) count(id string, b body) {
	for _, t := range b.told {
		in := r.events
		if b.Data.Origin == store.OriginRedeliver {
			in = r.again
		}
		if in[t.ID] == nil {
			in[t.ID] = map[string]bool{}
		}
		in[t.ID][id] = true
		if most := r.w.model.reasons(t.ID); len(r.events[t.ID]) > most {
			r.w.fail(repeat, "%s was told by %d events, and there are reasons for %d", r.w.nameOf(t.ID), len(r.events[t.ID]), most)
		}
		if most := r.w.model.asked; len(r.again[t.ID]) > most {
			r.w.fail(repeat, "%s was redelivered by %d events, and %d were asked for", r.w.nameOf(t.ID), len(r.again[t.ID]), most)
		}
	}
}

// reasons is how many events may tell a message: one for each candidate it may
// be told to belong to, and for each time one of them came back.
func (m *model) reasons(message string) (n int) {
	for _, ref := range refs {
		if m.may[pair{message, ref}] > 0 {
			n += m.life(ref)
		}
	}
	return n
}
