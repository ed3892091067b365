package bolt

import (
	"slices"
	"time"

	"mailsyncd/store"
)

// purgeAll erases candidates, and their addresses from walks under way.
func (t *tx) purgeAll(purges []store.Purge, d *directoryRow, now time.Time) {
	addresses := map[string]bool{}
	for _, p := range purges {
		for _, a := range t.purge(p, d, now) {
			addresses[a] = true
		}
	}
	if len(addresses) > 0 {
		t.purgeWalks(addresses)
	}
}

// purge erases a candidate: its part of the ledger, its links and activations,
// its part of every event, its tasks, its row. What is left is a tombstone under
// a hash and the event that tells the receiver. It returns the addresses by
// which the candidate was searched for.
func (t *tx) purge(p store.Purge, d *directoryRow, now time.Time) (addresses []string) {
	row, _ := t.row("candidate", p.Ref)
	cand := t.candidate(p.Ref)
	threads, messages := t.purgeLedger(cand, p.Ref)
	for _, key := range t.keys(bLinks, cand[:], 0) {
		t.del(bLinks, key)
	}
	t.purgeEvents(cand, p.Ref)
	addresses = append(row.Active, t.forgetActivations(cand, p.Ref, d)...)
	t.purgeTasks(cand, now)
	t.erased(now)
	t.deleteRows([]store.RowKey{{Kind: "candidate", Ref: p.Ref}})
	t.putJSON(bTombstones, cand[:], tombstoneRow{Rev: p.Rev, At: stampOf(now)})
	c := t.counters()
	c.Purges++
	data := store.PurgedEvent{
		Candidate: p.Ref, Reason: p.Reason, ThreadCount: threads, MessageCount: messages,
		Receipt: t.s.ring.index.receipt(t.epochOf(c.LastEvent+1), c.LastEvent+1),
	}
	t.append(store.CandidatePurged, "candidate:"+p.Ref, []string{p.Ref}, store.EventData{Purged: &data}, now)
	return addresses
}

// purgeWalks lets walks that carry one of the addresses begin again for all: the
// address goes, and another candidate who shares it loses nothing. The version
// moves, so that a page under way does not bring the address back. The main
// walks, most of the rows, carry none and are not opened.
func (t *tx) purgeWalks(addresses map[string]bool) {
	main := t.s.ring.index.key(tTask, "")
	for _, key := range t.keys(bWalks, nil, 0) {
		var row walkRow
		if hkey(key[16:]) == main || !t.getJSON(bWalks, key, &row) {
			continue
		}
		if slices.ContainsFunc(row.Addresses, func(a string) bool { return addresses[a] }) {
			row.Version++
			row.Cursor, row.Addresses = "", nil
			t.putJSON(bWalks, key, row)
		}
	}
}

// purgeLedger takes the candidate's pairs out of the ledger and counts them.
func (t *tx) purgeLedger(cand hkey, ref string) (threads, messages int) {
	seen := map[uint64]bool{}
	for _, key := range t.keys(bLedger, cand[:], 0) {
		t.del(bLedger, key)
		t.counters().Pairs--
		msg := hkey(key[16:])
		row, ok := t.message(msg)
		if !ok {
			continue
		}
		messages++
		no, _ := t.thread(row.Thread)
		seen[no] = true
		row.Pairs = slices.DeleteFunc(row.Pairs, func(p store.Pair) bool { return p.Candidate == ref })
		if len(row.Pairs) > 0 {
			t.putMessage(msg, row)
		} else {
			t.removeMessage(msg, row)
		}
	}
	return len(seen), messages
}

// purgeEvents strips the candidate from all events that name it, delivered ones
// too: a replay must not bring it back. Its candidate.purged events stay.
func (t *tx) purgeEvents(cand hkey, ref string) {
	for _, key := range t.keys(bNaming, cand[:], 0) {
		no := number(key[16:])
		e, ok := t.event(no)
		if ok && e.Type == store.CandidatePurged {
			continue
		}
		t.del(bNaming, key)
		if ok {
			t.strip(no, &e, ref)
		}
	}
}

// strip takes one candidate out of an event, and the event out of the outbox
// when that leaves nothing to tell; its stream moves on. A body that was frozen
// goes: the next attempt renders what is left.
func (t *tx) strip(no uint64, e *eventRow, ref string) {
	e.Candidates = slices.DeleteFunc(e.Candidates, func(c string) bool { return c == ref })
	data := t.data(no)
	if len(e.Candidates) == 0 || (data != nil && !t.stripData(data, ref)) || !t.stripSkeleton(no, e, ref) {
		t.removeEvent(no, e)
		return
	}
	if data != nil {
		t.putJSON(bData, be8(no), data)
	}
	t.del(bBodies, be8(no))
	t.putEvent(no, e)
}

// stripData tells whether anything is left to tell.
func (t *tx) stripData(d *store.EventData, ref string) bool {
	switch {
	case d.Thread != nil:
		for i := range d.Thread.Messages {
			msg := &d.Thread.Messages[i]
			msg.Candidates = slices.DeleteFunc(msg.Candidates, func(p store.Pair) bool { return p.Candidate == ref })
		}
		d.Thread.Messages = slices.DeleteFunc(d.Thread.Messages, func(m store.EventMessage) bool { return len(m.Candidates) == 0 })
		return len(d.Thread.Messages) > 0
	case d.Merged != nil:
		d.Merged.Messages = slices.DeleteFunc(d.Merged.Messages, func(id string) bool { return !t.hasMessage(id) })
		return len(d.Merged.Messages) > 0
	case d.Observed != nil:
		return t.hasMessage(d.Observed.Message)
	}
	return true
}

func (t *tx) hasMessage(id string) bool {
	key := t.s.ring.index.key(tMessage, id)
	return t.has(bMessages, key[:])
}

// removeEvent takes a row and all that points at it out of the outbox.
func (t *tx) removeEvent(no uint64, e *eventRow) {
	t.dequeue(no, e)
	t.countState(e.State, -1)
	t.del(bPending, be8(no))
	t.del(bPurging, be8(no))
	t.del(bExpiry, expiryKey(no, e))
	for _, ref := range e.Candidates {
		t.del(bNaming, t.naming(ref, no))
	}
	t.removeSkeleton(no, e)
	t.erasePayload(no)
	t.del(bEvents, be8(no))
}

func (t *tx) erasePayload(no uint64) {
	t.del(bData, be8(no))
	t.del(bBodies, be8(no))
}
