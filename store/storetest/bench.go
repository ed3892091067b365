package storetest

import (
	"context"
	"fmt"
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
	notified int
}

// start is an arbitrary moment; the store knows no clock.
func start() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }

func newBench(t *testing.T, f Factory, o Options) *bench {
	t.Helper()
	b := &bench{T: t, f: f, opts: o, ctx: t.Context(), now: start()}
	b.opts.Notify = func() { b.notified++ }
	b.Store = f.New(t, b.opts)
	t.Cleanup(func() { _ = b.Store.Close() })
	return b
}

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
