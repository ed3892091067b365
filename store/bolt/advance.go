package bolt

import (
	"slices"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
)

// maxMessages is how many messages one thread.matched holds at most.
const maxMessages = 50

// page is one Advance in progress.
type page struct {
	t    *tx
	b    *store.Batch
	done store.Advanced
	born map[uint64]bool // threads nobody outside has heard of
	out  []outgoing
	// gained are the messages with a new pair.
	gained map[hkey]bool
	// task is the task the walk belongs to; nil for a mailbox's own walks.
	task *openTask
}

// outgoing is one message that the page announces.
type outgoing struct {
	key hkey
	msg store.EventMessage
}

// take decides one message: which of its pairs are new, which thread it belongs
// to, and who is told.
func (p *page) take(m store.Matched) {
	pairs := p.t.activePairs(m.Pairs)
	p.done.Dropped += len(m.Pairs) - len(pairs)
	if len(pairs) == 0 {
		return
	}
	key := p.t.s.ring.index.key(tMessage, m.ID)
	row, known := p.t.message(key)
	if !known {
		row.ID = m.ID
		p.t.counters().Messages++
	}
	fresh := p.t.addPairs(key, &row, pairs, p.b.Now)
	again := p.again(key, &row)
	p.count(key, fresh, len(pairs)-fresh, again)
	held := row.hold(m.Mailbox)
	if held {
		box := p.t.s.ring.index.key(tMailbox, m.Mailbox.ID)
		p.t.put(bHoldings, join(box[:], key[:]), nil)
	}
	switch {
	case fresh > 0:
		p.t.putMessage(key, row) // a merge reads it
		p.link(m, key, &row)
		p.announce(m, key)
	case again:
		p.announce(m, key)
	case held:
		p.observe(m, key, &row)
	default:
		return // nothing new: nothing to write
	}
	p.t.putMessage(key, row)
}

// activePairs leaves out pairs whose candidate does not hold the address now.
// The snapshot a page was decided with may be minutes old.
func (t *tx) activePairs(pairs []store.Pair) (active []store.Pair) {
	for _, pair := range pairs {
		if row, ok := t.row("candidate", pair.Candidate); ok && pair.HeldBy(row.Active) {
			active = append(active, pair)
		}
	}
	return active
}

// again tells whether a known message is to be delivered again: asked for, and
// done neither by this page nor by this task before, in another folder or
// mailbox. What a later task delivered again is done for an earlier one too: two
// tasks that take turns over the mailboxes must not ask each other for more.
func (p *page) again(key hkey, row *messageRow) bool {
	if !p.b.Again || p.announces(key) || (p.task != nil && row.Again >= p.task.no) {
		return false
	}
	if p.task != nil {
		row.Again = p.task.no
	}
	return true
}

// count adds one message's pairs to what the page did.
func (p *page) count(key hkey, fresh, known int, again bool) {
	p.done.New += fresh
	if again {
		p.done.Again += known
	} else {
		p.done.Repeated += known
	}
	if fresh > 0 && !p.gained[key] {
		p.gained[key] = true
		p.done.Messages++
	}
}

// addPairs enters the pairs that the ledger does not have.
func (t *tx) addPairs(msg hkey, row *messageRow, pairs []store.Pair, now time.Time) (fresh int) {
	for _, pair := range pairs {
		if row.has(pair.Candidate) {
			continue
		}
		row.Pairs = append(row.Pairs, pair)
		cand := t.candidate(pair.Candidate)
		t.putNo(bLedger, join(cand[:], msg[:]), uint64(stampOf(now)))
		t.counters().Pairs++
		fresh++
	}
	return fresh
}

// announce puts the message among those the page delivers, once.
func (p *page) announce(m store.Matched, key hkey) {
	if !p.announces(key) {
		p.out = append(p.out, outgoing{key, eventMessage(m)})
	}
}

func (p *page) announces(key hkey) bool {
	return slices.ContainsFunc(p.out, func(o outgoing) bool { return o.key == key })
}

// observe tells that another mailbox holds a known message: inside the event
// that announces it while nobody has seen that, else by an event of its own.
func (p *page) observe(m store.Matched, key hkey, row *messageRow) {
	if p.announces(key) {
		return // emit reads the holdings last
	}
	if p.t.addHolding(row.Last, m) {
		return
	}
	_, thread := p.t.thread(row.Thread)
	data := store.ObservedEvent{Message: m.ID, Thread: thread.ID, Mailbox: m.Mailbox}
	p.append(store.MessageObserved, thread.ID, refsOf(row.Pairs), store.EventData{Observed: &data})
}

// addHolding adds a mailbox to a message of an event that was never attempted,
// and tells whether it could. The row's version moves, so a courier that has
// read the event reads it again.
func (t *tx) addHolding(no uint64, m store.Matched) bool {
	e, ok := t.event(no)
	waiting := e.State == store.EventPending || e.State == store.EventHeld
	if !ok || !waiting || e.Attempts > 0 || t.raw(bBodies, be8(no)) != nil {
		return false
	}
	data := t.data(no)
	if data == nil || data.Thread == nil {
		return false
	}
	for i := range data.Thread.Messages {
		if msg := &data.Thread.Messages[i]; msg.ID == m.ID {
			msg.Mailboxes = append(msg.Mailboxes, m.Mailbox)
		}
	}
	t.putJSON(bData, be8(no), data)
	t.putEvent(no, &e)
	return true
}

// emit makes the thread.matched events of the page: one per thread and
// maxMessages. It reads the rows again, because later messages of the page may
// have added candidates, holdings and merges.
func (p *page) emit() {
	groups := map[uint64][]outgoing{}
	var order []uint64
	for _, o := range p.out {
		row, _ := p.t.message(o.key)
		no, _ := p.t.thread(row.Thread)
		if groups[no] == nil {
			order = append(order, no)
		}
		groups[no] = append(groups[no], o)
	}
	for _, no := range order {
		for part := range slices.Chunk(groups[no], maxMessages) {
			p.emitPart(no, part)
		}
	}
}

func (p *page) emitPart(no uint64, part []outgoing) {
	_, thread := p.t.thread(no)
	data := store.ThreadEvent{Origin: p.b.Origin, Thread: thread.ID, MessageCount: thread.Count}
	var all []store.Pair
	rows := make([]messageRow, len(part))
	for i, o := range part {
		rows[i], _ = p.t.message(o.key)
		o.msg.Candidates, o.msg.Mailboxes = rows[i].Pairs, rows[i].Holdings
		data.Messages = append(data.Messages, o.msg)
		all = append(all, rows[i].Pairs...)
	}
	event := p.append(store.ThreadMatched, thread.ID, refsOf(all), store.EventData{Thread: &data})
	for i, o := range part {
		rows[i].Last = event
		p.t.putMessage(o.key, rows[i])
	}
}

func (p *page) append(typ store.EventType, stream string, refs []string, data store.EventData) uint64 {
	p.done.Events++
	return p.t.append(typ, stream, refs, data, p.b.Now)
}

// refsOf returns the candidates of pairs, sorted, each once.
func refsOf(pairs []store.Pair) []string {
	refs := make([]string, len(pairs))
	for i, pair := range pairs {
		refs[i] = pair.Candidate
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// eventMessage is what an event tells of a message; candidates and mailboxes
// come last, from its row.
func eventMessage(m store.Matched) store.EventMessage {
	return store.EventMessage{
		ID: m.ID, MessageID: m.Header.MessageID,
		Date: ms(m.Header.Date), Received: ms(m.Received), Direction: m.Direction,
		From: addresses(m.Header.From), To: addresses(m.Header.To), Cc: addresses(m.Header.Cc),
		Subject: m.Header.Subject, AutoSubmitted: m.Header.AutoSubmitted,
	}
}

func addresses(as []message.Address) []store.EventAddress {
	var out []store.EventAddress
	for _, a := range as {
		out = append(out, store.EventAddress{Name: a.Name, Address: a.Addr})
	}
	return out
}
