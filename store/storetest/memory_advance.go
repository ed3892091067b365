package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

// Limits of an event, as package store promises them.
const (
	maxMessages = 50   // of a thread.matched
	maxMoved    = 1000 // of a thread.merged
)

// Advance implements store.Walks.
func (m *Memory) Advance(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
	var done store.Advanced
	err := m.do(ctx, "Advance", func(s *state) error {
		if err := s.mayAdvance(w, b); err != nil {
			return err
		}
		if have := s.walks[w].Version; have != version {
			return fmt.Errorf("walk at version %d, expected %d: %w", have, version, store.ErrConflict)
		}
		if err := m.room(s); err != nil && s.wouldAppend(w, b) {
			return err
		}
		done = s.advance(w, version, b)
		return nil
	})
	if err != nil {
		return store.Advanced{}, err
	}
	return done, nil
}

func (s *state) advance(w store.Walk, version uint64, b store.Batch) store.Advanced {
	p := page{s: s, b: b, born: map[*memThread]bool{}, gained: map[string]bool{}, task: s.task(w.Task)}
	for _, m := range inOrderOfDate(b.Messages) {
		if p.task != nil && p.task.Kind == store.TaskReread {
			p.fill(m)
		} else {
			p.take(m)
		}
	}
	p.emit()
	have, st := s.walks[w], b.State
	st.Version = version + 1
	st.Since, st.Started = ms(st.Since), ms(st.Started)
	st.Addresses = slices.Clone(st.Addresses)
	if b.Done {
		delete(s.walks, w)
		st.Version = 0
	} else {
		s.walks[w] = st
	}
	if b.Mailbox != nil {
		s.mailboxes[b.Mailbox.ID] = roundMailbox(*b.Mailbox)
	}
	p.done.Version = st.Version
	p.moveTask(w, have)
	return p.done
}

// page is one Advance in progress.
type page struct {
	s    *state
	b    store.Batch
	done store.Advanced
	born map[*memThread]bool // threads nobody outside has heard of
	out  []outgoing
	// gained are the messages with a new pair.
	gained map[string]bool
	// task is the task the walk belongs to; nil for a mailbox's own walks.
	task *memTask
}

// outgoing is one message that the page will announce.
type outgoing struct {
	row *memMessage
	msg store.EventMessage
}

// take decides one message.
func (p *page) take(m store.Matched) {
	pairs := p.s.activePairs(m.Pairs)
	p.done.Dropped += len(m.Pairs) - len(pairs)
	if len(pairs) == 0 {
		return
	}
	row := p.s.messages[m.ID]
	if row == nil {
		row = &memMessage{entered: map[string]time.Time{}}
		p.s.messages[m.ID] = row
	}
	fresh := row.add(pairs, p.b.Now)
	again := p.again(row)
	p.count(m.ID, fresh, len(pairs)-fresh, again)
	seen := row.hold(m.Mailbox)
	switch {
	case fresh > 0:
		p.link(m, row)
		p.announce(m, row)
	case again:
		p.announce(m, row)
	case seen:
		p.observe(m, row)
	}
}

// activePairs leaves out pairs whose candidate does not hold the address now.
func (s *state) activePairs(pairs []store.Pair) (active []store.Pair) {
	for _, pair := range pairs {
		row := s.rows[store.RowKey{Kind: "candidate", Ref: pair.Candidate}]
		if pair.HeldBy(row.Active) {
			active = append(active, pair)
		}
	}
	return active
}

// again tells whether a known message is to be delivered again: asked for, and
// done neither by this page nor by this task, or a later one, before.
func (p *page) again(row *memMessage) bool {
	announced := slices.ContainsFunc(p.out, func(o outgoing) bool { return o.row == row })
	if !p.b.Again || announced || (p.task != nil && row.again >= p.task.no) {
		return false
	}
	if p.task != nil {
		row.again = p.task.no
	}
	return true
}

// count adds one message's pairs to what the page did.
func (p *page) count(id string, fresh, known int, again bool) {
	p.done.New += fresh
	if again {
		p.done.Again += known
	} else {
		p.done.Repeated += known
	}
	if fresh > 0 && !p.gained[id] {
		p.gained[id] = true
		p.done.Messages++
	}
}

func (r *memMessage) add(pairs []store.Pair, now time.Time) (fresh int) {
	for _, pair := range pairs {
		if !r.has(pair.Candidate) {
			pair.Fields = slices.Clone(pair.Fields)
			r.pairs = append(r.pairs, pair)
			r.entered[pair.Candidate] = ms(now)
			fresh++
		}
	}
	return fresh
}

func (r *memMessage) has(candidate string) bool {
	return slices.ContainsFunc(r.pairs, func(p store.Pair) bool { return p.Candidate == candidate })
}

// hold notes a mailbox and tells whether it is a new one.
func (r *memMessage) hold(h store.Holding) bool {
	if slices.ContainsFunc(r.holdings, func(o store.Holding) bool { return o.ID == h.ID }) {
		return false
	}
	r.holdings = append(r.holdings, h)
	return true
}

// link finds the threads the message's candidates have under the ids it names,
// joins them, and puts the message there.
func (p *page) link(m store.Matched, row *memMessage) {
	ids := m.Header.ThreadIDs()
	var found []*memThread
	if row.thread != nil {
		found = append(found, row.thread.root())
	}
	for _, pair := range row.pairs {
		for _, id := range ids {
			if t := p.s.links[memLink{pair.Candidate, id}]; t != nil {
				found = append(found, t.root())
			}
		}
	}
	t := p.join(found)
	if t == nil {
		t = p.s.newThread(m.Header.Root())
		p.born[t] = true
	}
	if row.thread == nil {
		t.messages = append(t.messages, m.ID)
	}
	row.thread = t
	for _, pair := range row.pairs {
		for _, id := range ids {
			if have := p.s.links[memLink{pair.Candidate, id}]; have == nil {
				p.s.links[memLink{pair.Candidate, id}] = t
			}
		}
	}
}

// join makes one thread of several; the oldest survives.
func (p *page) join(found []*memThread) *memThread {
	if len(found) == 0 {
		return nil
	}
	slices.SortFunc(found, func(a, b *memThread) int { return cmp.Compare(a.age, b.age) })
	found = slices.Compact(found)
	for _, young := range found[1:] {
		p.merge(young, found[0])
	}
	return found[0]
}

func (p *page) merge(from, into *memThread) {
	moved := slices.Sorted(slices.Values(from.messages))
	into.messages = append(into.messages, from.messages...)
	from.messages, from.into = nil, into
	if p.born[from] {
		return // never announced: nothing outside knows its id
	}
	for part := range slices.Chunk(moved, maxMoved) {
		data := &store.MergedEvent{From: from.id, Into: into.id, Messages: slices.Clone(part)}
		p.append(store.ThreadMerged, into.id, p.s.refsOf(part...), &store.EventData{Merged: data})
	}
}

// announce puts the message among those the page delivers; one that is there
// already only gains what is new.
func (p *page) announce(m store.Matched, row *memMessage) {
	i := slices.IndexFunc(p.out, func(o outgoing) bool { return o.row == row })
	if i < 0 {
		p.out = append(p.out, outgoing{row: row, msg: eventMessage(m)})
	}
}

// observe tells that another mailbox holds a known message: inside the event
// that announces it while nobody has seen that, else by an event of its own.
func (p *page) observe(m store.Matched, row *memMessage) {
	if slices.ContainsFunc(p.out, func(o outgoing) bool { return o.row == row }) {
		return // emit reads the holdings last
	}
	if e := p.s.events[row.last]; e != nil && unrendered(e) {
		for i := range e.Data.Thread.Messages {
			if msg := &e.Data.Thread.Messages[i]; msg.ID == m.ID {
				msg.Mailboxes = append(msg.Mailboxes, m.Mailbox)
			}
		}
		e.Version++
		return
	}
	t := row.thread.root()
	data := &store.ObservedEvent{Message: m.ID, Thread: t.id, Mailbox: m.Mailbox}
	p.append(store.MessageObserved, t.id, p.s.refsOf(m.ID), &store.EventData{Observed: data})
}

// unrendered tells that an event may still be changed in place.
func unrendered(e *store.Event) bool {
	waiting := e.State == store.EventPending || e.State == store.EventHeld
	return waiting && e.Attempts == 0 && e.Body == nil && e.Data != nil && e.Data.Thread != nil
}

// emit makes the thread.matched events of the page: one per thread and fifty
// messages.
func (p *page) emit() {
	groups := map[*memThread][]outgoing{}
	var order []*memThread
	for _, o := range p.out {
		t := o.row.thread.root()
		if groups[t] == nil {
			order = append(order, t)
		}
		groups[t] = append(groups[t], o)
	}
	for _, t := range order {
		for part := range slices.Chunk(groups[t], maxMessages) {
			p.emitPart(t, part)
		}
	}
}

func (p *page) emitPart(t *memThread, part []outgoing) {
	data := &store.ThreadEvent{Origin: p.b.Origin, Thread: t.id, MessageCount: len(t.messages)}
	var ids []string
	for _, o := range part {
		o.msg.Candidates = slices.Clone(o.row.pairs)
		o.msg.Mailboxes = slices.Clone(o.row.holdings)
		data.Messages = append(data.Messages, o.msg)
		ids = append(ids, o.msg.ID)
	}
	no := p.append(store.ThreadMatched, t.id, p.s.refsOf(ids...), &store.EventData{Thread: data})
	for _, o := range part {
		o.row.last = no
	}
}

func (p *page) append(typ store.EventType, stream string, refs []string, data *store.EventData) uint64 {
	p.done.Events++
	return p.s.append(typ, stream, refs, data, p.b.Now)
}

// wouldAppend tells whether the batch makes an event, without doing anything.
func (s *state) wouldAppend(w store.Walk, b store.Batch) bool {
	task := s.task(w.Task)
	if task != nil && task.Kind == store.TaskReread {
		return false
	}
	for _, m := range b.Messages {
		pairs := s.activePairs(m.Pairs)
		row := s.messages[m.ID]
		if len(pairs) == 0 {
			continue
		}
		if row == nil || slices.ContainsFunc(pairs, func(p store.Pair) bool { return !row.has(p.Candidate) }) {
			return true
		}
		if b.Again && (task == nil || row.again < task.no) {
			return true
		}
		known := slices.ContainsFunc(row.holdings, func(h store.Holding) bool { return h.ID == m.Mailbox.ID })
		if e := s.events[row.last]; !known && (e == nil || !unrendered(e)) {
			return true
		}
	}
	return false
}

// refsOf returns the candidates of messages, sorted.
func (s *state) refsOf(messages ...string) (refs []string) {
	for _, id := range messages {
		if row := s.messages[id]; row != nil {
			for _, pair := range row.pairs {
				refs = append(refs, pair.Candidate)
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

func (s *state) newThread(root string) *memThread {
	id := "thr_" + root
	for salt := 1; s.threadIDs[id] != nil; salt++ {
		id = fmt.Sprintf("thr_%s#%d", root, salt)
	}
	t := &memThread{id: id, age: s.ages}
	s.ages++
	s.threads = append(s.threads, t)
	s.threadIDs[id] = t
	return t
}

// removeMessage takes a message out of the ledger.
func (s *state) removeMessage(id string) {
	row := s.messages[id]
	delete(s.messages, id)
	t := row.thread.root()
	t.messages = slices.DeleteFunc(t.messages, func(m string) bool { return m == id })
}

// sweepThreads forgets threads without messages, and their aliases.
func (s *state) sweepThreads() {
	gone := func(t *memThread) bool { return len(t.root().messages) == 0 }
	for link, t := range s.links {
		if gone(t) {
			delete(s.links, link)
		}
	}
	for id, t := range s.threadIDs {
		if gone(t) {
			delete(s.threadIDs, id)
		}
	}
	s.threads = slices.DeleteFunc(s.threads, gone)
}

// inOrderOfDate sorts messages by Date, where it cannot be read by arrival.
func inOrderOfDate(ms []store.Matched) []store.Matched {
	date := func(m store.Matched) time.Time {
		if m.Header.Date.IsZero() {
			return m.Received
		}
		return m.Header.Date
	}
	ms = slices.Clone(ms)
	slices.SortStableFunc(ms, func(a, b store.Matched) int {
		return cmp.Or(date(a).Compare(date(b)), cmp.Compare(a.ID, b.ID))
	})
	return ms
}
