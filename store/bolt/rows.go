package bolt

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"mailsyncd/store"
)

// stamp is a time at rest: Unix milliseconds, 0 for the zero time.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixMilli())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(s)).UTC()
}

// key orders rows by time. Times before 1970 sort as 1970.
func (s stamp) key() []byte { return be8(uint64(max(s, 0))) }

// ms brings a time to what the store keeps.
func ms(t time.Time) time.Time { return stampOf(t).time() }

// counters are kept in the transaction that changes what they count, so that
// Stats need not count.
type counters struct {
	Pending, Held, Dead, Delivered int `json:",omitempty"`
	Candidates, Jobs, Users        int `json:",omitempty"`
	Messages, Pairs, Threads       int `json:",omitempty"`
	Purges                         int `json:",omitempty"`
	LastEvent, LastThread          uint64
	LastTask                       uint64 `json:",omitempty"`
}

// counters returns the counters, to be changed in place.
func (t *tx) counters() *counters {
	if t.count == nil {
		t.getJSON(bMeta, []byte(kCounters), &t.before)
		now := t.before
		t.count = &now
	}
	return t.count
}

func (t *tx) saveCounters() {
	if t.count != nil && *t.count != t.before {
		t.putJSON(bMeta, []byte(kCounters), t.count)
	}
}

// storeRow is meta/store.
type storeRow struct {
	Epoch uint64      `json:"epoch"`           // of the first event
	Later []epochSpan `json:"later,omitempty"` // the epochs that began after it
}

// directoryRow is meta/directory.
type directoryRow struct {
	Revision    uint64 `json:"revision"`
	Floor       uint64 `json:"floor,omitempty"` // activations up to this revision may be missing
	Activations int    `json:"activations,omitempty"`
}

// messageRow is one message of the ledger.
type messageRow struct {
	ID       string          `json:"id"`
	Thread   uint64          `json:"thread"` // as linked first: follow threadRow.Into
	Holdings []store.Holding `json:"holdings"`
	Pairs    []store.Pair    `json:"pairs"`
	Last     uint64          `json:"last"`            // the last event that carries it
	Again    uint64          `json:"again,omitempty"` // the latest task that delivered it again
}

func (m *messageRow) has(candidate string) bool {
	return slices.ContainsFunc(m.Pairs, func(p store.Pair) bool { return p.Candidate == candidate })
}

// hold notes a mailbox and tells whether it is a new one.
func (m *messageRow) hold(h store.Holding) bool {
	if slices.ContainsFunc(m.Holdings, func(o store.Holding) bool { return o.ID == h.ID }) {
		return false
	}
	m.Holdings = append(m.Holdings, h)
	return true
}

// threadRow is one thread. An alias has Into and nothing else but its ID.
type threadRow struct {
	ID      string   `json:"id"`
	Into    uint64   `json:"into,omitempty"`
	Count   int      `json:"count,omitempty"`   // messages
	Aliases []uint64 `json:"aliases,omitempty"` // threads that went into this one
}

// eventRow is an outbox row without its payload; the ID follows from the number.
type eventRow struct {
	Type         store.EventType  `json:"type"`
	Stream       string           `json:"stream"`
	Seq          uint64           `json:"seq"`
	State        store.EventState `json:"state"`
	Version      uint64           `json:"v"`
	Created      stamp            `json:"created"`
	Due          stamp            `json:"due"`
	Tries        int              `json:"tries,omitempty"`
	Attempts     int              `json:"attempts,omitempty"`
	FirstFailure stamp            `json:"failed,omitempty"`
	LastAttempt  stamp            `json:"last,omitempty"`
	Delivered    stamp            `json:"delivered,omitempty"`
	Result       string           `json:"result,omitempty"`
	Candidates   []string         `json:"candidates,omitempty"`
	Reread       uint64           `json:"reread,omitempty"` // the task that looks for its messages
}

// public is the row as the contract shows it, without Body and Data.
func (e *eventRow) public(no uint64, t *tx) store.Event {
	out := store.Event{
		No: no, ID: t.eventID(no), Type: e.Type,
		Stream: e.Stream, Epoch: t.epochOf(no), Seq: e.Seq, State: e.State, Version: e.Version,
		Created: e.Created.time(), Due: e.Due.time(), Tries: e.Tries, Attempts: e.Attempts,
		FirstFailure: e.FirstFailure.time(), LastAttempt: e.LastAttempt.time(),
		Delivered: e.Delivered.time(), LastResult: e.Result, Candidates: e.Candidates,
	}
	if e.Reread != 0 {
		out.Reread = t.s.taskID(e.Reread)
	}
	return out
}

// tombstoneRow is what is left of a purged candidate; its key is a hash.
type tombstoneRow struct {
	Rev string `json:"rev,omitempty"`
	At  stamp  `json:"at"`
}

// ---- directory rows ----------------------------------------------------

// rowFormat begins an encoded directory row.
const rowFormat = 1

var errRowFormat = errors.New("not a directory row of this version")

// encodeRow packs a row: format, ref, number of active addresses, each of them,
// and the rest is the value. Lengths are uvarints. A million of these are read
// at every start, where JSON would take longer than all else.
func encodeRow(r store.Row) []byte {
	size := 1 + 2*binary.MaxVarintLen32 + len(r.Ref) + len(r.Value)
	for _, a := range r.Active {
		size += binary.MaxVarintLen32 + len(a)
	}
	out := append(make([]byte, 0, size), rowFormat)
	out = appendText(out, r.Ref)
	out = binary.AppendUvarint(out, uint64(len(r.Active)))
	for _, a := range r.Active {
		out = appendText(out, a)
	}
	return append(out, r.Value...)
}

func appendText(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

// decodeRow is the inverse. The row's Value shares raw's memory.
func decodeRow(kind string, raw []byte) (store.Row, error) {
	if len(raw) == 0 || raw[0] != rowFormat {
		return store.Row{}, errRowFormat
	}
	r := store.Row{Kind: kind}
	rest, ok := raw[1:], true
	if r.Ref, rest, ok = cutText(rest); !ok {
		return store.Row{}, errRowFormat
	}
	n, used := binary.Uvarint(rest)
	if used <= 0 || n > uint64(len(rest)) { // each address takes a byte at least
		return store.Row{}, errRowFormat
	}
	rest = rest[used:]
	if n > 0 {
		r.Active = make([]string, n)
	}
	for i := range r.Active {
		if r.Active[i], rest, ok = cutText(rest); !ok {
			return store.Row{}, errRowFormat
		}
	}
	if len(rest) > 0 {
		r.Value = rest
	}
	return r, nil
}

func cutText(raw []byte) (s string, rest []byte, ok bool) {
	n, used := binary.Uvarint(raw)
	if used <= 0 || n > uint64(len(raw)-used) {
		return "", nil, false
	}
	raw = raw[used:]
	return string(raw[:n]), raw[n:], true
}
