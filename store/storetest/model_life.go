package storetest

import (
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

// The model's steps over a candidate's life: tasks and their pages, look-backs,
// replays of what was erased, rewrites.

// chooseLife draws such a step.
func (p *player) chooseLife() (string, step) {
	cand, box, n := fmt.Sprint("cand", p.pick(5)), fmt.Sprint("box", p.pick(3)), p.pick(6)
	switch p.pick(9) {
	case 0:
		return "add tasks", addSome(p.someTasks(cand))
	case 1, 2, 3, 4:
		done, mails := p.pick(3) == 0, p.sample(p.pick(12)+1)
		return "task page", func(b *bench) string { return b.taskPage(box, n, done, mails) }
	case 5:
		return "cancel", func(b *bench) string { return b.cancelSome(n) }
	case 6:
		return "replay by id", func(b *bench) string { return b.replaySome(n) }
	case 7:
		key, done := address(cand), p.pick(3) == 0
		return "look back", func(b *bench) string { return b.lookBack(box, key, done) }
	}
	if n == 0 {
		return "drop the cursor", func(b *bench) string { return b.dropCursor(box) }
	}
	return "rewrite", func(b *bench) string { return b.said(b.Rewrite(b.ctx, b.now)) }
}

func (p *player) sample(n int) (mails []mail) {
	for range n {
		mails = append(mails, p.mails[p.pick(len(p.mails))])
	}
	return mails
}

func (p *player) someTasks(cand string) (tasks []store.Task) {
	for range p.pick(2) + 1 {
		t := store.Task{Kind: store.TaskResync, Candidate: cand, Addresses: []string{address(cand)}, Since: start()}
		switch p.pick(4) {
		case 0:
			t.Kind = store.TaskRedeliver
		case 1:
			t = store.Task{Kind: store.TaskRedeliver, Since: start()}
		case 2:
			t.DryRun = true
		}
		for i := range p.pick(4) {
			t.Mailboxes = append(t.Mailboxes, fmt.Sprint("box", i))
		}
		tasks = append(tasks, t)
	}
	return tasks
}

func addSome(tasks []store.Task) step {
	return func(b *bench) string {
		added, err := b.AddTasks(b.ctx, tasks, b.now)
		return b.said(len(added), err)
	}
}

// taskPage advances the n-th walk that a mailbox owes.
func (b *bench) taskPage(box string, n int, done bool, mails []mail) string {
	owed, err := b.Owed(b.ctx, box)
	b.must(err, "asking what is owed")
	if len(owed) == 0 {
		return "nothing owed"
	}
	o := owed[n%len(owed)]
	batch := b.batch(box, mails...)
	batch.Done, batch.Again = done, o.Task.Kind == store.TaskRedeliver
	batch.State.Scanned, batch.State.Matched = o.State.Scanned+10, o.State.Matched+uint64(len(mails))
	if o.Task.DryRun && n != 5 {
		batch.Messages = nil
	}
	return b.said(b.Advance(b.ctx, o.Walk, o.State.Version, batch))
}

func (b *bench) cancelSome(n int) string {
	tasks, err := b.Tasks(b.ctx)
	b.must(err, "listing tasks")
	if len(tasks) == 0 {
		return "no tasks"
	}
	t, err := b.CancelTask(b.ctx, tasks[n%len(tasks)].ID, b.now)
	t.ID = ""
	return b.said(t, err)
}

// replaySome replays some of the newest events by their ids, pending ones too.
func (b *bench) replaySome(n int) string {
	listed, err := b.Events(b.ctx, store.EventFilter{Limit: 1_000_000})
	b.must(err, "listing events")
	var ids []string
	for i, e := range listed {
		if i%6 == n {
			ids = append(ids, e.ID)
		}
	}
	if ids == nil {
		return "no events"
	}
	done, err := b.Replay(b.ctx, store.EventFilter{IDs: ids}, b.now)
	return b.said(replayed(done), err)
}

// replayed is a result without the ids each store makes its own way.
func replayed(r store.Replayed) string {
	return fmt.Sprint(r.Replayed, r.Rereading, r.Erased, len(r.Tasks))
}

func (b *bench) lookBack(box, key string, done bool) string {
	w := store.Walk{Mailbox: box, Task: "lookback"}
	st, err := b.Walk(b.ctx, w)
	b.must(err, "reading the look-back")
	version := st.Version
	if version == 0 {
		st = store.WalkState{Addresses: []string{key}, Started: b.now, Cursor: "begun"}
	}
	return b.said(b.Advance(b.ctx, w, version, store.Batch{State: st, Done: done, Now: b.now}))
}

func (b *bench) dropCursor(box string) string {
	w := store.Walk{Mailbox: box}
	st, err := b.Walk(b.ctx, w)
	b.must(err, "reading the walk")
	return b.said(b.Advance(b.ctx, w, st.Version, store.Batch{Done: true, Now: b.now}))
}

// dumpLife adds to a dump what the steps above change.
func (b *bench) dumpLife(out map[string]any, names namer) {
	tasks, err := b.Tasks(b.ctx)
	b.must(err, "listing tasks")
	for i, t := range tasks {
		one, err := b.Task(b.ctx, t.ID)
		b.must(err, "reading a task")
		out[fmt.Sprint("task ", i, " alone")] = one.ID == t.ID && one.State == t.State
		names[t.ID], t.ID = fmt.Sprint("task ", i), ""
		out[fmt.Sprint("task ", i)] = fmt.Sprintf("%+v", t)
	}
	for i := range 3 {
		box := fmt.Sprint("box", i)
		owed, err := b.Owed(b.ctx, box)
		b.must(err, "asking what is owed")
		for j, o := range owed {
			o.Walk.Task, o.Task.ID = names[o.Walk.Task], names[o.Task.ID]
			out[fmt.Sprint("owed by ", box, " ", j)] = fmt.Sprintf("%+v", o)
		}
		for _, task := range []string{"", "lookback"} {
			st, err := b.Walk(b.ctx, store.Walk{Mailbox: box, Task: task})
			b.must(err, "reading a walk")
			out[fmt.Sprint("walk of ", box, " ", task)] = st
		}
	}
	out["erasure"], err = b.Erasure(b.ctx)
	b.must(err, "reading the erasure")
	b.dumpLedger(out, names)
}

func (b *bench) dumpLedger(out map[string]any, names namer) {
	for i := range 5 {
		ref := fmt.Sprint("cand", i)
		all, err := b.CandidateMessages(b.ctx, ref, "", 0)
		b.must(err, "listing a candidate's messages")
		var ids []string
		for _, m := range all {
			ids = append(ids, m.ID)
			m.Thread = names.thread(m.Thread)
			for j := range m.Pairs {
				m.Pairs[j].Event = fmt.Sprint(m.Pairs[j].Event != "")
			}
			out["message "+m.ID] = fmt.Sprintf("%+v", m)
		}
		slices.Sort(ids)
		out["messages of "+ref] = ids
		out["states of "+ref] = b.statesOf(ref)
	}
}

// statesOf is what became of each mail of a history for one candidate.
func (b *bench) statesOf(ref string) []store.PairState {
	var keys []store.PairKey
	for i := range 24 {
		keys = append(keys, store.PairKey{Message: fmt.Sprint("msg_m", i), Candidate: ref})
	}
	states, err := b.PairStates(b.ctx, keys)
	b.must(err, "asking for states")
	return states
}

// old is a retention that a history of some hours reaches.
func (b *bench) old() store.Expiry {
	return store.Expiry{Delivered: b.now.Add(-20 * time.Minute), Dead: b.now.Add(-40 * time.Minute), Tasks: b.now.Add(-30 * time.Minute)}
}
