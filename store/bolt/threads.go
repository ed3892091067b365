package bolt

import (
	"cmp"
	"slices"

	"mailsyncd/store"
)

// maxMoved is how many message ids one thread.merged holds at most.
const maxMoved = 1000

func (t *tx) message(key hkey) (row messageRow, ok bool) {
	ok = t.getJSON(bMessages, key[:], &row)
	return row, ok
}

func (t *tx) putMessage(key hkey, row messageRow) { t.putJSON(bMessages, key[:], row) }

// thread follows the aliases from a thread number to the one that lives; 0 when
// there is none any more.
func (t *tx) thread(no uint64) (uint64, threadRow) {
	for range 1000 { // aliases of aliases are rewired by merge: two steps at most
		var row threadRow
		if no == 0 || !t.getJSON(bThreads, be8(no), &row) {
			return 0, threadRow{}
		}
		if row.Into == 0 {
			return no, row
		}
		no = row.Into
	}
	t.damaged(bThreads, be8(no), errBadSeal)
	return 0, threadRow{}
}

// link finds the threads that the message's candidates have under the ids it
// names, joins them, and puts the message there.
func (p *page) link(m store.Matched, key hkey, row *messageRow) {
	keys := p.t.linkKeys(m, row.Pairs)
	found := []uint64{row.Thread}
	for _, k := range keys {
		found = append(found, p.t.getNo(bLinks, k))
	}
	no := p.join(found)
	if no == 0 {
		no = p.t.newThread(m.Header.Root())
		p.born[no] = true
	}
	if row.Thread == 0 {
		p.t.addMember(no, key, m.ID)
	}
	row.Thread = no
	for _, k := range keys {
		if live, _ := p.t.thread(p.t.getNo(bLinks, k)); live != no {
			p.t.putNo(bLinks, k, no)
		}
	}
}

// linkKeys are the ids of the message's thread under each of its candidates.
func (t *tx) linkKeys(m store.Matched, pairs []store.Pair) (keys [][]byte) {
	for _, id := range m.Header.ThreadIDs() {
		mail := t.s.ring.index.key(tMailID, id)
		for _, pair := range pairs {
			cand := t.candidate(pair.Candidate)
			keys = append(keys, join(cand[:], mail[:]))
		}
	}
	return keys
}

// join makes one thread of several, of which some may be aliases or gone; the
// oldest survives. It returns 0 when none lives.
func (p *page) join(found []uint64) uint64 {
	var live []uint64
	for _, no := range found {
		if no, _ := p.t.thread(no); no != 0 {
			live = append(live, no)
		}
	}
	if len(live) == 0 {
		return 0
	}
	slices.Sort(live)
	live = slices.Compact(live)
	for _, young := range live[1:] {
		p.merge(young, live[0])
	}
	return live[0]
}

// merge makes one thread the alias of another, for ever, and tells the receiver
// unless it never heard of it.
func (p *page) merge(from, into uint64) {
	_, young := p.t.thread(from)
	_, old := p.t.thread(into)
	moved := p.t.moveMembers(from, into)
	for _, alias := range young.Aliases {
		var row threadRow
		p.t.getJSON(bThreads, be8(alias), &row)
		row.Into = into
		p.t.putJSON(bThreads, be8(alias), row)
	}
	old.Count += young.Count
	old.Aliases = append(append(old.Aliases, young.Aliases...), from)
	p.t.putJSON(bThreads, be8(into), old)
	p.t.putJSON(bThreads, be8(from), threadRow{ID: young.ID, Into: into})
	p.t.counters().Threads--
	if !p.born[from] {
		p.tellMerged(young.ID, old.ID, moved)
	}
}

// member is one message of a thread.
type member struct {
	id  string
	key hkey
}

func (p *page) tellMerged(from, into string, moved []member) {
	for part := range slices.Chunk(moved, maxMoved) {
		data := store.MergedEvent{From: from, Into: into}
		var pairs []store.Pair
		for _, m := range part {
			row, _ := p.t.message(m.key)
			data.Messages = append(data.Messages, m.id)
			pairs = append(pairs, row.Pairs...)
		}
		p.append(store.ThreadMerged, into, refsOf(pairs), store.EventData{Merged: &data})
	}
}

// moveMembers moves all messages of a thread to another and returns them in
// order of id.
func (t *tx) moveMembers(from, into uint64) (moved []member) {
	for _, key := range t.keys(bMembers, be8(from), 0) {
		id, _ := t.get(bMembers, key)
		t.del(bMembers, key)
		t.put(bMembers, join(be8(into), key[8:]), id)
		moved = append(moved, member{string(id), hkey(key[8:])})
	}
	slices.SortFunc(moved, func(a, b member) int { return cmp.Compare(a.id, b.id) })
	return moved
}

func (t *tx) addMember(no uint64, msg hkey, id string) {
	_, row := t.thread(no)
	row.Count++
	t.putJSON(bThreads, be8(no), row)
	t.put(bMembers, join(be8(no), msg[:]), []byte(id))
}

// newThread makes a thread under the id its root gives, or, where a thread of
// other candidates has that, the next one. Numbers are never used again: a link
// to a thread that is gone must not find a new one.
func (t *tx) newThread(root string) uint64 {
	c := t.counters()
	c.LastThread++
	c.Threads++
	id := threadID(root, 0)
	for salt := 1; t.hasThreadID(id); salt++ {
		id = threadID(root, salt)
	}
	key := t.s.ring.index.key(tThread, id)
	t.putNo(bThreadIDs, key[:], c.LastThread)
	t.putJSON(bThreads, be8(c.LastThread), threadRow{ID: id})
	return c.LastThread
}

func (t *tx) hasThreadID(id string) bool {
	key := t.s.ring.index.key(tThread, id)
	return t.has(bThreadIDs, key[:])
}

// removeMessage takes a message without candidates or holdings out of the
// ledger, and its thread when it was the last one there. The pairs' own rows
// are the caller's.
func (t *tx) removeMessage(key hkey, row messageRow) {
	for _, h := range row.Holdings {
		box := t.s.ring.index.key(tMailbox, h.ID)
		t.del(bHoldings, join(box[:], key[:]))
	}
	t.del(bMessages, key[:])
	t.counters().Messages--
	no, thread := t.thread(row.Thread)
	if no == 0 || !t.del(bMembers, join(be8(no), key[:])) {
		return
	}
	if thread.Count--; thread.Count > 0 {
		t.putJSON(bThreads, be8(no), thread)
		return
	}
	t.counters().Threads--
	for _, gone := range append(thread.Aliases, no) {
		t.removeThread(gone)
	}
}

// removeThread forgets a thread's id. What remains is its stream's seq under a
// hash: should the thread come back, seq goes on rising.
func (t *tx) removeThread(no uint64) {
	var row threadRow
	if !t.getJSON(bThreads, be8(no), &row) {
		return
	}
	key := t.s.ring.index.key(tThread, row.ID)
	t.del(bThreadIDs, key[:])
	t.del(bThreads, be8(no))
}
