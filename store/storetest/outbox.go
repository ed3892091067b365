package storetest

import (
	"slices"
	"strings"
	"time"

	"mailsyncd/store"
)

// three puts three events of one thread and one of another into the outbox.
func (b *bench) three() {
	b.Helper()
	b.candidates("nora", "omar")
	for i, m := range series("nora", 3) {
		b.page("rita", m)
		b.tick(time.Second)
		if i == 0 {
			b.page("tim", mail{id: "o", candidates: []string{"omar"}})
			b.tick(time.Second)
		}
	}
}

var outboxTests = []subtest{
	{name: "only heads of streams are due, the longest due first", run: func(b *bench) {
		b.three()
		due := b.due()
		equal(b, "number", len(due), 2)
		equal(b, "messages", []string{messages(due[0])[0], messages(due[1])[0]}, []string{"msg_nora-000", "msg_o"})
	}},
	{name: "due tells when the next head is", run: func(b *bench) {
		b.three()
		first := start()
		due, next, err := b.Due(b.ctx, first.Add(-time.Second), 10, nil)
		b.must(err, "asking early")
		equal(b, "early", len(due), 0)
		equal(b, "next", next, first)
		_, next, _ = b.Due(b.ctx, b.now, 1, nil)
		equal(b, "next beyond the limit", next, first.Add(time.Second))
		skipped := b.due()[0].No
		due, next, _ = b.Due(b.ctx, b.now, 10, func(no uint64) bool { return no == skipped })
		equal(b, "without the skipped", len(due), 1)
		equal(b, "nothing waits", next, time.Time{})
	}},
	{name: "a delivered event lets its stream go on, in order of seq", run: func(b *bench) {
		b.three()
		var seqs []uint64
		for _, e := range b.drain() {
			if e.Candidates[0] == "nora" {
				seqs = append(seqs, e.Seq)
			}
		}
		equal(b, "seqs", seqs, []uint64{1, 2, 3})
		st := b.stats()
		equal(b, "counts", []int{st.Pending, st.Delivered}, []int{0, 4})
		equal(b, "oldest", st.OldestAt, time.Time{})
	}},
	{name: "the oldest pending event is known", run: func(b *bench) {
		b.three()
		equal(b, "oldest", b.stats().OldestAt, start())
		b.outcome(store.Outcome{State: store.EventDelivered}, b.attempt(b.due()[0])...)
		equal(b, "then", b.stats().OldestAt, start().Add(time.Second))
	}},
	{name: "a dead letter lets its stream go on", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		b.outcome(store.Outcome{State: store.EventDead, Result: "400"}, b.attempt(head)...)
		equal(b, "next", messages(b.due()[1])[0], "msg_nora-001")
		equal(b, "dead", b.stats().Dead, 1)
		dead, err := b.Event(b.ctx, head.ID)
		b.must(err, "reading the dead letter")
		equal(b, "state and result", string(dead.State)+" "+dead.LastResult, "dead 400")
	}},
	{name: "a failed event waits and blocks its own stream only", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		later := b.now.Add(time.Hour)
		b.outcome(store.Outcome{State: store.EventPending, Due: later, Result: "500"}, b.attempt(head)...)
		equal(b, "due", len(b.due()), 1)
		b.drain()
		_, next, _ := b.Due(b.ctx, b.now, 10, nil)
		equal(b, "next", next, later)
		b.now = later
		e := b.due()[0]
		equal(b, "tries", []int{e.Tries, e.Attempts}, []int{1, 1})
		equal(b, "id", e.ID, head.ID)
		equal(b, "left", len(b.drain()), 3)
	}},
	{name: "the first attempt freezes the body", run: func(b *bench) {
		b.three()
		first := b.attempt(b.due()[0])[0]
		b.outcome(store.Outcome{State: store.EventPending, Due: b.now}, first)
		b.reopen()
		again, err := b.Attempt(b.ctx, []store.Attempt{{No: first.No, Version: b.reread(first).Version, Body: []byte("another"), At: b.now}})
		b.must(err, "attempting again")
		equal(b, "body", string(again[0].Body), string(first.Body))
		equal(b, "attempts", again[0].Attempts, 2)
	}},
	{name: "an attempt is counted before its outcome, also over a crash", run: func(b *bench) {
		b.three()
		e := b.attempt(b.due()[0])[0]
		equal(b, "tries, attempts, last", []any{e.Tries, e.Attempts, e.LastAttempt}, []any{1, 1, b.now})
		b.reopen()
		again := b.reread(e)
		equal(b, "after the crash", []any{again.No, again.Tries, again.Version}, []any{e.No, 1, e.Version})
	}},
	{name: "an attempt without a body counts", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		out, err := b.Attempt(b.ctx, []store.Attempt{{No: head.No, Version: head.Version, At: b.now}})
		b.must(err, "attempting")
		equal(b, "tries and body", []any{out[0].Tries, len(out[0].Body)}, []any{1, 0})
	}},
	{name: "what changed since it was read is left alone", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		e := b.attempt(head)[0]
		equal(b, "a second attempt of the same reading", len(b.attempt(head)), 0)
		b.outcome(store.Outcome{State: store.EventDelivered}, head) // of a stale version
		equal(b, "delivered", b.stats().Delivered, 0)
		b.outcome(store.Outcome{State: store.EventDelivered}, e)
		b.outcome(store.Outcome{State: store.EventDead}, e)
		equal(b, "delivered and dead", []int{b.stats().Delivered, b.stats().Dead}, []int{1, 0})
		equal(b, "an unknown event", len(b.attempt(store.Event{No: 99, Version: 1})), 0)
	}},
	{name: "a refund gives the try back and is no failure of the event", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		b.outcome(store.Outcome{State: store.EventPending, Due: b.now, Refund: true, Result: "timeout"}, b.attempt(head)...)
		e := b.reread(head)
		equal(b, "tries, attempts, first failure", []any{e.Tries, e.Attempts, e.FirstFailure}, []any{0, 1, time.Time{}})
		failed := b.now
		b.outcome(store.Outcome{State: store.EventPending, Due: b.now}, b.attempt(e)...)
		b.tick(time.Minute)
		b.outcome(store.Outcome{State: store.EventPending, Due: b.now}, b.attempt(b.reread(e))...)
		e = b.reread(e)
		equal(b, "tries, attempts, first failure", []any{e.Tries, e.Attempts, e.FirstFailure}, []any{2, 3, failed})
	}},
	{name: "the endpoint's state survives", run: func(b *bench) {
		want := store.Endpoint{Disabled: "gone", Since: start(), NotBefore: start().Add(time.Hour), LastAccepted: start()}
		b.must(b.SetEndpoint(b.ctx, want), "setting")
		b.reopen()
		got, err := b.Endpoint(b.ctx)
		b.must(err, "reading")
		equal(b, "endpoint", got, want)
	}},
	{name: "events are found by id, state, time, candidate and position", run: func(b *bench) {
		b.three()
		b.outcome(store.Outcome{State: store.EventDead}, b.attempt(b.due()[0])...)
		all := b.events()
		for _, c := range []struct {
			what string
			f    store.EventFilter
			want []uint64
		}{
			{"all", store.EventFilter{}, []uint64{1, 2, 3, 4}},
			{"by id", store.EventFilter{IDs: []string{all[2].ID, all[0].ID, "evt_unknown"}}, []uint64{1, 3}},
			{"by state", store.EventFilter{State: store.EventDead}, []uint64{1}},
			{"since", store.EventFilter{Since: all[2].Created}, []uint64{3, 4}},
			{"by candidate", store.EventFilter{Candidate: "omar"}, []uint64{2}},
			{"after a position", store.EventFilter{After: 2}, []uint64{3, 4}},
			{"limited", store.EventFilter{Limit: 2}, []uint64{1, 2}},
			{"all together", store.EventFilter{Candidate: "nora", State: store.EventPending, After: 1, Limit: 1}, []uint64{3}},
			{"none", store.EventFilter{Candidate: "nobody"}, nil},
		} {
			listed, err := b.Events(b.ctx, c.f)
			b.must(err, c.what)
			var nos []uint64
			for _, e := range listed {
				nos = append(nos, e.No-all[0].No+1)
				equal(b, c.what+": payload", e.Data == nil && e.Body == nil, true)
			}
			equal(b, c.what, nos, c.want)
		}
		_, err := b.Event(b.ctx, "evt_unknown")
		b.wants(err, store.ErrNotFound, "reading an unknown event")
	}},
	{name: "ids are unlike each other and hold no dot", run: func(b *bench) {
		b.three()
		seen := map[string]bool{}
		for _, e := range b.events() {
			equal(b, "prefix", strings.HasPrefix(e.ID, "evt_"), true)
			equal(b, "dots", strings.Contains(e.ID, "."), false)
			equal(b, "seen before", seen[e.ID], false)
			seen[e.ID] = true
		}
	}},
	{name: "a replay posts the same event again with fresh tries", run: func(b *bench) {
		b.three()
		posted := b.drain()[0]
		b.tick(time.Hour)
		done, err := b.Replay(b.ctx, store.EventFilter{IDs: []string{posted.ID}}, b.now)
		b.must(err, "replaying")
		equal(b, "result", done, store.Replayed{Replayed: 1})
		e := b.due()[0]
		equal(b, "the same", []any{e.ID, e.Seq, string(e.Body)}, []any{posted.ID, posted.Seq, string(posted.Body)})
		equal(b, "fresh", []any{e.Tries, e.State, e.Due, e.Delivered}, []any{0, store.EventPending, b.now, time.Time{}})
		equal(b, "counts", []int{b.stats().Pending, b.stats().Delivered}, []int{1, 3})
		b.drain()
		equal(b, "delivered", b.stats().Delivered, 4)
	}},
	{name: "a replayed event goes before the later ones of its stream", run: func(b *bench) {
		b.three()
		head := b.attempt(b.due()[0])
		b.outcome(store.Outcome{State: store.EventDead}, head...)
		_, err := b.Replay(b.ctx, store.EventFilter{State: store.EventDead}, b.now)
		b.must(err, "replaying")
		var nora []string
		for _, e := range b.drain() {
			nora = append(nora, messages(e)...)
		}
		nora = slices.DeleteFunc(nora, func(id string) bool { return id == "msg_o" })
		equal(b, "order", nora, []string{"msg_nora-000", "msg_nora-001", "msg_nora-002"})
	}},
	{name: "a replay leaves pending events alone and stops at its limit", run: func(b *bench) {
		b.three()
		done, err := b.Replay(b.ctx, store.EventFilter{}, b.now)
		b.must(err, "replaying")
		equal(b, "of the pending", done, store.Replayed{})
		b.drain()
		done, _ = b.Replay(b.ctx, store.EventFilter{Limit: 3}, b.now)
		equal(b, "of the delivered", done, store.Replayed{Replayed: 3})
	}},
	{name: "retention erases payloads and dead letters, and nothing else", run: func(b *bench) {
		b.three()
		b.must(b.SetMailbox(b.ctx, store.Mailbox{ID: "rita"}, &store.MailboxEvent{Mailbox: "rita"}, b.now), "setting the mailbox")
		first := b.due()
		b.outcome(store.Outcome{State: store.EventDelivered}, b.attempt(first[0])...)
		b.outcome(store.Outcome{State: store.EventDead}, b.attempt(first[1])...)
		b.outcome(store.Outcome{State: store.EventDelivered}, b.attempt(first[2])...)
		erase := func(delivered, dead time.Time) {
			b.Helper()
			for more := true; more; {
				var err error
				more, err = b.Expire(b.ctx, store.Expiry{Delivered: delivered, Dead: dead})
				b.must(err, "expiring")
			}
		}
		erase(b.now, b.now)
		equal(b, "events before their time", len(b.events()), 5)
		equal(b, "payload before its time", b.events()[0].Data != nil, true)
		erase(b.now.Add(time.Second), b.now)
		kept, err := b.Event(b.ctx, first[0].ID)
		b.must(err, "reading a delivered match")
		equal(b, "payload of a delivered match", kept.Data == nil && kept.Body == nil && kept.State == store.EventDelivered, true)
		_, err = b.Event(b.ctx, first[2].ID)
		b.wants(err, store.ErrNotFound, "reading a delivered state change")
		erase(b.now, b.now.Add(time.Second))
		dead, err := b.Event(b.ctx, first[1].ID)
		b.must(err, "reading a dead letter")
		equal(b, "payload of a dead letter", dead.Data == nil && dead.Body == nil && dead.State == store.EventDead, true)
		equal(b, "delivered later", len(b.drain()), 2)
		b.reopen()
		equal(b, "messages are known for ever", b.page("rita", series("nora", 1)...).Repeated, 1)
	}},
}
