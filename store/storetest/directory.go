package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

var directoryTests = []subtest{
	{name: "a change is all there at the next revision", run: func(b *bench) {
		rows := []store.Row{
			candidate("nora", "a@x.example", "b@x.example"),
			{Kind: "job", Ref: "job_9", Value: []byte{0, 1, 2}},
			{Kind: "user", Ref: "nora", Value: []byte("a user with a candidate's ref")},
		}
		b.must(b.Change(b.ctx, store.Change{Put: rows, Meta: []byte("state"), Now: b.now}), "changing")
		b.reopen()
		rev, meta, err := b.Revision(b.ctx)
		b.must(err, "reading the revision")
		equal(b, "revision", rev, 1)
		equal(b, "meta", string(meta), "state")
		for _, want := range rows {
			got, err := b.Row(b.ctx, store.RowKey{Kind: want.Kind, Ref: want.Ref})
			b.must(err, "reading a row")
			equal(b, "row", got, want)
		}
		st := b.stats()
		equal(b, "counts", []int{st.Candidates, st.Jobs, st.Users}, []int{1, 1, 1})
	}},
	{name: "a change from another revision conflicts and writes nothing", run: func(b *bench) {
		b.candidates("nora")
		err := b.Change(b.ctx, store.Change{From: 0, Put: []store.Row{candidate("omar")}, Meta: []byte("x"), Now: b.now})
		b.wants(err, store.ErrConflict, "changing")
		_, err = b.Row(b.ctx, store.RowKey{Kind: "candidate", Ref: "omar"})
		b.wants(err, store.ErrNotFound, "reading its row")
		equal(b, "revision", b.revision(), 1)
	}},
	{name: "the state stays when a change brings none", run: func(b *bench) {
		b.must(b.Change(b.ctx, store.Change{Meta: []byte("state"), Now: b.now}), "changing")
		b.candidates("nora")
		_, meta, _ := b.Revision(b.ctx)
		equal(b, "meta", string(meta), "state")
	}},
	{name: "a row is replaced and deleted, and counted once", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.candidates("nora")
		equal(b, "candidates", b.stats().Candidates, 2)
		key := store.RowKey{Kind: "candidate", Ref: "nora"}
		b.must(b.Change(b.ctx, store.Change{From: 2, Delete: []store.RowKey{key, {Kind: "job", Ref: "unknown"}}, Now: b.now}), "deleting")
		_, err := b.Row(b.ctx, key)
		b.wants(err, store.ErrNotFound, "reading the row")
		equal(b, "counts", []int{b.stats().Candidates, b.stats().Jobs}, []int{1, 0})
	}},
	{name: "a scan gives every row of its kind in row order", run: func(b *bench) {
		var refs []string
		for i := range 4500 { // more than one piece of a scan that reads in pieces
			refs = append(refs, fmt.Sprintf("cand_%04d", i))
		}
		b.candidates(refs...)
		b.must(b.Change(b.ctx, store.Change{From: 1, Put: []store.Row{{Kind: "job", Ref: "j"}, {Kind: "user", Ref: "u"}}, Now: b.now}), "changing")
		order := b.RowOrder("candidate")
		slices.SortFunc(refs, func(x, y string) int { kx, ky := order(x), order(y); return bytes.Compare(kx[:], ky[:]) })
		var got []string
		b.must(b.ScanRows(b.ctx, "candidate", nil, func(key [16]byte, r store.Row) error {
			equal(b, "key of "+r.Ref, key, order(r.Ref))
			got = append(got, r.Ref)
			return nil
		}), "scanning")
		equal(b, "refs in order", slices.Equal(got, refs), true)
		after := order(refs[4000])
		got = nil
		b.must(b.ScanRows(b.ctx, "candidate", &after, func(_ [16]byte, r store.Row) error {
			got = append(got, r.Ref)
			return nil
		}), "scanning the rest")
		equal(b, "the rest", slices.Equal(got, refs[4001:]), true)
	}},
	{name: "a scan stops at the first error and lets changes pass", run: func(b *bench) {
		b.candidates("nora", "omar", "pia")
		stop := errors.New("enough")
		n := 0
		err := b.ScanRows(b.ctx, "candidate", nil, func([16]byte, store.Row) error {
			b.candidates("quin")
			n++
			return stop
		})
		b.wants(err, stop, "scanning")
		equal(b, "rows seen", n, 1)
	}},
	{name: "activations are found by revision", run: func(b *bench) {
		for rev := range uint64(3) {
			act := store.Activation{Revision: 99, Key: fmt.Sprintf("%d@x.example", rev+1), Ref: "nora", Since: start()}
			b.must(b.Change(b.ctx, store.Change{From: rev, Activations: []store.Activation{act}, Now: b.now}), "changing")
		}
		acts, ok, err := b.Activations(b.ctx, 1, 2)
		b.must(err, "asking")
		equal(b, "complete", ok, true)
		equal(b, "activations", acts, []store.Activation{{Revision: 2, Key: "2@x.example", Ref: "nora", Since: start()}})
		all, _, _ := b.Activations(b.ctx, 0, 99)
		equal(b, "all", len(all), 3)
	}},
	{name: "a log that does not reach back says so", opts: Options{ActivationLog: 4}, run: func(b *bench) {
		for rev := range uint64(4) {
			acts := []store.Activation{{Key: "a@x.example", Ref: "nora"}, {Key: "b@x.example", Ref: "omar"}}
			b.must(b.Change(b.ctx, store.Change{From: rev, Activations: acts, Now: b.now}), "changing")
		}
		acts, ok, _ := b.Activations(b.ctx, 1, 4)
		equal(b, "from revision 1", []any{ok, len(acts)}, []any{false, 0})
		acts, ok, _ = b.Activations(b.ctx, 2, 4)
		equal(b, "from revision 2", []any{ok, len(acts)}, []any{true, 4})
	}},
	{name: "directory events have a stream of their own", run: func(b *bench) {
		events := []store.DirectoryEvent{
			{Type: store.DirectoryConflict, Candidate: "nora", Address: "a@x.example", Rule: "duplicate_address"},
			{Type: store.DirectorySweepHeld, Kind: "candidate", Missing: 7, Total: 9},
		}
		b.must(b.Change(b.ctx, store.Change{Events: events, Now: b.now}), "changing")
		all := b.events()
		equal(b, "types", types(all), []store.EventType{store.DirectoryConflict, store.DirectorySweepHeld})
		equal(b, "data", []store.DirectoryEvent{*all[0].Data.Directory, *all[1].Data.Directory}, events)
		equal(b, "streams", all[0].Stream+all[1].Stream, "directorydirectory")
		equal(b, "candidates", all[0].Candidates, []string{"nora"})
		equal(b, "due", len(b.due()), 1)
	}},
}

var purgeTests = []subtest{
	{name: "a purge leaves a tombstone, an event and nothing else", run: func(b *bench) {
		b.candidates("nora", "omar")
		acts := []store.Activation{{Key: "a@x.example", Ref: "nora"}, {Key: "b@x.example", Ref: "omar"}}
		conflict := store.DirectoryEvent{Type: store.DirectoryConflict, Candidate: "nora", Address: "a@x.example"}
		b.must(b.Change(b.ctx, store.Change{From: 1, Activations: acts, Events: []store.DirectoryEvent{conflict}, Now: b.now}), "changing")
		b.page("rita", append(series("nora", 3), series("omar", 1)...)...)
		b.drain()
		b.page("rita", mail{id: "late", candidates: []string{"nora"}, minute: 9})
		b.must(b.Change(b.ctx, store.Change{From: 2, Purges: []store.Purge{{Ref: "nora", Reason: "missing", Rev: "17"}}, Now: b.now}), "purging")
		b.reopen()
		var naming []store.EventType
		for _, e := range b.events() {
			if slices.Contains(e.Candidates, "nora") {
				naming = append(naming, e.Type)
			}
		}
		equal(b, "events that name it", naming, []store.EventType{store.CandidatePurged})
		e := b.lastEvent()
		equal(b, "stream", e.Stream, "candidate:nora")
		got := *e.Data.Purged
		equal(b, "receipt", got.Receipt != "", true)
		got.Receipt = ""
		equal(b, "data", got, store.PurgedEvent{Candidate: "nora", Reason: "missing", ThreadCount: 2, MessageCount: 4})
		st := b.stats()
		equal(b, "ledger", []int{st.Messages, st.Pairs, st.Threads, st.Candidates, st.Purges}, []int{1, 1, 1, 1, 1})
		left, _, _ := b.Activations(b.ctx, 0, 99)
		equal(b, "activations", left, []store.Activation{{Revision: 2, Key: "b@x.example", Ref: "omar"}})
		ts, err := b.Tombstone(b.ctx, "nora")
		b.must(err, "reading the tombstone")
		equal(b, "tombstone", ts, store.Tombstone{Rev: "17", At: start()})
		_, err = b.Row(b.ctx, store.RowKey{Kind: "candidate", Ref: "nora"})
		b.wants(err, store.ErrNotFound, "reading the row")
	}},
	{name: "a shared event loses the one candidate and is rendered again", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}}, mail{id: "b", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 1})
		posted := b.attempt(b.due()...)[0]
		b.purge("nora")
		b.outcome(store.Outcome{State: store.EventDelivered}, posted) // came too late
		e, err := b.Event(b.ctx, posted.ID)
		b.must(err, "reading the event")
		equal(b, "messages", messages(e), []string{"msg_a"})
		equal(b, "candidates", refs(e, 0), []string{"omar"})
		equal(b, "names", e.Candidates, []string{"omar"})
		equal(b, "body and state", []any{len(e.Body), e.State}, []any{0, store.EventPending})
		again := b.attempt(b.due()[0])[0]
		equal(b, "posted again", []any{again.ID, again.Seq}, []any{posted.ID, posted.Seq})
		equal(b, "the other's message", b.stats().Messages, 1)
	}},
	{name: "an event without candidates goes and its stream moves on", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "b", candidates: []string{"nora", "omar"}, replyTo: []string{"a"}, minute: 1})
		equal(b, "due before", messages(b.due()[0]), []string{"msg_a"})
		b.purge("nora")
		equal(b, "due after", messages(b.due()[0]), []string{"msg_b"})
		equal(b, "pending", b.stats().Pending, 2)
	}},
	{name: "neither a replay nor a dead letter brings the candidate back", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}})
		b.page("rita", mail{id: "b", candidates: []string{"nora"}, minute: 1})
		due := b.due()
		b.outcome(store.Outcome{State: store.EventDelivered}, b.attempt(due[0])...)
		b.outcome(store.Outcome{State: store.EventDead}, b.attempt(due[1])...)
		b.purge("nora")
		equal(b, "dead", b.stats().Dead, 0)
		done, err := b.Replay(b.ctx, store.EventFilter{}, b.now)
		b.must(err, "replaying")
		equal(b, "replayed", done, store.Replayed{Replayed: 1})
		e, _ := b.Event(b.ctx, due[0].ID)
		equal(b, "candidates", refs(e, 0), []string{"omar"})
		equal(b, "body", len(e.Body), 0)
	}},
	{name: "what is told of purged messages goes too", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "b", candidates: []string{"nora"}, minute: 1})
		b.drain()
		b.page("tim", mail{id: "a", candidates: []string{"nora"}})
		b.page("rita", mail{id: "c", candidates: []string{"nora"}, replyTo: []string{"a", "b"}, minute: 2})
		equal(b, "before", types(b.events())[2:], []store.EventType{store.MessageObserved, store.ThreadMerged, store.ThreadMatched})
		b.purge("nora")
		equal(b, "after", types(b.events()), []store.EventType{store.CandidatePurged})
		equal(b, "threads", b.stats().Threads, 0)
	}},
	{name: "a merge told of several candidates loses the purged one's messages", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}})
		b.page("rita", mail{id: "b", candidates: []string{"nora"}, minute: 1}, mail{id: "c", candidates: []string{"nora", "omar"}, replyTo: []string{"b"}, minute: 2})
		b.page("rita", mail{id: "d", candidates: []string{"nora", "omar"}, replyTo: []string{"a", "b"}, minute: 3})
		b.purge("nora")
		for _, e := range b.events() {
			if e.Type == store.ThreadMerged {
				equal(b, "messages", e.Data.Merged.Messages, []string{"msg_c"})
				equal(b, "candidates", e.Candidates, []string{"omar"})
				return
			}
		}
		b.Error("the merge is gone")
	}},
	{name: "pending purges are known until delivered, replays included", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.purge("nora", "omar")
		pending := func() []string {
			refs, err := b.PurgesPending(b.ctx)
			b.must(err, "asking")
			return refs
		}
		equal(b, "pending", pending(), []string{"nora", "omar"})
		for _, e := range b.attempt(b.due()...) {
			if e.Candidates[0] == "nora" {
				b.outcome(store.Outcome{State: store.EventDelivered}, e)
			} else {
				b.outcome(store.Outcome{State: store.EventPending, Due: b.now}, e)
			}
		}
		b.reopen()
		equal(b, "after one delivery", pending(), []string{"omar"})
		_, err := b.Replay(b.ctx, store.EventFilter{Candidate: "nora"}, b.now)
		b.must(err, "replaying")
		equal(b, "after a replay", pending(), []string{"nora", "omar"})
	}},
	{name: "the purge of a candidate who is back is not replayed", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.purge("nora", "omar")
		b.drain()
		b.must(b.Change(b.ctx, store.Change{From: b.revision(), Clear: []string{"nora"}, Put: []store.Row{candidate("nora", address("nora"))}, Now: b.now}), "bringing back")
		equal(b, "of one who is back", b.replay(store.EventFilter{Candidate: "nora"}).Replayed, 0)
		equal(b, "of one who is not", b.replay(store.EventFilter{Candidate: "omar"}).Replayed, 1)
	}},
	{name: "a candidate can come back", run: func(b *bench) {
		b.candidates("nora")
		m := mail{id: "a", candidates: []string{"nora"}}
		b.page("rita", m)
		b.purge("nora")
		equal(b, "while away", b.page("rita", m), store.Advanced{Version: 2, Dropped: 1})
		b.must(b.Change(b.ctx, store.Change{From: b.revision(), Clear: []string{"nora"}, Put: []store.Row{candidate("nora", address("nora"))}, Now: b.now}), "bringing back")
		_, err := b.Tombstone(b.ctx, "nora")
		b.wants(err, store.ErrNotFound, "reading the tombstone")
		equal(b, "new again", b.page("rita", m).New, 1)
		b.purge("nora")
		equal(b, "seq of the second purge", b.lastEvent().Seq, 2)
	}},
	{name: "a purge beside a page: the pair is delivered and stripped, or dropped", run: func(b *bench) {
		b.candidates("nora")
		done := make(chan error)
		go func() {
			_, err := b.Advance(b.ctx, store.Walk{Mailbox: "rita"}, 0, b.batch("rita", series("nora", 20)...))
			done <- err
		}()
		b.must(b.Change(b.ctx, store.Change{From: 1, Purges: []store.Purge{{Ref: "nora", Reason: "deleted"}}, Now: b.now}), "purging")
		b.must(<-done, "advancing")
		equal(b, "events", types(b.events()), []store.EventType{store.CandidatePurged})
		equal(b, "messages", b.stats().Messages, 0)
	}},
	{name: "a purge of somebody unknown is told all the same", run: func(b *bench) {
		b.purge("ghost")
		got := *b.lastEvent().Data.Purged
		equal(b, "counts", []int{got.ThreadCount, got.MessageCount}, []int{0, 0})
		equal(b, "candidates", b.stats().Candidates, 0)
	}},
}

var wholeTests = []subtest{
	{name: "a new store is empty and writable", run: func(b *bench) {
		b.must(b.Writable(b.ctx), "writing the mark")
		st := b.stats()
		equal(b, "an epoch", st.Epoch > 0, true)
		st.Epoch, st.Bytes = 0, 0
		equal(b, "counts", st, store.Stats{})
		due, next, err := b.Due(b.ctx, b.now, 10, nil)
		b.must(err, "asking what is due")
		equal(b, "due", []any{len(due), next}, []any{0, time.Time{}})
	}},
	{name: "a restart changes nothing", run: func(b *bench) {
		b.three()
		before, stats := b.events(), b.stats()
		b.reopen()
		equal(b, "events", b.events(), before)
		after := b.stats()
		stats.Bytes, after.Bytes = 0, 0
		equal(b, "stats", after, stats)
		equal(b, "new after the restart", b.page("rita", mail{id: "z", candidates: []string{"nora"}}).New, 1)
		equal(b, "numbers go on", b.lastEvent().No, before[len(before)-1].No+1)
	}},
	{name: "a cancelled call does nothing", run: func(b *bench) {
		b.candidates("nora")
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		_, err := b.Advance(ctx, store.Walk{Mailbox: "rita"}, 0, b.batch("rita", mail{id: "a", candidates: []string{"nora"}}))
		b.wants(err, ctx.Err(), "advancing")
		equal(b, "messages", b.stats().Messages, 0)
	}},
	{name: "what is returned belongs to the caller", run: func(b *bench) {
		b.three()
		e := b.attempt(b.due()[0])[0]
		want := string(e.Body)
		clear(e.Body)
		e.Candidates[0], e.Data.Thread.Messages[0].Candidates[0].Candidate = "changed", "changed"
		got, _ := b.Event(b.ctx, e.ID)
		equal(b, "body", string(got.Body), want)
		equal(b, "candidates", []string{got.Candidates[0], refs(got, 0)[0]}, []string{"nora", "nora"})
	}},
}
