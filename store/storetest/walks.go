package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"mailsyncd/store"
)

var walkTests = []subtest{
	{name: "a walk that never began is the zero state", run: func(b *bench) {
		st, err := b.Walk(b.ctx, store.Walk{Mailbox: "rita"})
		b.must(err, "reading the walk")
		equal(b, "state", st, store.WalkState{})
	}},
	{name: "an advance keeps the whole state and counts the version", run: func(b *bench) {
		w := store.Walk{Mailbox: "rita", Task: "lookback"}
		want := store.WalkState{
			Cursor: "cursor", Since: start(), Addresses: []string{"a@x.example", "b@x.example"},
			Revision: 4, Scanned: 500, Matched: 3, Started: start(),
		}
		done, err := b.Advance(b.ctx, w, 0, store.Batch{State: want, Now: b.now})
		b.must(err, "advancing")
		equal(b, "result", done, store.Advanced{Version: 1})
		b.reopen()
		st, err := b.Walk(b.ctx, w)
		b.must(err, "reading the walk")
		want.Version = 1
		equal(b, "state", st, want)
		main, _ := b.Walk(b.ctx, store.Walk{Mailbox: "rita"})
		equal(b, "the main walk", main, store.WalkState{})
	}},
	{name: "times are kept in UTC to the millisecond", run: func(b *bench) {
		at := time.Date(2026, 11, 21, 12, 0, 0, 123_456_789, time.FixedZone("", 7200))
		w := store.Walk{Mailbox: "rita"}
		_, err := b.Advance(b.ctx, w, 0, store.Batch{State: store.WalkState{Since: at}, Now: at})
		b.must(err, "advancing")
		st, _ := b.Walk(b.ctx, w)
		equal(b, "time", st.Since, time.Date(2026, 11, 21, 10, 0, 0, 123_000_000, time.UTC))
	}},
	{name: "a stale version conflicts and writes nothing", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		w := store.Walk{Mailbox: "rita"}
		batch := b.batch("rita", mail{id: "b", candidates: []string{"nora"}})
		batch.Mailbox = &store.Mailbox{ID: "rita", State: store.MailboxPaused}
		_, err := b.Advance(b.ctx, w, 0, batch)
		b.wants(err, store.ErrConflict, "advancing from version 0")
		_, err = b.Advance(b.ctx, w, 2, batch)
		b.wants(err, store.ErrConflict, "advancing from version 2")
		st := b.stats()
		equal(b, "messages and events", []int{st.Messages, st.Pending}, []int{1, 1})
		m, _ := b.Mailbox(b.ctx, "rita")
		equal(b, "mailbox", m, store.Mailbox{ID: "rita"})
	}},
	{name: "a finished task leaves no row", run: func(b *bench) {
		w := store.Walk{Mailbox: "rita", Task: "audit"}
		_, err := b.Advance(b.ctx, w, 0, store.Batch{State: store.WalkState{Cursor: "c"}, Now: b.now})
		b.must(err, "advancing")
		done, err := b.Advance(b.ctx, w, 1, store.Batch{Done: true, Now: b.now})
		b.must(err, "finishing")
		equal(b, "result", done, store.Advanced{})
		st, _ := b.Walk(b.ctx, w)
		equal(b, "state", st, store.WalkState{})
		_, err = b.Advance(b.ctx, w, 2, store.Batch{Done: true, Now: b.now})
		b.wants(err, store.ErrConflict, "finishing twice")
	}},
	{name: "the mailbox row moves with the page", run: func(b *bench) {
		batch := b.batch("rita")
		batch.Mailbox = &store.Mailbox{
			ID: "rita", State: store.MailboxActive, Since: start(), Horizon: start(), LookedBack: 3, Searched: 4, OwedSince: start(), LastSuccess: start(), LastAudit: start(),
		}
		_, err := b.Advance(b.ctx, store.Walk{Mailbox: "rita"}, 0, batch)
		b.must(err, "advancing")
		b.reopen()
		m, err := b.Mailbox(b.ctx, "rita")
		b.must(err, "reading the mailbox")
		equal(b, "mailbox", m, *batch.Mailbox)
	}},
	{name: "a mailbox without a row is the zero row with its id", run: func(b *bench) {
		m, err := b.Mailbox(b.ctx, "tim")
		b.must(err, "reading the mailbox")
		equal(b, "mailbox", m, store.Mailbox{ID: "tim"})
	}},
	{name: "a state change is told on the mailbox's stream", run: func(b *bench) {
		m := store.Mailbox{ID: "rita", State: store.MailboxUnauthorized, Class: "unauthorized", Action: "renew it", Tries: 2, Since: start(), RetryAt: start()}
		e := &store.MailboxEvent{Mailbox: "rita", State: store.MailboxUnauthorized, Previous: store.MailboxActive, Class: "unauthorized", Since: start(), Action: "renew it"}
		b.must(b.SetMailbox(b.ctx, m, e, b.now), "setting")
		b.must(b.SetMailbox(b.ctx, m, nil, b.now), "setting without an event")
		got := b.events()
		equal(b, "types", types(got), []store.EventType{store.MailboxStateEvent})
		equal(b, "stream", got[0].Stream, "mailbox:rita")
		equal(b, "data", *got[0].Data.Mailbox, *e)
		equal(b, "notifications", b.notifications(), 1)
		all, err := b.Mailboxes(b.ctx)
		b.must(err, "listing mailboxes")
		equal(b, "mailboxes", all, []store.Mailbox{m})
	}},
}

var ledgerTests = []subtest{
	{name: "a page announces its messages in one event of their thread, oldest first", run: func(b *bench) {
		b.candidates("nora")
		mails := series("nora", 4)
		slices.Reverse(mails)
		done := b.page("rita", mails...)
		equal(b, "result", done, store.Advanced{Version: 1, New: 4, Messages: 4, Events: 1})
		e := b.lastEvent()
		equal(b, "messages", messages(e), []string{"msg_nora-000", "msg_nora-001", "msg_nora-002", "msg_nora-003"})
		equal(b, "count", e.Data.Thread.MessageCount, 4)
		equal(b, "origin", e.Data.Thread.Origin, store.OriginPoll)
		equal(b, "thread is the stream", e.Stream, e.Data.Thread.Thread)
		equal(b, "candidates", e.Candidates, []string{"nora"})
		equal(b, "seq and epoch", []uint64{e.Seq, e.Epoch}, []uint64{1, b.stats().Epoch})
		equal(b, "notifications", b.notifications(), 1)
	}},
	{name: "an event carries what the header says", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}, minute: 3})
		want := store.EventMessage{
			ID: "msg_a", MessageID: "a@mail.example", Date: start().Add(3 * time.Minute), Received: start().Add(3*time.Minute + time.Second),
			Direction: "inbound", From: []store.EventAddress{{Name: "Name of nora", Address: address("nora")}}, Subject: "subject of a",
			Mailboxes:  []store.Holding{{ID: "rita", User: "usr_rita"}},
			Candidates: []store.Pair{{Candidate: "nora", Key: address("nora"), Address: address("nora"), Fields: []string{"from"}}},
		}
		b.reopen()
		equal(b, "message", b.lastEvent().Data.Thread.Messages[0], want)
	}},
	{name: "fifty messages fill an event", run: func(b *bench) {
		b.candidates("nora")
		done := b.page("rita", series("nora", 101)...)
		equal(b, "events", done.Events, 3)
		var sizes []int
		for _, e := range b.events() {
			sizes = append(sizes, len(messages(e)))
		}
		equal(b, "sizes", sizes, []int{50, 50, 1})
		equal(b, "first of the last", messages(b.lastEvent())[0], "msg_nora-100")
	}},
	{name: "threads of one page have an event each", run: func(b *bench) {
		b.candidates("nora", "omar")
		done := b.page("rita", append(series("nora", 2), series("omar", 3)...)...)
		equal(b, "result", done, store.Advanced{Version: 1, New: 5, Messages: 5, Events: 2})
		equal(b, "threads", b.stats().Threads, 2)
	}},
	{name: "a message comes once, however often it is found", run: func(b *bench) {
		b.candidates("nora")
		m := mail{id: "a", candidates: []string{"nora"}}
		done := b.page("rita", m, m)
		equal(b, "found in two folders", done, store.Advanced{Version: 1, New: 1, Repeated: 1, Messages: 1, Events: 1})
		b.drain()
		b.reopen()
		done = b.page("rita", m)
		equal(b, "found again", done, store.Advanced{Version: 2, Repeated: 1})
		equal(b, "counts", []int{b.stats().Messages, b.stats().Pairs}, []int{1, 1})
	}},
	{name: "a pair is dropped unless its candidate holds the address now", run: func(b *bench) {
		b.must(b.Change(b.ctx, store.Change{Put: []store.Row{
			candidate("stopped"), candidate("moved", "new@x.example"), candidate("nora", address("nora")),
		}, Now: b.now}), "changing")
		done := b.page("rita", mail{id: "a", candidates: []string{"stopped", "moved", "unknown", "nora"}}, mail{id: "b", candidates: []string{"moved"}})
		equal(b, "result", done, store.Advanced{Version: 1, New: 1, Dropped: 4, Messages: 1, Events: 1})
		equal(b, "candidates", refs(b.lastEvent(), 0), []string{"nora"})
		equal(b, "messages", b.stats().Messages, 1)
	}},
	{name: "a stopped candidate gains nothing, not even a mailbox", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.drain()
		b.must(b.Change(b.ctx, store.Change{From: 1, Put: []store.Row{candidate("nora")}, Now: b.now}), "stopping")
		done := b.page("tim", mail{id: "a", candidates: []string{"nora"}})
		equal(b, "result", done, store.Advanced{Version: 1, Dropped: 1})
	}},
	{name: "a later candidate of a known message makes a new event with all its candidates", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.drain()
		b.candidates("omar")
		b.tick(time.Hour)
		done := b.page("tim", mail{id: "a", candidates: []string{"nora", "omar"}})
		equal(b, "result", done, store.Advanced{Version: 1, New: 1, Repeated: 1, Messages: 1, Events: 1})
		e := b.lastEvent()
		equal(b, "message", messages(e), []string{"msg_a"})
		equal(b, "candidates", refs(e, 0), []string{"nora", "omar"})
		equal(b, "mailboxes", boxes(e, 0), []string{"rita", "tim"})
		equal(b, "seq", e.Seq, 2)
		equal(b, "count", e.Data.Thread.MessageCount, 1)
	}},
	{name: "two addresses of one candidate are one pair", run: func(b *bench) {
		b.must(b.Change(b.ctx, store.Change{Put: []store.Row{candidate("nora", "a@x.example", "b@x.example")}, Now: b.now}), "changing")
		batch := b.batch("rita", mail{id: "a"})
		batch.Messages[0].Pairs = []store.Pair{{Candidate: "nora", Key: "a@x.example"}, {Candidate: "nora", Key: "b@x.example"}}
		done, err := b.Advance(b.ctx, store.Walk{Mailbox: "rita"}, 0, batch)
		b.must(err, "advancing")
		equal(b, "result", done, store.Advanced{Version: 1, New: 1, Repeated: 1, Messages: 1, Events: 1})
	}},
	{name: "another mailbox joins the event that nobody has seen", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		read := b.lastEvent()
		done := b.page("tim", mail{id: "a", candidates: []string{"nora"}})
		equal(b, "result", done, store.Advanced{Version: 1, Repeated: 1})
		equal(b, "mailboxes", boxes(b.lastEvent(), 0), []string{"rita", "tim"})
		equal(b, "attempts of what was read before", len(b.attempt(read)), 0)
	}},
	{name: "another mailbox of an attempted event is told by itself", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		posted := b.attempt(b.due()...)
		done := b.page("tim", mail{id: "a", candidates: []string{"nora"}})
		equal(b, "result", done, store.Advanced{Version: 1, Repeated: 1, Events: 1})
		b.outcome(store.Outcome{State: store.EventDelivered}, posted...)
		e := b.lastEvent()
		equal(b, "type", e.Type, store.MessageObserved)
		equal(b, "data", *e.Data.Observed, store.ObservedEvent{Message: "msg_a", Thread: posted[0].Stream, Mailbox: store.Holding{ID: "tim", User: "usr_tim"}})
		equal(b, "stream and seq", fmt.Sprint(e.Stream, e.Seq), fmt.Sprint(posted[0].Stream, 2))
		equal(b, "candidates", e.Candidates, []string{"nora"})
		equal(b, "a third time", b.page("tim", mail{id: "a", candidates: []string{"nora"}}).Events, 0)
	}},
	{name: "two mailboxes committing one mail at once announce it once", run: func(b *bench) {
		b.candidates("nora")
		const boxes = 8
		results := make([]store.Advanced, boxes)
		var group sync.WaitGroup
		for i := range boxes {
			group.Go(func() {
				box := fmt.Sprintf("box%d", i)
				results[i], _ = b.Advance(b.ctx, store.Walk{Mailbox: box}, 0, b.batch(box, mail{id: "a", candidates: []string{"nora"}}))
			})
		}
		group.Wait()
		fresh := 0
		for _, r := range results {
			fresh += r.New
		}
		equal(b, "times it was new", fresh, 1)
		e := b.lastEvent()
		equal(b, "mailboxes", len(e.Data.Thread.Messages[0].Mailboxes), boxes)
		equal(b, "events", len(b.events()), 1)
	}},
	{name: "of two advances from one version one wins", run: func(b *bench) {
		b.candidates("nora")
		errs := make([]error, 8)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() {
				batch := b.batch("rita", mail{id: fmt.Sprint("m", i), candidates: []string{"nora"}})
				_, errs[i] = b.Advance(b.ctx, store.Walk{Mailbox: "rita"}, 0, batch)
			})
		}
		group.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				b.wants(err, store.ErrConflict, "losing")
			}
		}
		equal(b, "winners", won, 1)
		equal(b, "messages", b.stats().Messages, 1)
	}},
	{name: "a full outbox takes no page that needs room", opts: Options{MaxEvents: 2}, run: func(b *bench) {
		b.candidates("nora", "omar", "pia")
		b.must(b.Room(b.ctx), "asking for room")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}}, mail{id: "b", candidates: []string{"omar"}})
		b.wants(b.Room(b.ctx), store.ErrFull, "asking for room")
		_, err := b.tryPage("rita", mail{id: "c", candidates: []string{"pia"}})
		b.wants(err, store.ErrFull, "advancing")
		st, _ := b.Walk(b.ctx, store.Walk{Mailbox: "rita"})
		equal(b, "version", st.Version, 1)
		equal(b, "messages", b.stats().Messages, 2)
		b.page("rita", mail{id: "a", candidates: []string{"nora"}}) // needs none
		b.drain()
		b.must(b.Room(b.ctx), "asking for room")
		equal(b, "new", b.page("rita", mail{id: "c", candidates: []string{"pia"}}).New, 1)
	}},
	{name: "a mailbox's state and a purge find room in a full outbox", opts: Options{MaxEvents: 1}, run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.must(b.SetMailbox(b.ctx, store.Mailbox{ID: "rita"}, &store.MailboxEvent{Mailbox: "rita"}, b.now), "setting the mailbox")
		b.purge("nora")
		equal(b, "events", types(b.events()), []store.EventType{store.MailboxStateEvent, store.CandidatePurged})
	}},
	{name: "a low disk is a full outbox", opts: Options{DiskLow: func() bool { return true }}, run: func(b *bench) {
		b.candidates("nora")
		b.wants(b.Room(b.ctx), store.ErrDiskLow, "asking for room")
		b.wants(b.Room(b.ctx), store.ErrFull, "asking for room")
		_, err := b.tryPage("rita", mail{id: "a", candidates: []string{"nora"}})
		b.wants(err, store.ErrDiskLow, "advancing")
		b.must(b.Writable(b.ctx), "writing the mark")
	}},
	{name: "a forgotten mailbox leaves the ledger", run: func(b *bench) {
		b.candidates("nora")
		both, one := mail{id: "a", candidates: []string{"nora"}}, mail{id: "b", candidates: []string{"nora"}}
		b.page("rita", both, one)
		b.page("tim", both)
		b.must(b.SetMailbox(b.ctx, store.Mailbox{ID: "rita"}, nil, b.now), "setting")
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		all, _ := b.Mailboxes(b.ctx)
		equal(b, "mailboxes", len(all), 0)
		st, _ := b.Walk(b.ctx, store.Walk{Mailbox: "rita"})
		equal(b, "walk", st, store.WalkState{})
		equal(b, "messages and pairs", []int{b.stats().Messages, b.stats().Pairs}, []int{1, 1})
		done := b.page("rita", both, one)
		equal(b, "both again", done, store.Advanced{Version: 1, New: 1, Repeated: 1, Messages: 1, Events: 1})
	}},
}

var threadTests = []subtest{
	{name: "a reply on a later page joins its thread", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("tim", mail{id: "b", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 1})
		all := b.events()
		equal(b, "streams", all[0].Stream == all[1].Stream, true)
		equal(b, "seqs", []uint64{all[0].Seq, all[1].Seq}, []uint64{1, 2})
		equal(b, "count", all[1].Data.Thread.MessageCount, 2)
	}},
	{name: "strangers that name one mail stay apart", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "b", candidates: []string{"omar"}, replyTo: []string{"a"}, minute: 1})
		all := b.events()
		equal(b, "one thread", all[0].Stream == all[1].Stream, false)
		equal(b, "threads", b.stats().Threads, 2)
		equal(b, "events", types(all), []store.EventType{store.ThreadMatched, store.ThreadMatched})
	}},
	{name: "a mail between two threads of one candidate joins them under the older id", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "b", candidates: []string{"nora"}, minute: 1})
		old, young := b.events()[0].Stream, b.events()[1].Stream
		done := b.page("rita", mail{id: "c", candidates: []string{"nora"}, replyTo: []string{"a", "b"}, minute: 2})
		equal(b, "events", done.Events, 2)
		all := b.events()
		equal(b, "types", types(all[2:]), []store.EventType{store.ThreadMerged, store.ThreadMatched})
		equal(b, "merged", *all[2].Data.Merged, store.MergedEvent{From: young, Into: old, Messages: []string{"msg_b"}})
		equal(b, "streams", []string{all[2].Stream, all[3].Stream}, []string{old, old})
		equal(b, "seqs", []uint64{all[2].Seq, all[3].Seq}, []uint64{2, 3})
		equal(b, "count", all[3].Data.Thread.MessageCount, 3)
		b.reopen()
		b.page("rita", mail{id: "d", candidates: []string{"nora"}, replyTo: []string{"b"}, minute: 3})
		equal(b, "the alias leads to the survivor", b.lastEvent().Stream, old)
		equal(b, "threads", b.stats().Threads, 1)
	}},
	{name: "an alias of an alias leads to the survivor", run: func(b *bench) {
		b.candidates("nora")
		for i, id := range []string{"a", "b", "c"} {
			b.page("rita", mail{id: id, candidates: []string{"nora"}, minute: i})
		}
		old := b.events()[0].Stream
		b.page("rita", mail{id: "d", candidates: []string{"nora"}, replyTo: []string{"b", "c"}, minute: 4})
		b.page("rita", mail{id: "e", candidates: []string{"nora"}, replyTo: []string{"a", "c"}, minute: 5})
		b.page("rita", mail{id: "f", candidates: []string{"nora"}, replyTo: []string{"c"}, minute: 6})
		e := b.lastEvent()
		equal(b, "stream", e.Stream, old)
		equal(b, "count", e.Data.Thread.MessageCount, 6)
	}},
	{name: "threads that one page makes and joins are told as one", run: func(b *bench) {
		b.candidates("nora")
		done := b.page("rita",
			mail{id: "a", candidates: []string{"nora"}}, mail{id: "b", candidates: []string{"nora"}, minute: 1},
			mail{id: "c", candidates: []string{"nora"}, replyTo: []string{"a", "b"}, minute: 2})
		equal(b, "events", done.Events, 1)
		equal(b, "messages", messages(b.lastEvent()), []string{"msg_a", "msg_b", "msg_c"})
	}},
	{name: "a candidate added to old mail brings its thread along", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "b", candidates: []string{"omar"}, replyTo: []string{"a"}, minute: 1})
		done := b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}})
		equal(b, "events", done.Events, 2)
		equal(b, "types", types(b.events()[2:]), []store.EventType{store.ThreadMerged, store.ThreadMatched})
		equal(b, "threads", b.stats().Threads, 1)
	}},
	{name: "seq rises over restarts and purges", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		first := b.lastEvent()
		b.purge("nora")
		b.reopen()
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		e := b.lastEvent()
		equal(b, "stream", e.Stream, first.Stream)
		equal(b, "seq", e.Seq, first.Seq+1)
		if e.ID == first.ID || e.No <= first.No {
			b.Errorf("event %d took the place of event %d", e.No, first.No)
		}
	}},
}
