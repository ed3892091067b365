package storetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
)

// eventMessage is what an event tells of a message.
func eventMessage(m store.Matched) store.EventMessage {
	return store.EventMessage{
		ID: m.ID, MessageID: m.Header.MessageID,
		Date: ms(m.Header.Date), Received: ms(m.Received), Direction: m.Direction,
		From: addresses(m.Header.From), To: addresses(m.Header.To), Cc: addresses(m.Header.Cc),
		Subject: m.Header.Subject, AutoSubmitted: m.Header.AutoSubmitted,
	}
}

func addresses(as []message.Address) (out []store.EventAddress) {
	for _, a := range as {
		out = append(out, store.EventAddress{Name: a.Name, Address: a.Addr})
	}
	return out
}

// append puts an event at the end of the outbox and of its stream.
func (s *state) append(typ store.EventType, stream string, refs []string, data *store.EventData, now time.Time) uint64 {
	s.lastNo++
	s.seqs[stream]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%d|%d", s.epoch, s.lastNo))
	s.events[s.lastNo] = &store.Event{
		No: s.lastNo, ID: "evt_" + hex.EncodeToString(sum[:13]), Type: typ,
		Stream: stream, Epoch: s.epoch, Seq: s.seqs[stream],
		State: store.EventPending, Version: 1, Created: ms(now), Due: ms(now),
		Candidates: slices.Clone(refs), Data: data,
	}
	s.order = append(s.order, s.lastNo)
	s.woken++
	s.open[stream] = append(s.open[stream], s.lastNo)
	return s.lastNo
}

// settle takes an event off its stream: delivered, dead or removed.
func (s *state) settle(e *store.Event) {
	nos := slices.DeleteFunc(s.open[e.Stream], func(no uint64) bool { return no == e.No })
	if s.open[e.Stream] = nos; len(nos) == 0 {
		delete(s.open, e.Stream)
	}
}

// unsettle puts an event back into its stream, where its seq stands.
func (s *state) unsettle(e *store.Event) {
	nos := append(s.open[e.Stream], e.No)
	slices.SortFunc(nos, func(a, b uint64) int { return cmp.Compare(s.events[a].Seq, s.events[b].Seq) })
	s.open[e.Stream] = nos
}

func (s *state) remove(e *store.Event) {
	s.settle(e)
	delete(s.events, e.No)
	delete(s.skeletons, e.No)
	s.order = slices.DeleteFunc(s.order, func(no uint64) bool { return no == e.No })
}

// Due implements store.Outbox.
func (m *Memory) Due(ctx context.Context, now time.Time, limit int, skip func(no uint64) bool) (due []store.Event, next time.Time, err error) {
	err = m.do(ctx, "Due", func(s *state) error {
		var heads []*store.Event
		for _, nos := range s.open {
			e := s.events[nos[0]]
			if e.State == store.EventPending && (skip == nil || !skip(e.No)) {
				heads = append(heads, e)
			}
		}
		slices.SortFunc(heads, func(a, b *store.Event) int {
			return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.No, b.No))
		})
		for _, e := range heads {
			if len(due) == limit || e.Due.After(now) {
				next = e.Due
				break
			}
			due = append(due, cloneEvent(e))
		}
		return nil
	})
	return due, next, err
}

// Attempt implements store.Outbox.
func (m *Memory) Attempt(ctx context.Context, as []store.Attempt) (out []store.Event, err error) {
	err = m.do(ctx, "Attempt", func(s *state) error {
		for _, a := range as {
			e := s.events[a.No]
			if e == nil || e.Version != a.Version || e.State != store.EventPending {
				continue
			}
			if e.Body == nil {
				e.Body = slices.Clone(a.Body)
			}
			e.Version++
			e.Tries++
			e.Attempts++
			e.LastAttempt = ms(a.At)
			out = append(out, cloneEvent(e))
		}
		return nil
	})
	return out, err
}

// Outcome implements store.Outbox.
func (m *Memory) Outcome(ctx context.Context, os []store.Outcome) error {
	return m.do(ctx, "Outcome", func(s *state) error {
		for _, o := range os {
			e := s.events[o.No]
			if e != nil && e.Version == o.Version && e.State == store.EventPending {
				s.outcome(e, o)
			}
		}
		return nil
	})
}

func (s *state) outcome(e *store.Event, o store.Outcome) {
	e.Version++
	e.State, e.LastResult = o.State, o.Result
	if o.Refund {
		e.Tries--
	} else if o.State != store.EventDelivered && e.FirstFailure.IsZero() {
		e.FirstFailure = ms(o.At)
	}
	switch o.State {
	case store.EventPending:
		e.Due = ms(o.Due)
	case store.EventDelivered:
		e.Delivered = ms(o.At)
		s.settle(e)
	case store.EventDead:
		s.settle(e)
	}
}

// PurgesPending implements store.Outbox.
func (m *Memory) PurgesPending(ctx context.Context) (refs []string, err error) {
	err = m.do(ctx, "PurgesPending", func(s *state) error {
		for _, no := range s.order {
			if e := s.events[no]; e.Type == store.CandidatePurged && e.State != store.EventDelivered {
				refs = append(refs, e.Candidates...)
			}
		}
		slices.Sort(refs)
		refs = slices.Compact(refs)
		return nil
	})
	return refs, err
}

// Endpoint implements store.Outbox.
func (m *Memory) Endpoint(ctx context.Context) (e store.Endpoint, err error) {
	err = m.do(ctx, "Endpoint", func(s *state) error {
		e = s.endpoint
		return nil
	})
	return e, err
}

// SetEndpoint implements store.Outbox.
func (m *Memory) SetEndpoint(ctx context.Context, e store.Endpoint) error {
	return m.do(ctx, "SetEndpoint", func(s *state) error {
		e.Since, e.NotBefore, e.LastAccepted = ms(e.Since), ms(e.NotBefore), ms(e.LastAccepted)
		s.endpoint = e
		return nil
	})
}

// ---- deliveries --------------------------------------------------------

// selected returns the events a filter selects, in order of position.
func (s *state) selected(f store.EventFilter) (out []*store.Event) {
	for _, no := range s.order {
		e := s.events[no]
		if e.No > f.After &&
			(f.IDs == nil || slices.Contains(f.IDs, e.ID)) &&
			(f.State == "" || f.State == e.State) &&
			!e.Created.Before(ms(f.Since)) &&
			(f.Candidate == "" || slices.Contains(e.Candidates, f.Candidate)) {
			out = append(out, e)
		}
	}
	return out
}

// Events implements store.Deliveries.
func (m *Memory) Events(ctx context.Context, f store.EventFilter) (out []store.Event, err error) {
	err = m.do(ctx, "Events", func(s *state) error {
		limit := cmp.Or(f.Limit, 100)
		for _, e := range s.selected(f) {
			if len(out) == limit {
				break
			}
			listed := *e
			listed.Candidates, listed.Body, listed.Data = slices.Clone(e.Candidates), nil, nil
			out = append(out, listed)
		}
		return nil
	})
	return out, err
}

// Event implements store.Deliveries.
func (m *Memory) Event(ctx context.Context, id string) (out store.Event, err error) {
	err = m.do(ctx, "Event", func(s *state) error {
		for _, e := range s.events {
			if e.ID == id {
				out = cloneEvent(e)
				return nil
			}
		}
		return fmt.Errorf("event %q: %w", id, store.ErrNotFound)
	})
	return out, err
}

// ---- purge -------------------------------------------------------------

// purge erases a candidate and says so. It adds to addresses
// the addresses by which it was searched for.
func (s *state) purge(p store.Purge, now time.Time, addresses map[string]bool) {
	s.erased(now)
	s.purgeTasks(p.Ref, now)
	for _, a := range s.rows[store.RowKey{Kind: "candidate", Ref: p.Ref}].Active {
		addresses[a] = true
	}
	threads := map[*memThread]bool{}
	messages := 0
	for id, row := range s.messages {
		if !row.has(p.Ref) {
			continue
		}
		messages++
		threads[row.thread.root()] = true
		row.pairs = slices.DeleteFunc(row.pairs, func(pair store.Pair) bool { return pair.Candidate == p.Ref })
		delete(row.entered, p.Ref)
		if len(row.pairs) == 0 {
			s.removeMessage(id)
		}
	}
	for link := range s.links {
		if link.candidate == p.Ref {
			delete(s.links, link)
		}
	}
	s.sweepThreads()
	for _, no := range slices.Clone(s.order) {
		if e := s.events[no]; slices.Contains(e.Candidates, p.Ref) && e.Type != store.CandidatePurged {
			s.strip(e, p.Ref)
		}
	}
	for _, a := range s.acts {
		addresses[a.Key] = addresses[a.Key] || a.Ref == p.Ref
	}
	s.acts = slices.DeleteFunc(s.acts, func(a store.Activation) bool { return a.Ref == p.Ref })
	delete(s.rows, store.RowKey{Kind: "candidate", Ref: p.Ref})
	s.tombs[p.Ref] = store.Tombstone{Rev: p.Rev, At: ms(now)}
	s.purges++
	data := &store.PurgedEvent{
		Candidate: p.Ref, Reason: p.Reason, ThreadCount: len(threads), MessageCount: messages,
		Receipt: fmt.Sprintf("rcpt_%d_%d", s.epoch, s.purges),
	}
	s.append(store.CandidatePurged, "candidate:"+p.Ref, []string{p.Ref}, &store.EventData{Purged: data}, now)
}

// strip takes one candidate out of an event, and the event out of the outbox
// when that leaves nothing to tell.
func (s *state) strip(e *store.Event, ref string) {
	e.Candidates = slices.DeleteFunc(e.Candidates, func(c string) bool { return c == ref })
	if len(e.Candidates) == 0 || (e.Data != nil && !s.stripData(e.Data, ref)) || !s.stripSkeleton(e.No, ref) {
		s.remove(e)
		return
	}
	e.Body = nil
	e.Version++
}

// stripData tells whether anything is left to tell.
func (s *state) stripData(d *store.EventData, ref string) bool {
	switch {
	case d.Thread != nil:
		for i := range d.Thread.Messages {
			msg := &d.Thread.Messages[i]
			msg.Candidates = slices.DeleteFunc(msg.Candidates, func(p store.Pair) bool { return p.Candidate == ref })
		}
		d.Thread.Messages = slices.DeleteFunc(d.Thread.Messages, func(m store.EventMessage) bool { return len(m.Candidates) == 0 })
		return len(d.Thread.Messages) > 0
	case d.Merged != nil:
		d.Merged.Messages = slices.DeleteFunc(d.Merged.Messages, func(id string) bool { return s.messages[id] == nil })
		return len(d.Merged.Messages) > 0
	case d.Observed != nil:
		return s.messages[d.Observed.Message] != nil
	}
	return true
}

// ---- copies ------------------------------------------------------------

// cloneEvent copies all that a caller could change.
func cloneEvent(e *store.Event) store.Event {
	c := *e
	c.Candidates, c.Body = slices.Clone(e.Candidates), slices.Clone(e.Body)
	c.Data = cloneData(e.Data)
	return c
}

func cloneData(d *store.EventData) *store.EventData {
	if d == nil {
		return nil
	}
	c := store.EventData{
		Purged: cloneOf(d.Purged), Mailbox: cloneOf(d.Mailbox), Directory: cloneOf(d.Directory),
		Observed: cloneOf(d.Observed), Merged: cloneOf(d.Merged), Thread: cloneOf(d.Thread),
	}
	if c.Merged != nil {
		c.Merged.Messages = slices.Clone(c.Merged.Messages)
	}
	if c.Thread != nil {
		c.Thread.Messages = slices.Clone(c.Thread.Messages)
		for i := range c.Thread.Messages {
			cloneMessage(&c.Thread.Messages[i])
		}
	}
	return &c
}

func cloneMessage(m *store.EventMessage) {
	m.From, m.To, m.Cc = slices.Clone(m.From), slices.Clone(m.To), slices.Clone(m.Cc)
	m.Mailboxes, m.Candidates = slices.Clone(m.Mailboxes), slices.Clone(m.Candidates)
	for i := range m.Candidates {
		m.Candidates[i].Fields = slices.Clone(m.Candidates[i].Fields)
	}
}

func cloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
