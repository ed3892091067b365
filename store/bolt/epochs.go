package bolt

import (
	"cmp"
	"slices"
	"time"
)

// epochs says in which epoch each event was made: spans of event numbers, rising.
//
// A new epoch begins with the first event after each start. A store that is
// restored from a backup counts on from an old number, and nobody can tell that
// from the file alone; with an epoch of its own no later event has the id or the
// place in its stream that a lost one had, and a receiver that remembers ids
// does not take new mail for old.
type epochs []epochSpan

type epochSpan struct {
	From  uint64 `json:"from"` // the first event's number
	Epoch uint64 `json:"epoch"`
}

// of returns the epoch of an event.
func (e epochs) of(no uint64) uint64 {
	i, found := slices.BinarySearchFunc(e, no, func(s epochSpan, no uint64) int { return cmp.Compare(s.From, no) })
	if !found {
		i--
	}
	return e[max(i, 0)].Epoch
}

func (e epochs) newest() uint64 { return e[len(e)-1].Epoch }

// next adds the epoch that begins with an event. It is later than every epoch
// this file has seen, and than every one that a lost continuation of it can have
// had, unless the clock went back.
func (e epochs) next(no uint64, now time.Time) epochs {
	span := epochSpan{From: no, Epoch: max(e.newest()+1, uint64(max(now.Unix(), 0)))}
	return append(slices.Clone(e), span)
}

// epochOf is the epoch of an event as this transaction sees it.
func (t *tx) epochOf(no uint64) uint64 {
	if t.epochs != nil {
		return t.epochs.of(no)
	}
	return t.s.epochs.Load().of(no)
}

// eventID is the webhook id of an event.
func (t *tx) eventID(no uint64) string { return t.s.ring.index.eventID(t.epochOf(no), no) }

// eventNo is the inverse; ok is false for an id this store did not give.
func (t *tx) eventNo(id string) (no uint64, ok bool) {
	epoch, no, ok := t.s.ring.index.eventPlace(id)
	return no, ok && epoch == t.epochOf(no)
}

// beginEpoch begins this process's epoch with its first event. It counts once
// the transaction is committed.
func (t *tx) beginEpoch(no uint64, now time.Time) {
	if t.s.began || t.epochs != nil {
		return
	}
	next := t.s.epochs.Load().next(no, now)
	t.epochs = &next
	t.putJSON(bMeta, []byte(kStore), storeRow{Epoch: t.s.base, Later: next[1:]})
}
