package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
)

// subtest is one rule of the contract.
type subtest struct {
	name string
	opts Options
	run  func(b *bench)
}

// bench is one subtest's store with what keeps the subtests short: every step
// fails the test when it fails.
type bench struct {
	*testing.T
	store.Store
	f        Factory
	opts     Options
	ctx      context.Context
	now      time.Time
	notified atomic.Int64 // by whichever goroutine writes
}

// start is an arbitrary moment; the store knows no clock.
func start() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }

func newBench(t *testing.T, f Factory, o Options) *bench {
	t.Helper()
	b := &bench{T: t, f: f, opts: o, ctx: t.Context(), now: start()}
	b.opts.Notify = func() { b.notified.Add(1) }
	b.Store = f.New(t, b.opts)
	t.Cleanup(func() { _ = b.Store.Close() })
	return b
}

func (b *bench) notifications() int { return int(b.notified.Load()) }

func (b *bench) must(err error, doing string) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", doing, err)
	}
}

// reopen restarts the store.
func (b *bench) reopen() {
	b.Helper()
	b.Store = b.f.Reopen(b.T, b.Store, b.opts)
}

// tick lets time pass.
func (b *bench) tick(d time.Duration) { b.now = b.now.Add(d) }

// candidates puts active candidates into the directory; each is matched by the
// address REF@candidates.example.
func (b *bench) candidates(refs ...string) {
	b.Helper()
	c := store.Change{From: b.revision(), Now: b.now}
	for _, ref := range refs {
		c.Put = append(c.Put, candidate(ref, address(ref)))
	}
	b.must(b.Change(b.ctx, c), "adding candidates")
}

func candidate(ref string, active ...string) store.Row {
	return store.Row{Kind: "candidate", Ref: ref, Value: []byte("record of " + ref), Active: active}
}

func address(ref string) string { return ref + "@candidates.example" }

func (b *bench) revision() uint64 {
	b.Helper()
	rev, _, err := b.Revision(b.ctx)
	b.must(err, "reading the revision")
	return rev
}

// purge erases candidates.
func (b *bench) purge(refs ...string) {
	b.Helper()
	c := store.Change{From: b.revision(), Now: b.now}
	for _, ref := range refs {
		c.Purges = append(c.Purges, store.Purge{Ref: ref, Reason: "deleted"})
	}
	b.must(b.Change(b.ctx, c), "purging")
}

// mail is a matched message: its id is <id@mail.example>, it names candidates
// and replies to other mails.
type mail struct {
	id         string
	candidates []string
	replyTo    []string // ids of mails, oldest first
	minute     int      // of its Date
	mailbox    string   // default rita
}

func (m mail) matched() store.Matched {
	box := m.mailbox
	if box == "" {
		box = "rita"
	}
	at := start().Add(time.Duration(m.minute) * time.Minute)
	h := message.Header{MessageID: m.id + "@mail.example", Date: at, Subject: "subject of " + m.id}
	for _, id := range m.replyTo {
		h.References = append(h.References, id+"@mail.example")
	}
	out := store.Matched{
		ID: "msg_" + m.id, Mailbox: store.Holding{ID: box, User: "usr_" + box}, Ref: "INBOX/" + m.id,
		Received: at.Add(time.Second), Direction: "inbound",
	}
	for _, ref := range m.candidates {
		a := message.Address{Name: "Name of " + ref, Addr: address(ref), Key: address(ref)}
		h.From = append(h.From, a)
		out.Pairs = append(out.Pairs, store.Pair{Candidate: ref, Key: a.Key, Address: a.Addr, Fields: []string{"from"}})
	}
	out.Header = h
	return out
}

// page advances a mailbox's main walk by one page of mails.
func (b *bench) page(box string, mails ...mail) store.Advanced {
	b.Helper()
	done, err := b.tryPage(box, mails...)
	b.must(err, "advancing")
	return done
}

func (b *bench) tryPage(box string, mails ...mail) (store.Advanced, error) {
	b.Helper()
	w := store.Walk{Mailbox: box}
	st, err := b.Walk(b.ctx, w)
	b.must(err, "reading the walk")
	return b.Advance(b.ctx, w, st.Version, b.batch(box, mails...))
}

func (b *bench) batch(box string, mails ...mail) store.Batch {
	batch := store.Batch{Origin: store.OriginPoll, Now: b.now}
	for _, m := range mails {
		m.mailbox = box
		batch.Messages = append(batch.Messages, m.matched())
	}
	batch.State = store.WalkState{Cursor: fmt.Sprintf("after %d mails", len(mails)), Scanned: uint64(len(mails))}
	return batch
}

// wants fails the test unless err is the expected one.
func (b *bench) wants(err, want error, doing string) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("%s: got error %v, expected %v", doing, err, want)
	}
}

// equal compares two values of which the test says what they are.
func equal[T any](b *bench, what string, got, want T) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Errorf("%s: got %+v, expected %+v", what, got, want)
	}
}

// events returns all events whole, in order of position.
func (b *bench) events() []store.Event {
	b.Helper()
	listed, err := b.Events(b.ctx, store.EventFilter{Limit: 1_000_000})
	b.must(err, "listing events")
	all := make([]store.Event, len(listed))
	for i, e := range listed {
		all[i], err = b.Event(b.ctx, e.ID)
		b.must(err, "reading an event")
	}
	return all
}

// lastEvent returns the newest event.
func (b *bench) lastEvent() store.Event {
	b.Helper()
	all := b.events()
	if len(all) == 0 {
		b.Fatal("the outbox is empty")
	}
	return all[len(all)-1]
}

// due returns the heads that are due now.
func (b *bench) due() []store.Event {
	b.Helper()
	due, _, err := b.Due(b.ctx, b.now, 1000, nil)
	b.must(err, "asking what is due")
	return due
}

// attempt counts an attempt of each event and gives it a body.
func (b *bench) attempt(es ...store.Event) []store.Event {
	b.Helper()
	var as []store.Attempt
	for _, e := range es {
		as = append(as, store.Attempt{No: e.No, Version: e.Version, Body: body(e), At: b.now})
	}
	out, err := b.Attempt(b.ctx, as)
	b.must(err, "counting attempts")
	return out
}

// body stands for a rendered event: all that it says.
func body(e store.Event) []byte {
	raw, err := json.Marshal(e.Data)
	if err != nil {
		panic(err)
	}
	return raw
}

// reread returns an event as it stands now.
func (b *bench) reread(e store.Event) store.Event {
	b.Helper()
	now, err := b.Event(b.ctx, e.ID)
	b.must(err, "reading an event")
	return now
}

// outcome records one outcome for each event.
func (b *bench) outcome(o store.Outcome, es ...store.Event) {
	b.Helper()
	var os []store.Outcome
	for _, e := range es {
		o.No, o.Version, o.At = e.No, e.Version, b.now
		os = append(os, o)
	}
	b.must(b.Outcome(b.ctx, os), "recording outcomes")
}

// drain delivers all that is due, round by round, and returns it in order of
// delivery.
func (b *bench) drain() (delivered []store.Event) {
	b.Helper()
	for due := b.due(); len(due) > 0; due = b.due() {
		if len(delivered) > 1000 {
			b.Fatal("what was delivered is due again and again")
		}
		posted := b.attempt(due...)
		b.outcome(store.Outcome{State: store.EventDelivered, Result: "204"}, posted...)
		delivered = append(delivered, posted...)
	}
	return delivered
}

// stats reads the counts.
func (b *bench) stats() store.Stats {
	b.Helper()
	st, err := b.Stats(b.ctx)
	b.must(err, "reading stats")
	return st
}

// messages are the ids of the messages an event announces.
func messages(e store.Event) (ids []string) {
	for _, m := range e.Data.Thread.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// refs are the candidates of an event's i-th message.
func refs(e store.Event, i int) (out []string) {
	for _, p := range e.Data.Thread.Messages[i].Candidates {
		out = append(out, p.Candidate)
	}
	return out
}

// boxes are the mailboxes of an event's i-th message.
func boxes(e store.Event, i int) (out []string) {
	for _, h := range e.Data.Thread.Messages[i].Mailboxes {
		out = append(out, h.ID)
	}
	return out
}

// types are the types of events.
func types(es []store.Event) (out []store.EventType) {
	for _, e := range es {
		out = append(out, e.Type)
	}
	return out
}

// series makes mails of one candidate in one thread.
func series(candidate string, n int) (out []mail) {
	for i := range n {
		m := mail{id: fmt.Sprintf("%s-%03d", candidate, i), candidates: []string{candidate}, minute: i}
		if i > 0 {
			m.replyTo = []string{fmt.Sprintf("%s-%03d", candidate, 0)}
		}
		out = append(out, m)
	}
	return out
}
