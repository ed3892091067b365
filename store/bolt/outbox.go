package bolt

import (
	"context"
	"slices"
	"time"

	"mailsyncd/store"
)

// ---- rows --------------------------------------------------------------

func (t *tx) event(no uint64) (e eventRow, ok bool) {
	ok = t.getJSON(bEvents, be8(no), &e)
	return e, ok
}

// putEvent writes a changed row; every change counts.
func (t *tx) putEvent(no uint64, e *eventRow) {
	e.Version++
	t.putJSON(bEvents, be8(no), e)
}

// data reads what an event's body is rendered from; nil once erased.
func (t *tx) data(no uint64) *store.EventData {
	var d store.EventData
	if !t.getJSON(bData, be8(no), &d) {
		return nil
	}
	return &d
}

// whole is a row with its payload.
func (t *tx) whole(no uint64, e *eventRow) store.Event {
	out := e.public(no, t)
	out.Data = t.data(no)
	out.Body, _ = t.get(bBodies, be8(no))
	return out
}

// append puts an event at the end of the outbox and of its stream.
func (t *tx) append(typ store.EventType, stream string, refs []string, data store.EventData, now time.Time) (no uint64) {
	c := t.counters()
	c.LastEvent++
	c.Pending++
	no = c.LastEvent
	t.beginEpoch(no, now)
	e := eventRow{
		Type: typ, Stream: stream, Seq: t.nextSeq(stream), State: store.EventPending,
		Created: stampOf(now), Due: stampOf(now), Candidates: refs,
	}
	t.putEvent(no, &e)
	t.putJSON(bData, be8(no), data)
	t.put(bPending, be8(no), nil)
	for _, ref := range refs {
		t.put(bNaming, t.naming(ref, no), nil)
	}
	if typ == store.CandidatePurged {
		t.put(bPurging, be8(no), []byte(refs[0]))
	}
	t.enqueue(no, &e)
	t.appended++
	return no
}

func (t *tx) nextSeq(stream string) uint64 {
	key := t.s.ring.index.key(tStream, stream)
	seq := t.getNo(bStreams, key[:]) + 1
	t.putNo(bStreams, key[:], seq)
	return seq
}

func (t *tx) naming(ref string, no uint64) []byte {
	cand := t.candidate(ref)
	return join(cand[:], be8(no))
}

// ---- streams -----------------------------------------------------------

// A stream's undelivered events stand in bQueue in order of seq. Its first is
// its head; a head that is pending, and nothing else, stands in bDue. The
// functions below keep that, whatever enters or leaves.

func (t *tx) queueKey(e *eventRow) []byte {
	stream := t.s.ring.index.key(tStream, e.Stream)
	return join(stream[:], be8(e.Seq))
}

// head returns the number of a stream's head, 0 when the stream is empty.
func (t *tx) head(stream []byte) uint64 {
	key := t.firstKey(bQueue, stream)
	if key == nil {
		return 0
	}
	return t.getNo(bQueue, key)
}

func dueKey(no uint64, e *eventRow) []byte { return join(e.Due.key(), be8(no)) }

// enqueue puts an event into its stream, where its seq stands.
func (t *tx) enqueue(no uint64, e *eventRow) {
	key := t.queueKey(e)
	old := t.head(key[:16])
	t.putNo(bQueue, key, no)
	if t.head(key[:16]) != no {
		return
	}
	if old != 0 {
		t.undue(old)
	}
	t.setDue(no, e)
}

// dequeue takes an event off its stream; the next one becomes the head.
func (t *tx) dequeue(no uint64, e *eventRow) {
	key := t.queueKey(e)
	first := t.head(key[:16]) == no
	if !t.del(bQueue, key) || !first {
		return
	}
	t.del(bDue, dueKey(no, e))
	if next := t.head(key[:16]); next != 0 {
		if row, ok := t.event(next); ok {
			t.setDue(next, &row)
		}
	}
}

func (t *tx) setDue(no uint64, e *eventRow) {
	if e.State == store.EventPending {
		t.put(bDue, dueKey(no, e), nil)
	}
}

func (t *tx) undue(no uint64) {
	if row, ok := t.event(no); ok {
		t.del(bDue, dueKey(no, &row))
	}
}

// ---- the courier's calls -----------------------------------------------

// Due implements store.Outbox. It reads the first rows of bDue and no more,
// whatever the outbox holds.
func (s *Store) Due(ctx context.Context, now time.Time, limit int, skip func(no uint64) bool) (due []store.Event, next time.Time, err error) {
	err = s.view(ctx, func(t *tx) error {
		bk := t.bucket(bDue)
		if bk == nil {
			return nil
		}
		c := bk.Cursor()
		for k, v := c.First(); k != nil && t.err == nil; k, v = c.Next() {
			if _, ok := t.open(bDue, k, v); !ok {
				return nil
			}
			at, no := stamp(number(k)).time(), number(k[8:])
			if skip != nil && skip(no) {
				continue
			}
			if len(due) == limit || at.After(now) {
				next = at
				return nil
			}
			if e, ok := t.event(no); ok {
				due = append(due, t.whole(no, &e))
			}
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return due, next, nil
}

// Attempt implements store.Outbox.
func (s *Store) Attempt(ctx context.Context, as []store.Attempt) (out []store.Event, err error) {
	err = s.update(ctx, func(t *tx) error {
		for _, a := range as {
			e, ok := t.event(a.No)
			if ok && e.Version == a.Version && e.State == store.EventPending {
				out = append(out, t.attempt(a, &e))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (t *tx) attempt(a store.Attempt, e *eventRow) store.Event {
	e.Tries++
	e.Attempts++
	e.LastAttempt = stampOf(a.At)
	if a.Body != nil && t.raw(bBodies, be8(a.No)) == nil {
		t.put(bBodies, be8(a.No), a.Body)
	}
	t.putEvent(a.No, e)
	return t.whole(a.No, e)
}

// Outcome implements store.Outbox.
func (s *Store) Outcome(ctx context.Context, os []store.Outcome) error {
	return s.update(ctx, func(t *tx) error {
		for _, o := range os {
			e, ok := t.event(o.No)
			if ok && e.Version == o.Version && e.State == store.EventPending {
				t.outcome(o, &e)
			}
		}
		return nil
	})
}

func (t *tx) outcome(o store.Outcome, e *eventRow) {
	if o.Refund {
		e.Tries--
	} else if o.State != store.EventDelivered && e.FirstFailure == 0 {
		e.FirstFailure = stampOf(o.At)
	}
	e.Result = o.Result
	if o.State == store.EventPending {
		t.again(o, e)
		return
	}
	t.dequeue(o.No, e)
	t.countState(e.State, -1)
	e.State = o.State
	if o.State == store.EventDelivered {
		e.Delivered = stampOf(o.At)
		t.del(bPurging, be8(o.No))
	}
	t.countState(e.State, 1)
	t.del(bPending, be8(o.No))
	t.put(bExpiry, expiryKey(o.No, e), nil)
	t.putEvent(o.No, e)
}

// again lets a head wait for its next try.
func (t *tx) again(o store.Outcome, e *eventRow) {
	was := t.del(bDue, dueKey(o.No, e))
	e.Due = stampOf(o.Due)
	if was {
		t.setDue(o.No, e)
	}
	t.putEvent(o.No, e)
}

func (t *tx) countState(s store.EventState, by int) {
	c := t.counters()
	switch s {
	case store.EventPending:
		c.Pending += by
	case store.EventHeld:
		c.Held += by
	case store.EventDead:
		c.Dead += by
	case store.EventDelivered:
		c.Delivered += by
	}
}

// PurgesPending implements store.Outbox.
func (s *Store) PurgesPending(ctx context.Context) (refs []string, err error) {
	err = s.view(ctx, func(t *tx) error {
		for _, key := range t.keys(bPurging, nil, 0) {
			ref, _ := t.get(bPurging, key)
			refs = append(refs, string(ref))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(refs)
	return slices.Compact(refs), nil
}

// Endpoint implements store.Outbox.
func (s *Store) Endpoint(ctx context.Context) (e store.Endpoint, err error) {
	err = s.view(ctx, func(t *tx) error {
		t.getJSON(bMeta, []byte(kEndpoint), &e)
		return nil
	})
	return e, err
}

// SetEndpoint implements store.Outbox.
func (s *Store) SetEndpoint(ctx context.Context, e store.Endpoint) error {
	e.Since, e.NotBefore, e.LastAccepted = ms(e.Since), ms(e.NotBefore), ms(e.LastAccepted)
	return s.update(ctx, func(t *tx) error {
		t.putJSON(bMeta, []byte(kEndpoint), e)
		return nil
	})
}
