package storetest

import (
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

// ---- helpers -----------------------------------------------------------

// add records one task.
func (b *bench) add(t store.Task) store.Task {
	b.Helper()
	added, err := b.AddTasks(b.ctx, []store.Task{t}, b.now)
	b.must(err, "adding a task")
	return added[0]
}

func (b *bench) task(t store.Task) store.Task {
	b.Helper()
	now, err := b.Task(b.ctx, t.ID)
	b.must(err, "reading a task")
	return now
}

// resync is a task about one candidate.
func resync(candidate string, mailboxes ...string) store.Task {
	return store.Task{
		Kind: store.TaskResync, Candidate: candidate, Addresses: []string{address(candidate)}, Since: start(), Mailboxes: mailboxes,
	}
}

// walkTask advances a task's walk in a mailbox by a page of mails.
func (b *bench) walkTask(t store.Task, box string, done bool, mails ...mail) store.Advanced {
	b.Helper()
	out, err := b.tryWalkTask(t, box, done, mails...)
	b.must(err, "advancing a task")
	return out
}

func (b *bench) tryWalkTask(t store.Task, box string, done bool, mails ...mail) (store.Advanced, error) {
	b.Helper()
	w := store.Walk{Mailbox: box, Task: t.ID}
	st, err := b.Walk(b.ctx, w)
	b.must(err, "reading a task's walk")
	batch := b.batch(box, mails...)
	batch.Origin, batch.Done, batch.Again = store.OriginResync, done, t.Kind == store.TaskRedeliver
	batch.State.Scanned, batch.State.Matched = st.Scanned+100, st.Matched+uint64(len(mails))
	return b.Advance(b.ctx, w, st.Version, batch)
}

// owed lists the tasks that a mailbox owes a walk, as "kind@version".
func (b *bench) owed(box string) (out []string) {
	b.Helper()
	owed, err := b.Owed(b.ctx, box)
	b.must(err, "asking what is owed")
	for _, o := range owed {
		out = append(out, fmt.Sprintf("%s@%d", o.Task.Kind, o.State.Version))
	}
	return out
}

// expire erases all that was delivered, dead or ended before a time.
func (b *bench) expire(before time.Time) {
	b.Helper()
	for more := true; more; {
		var err error
		more, err = b.Expire(b.ctx, store.Expiry{Delivered: before, Dead: before, Tasks: before})
		b.must(err, "expiring")
	}
}

func (b *bench) replay(f store.EventFilter) store.Replayed {
	b.Helper()
	done, err := b.Replay(b.ctx, f, b.now)
	b.must(err, "replaying")
	return done
}

// erasedEvent delivers mails as one event, and lets retention erase it.
func (b *bench) erasedEvent(mails ...mail) store.Event {
	b.Helper()
	b.page("rita", mails...)
	e := b.drain()[0]
	b.tick(time.Hour)
	b.expire(b.now)
	return b.reread(e)
}

// findAgain replays an erased event and returns the task that looks for it.
func (b *bench) findAgain(e store.Event) store.Task {
	b.Helper()
	done := b.replay(store.EventFilter{IDs: []string{e.ID}})
	equal(b, "events to be read again", done.Rereading, 1)
	if len(done.Tasks) != 1 {
		b.Fatalf("the replay made tasks %v, expected one", done.Tasks)
	}
	return b.task(store.Task{ID: done.Tasks[0]})
}

// ---- tasks -------------------------------------------------------------

var taskTests = []subtest{
	{name: "a task and its walks are there at once, and after a restart", run: func(b *bench) {
		b.candidates("nora")
		want := resync("nora", "rita", "tim", "rita")
		got := b.add(want)
		equal(b, "id", len(got.ID) > len(store.TaskPrefix) && got.ID[:len(store.TaskPrefix)] == store.TaskPrefix, true)
		want.ID, want.State, want.Created, want.Left = got.ID, store.TaskRunning, b.now, 2
		want.Mailboxes = []string{"rita", "tim"}
		equal(b, "added", got, want)
		b.reopen()
		equal(b, "read", b.task(got), want)
		owed, err := b.Owed(b.ctx, "tim")
		b.must(err, "asking what is owed")
		want.Mailboxes = nil
		equal(b, "owed", owed, []store.OwedWalk{{
			Task: want, Walk: store.Walk{Mailbox: "tim", Task: got.ID},
			State: store.WalkState{Since: start(), Addresses: []string{address("nora")}},
		}})
		equal(b, "owed by another", b.owed("box"), nil)
	}},
	{name: "tasks are listed and owed by age", run: func(b *bench) {
		b.candidates("nora")
		again := resync("nora", "rita")
		again.Kind = store.TaskRedeliver
		_, err := b.AddTasks(b.ctx, []store.Task{resync("nora", "rita"), again, resync("nora", "tim")}, b.now)
		b.must(err, "adding")
		equal(b, "owed by rita", b.owed("rita"), []string{"resync@0", "redeliver@0"})
		all, err := b.Tasks(b.ctx)
		b.must(err, "listing")
		var kinds []store.TaskKind
		for _, t := range all {
			kinds = append(kinds, t.Kind)
		}
		equal(b, "listed", kinds, []store.TaskKind{store.TaskResync, store.TaskRedeliver, store.TaskResync})
	}},
	{name: "tasks are recorded all or none", run: func(b *bench) {
		b.candidates("nora")
		many := resync("nora")
		for i := range store.MaxTaskWalks + 1 {
			many.Mailboxes = append(many.Mailboxes, fmt.Sprint(i))
		}
		for what, bad := range map[string]store.Task{
			"of a candidate nobody knows": resync("ghost", "rita"),
			"of a kind of its own":        {Kind: store.TaskReread, Mailboxes: []string{"rita"}},
			"of too many walks":           many,
		} {
			if _, err := b.AddTasks(b.ctx, []store.Task{resync("nora", "rita"), bad}, b.now); err == nil {
				b.Errorf("a task %s was recorded", what)
			}
		}
		all, _ := b.Tasks(b.ctx)
		equal(b, "tasks", len(all), 0)
		equal(b, "owed", b.owed("rita"), nil)
	}},
	{name: "an unknown task is not found", run: func(b *bench) {
		for _, id := range []string{"", "lookback", "task_", "task_unknown", "task_aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			_, err := b.Task(b.ctx, id)
			b.wants(err, store.ErrNotFound, "reading "+id)
			_, err = b.CancelTask(b.ctx, id, b.now)
			b.wants(err, store.ErrNotFound, "cancelling "+id)
		}
	}},
	{name: "an event's id is no task's", run: func(b *bench) {
		b.three()
		_, err := b.Task(b.ctx, store.TaskPrefix+b.lastEvent().ID[len("evt_"):])
		b.wants(err, store.ErrNotFound, "reading")
	}},
	{name: "a task counts with every page of its walks", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", series("nora", 1)...)
		t := b.add(resync("nora", "rita", "tim"))
		done := b.walkTask(t, "rita", false, series("nora", 3)...)
		equal(b, "page", done, store.Advanced{Version: 1, New: 2, Repeated: 1, Messages: 2, Events: 1})
		equal(b, "origin", b.lastEvent().Data.Thread.Origin, store.OriginResync)
		b.walkTask(t, "rita", false)
		b.walkTask(t, "tim", false, mail{id: "t", candidates: []string{"nora"}, minute: 9})
		b.reopen()
		got := b.task(t)
		equal(b, "scanned, matched, new, left", []any{got.Scanned, got.Matched, got.New, got.Left}, []any{uint64(300), uint64(4), uint64(3), 2})
		equal(b, "owed", b.owed("rita"), []string{"resync@2"})
	}},
	{name: "a task's walk has the task's addresses, whatever a page brings", run: func(b *bench) {
		b.candidates("nora")
		t := b.add(resync("nora", "rita"))
		w := store.Walk{Mailbox: "rita", Task: t.ID}
		_, err := b.Advance(b.ctx, w, 0, store.Batch{State: store.WalkState{Cursor: "c", Addresses: []string{"other@x.example"}}, Now: b.now})
		b.must(err, "advancing")
		st, _ := b.Walk(b.ctx, w)
		equal(b, "state", st, store.WalkState{Version: 1, Cursor: "c", Addresses: []string{address("nora")}})
	}},
	{name: "the last walk ends the task", run: func(b *bench) {
		b.candidates("nora")
		t := b.add(resync("nora", "rita", "tim"))
		equal(b, "page", b.walkTask(t, "rita", true, series("nora", 1)...).Version, 0)
		equal(b, "left", b.task(t).Left, 1)
		_, err := b.tryWalkTask(t, "rita", false)
		b.wants(err, store.ErrConflict, "advancing an ended walk")
		b.tick(time.Hour)
		b.walkTask(t, "tim", true)
		got := b.task(t)
		equal(b, "state, ended, left", []any{got.State, got.Ended, got.Left}, []any{store.TaskDone, b.now, 0})
		equal(b, "owed", b.owed("tim"), nil)
	}},
	{name: "a task without mailboxes has ended", run: func(b *bench) {
		b.candidates("nora")
		t := b.add(resync("nora"))
		equal(b, "state and end", []any{t.State, t.Ended}, []any{store.TaskDone, b.now})
	}},
	{name: "a cancelled task walks no further, and what it delivered stays", run: func(b *bench) {
		b.candidates("nora")
		t := b.add(resync("nora", "rita", "tim"))
		b.walkTask(t, "rita", false, series("nora", 2)...)
		cancelled, err := b.CancelTask(b.ctx, t.ID, b.now)
		b.must(err, "cancelling")
		equal(b, "state, ended, left", []any{cancelled.State, cancelled.Ended, cancelled.Left}, []any{store.TaskCancelled, b.now, 0})
		for _, box := range []string{"rita", "tim"} {
			_, err = b.Advance(b.ctx, store.Walk{Mailbox: box, Task: t.ID}, 0, b.batch(box))
			b.wants(err, store.ErrConflict, "advancing")
		}
		equal(b, "pairs and walk", []any{b.stats().Pairs, b.owed("rita")}, []any{2, []string(nil)})
		b.tick(time.Hour)
		again, err := b.CancelTask(b.ctx, t.ID, b.now)
		b.must(err, "cancelling again")
		equal(b, "the second time", again, cancelled)
	}},
	{name: "an unknown task's walk conflicts, a built-in one does not", run: func(b *bench) {
		_, err := b.tryWalkTask(store.Task{ID: "task_unknown"}, "rita", false)
		b.wants(err, store.ErrConflict, "advancing an unknown task")
		for _, id := range []string{"lookback", "audit", "reconcile"} {
			b.walkTask(store.Task{ID: id}, "rita", false)
		}
	}},
	{name: "a dry run counts and refuses to record", run: func(b *bench) {
		b.candidates("nora")
		dry := resync("nora", "rita")
		dry.DryRun = true
		t := b.add(dry)
		if _, err := b.tryWalkTask(t, "rita", false, series("nora", 1)...); err == nil {
			b.Error("a dry run took messages")
		}
		batch := store.Batch{State: store.WalkState{Scanned: 500, Matched: 7}, Done: true, Now: b.now}
		_, err := b.Advance(b.ctx, store.Walk{Mailbox: "rita", Task: t.ID}, 0, batch)
		b.must(err, "advancing")
		got := b.task(t)
		equal(b, "scanned, matched, new, state", []any{got.Scanned, got.Matched, got.New, got.State}, []any{uint64(500), uint64(7), uint64(0), store.TaskDone})
		equal(b, "messages", b.stats().Messages, 0)
	}},
	{name: "a redelivery posts what the ledger has, in new events under the same ids", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}}, mail{id: "b", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 1})
		first := b.drain()[0]
		again := resync("nora", "rita")
		again.Kind = store.TaskRedeliver
		t := b.add(again)
		done := b.walkTask(t, "rita", false, mail{id: "a", candidates: []string{"nora"}}, mail{id: "b", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 1}, mail{id: "c", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 2})
		equal(b, "page", done, store.Advanced{Version: 1, New: 1, Again: 2, Messages: 1, Events: 1})
		e := b.lastEvent()
		equal(b, "messages", messages(e), []string{"msg_a", "msg_b", "msg_c"})
		equal(b, "all candidates of the first", refs(e, 0), []string{"nora", "omar"})
		equal(b, "a new event of the stream", []any{e.ID == first.ID, e.Stream, e.Seq}, []any{false, first.Stream, uint64(2)})
		equal(b, "counted as new", b.task(t).New, uint64(3))
		equal(b, "pairs", b.stats().Pairs, 4)
	}},
	{name: "a task delivers a message again once, in however many folders and mailboxes", run: func(b *bench) {
		b.candidates("nora")
		m := mail{id: "a", candidates: []string{"nora"}}
		b.page("rita", m)
		b.page("tim", m)
		b.drain()
		again := resync("nora", "rita", "tim")
		again.Kind = store.TaskRedeliver
		t := b.add(again)
		equal(b, "two folders", b.walkTask(t, "rita", false, m, m), store.Advanced{Version: 1, Again: 1, Repeated: 1, Events: 1})
		equal(b, "a later page", b.walkTask(t, "rita", true, m), store.Advanced{Repeated: 1})
		b.reopen()
		equal(b, "another mailbox", b.walkTask(t, "tim", true, m), store.Advanced{Repeated: 1})
		second := b.add(again)
		equal(b, "another task", b.walkTask(second, "tim", true, m), store.Advanced{Again: 1, Events: 1})
	}},
	{name: "tasks that take turns over the mailboxes deliver a message again once each", run: func(b *bench) {
		b.candidates("nora")
		m := mail{id: "a", candidates: []string{"nora"}}
		b.page("rita", m)
		b.page("tim", m)
		b.drain()
		again := resync("nora", "rita", "tim")
		again.Kind = store.TaskRedeliver
		first, second := b.add(again), b.add(again)
		equal(b, "the first", b.walkTask(first, "rita", true, m).Again, 1)
		equal(b, "the second", b.walkTask(second, "rita", true, m).Again, 1)
		equal(b, "the first elsewhere", b.walkTask(first, "tim", true, m), store.Advanced{Repeated: 1})
		equal(b, "the second elsewhere", b.walkTask(second, "tim", true, m), store.Advanced{Repeated: 1})
	}},
	{name: "a redelivery needs room", opts: Options{MaxEvents: 1}, run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.drain()
		b.page("rita", mail{id: "b", candidates: []string{"omar"}})
		again := resync("nora", "rita")
		again.Kind = store.TaskRedeliver
		t := b.add(again)
		_, err := b.tryWalkTask(t, "rita", true, mail{id: "a", candidates: []string{"nora"}})
		b.wants(err, store.ErrFull, "redelivering")
		equal(b, "owed still", b.owed("rita"), []string{"redeliver@0"})
		b.drain()
		equal(b, "with room", b.walkTask(t, "rita", true, mail{id: "a", candidates: []string{"nora"}}).Again, 1)
	}},
	{name: "tasks end in a mailbox that is forgotten or loses its cursor", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita")
		b.page("tim")
		t := b.add(resync("nora", "rita", "tim", "uma"))
		b.walkTask(t, "rita", false)
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		equal(b, "left after the first", b.task(t).Left, 2)
		_, err := b.Advance(b.ctx, store.Walk{Mailbox: "tim"}, 1, store.Batch{Done: true, Now: b.now})
		b.must(err, "giving up the cursor")
		equal(b, "left after the second", b.task(t).Left, 1)
		_, err = b.Advance(b.ctx, store.Walk{Mailbox: "uma"}, 0, store.Batch{Done: true, Now: b.now}) // never had one
		b.must(err, "giving up no cursor")
		equal(b, "state", b.task(t).State, store.TaskDone)
		st, _ := b.Walk(b.ctx, store.Walk{Mailbox: "rita", Task: t.ID})
		equal(b, "walk", st, store.WalkState{})
	}},
	{name: "a purge ends the candidate's tasks and takes its name out of them", run: func(b *bench) {
		b.candidates("nora", "omar")
		ended, running := b.add(resync("nora")), b.add(resync("nora", "rita"))
		other := b.add(resync("omar", "rita"))
		b.walkTask(running, "rita", false, series("nora", 1)...)
		b.tick(time.Hour)
		b.purge("nora")
		_, err := b.tryWalkTask(running, "rita", false)
		b.wants(err, store.ErrConflict, "advancing")
		for what, t := range map[string]store.Task{"ended": b.task(ended), "running": b.task(running)} {
			equal(b, what+": candidate, addresses, purged", []any{t.Candidate, len(t.Addresses), t.Purged}, []any{"", 0, true})
		}
		equal(b, "states", []any{b.task(ended).State, b.task(running).State, b.task(running).Ended}, []any{store.TaskDone, store.TaskCancelled, b.now})
		equal(b, "the other's", []any{b.task(other).State, b.owed("rita")}, []any{store.TaskRunning, []string{"resync@0"}})
		_, err = b.AddTasks(b.ctx, []store.Task{resync("nora", "rita")}, b.now)
		b.wants(err, store.ErrNotFound, "adding one for the purged")
	}},
	{name: "a purge takes the address out of look-backs, which begin again for all", run: func(b *bench) {
		b.must(b.Change(b.ctx, store.Change{Put: []store.Row{candidate("nora", address("nora")), candidate("omar")}, Activations: []store.Activation{
			{Key: address("nora"), Ref: "nora"}, {Key: address("omar"), Ref: "omar"},
		}, Now: b.now}), "changing")
		w := store.Walk{Mailbox: "rita", Task: "lookback"}
		for box, addresses := range map[string][]string{"rita": {address("nora"), "x@x.example"}, "tim": {address("omar")}, "uma": {"x@x.example"}} {
			w.Mailbox = box
			_, err := b.Advance(b.ctx, w, 0, store.Batch{State: store.WalkState{Cursor: "c", Addresses: addresses, Since: start(), Revision: 1, Scanned: 9}, Now: b.now})
			b.must(err, "advancing")
		}
		b.purge("nora", "omar")
		for box, want := range map[string]store.WalkState{
			"rita": {Version: 2, Since: start(), Revision: 1, Scanned: 9},
			"tim":  {Version: 2, Since: start(), Revision: 1, Scanned: 9}, // the address stood in the log alone
			"uma":  {Version: 1, Cursor: "c", Addresses: []string{"x@x.example"}, Since: start(), Revision: 1, Scanned: 9},
		} {
			w.Mailbox = box
			st, _ := b.Walk(b.ctx, w)
			equal(b, box, st, want)
		}
	}},
	{name: "retention takes ended tasks away, running ones never", run: func(b *bench) {
		b.candidates("nora")
		ended, running := b.add(resync("nora")), b.add(resync("nora", "rita"))
		b.expire(b.now)
		equal(b, "in time", b.task(ended).ID, ended.ID)
		b.expire(b.now.Add(time.Millisecond))
		_, err := b.Task(b.ctx, ended.ID)
		b.wants(err, store.ErrNotFound, "reading the ended one")
		equal(b, "the running one", b.task(running).State, store.TaskRunning)
	}},
}

// ---- what became of it -------------------------------------------------

var questionTests = []subtest{
	{name: "a pair's state is that of the last event that carries it", run: func(b *bench) {
		b.candidates("nora", "omar", "pia")
		keys := []store.PairKey{{Message: "msg_a", Candidate: "nora"}, {Message: "msg_a", Candidate: "omar"}, {Message: "msg_a", Candidate: "pia"}, {Message: "msg_x", Candidate: "nora"}}
		states := func() []store.PairState {
			b.Helper()
			got, err := b.PairStates(b.ctx, keys)
			b.must(err, "asking")
			return got
		}
		equal(b, "before", states(), []store.PairState{"", "", "", ""})
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		equal(b, "pending", states(), []store.PairState{store.PairPending, "", "", ""})
		b.drain()
		equal(b, "delivered", states(), []store.PairState{store.PairDelivered, "", "", ""})
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}})
		equal(b, "carried again", states(), []store.PairState{store.PairPending, store.PairPending, "", ""})
		b.outcome(store.Outcome{State: store.EventDead}, b.attempt(b.due()...)...)
		b.reopen()
		equal(b, "dead", states(), []store.PairState{store.PairDead, store.PairDead, "", ""})
		b.purge("nora")
		equal(b, "purged", states(), []store.PairState{"", store.PairDead, "", ""})
	}},
	{name: "a message tells its thread, mailboxes and pairs with their events", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		first := b.now
		b.tick(time.Hour)
		b.page("tim", mail{id: "a", candidates: []string{"nora", "omar"}})
		e := b.lastEvent()
		b.reopen()
		got, err := b.Message(b.ctx, "msg_a")
		b.must(err, "reading")
		pair := func(ref string, at time.Time) store.LedgerPair {
			return store.LedgerPair{
				Pair:  store.Pair{Candidate: ref, Key: address(ref), Address: address(ref), Fields: []string{"from"}},
				State: store.PairPending, Event: e.ID, At: at,
			}
		}
		equal(b, "message", got, store.LedgerMessage{
			ID: "msg_a", Thread: e.Stream,
			Holdings: []store.Holding{{ID: "rita", User: "usr_rita"}, {ID: "tim", User: "usr_tim"}},
			Pairs:    []store.LedgerPair{pair("nora", first), pair("omar", b.now)},
		})
		_, err = b.Message(b.ctx, "msg_unknown")
		b.wants(err, store.ErrNotFound, "reading an unknown message")
	}},
	{name: "a message tells the thread that survived", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		old := b.lastEvent().Stream
		b.page("rita", mail{id: "b", candidates: []string{"nora"}, minute: 1})
		b.page("rita", mail{id: "c", candidates: []string{"nora"}, replyTo: []string{"a", "b"}, minute: 2})
		got, err := b.Message(b.ctx, "msg_b")
		b.must(err, "reading")
		equal(b, "thread", got.Thread, old)
	}},
	{name: "a candidate's messages come page by page, each once", run: func(b *bench) {
		b.candidates("nora", "omar")
		b.page("rita", append(series("nora", 7), series("omar", 3)...)...)
		var got []string
		for after := ""; ; {
			page, err := b.CandidateMessages(b.ctx, "nora", after, 3)
			b.must(err, "listing")
			if len(page) == 0 {
				break
			}
			equal(b, "page of three at most", len(page) <= 3, true)
			for _, m := range page {
				got, after = append(got, m.ID), m.ID
			}
		}
		slices.Sort(got)
		var want []string
		for _, m := range series("nora", 7) {
			want = append(want, "msg_"+m.id)
		}
		equal(b, "messages", got, want)
		all, _ := b.CandidateMessages(b.ctx, "nora", "", 0)
		equal(b, "without a limit", len(all), 7)
		none, _ := b.CandidateMessages(b.ctx, "nobody", "", 0)
		equal(b, "of nobody", len(none), 0)
	}},
}

// ---- reading again -----------------------------------------------------

var rereadTests = []subtest{
	{name: "a pending event that is replayed by its id is due now, and keeps its tries", run: func(b *bench) {
		b.three()
		head := b.due()[0]
		b.outcome(store.Outcome{State: store.EventPending, Due: b.now.Add(time.Hour), Result: "500"}, b.attempt(head)...)
		equal(b, "by a filter", b.replay(store.EventFilter{Candidate: "nora"}), store.Replayed{})
		notified := b.notifications()
		equal(b, "by its id", b.replay(store.EventFilter{IDs: []string{head.ID}}), store.Replayed{Replayed: 1})
		equal(b, "notified", b.notifications(), notified+1)
		b.reopen()
		due := b.due()
		ids := []string{due[0].ID, due[1].ID}
		equal(b, "due", slices.Contains(ids, head.ID), true)
		e := b.reread(head)
		equal(b, "tries and state", []any{e.Tries, e.State, e.Due}, []any{1, store.EventPending, b.now})
		equal(b, "delivered then", len(b.drain()), 4)
	}},
	{name: "an attempt in flight survives that its event is made due", run: func(b *bench) {
		b.three()
		posted := b.attempt(b.due()[0])
		b.replay(store.EventFilter{IDs: []string{posted[0].ID}})
		b.outcome(store.Outcome{State: store.EventDelivered}, posted...)
		equal(b, "state", b.reread(posted[0]).State, store.EventDelivered)
	}},
	{name: "an erased event is read again from the mailboxes that hold its mail", run: func(b *bench) {
		b.candidates("nora")
		b.page("tim")
		b.page("uma", series("nora", 1)...)
		first := b.drain()[0]
		b.page("rita", series("nora", 2)...)
		e := b.drain()[1]
		b.tick(8 * 24 * time.Hour)
		b.expire(b.now)
		b.reopen()
		equal(b, "payload", b.reread(e).Data == nil && b.reread(e).Body == nil, true)
		done := b.replay(store.EventFilter{IDs: []string{first.ID, e.ID}})
		equal(b, "result", []int{done.Replayed, done.Rereading, done.Erased}, []int{0, 2, 0})
		t := b.task(store.Task{ID: done.Tasks[0]})
		equal(b, "task", t, store.Task{
			ID: t.ID, Kind: store.TaskReread, Since: start().Add(time.Second - 24*time.Hour), Mailboxes: []string{"rita", "uma"},
			Events: []uint64{first.No, e.No}, State: store.TaskRunning, Created: b.now, Left: 2,
		})
		equal(b, "the event names it", b.reread(e).Reread, t.ID)
		equal(b, "nothing is pending", b.stats().Pending, 0)
	}},
	{name: "an event is pending under its own id, stream and seq once it lacks nothing", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", series("nora", 1)...)
		b.drain()
		b.page("rita", series("nora", 3)[1:]...)
		before := b.lastEvent()
		b.drain()
		b.tick(time.Hour)
		b.expire(b.now)
		t := b.findAgain(before)
		mails := series("nora", 4)
		done := b.walkTask(t, "rita", false, mails[0], mails[1], mails[3])
		equal(b, "first page", done, store.Advanced{Version: 1, Again: 1, Repeated: 2})
		equal(b, "still waiting", b.reread(before).State, store.EventDelivered)
		b.reopen()
		notified := b.notifications()
		done = b.walkTask(t, "rita", false, mails[2])
		equal(b, "last page", done, store.Advanced{Again: 1, Ended: true})
		equal(b, "notified", b.notifications(), notified+1)
		e := b.lastEvent()
		equal(b, "id, stream, seq", []any{e.ID, e.Stream, e.Seq, e.Epoch}, []any{before.ID, before.Stream, before.Seq, before.Epoch})
		equal(b, "data", *e.Data.Thread, *before.Data.Thread)
		equal(b, "state, tries, due, task", []any{e.State, e.Tries, e.Due, e.Reread}, []any{store.EventPending, 0, b.now, ""})
		equal(b, "task", []any{b.task(t).State, b.task(t).New, b.owed("rita")}, []any{store.TaskDone, uint64(2), []string(nil)})
		equal(b, "messages", b.stats().Messages, 3) // the fourth is left to polls
		equal(b, "delivered", b.drain()[0].ID, before.ID)
		b.tick(time.Hour)
		b.expire(b.now)
		equal(b, "and once more", b.task(b.findAgain(before)).State, store.TaskRunning)
	}},
	{name: "the last walk lets an event go with what was found", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 3)...)
		t := b.findAgain(e)
		b.walkTask(t, "rita", false, series("nora", 2)[1])
		notified := b.notifications()
		b.walkTask(t, "rita", true)
		equal(b, "notified", b.notifications(), notified+1)
		got := b.reread(e)
		equal(b, "state", got.State, store.EventPending)
		equal(b, "messages", messages(got), []string{"msg_nora-001"})
		equal(b, "delivered", len(b.drain()), 1)
	}},
	{name: "so does its last mailbox when it is forgotten", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 2)...)
		b.walkTask(b.findAgain(e), "rita", false, series("nora", 1)...)
		notified := b.notifications()
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		equal(b, "notified", b.notifications(), notified+1)
		equal(b, "messages", messages(b.reread(e)), []string{"msg_nora-000"})
		equal(b, "delivered", len(b.drain()), 1)
	}},
	{name: "an event of which nothing is found stays delivered and says so", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 1)...)
		b.walkTask(b.findAgain(e), "rita", true)
		got := b.reread(e)
		equal(b, "state, result, task", []any{got.State, got.LastResult, got.Reread}, []any{store.EventDelivered, store.NotFoundAgain, ""})
		equal(b, "tried again", b.task(b.findAgain(e)).State, store.TaskRunning)
	}},
	{name: "a dead letter past retention stays dead and can be read again", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", series("nora", 1)...)
		dead := b.attempt(b.due()...)[0]
		b.outcome(store.Outcome{State: store.EventDead, Result: "400"}, dead)
		b.tick(time.Hour)
		b.expire(b.now)
		got := b.reread(dead)
		equal(b, "state and payload", []any{got.State, got.Body == nil && got.Data == nil, b.stats().Dead}, []any{store.EventDead, true, 1})
		b.walkTask(b.findAgain(got), "rita", true, series("nora", 1)...)
		got = b.reread(dead)
		equal(b, "after", []any{got.State, got.Tries, b.stats().Dead, b.stats().Pending}, []any{store.EventPending, 0, 0, 1})
		equal(b, "seq", b.drain()[0].Seq, dead.Seq)
	}},
	{name: "a second replay waits for the task of the first", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 1)...)
		t := b.findAgain(e)
		equal(b, "again", b.replay(store.EventFilter{IDs: []string{e.ID}}), store.Replayed{Rereading: 1})
		all, _ := b.Tasks(b.ctx)
		equal(b, "tasks", len(all), 1)
		_, err := b.CancelTask(b.ctx, t.ID, b.now)
		b.must(err, "cancelling")
		got := b.reread(e)
		equal(b, "after cancelling", []any{got.State, got.Reread, got.LastResult}, []any{store.EventDelivered, "", "204"})
		b.findAgain(e)
	}},
	{name: "what a cancelled task found is gone", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 2)...)
		t := b.findAgain(e)
		b.walkTask(t, "rita", false, series("nora", 1)...)
		_, err := b.CancelTask(b.ctx, t.ID, b.now)
		b.must(err, "cancelling")
		b.walkTask(b.findAgain(e), "rita", true, series("nora", 2)[1])
		equal(b, "messages", messages(b.reread(e)), []string{"msg_nora-001"})
	}},
	{name: "mail that no mailbox holds any more is erased for good", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 1)...)
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		equal(b, "result", b.replay(store.EventFilter{IDs: []string{e.ID}}), store.Replayed{Erased: 1})
	}},
	{name: "a mailbox without a cursor is not read again", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 1)...)
		_, err := b.Advance(b.ctx, store.Walk{Mailbox: "rita"}, 1, store.Batch{Done: true, Now: b.now})
		b.must(err, "giving up the cursor")
		equal(b, "result", b.replay(store.EventFilter{IDs: []string{e.ID}}), store.Replayed{Erased: 1})
	}},
	{name: "only candidates the event had, and that are matched still, come back", run: func(b *bench) {
		b.candidates("nora", "omar", "pia")
		e := b.erasedEvent(mail{id: "a", candidates: []string{"nora", "omar"}})
		b.must(b.Change(b.ctx, store.Change{From: b.revision(), Put: []store.Row{candidate("omar")}, Now: b.now}), "stopping")
		done := b.walkTask(b.findAgain(e), "rita", true, mail{id: "a", candidates: []string{"nora", "omar", "pia"}})
		equal(b, "page", done, store.Advanced{Again: 1, Repeated: 1, Dropped: 1})
		got := b.reread(e)
		equal(b, "candidates", [][]string{refs(got, 0), got.Candidates}, [][]string{{"nora"}, {"nora"}})
		listed, _ := b.Events(b.ctx, store.EventFilter{Candidate: "omar"})
		equal(b, "events of the stopped one", len(listed), 0)
	}},
	{name: "a purge beside a re-read: the candidate does not come back", run: func(b *bench) {
		b.candidates("nora", "omar")
		shared, own := mail{id: "a", candidates: []string{"nora", "omar"}}, mail{id: "b", candidates: []string{"nora"}, replyTo: []string{"a"}, minute: 1}
		e := b.erasedEvent(shared, own)
		t := b.findAgain(e)
		b.walkTask(t, "rita", false, shared)
		b.purge("nora")
		equal(b, "names", b.reread(e).Candidates, []string{"omar"})
		b.reopen()
		b.walkTask(t, "rita", true, shared, own)
		got := b.reread(e)
		equal(b, "messages and candidates", []any{messages(got), refs(got, 0)}, []any{[]string{"msg_a"}, []string{"omar"}})
	}},
	{name: "a purge takes an erased event of nobody else away", run: func(b *bench) {
		b.candidates("nora")
		e := b.erasedEvent(series("nora", 2)...)
		t := b.findAgain(e)
		b.walkTask(t, "rita", false, series("nora", 1)...)
		b.purge("nora")
		_, err := b.Event(b.ctx, e.ID)
		b.wants(err, store.ErrNotFound, "reading the event")
		b.walkTask(t, "rita", true, series("nora", 2)...)
		equal(b, "events", types(b.events()), []store.EventType{store.CandidatePurged})
	}},
	{name: "messages of one task's events that both tell are given to both", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		b.candidates("omar")
		b.page("rita", mail{id: "a", candidates: []string{"nora", "omar"}})
		b.drain()
		b.tick(time.Hour)
		b.expire(b.now)
		done := b.replay(store.EventFilter{})
		equal(b, "to be read again", []int{done.Rereading, len(done.Tasks)}, []int{2, 1})
		page := b.walkTask(store.Task{ID: done.Tasks[0]}, "rita", false, mail{id: "a", candidates: []string{"nora", "omar"}})
		equal(b, "page", page, store.Advanced{Again: 2, Ended: true})
		all := b.events()
		equal(b, "candidates", [][]string{refs(all[0], 0), refs(all[1], 0)}, [][]string{{"nora"}, {"nora", "omar"}})
		equal(b, "in order", b.drain()[0].Seq, 1)
	}},
}

// ---- erasure -----------------------------------------------------------

var erasureTests = []subtest{
	{name: "purges and forgotten mailboxes wait for a rewrite", run: func(b *bench) {
		erasure := func() store.Erasure {
			b.Helper()
			e, err := b.Erasure(b.ctx)
			b.must(err, "asking")
			return e
		}
		equal(b, "at first", erasure(), store.Erasure{})
		b.candidates("nora", "omar")
		b.page("rita", series("nora", 1)...)
		b.tick(time.Hour)
		oldest := b.now
		b.purge("nora", "omar")
		b.tick(time.Hour)
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		b.must(b.ForgetMailbox(b.ctx, "unknown", b.now), "forgetting nothing")
		b.reopen()
		equal(b, "then", erasure(), store.Erasure{Pending: 3, Oldest: oldest})
		b.must(b.Rewrite(b.ctx, b.now), "rewriting")
		equal(b, "after the rewrite", erasure(), store.Erasure{LastRewrite: b.now})
		b.reopen()
		rewritten := b.now
		b.tick(time.Hour)
		b.purge("ghost")
		equal(b, "and one more", erasure(), store.Erasure{Pending: 1, Oldest: b.now, LastRewrite: rewritten})
	}},
	{name: "a rewrite changes nothing that can be read", run: func(b *bench) {
		b.three()
		b.add(resync("nora", "rita"))
		b.purge("omar")
		names := namer{}
		before, after := map[string]any{}, map[string]any{}
		events, stats := b.events(), b.stats()
		b.dumpLife(before, names)
		b.must(b.Rewrite(b.ctx, b.now), "rewriting")
		for range 2 {
			equal(b, "events", b.events(), events)
			now := b.stats()
			stats.Bytes, now.Bytes = 0, 0
			equal(b, "stats", now, stats)
			b.dumpLife(after, names)
			before["erasure"] = after["erasure"]
			equal(b, "everything else", after, before)
			b.reopen()
		}
		equal(b, "and it goes on", b.page("rita", mail{id: "z", candidates: []string{"nora"}, minute: 9}).New, 1)
		b.must(b.Rewrite(b.ctx, b.now), "rewriting again")
	}},
	{name: "rewrites beside pages and purges lose nothing", run: func(b *bench) {
		b.candidates("nora")
		done := make(chan error)
		go func() {
			var err error
			for range 5 {
				if err == nil {
					err = b.Rewrite(b.ctx, start())
				}
			}
			done <- err
		}()
		pages := 0
		for running := true; running; pages++ {
			select {
			case err := <-done:
				b.must(err, "rewriting")
				running = false
			default:
			}
			b.page("rita", mail{id: fmt.Sprint("m", pages), candidates: []string{"nora"}, minute: pages})
		}
		st := b.stats()
		equal(b, "messages and events", []int{st.Messages, st.Pending}, []int{pages, pages})
		b.reopen()
		equal(b, "after a restart", b.stats().Messages, pages)
		equal(b, "delivered", len(b.drain()), pages)
	}},
}
