package bolt

import (
	"slices"
	"time"

	"mailsyncd/store"
)

// When retention erases the payload of a thread.matched, a skeleton stays: which
// messages it told, when they were received, and which candidates each was
// matched for. It holds no header, no address and no subject; it lives until its
// last candidate is purged. Together with the ledger, which knows the mailboxes,
// it is enough to read the headers again and post the event again under its own
// id, stream and seq.
//
// While a task does that, the skeleton also collects what was found, and
// bWanted says which events miss a message.

// skeletonRow is what is left of an erased event.
type skeletonRow struct {
	Origin   store.Origin `json:"origin"`
	Count    int          `json:"count"` // of the thread, at the time of the event
	Messages []boneRow    `json:"messages"`
}

// boneRow is one message of an erased event.
type boneRow struct {
	ID       string              `json:"id"`
	Received stamp               `json:"received"`
	Refs     []string            `json:"refs"`
	Found    *store.EventMessage `json:"found,omitempty"` // by the task under way
}

func (t *tx) skeleton(no uint64) (row skeletonRow, ok bool) {
	ok = t.getJSON(bSkeletons, be8(no), &row)
	return row, ok
}

// eraseToSkeleton erases the payload of a delivered or dead thread.matched.
func (t *tx) eraseToSkeleton(no uint64, e *eventRow) {
	if data := t.data(no); data != nil && data.Thread != nil {
		row := skeletonRow{Origin: data.Thread.Origin, Count: data.Thread.MessageCount}
		for _, m := range data.Thread.Messages {
			row.Messages = append(row.Messages, boneRow{ID: m.ID, Received: stampOf(m.Received), Refs: refsOf(m.Candidates)})
		}
		t.putJSON(bSkeletons, be8(no), row)
	}
	t.erasePayload(no)
	t.putEvent(no, e)
}

func (t *tx) wantedKey(id string, task, event uint64) []byte {
	msg := t.s.ring.index.key(tMessage, id)
	return join(msg[:], be8(task), be8(event))
}

// beginReread notes which messages a task is to find for an event.
func (t *tx) beginReread(event, task uint64) {
	e, _ := t.event(event)
	bones, _ := t.skeleton(event)
	for _, m := range bones.Messages {
		t.put(bWanted, t.wantedKey(m.ID, task, event), nil)
	}
	e.Reread = task
	t.putEvent(event, &e)
}

// fill gives a message that a re-read found to the events that miss it. Only
// candidates count that the event had and that hold their address still.
func (p *page) fill(m store.Matched) {
	pairs := p.t.activePairs(m.Pairs)
	p.done.Dropped += len(m.Pairs) - len(pairs)
	msg := p.t.s.ring.index.key(tMessage, m.ID)
	again := 0
	for _, key := range p.t.keys(bWanted, join(msg[:], be8(p.task.no)), 0) {
		again = max(again, p.fillEvent(number(key[24:]), m, pairs))
	}
	p.done.Again += again
	p.done.Repeated += len(pairs) - again
}

// fillEvent gives a message to one event and returns how many of the pairs it
// took. The event goes once it lacks nothing.
func (p *page) fillEvent(event uint64, m store.Matched, pairs []store.Pair) int {
	t := p.t
	e, _ := t.event(event)
	bones, _ := t.skeleton(event)
	i := slices.IndexFunc(bones.Messages, func(b boneRow) bool { return b.ID == m.ID })
	if i < 0 {
		return 0
	}
	had := bones.Messages[i].Refs
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p store.Pair) bool { return !slices.Contains(had, p.Candidate) })
	if len(pairs) == 0 {
		return 0
	}
	found := eventMessage(m)
	found.Candidates, found.Mailboxes = pairs, t.holdings(m)
	bones.Messages[i].Found = &found
	t.putJSON(bSkeletons, be8(event), bones)
	t.del(bWanted, t.wantedKey(m.ID, p.task.no, event))
	if !slices.ContainsFunc(bones.Messages, func(b boneRow) bool { return b.Found == nil }) {
		t.refill(event, &e, &bones, p.b.Now)
		p.task.row.Waiting--
	}
	return len(pairs)
}

// holdings are the mailboxes that hold a message: as the ledger says, else the
// one it was found in.
func (t *tx) holdings(m store.Matched) []store.Holding {
	if row, ok := t.message(t.s.ring.index.key(tMessage, m.ID)); ok {
		return row.Holdings
	}
	return []store.Holding{m.Mailbox}
}

// refill gives an event its payload back, as far as it was found, and makes it
// pending.
func (t *tx) refill(no uint64, e *eventRow, bones *skeletonRow, now time.Time) {
	data := store.ThreadEvent{Origin: bones.Origin, Thread: e.Stream, MessageCount: bones.Count}
	var pairs []store.Pair
	for _, m := range bones.Messages {
		if m.Found != nil {
			data.Messages = append(data.Messages, *m.Found)
			pairs = append(pairs, m.Found.Candidates...)
		}
	}
	refs := refsOf(pairs)
	for _, ref := range e.Candidates {
		if !slices.Contains(refs, ref) {
			t.del(bNaming, t.naming(ref, no))
		}
	}
	t.removeSkeleton(no, e)
	t.putJSON(bData, be8(no), store.EventData{Thread: &data})
	e.Candidates, e.Reread = refs, 0
	t.replay(no, e, now)
}

// endReread ends a task's search for one event. With settle the event goes with
// what was found; else, and where nothing was, it stays what it is.
func (t *tx) endReread(event, task uint64, settle bool, now time.Time) {
	e, ok := t.event(event)
	if !ok || e.Reread != task {
		return
	}
	bones, _ := t.skeleton(event)
	some := slices.ContainsFunc(bones.Messages, func(b boneRow) bool { return b.Found != nil })
	if settle && some {
		t.refill(event, &e, &bones, now)
		return
	}
	for i := range bones.Messages {
		t.del(bWanted, t.wantedKey(bones.Messages[i].ID, task, event))
		bones.Messages[i].Found = nil
	}
	t.putJSON(bSkeletons, be8(event), bones)
	if e.Reread = 0; settle {
		e.Result = store.NotFoundAgain
	}
	t.putEvent(event, &e)
}

// removeSkeleton takes away what is left of an erased event.
func (t *tx) removeSkeleton(no uint64, e *eventRow) {
	bones, ok := t.skeleton(no)
	if !ok {
		return
	}
	for _, m := range bones.Messages {
		t.del(bWanted, t.wantedKey(m.ID, e.Reread, no))
	}
	t.del(bSkeletons, be8(no))
}

// stripSkeleton takes a candidate out of an erased event and tells whether
// anything is left; an event that was not erased has no skeleton to lose.
func (t *tx) stripSkeleton(no uint64, e *eventRow, ref string) bool {
	bones, ok := t.skeleton(no)
	if !ok {
		return true
	}
	kept := bones.Messages[:0]
	for _, m := range bones.Messages {
		m.Refs = slices.DeleteFunc(m.Refs, func(r string) bool { return r == ref })
		if m.Found != nil {
			m.Found.Candidates = slices.DeleteFunc(m.Found.Candidates, func(p store.Pair) bool { return p.Candidate == ref })
		}
		switch {
		case len(m.Refs) == 0:
			t.del(bWanted, t.wantedKey(m.ID, e.Reread, no))
			continue
		case m.Found != nil && len(m.Found.Candidates) == 0:
			m.Found = nil
			t.put(bWanted, t.wantedKey(m.ID, e.Reread, no), nil)
		}
		kept = append(kept, m)
	}
	bones.Messages = kept
	t.putJSON(bSkeletons, be8(no), bones)
	return len(kept) > 0
}
