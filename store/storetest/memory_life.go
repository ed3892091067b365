package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailsyncd/store"
)

// memTask is a task with the mailboxes whose walk has not ended.
type memTask struct {
	store.Task
	no      uint64 // the order of AddTasks
	owed    map[string]bool
	waiting int // events a re-read has not filled
}

// public is a copy, whole or without what Owed leaves out.
func (t *memTask) public(whole bool) store.Task {
	out := t.Task
	out.Addresses, out.Left = slices.Clone(t.Addresses), len(t.owed)
	if whole {
		out.Mailboxes, out.Events = slices.Clone(t.Mailboxes), slices.Clone(t.Events)
	} else {
		out.Mailboxes, out.Events = nil, nil
	}
	return out
}

func (s *state) task(id string) *memTask {
	for _, t := range s.tasks {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// AddTasks implements store.Tasks.
func (m *Memory) AddTasks(ctx context.Context, tasks []store.Task, now time.Time) (added []store.Task, err error) {
	if err := store.CheckTasks(tasks); err != nil {
		return nil, err
	}
	err = m.do(ctx, "AddTasks", func(s *state) error {
		for i, t := range tasks {
			_, known := s.rows[store.RowKey{Kind: "candidate", Ref: t.Candidate}]
			if t.Candidate != "" && !known {
				return fmt.Errorf("the candidate of task %d is not in the directory: %w", i+1, store.ErrNotFound)
			}
		}
		for _, t := range tasks {
			added = append(added, s.addTask(t, now).public(true))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return added, nil
}

func (s *state) addTask(task store.Task, now time.Time) *memTask {
	t := &memTask{owed: map[string]bool{}, Task: store.Task{
		Kind: task.Kind, Candidate: task.Candidate, Addresses: slices.Clone(task.Addresses), Since: ms(task.Since),
		DryRun: task.DryRun, Events: slices.Clone(task.Events), State: store.TaskRunning, Created: ms(now),
	}}
	s.lastTask++
	t.no = uint64(s.lastTask)
	t.ID = fmt.Sprintf("%s%d", store.TaskPrefix, t.no)
	for _, mailbox := range task.Mailboxes {
		if !t.owed[mailbox] {
			t.owed[mailbox] = true
			t.Mailboxes = append(t.Mailboxes, mailbox)
		}
	}
	s.tasks = append(s.tasks, t)
	if len(t.owed) == 0 {
		s.endTask(t, store.TaskDone, now)
	}
	return t
}

// Tasks implements store.Tasks.
func (m *Memory) Tasks(ctx context.Context) (all []store.Task, err error) {
	err = m.do(ctx, "Tasks", func(s *state) error {
		for _, t := range s.tasks {
			all = append(all, t.public(true))
		}
		return nil
	})
	return all, err
}

// Task implements store.Tasks.
func (m *Memory) Task(ctx context.Context, id string) (out store.Task, err error) {
	err = m.do(ctx, "Task", func(s *state) error {
		t := s.task(id)
		if t == nil {
			return fmt.Errorf("task %q: %w", id, store.ErrNotFound)
		}
		out = t.public(true)
		return nil
	})
	return out, err
}

// CancelTask implements store.Tasks.
func (m *Memory) CancelTask(ctx context.Context, id string, now time.Time) (out store.Task, err error) {
	err = m.do(ctx, "CancelTask", func(s *state) error {
		t := s.task(id)
		if t == nil {
			return fmt.Errorf("task %q: %w", id, store.ErrNotFound)
		}
		if t.State == store.TaskRunning {
			s.endTask(t, store.TaskCancelled, now)
		}
		out = t.public(true)
		return nil
	})
	return out, err
}

// Owed implements store.Tasks.
func (m *Memory) Owed(ctx context.Context, mailbox string) (owed []store.OwedWalk, err error) {
	err = m.do(ctx, "Owed", func(s *state) error {
		for _, t := range s.tasks {
			if !t.owed[mailbox] {
				continue
			}
			o := store.OwedWalk{Task: t.public(false), Walk: store.Walk{Mailbox: mailbox, Task: t.ID}}
			if o.State = s.walks[o.Walk]; o.State.Version == 0 {
				o.State.Since = t.Since
			}
			o.State.Addresses = slices.Clone(t.Addresses)
			owed = append(owed, o)
		}
		return nil
	})
	return owed, err
}

// mayAdvance tells whether the walk's task, if it has one, still walks there.
func (s *state) mayAdvance(w store.Walk, b store.Batch) error {
	if !strings.HasPrefix(w.Task, store.TaskPrefix) {
		return nil
	}
	t := s.task(w.Task)
	switch {
	case t == nil || !t.owed[w.Mailbox]:
		return fmt.Errorf("task %q has no walk there any more: %w", w.Task, store.ErrConflict)
	case t.DryRun && len(b.Messages) > 0:
		return errors.New("a dry run records nothing, and got messages to record")
	}
	return nil
}

// moveTask counts the page for its task and ends what it ends.
func (p *page) moveTask(w store.Walk, have store.WalkState) {
	t := p.task
	if t == nil {
		if p.b.Done && w.Task == "" {
			p.s.dropOwed(w.Mailbox, p.b.Now)
		}
		return
	}
	t.Scanned += max(p.b.State.Scanned, have.Scanned) - have.Scanned
	t.Matched += max(p.b.State.Matched, have.Matched) - have.Matched
	t.New += uint64(p.done.New + p.done.Again)
	if p.b.Done {
		p.s.endWalk(t, w.Mailbox, p.b.Now)
	} else if t.Kind == store.TaskReread && t.waiting == 0 {
		p.s.endTask(t, store.TaskDone, p.b.Now)
		p.done.Ended, p.done.Version = true, 0
	}
}

func (s *state) endWalk(t *memTask, mailbox string, now time.Time) {
	delete(t.owed, mailbox)
	delete(s.walks, store.Walk{Mailbox: mailbox, Task: t.ID})
	if len(t.owed) == 0 {
		s.endTask(t, store.TaskDone, now)
	}
}

func (s *state) endTask(t *memTask, end store.TaskState, now time.Time) {
	for mailbox := range t.owed {
		delete(s.walks, store.Walk{Mailbox: mailbox, Task: t.ID})
	}
	clear(t.owed)
	for _, no := range t.Events {
		if e := s.events[no]; e != nil && e.Reread == t.ID {
			s.endReread(e, end == store.TaskDone, now)
		}
	}
	t.State, t.Ended = end, ms(now)
}

// dropOwed ends all walks that tasks have in a mailbox.
func (s *state) dropOwed(mailbox string, now time.Time) {
	for _, t := range s.tasks {
		if t.owed[mailbox] {
			s.endWalk(t, mailbox, now)
		}
	}
}

// purgeTasks ends a candidate's tasks and takes out of them whom they were about.
func (s *state) purgeTasks(ref string, now time.Time) {
	for _, t := range s.tasks {
		if t.Candidate != ref {
			continue
		}
		if t.State == store.TaskRunning {
			s.endTask(t, store.TaskCancelled, now)
		}
		t.Candidate, t.Addresses, t.Purged = "", nil, true
	}
}

// restartWalks lets look-backs that carry one of the addresses begin again for
// all.
func (s *state) restartWalks(addresses map[string]bool) {
	for w, st := range s.walks {
		if s.task(w.Task) == nil && slices.ContainsFunc(st.Addresses, func(a string) bool { return addresses[a] }) {
			st.Version++
			st.Cursor, st.Addresses = "", nil
			s.walks[w] = st
		}
	}
}

// ---- retention and replay ----------------------------------------------

// memSkeleton is what is left of an erased event.
type memSkeleton struct {
	origin   store.Origin
	count    int
	messages []memBone
}

type memBone struct {
	id       string
	received time.Time
	refs     []string
	found    *store.EventMessage
}

// Replay implements store.Deliveries.
func (m *Memory) Replay(ctx context.Context, f store.EventFilter, now time.Time) (done store.Replayed, err error) {
	err = m.do(ctx, "Replay", func(s *state) error {
		var lost []*store.Event
		for _, e := range s.selected(f) {
			if f.Limit > 0 && done.Replayed+done.Rereading+done.Erased == f.Limit {
				break
			}
			switch {
			case e.State == store.EventPending && f.IDs != nil:
				e.Due = ms(now)
				s.woken++
				done.Replayed++
			case e.State != store.EventDead && e.State != store.EventDelivered:
			case s.outlived(e):
			case e.Data != nil || e.Body != nil:
				s.replay(e, now)
				done.Replayed++
			case e.Reread != "":
				done.Rereading++
			case len(s.readable(e)) > 0:
				lost = append(lost, e)
				done.Rereading++
			default:
				done.Erased++
			}
		}
		if len(lost) > 0 {
			done.Tasks = []string{s.reread(lost, now).ID}
		}
		return nil
	})
	return done, err
}

func (s *state) replay(e *store.Event, now time.Time) {
	e.State, e.Due = store.EventPending, ms(now)
	e.Tries, e.FirstFailure, e.Delivered = 0, time.Time{}, time.Time{}
	e.Version++
	s.unsettle(e)
	s.woken++
}

// readable are the mailboxes with a cursor that hold a message of the event.
func (s *state) readable(e *store.Event) (ids []string) {
	for _, bone := range s.skeletons[e.No].messages {
		row := s.messages[bone.id]
		if row == nil {
			continue
		}
		for _, h := range row.holdings {
			if s.walks[store.Walk{Mailbox: h.ID}].Version > 0 {
				ids = append(ids, h.ID)
			}
		}
	}
	return ids
}

// reread makes one task of events to be read again.
func (s *state) reread(lost []*store.Event, now time.Time) *memTask {
	boxes := map[string]bool{}
	var earliest time.Time
	task := store.Task{Kind: store.TaskReread}
	for _, e := range lost {
		task.Events = append(task.Events, e.No)
		for _, id := range s.readable(e) {
			boxes[id] = true
		}
		for _, bone := range s.skeletons[e.No].messages {
			if !bone.received.IsZero() && (earliest.IsZero() || bone.received.Before(earliest)) {
				earliest = bone.received
			}
		}
	}
	task.Mailboxes, task.Since = slices.Sorted(maps.Keys(boxes)), earliest.Add(-24*time.Hour)
	t := s.addTask(task, now)
	t.waiting = len(lost)
	for _, e := range lost {
		e.Reread = t.ID
		e.Version++
	}
	return t
}

// fill gives a message that a re-read found to the events that miss it.
func (p *page) fill(m store.Matched) {
	pairs := p.s.activePairs(m.Pairs)
	p.done.Dropped += len(m.Pairs) - len(pairs)
	again := 0
	for _, no := range p.task.Events {
		if e := p.s.events[no]; e != nil && e.Reread == p.task.ID {
			again = max(again, p.fillEvent(e, m, pairs))
		}
	}
	p.done.Again += again
	p.done.Repeated += len(pairs) - again
}

func (p *page) fillEvent(e *store.Event, m store.Matched, pairs []store.Pair) int {
	bones := p.s.skeletons[e.No].messages
	i := slices.IndexFunc(bones, func(b memBone) bool { return b.id == m.ID && b.found == nil })
	if i < 0 {
		return 0
	}
	had := bones[i].refs
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p store.Pair) bool { return !slices.Contains(had, p.Candidate) })
	if len(pairs) == 0 {
		return 0
	}
	found := eventMessage(m)
	found.Candidates, found.Mailboxes = pairs, []store.Holding{m.Mailbox}
	if row := p.s.messages[m.ID]; row != nil {
		found.Mailboxes = slices.Clone(row.holdings)
	}
	bones[i].found = &found
	if !slices.ContainsFunc(bones, func(b memBone) bool { return b.found == nil }) {
		p.s.refill(e, p.b.Now)
		p.task.waiting--
	}
	return len(pairs)
}

// refill gives an event its payload back, as far as it was found.
func (s *state) refill(e *store.Event, now time.Time) {
	bones := s.skeletons[e.No]
	data := &store.ThreadEvent{Origin: bones.origin, Thread: e.Stream, MessageCount: bones.count}
	e.Candidates = nil
	for _, b := range bones.messages {
		if b.found == nil {
			continue
		}
		data.Messages = append(data.Messages, *b.found)
		for _, pair := range b.found.Candidates {
			e.Candidates = append(e.Candidates, pair.Candidate)
		}
	}
	slices.Sort(e.Candidates)
	e.Candidates = slices.Compact(e.Candidates)
	delete(s.skeletons, e.No)
	e.Data, e.Reread = &store.EventData{Thread: data}, ""
	s.replay(e, now)
}

// endReread ends a task's search for one event.
func (s *state) endReread(e *store.Event, settle bool, now time.Time) {
	bones := s.skeletons[e.No].messages
	if settle && slices.ContainsFunc(bones, func(b memBone) bool { return b.found != nil }) {
		s.refill(e, now)
		return
	}
	for i := range bones {
		bones[i].found = nil
	}
	if e.Reread = ""; settle {
		e.LastResult = store.NotFoundAgain
	}
	e.Version++
}

// stripSkeleton takes a candidate out of an erased event and tells whether
// anything is left.
func (s *state) stripSkeleton(no uint64, ref string) bool {
	bones, ok := s.skeletons[no]
	if !ok {
		return true
	}
	for i := range bones.messages {
		b := &bones.messages[i]
		b.refs = slices.DeleteFunc(b.refs, func(r string) bool { return r == ref })
		if b.found == nil {
			continue
		}
		b.found.Candidates = slices.DeleteFunc(b.found.Candidates, func(p store.Pair) bool { return p.Candidate == ref })
		if len(b.found.Candidates) == 0 {
			b.found = nil
		}
	}
	bones.messages = slices.DeleteFunc(bones.messages, func(b memBone) bool { return len(b.refs) == 0 })
	s.skeletons[no] = bones
	return len(bones.messages) > 0
}

// Expire implements store.Deliveries.
func (m *Memory) Expire(ctx context.Context, before store.Expiry) (more bool, err error) {
	err = m.do(ctx, "Expire", func(s *state) error {
		for _, no := range slices.Clone(s.order) {
			e := s.events[no]
			old := e.State == store.EventDead && e.LastAttempt.Before(ms(before.Dead)) ||
				e.State == store.EventDelivered && e.Delivered.Before(ms(before.Delivered))
			switch {
			case !old:
			case e.Type != store.ThreadMatched:
				s.remove(e)
			case e.Data != nil || e.Body != nil:
				s.eraseToSkeleton(e)
			}
		}
		s.tasks = slices.DeleteFunc(s.tasks, func(t *memTask) bool {
			return t.State != store.TaskRunning && t.Ended.Before(ms(before.Tasks))
		})
		return nil
	})
	return false, err
}

func (s *state) eraseToSkeleton(e *store.Event) {
	bones := memSkeleton{origin: e.Data.Thread.Origin, count: e.Data.Thread.MessageCount}
	for _, m := range e.Data.Thread.Messages {
		b := memBone{id: m.ID, received: m.Received}
		for _, pair := range m.Candidates {
			b.refs = append(b.refs, pair.Candidate)
		}
		bones.messages = append(bones.messages, b)
	}
	s.skeletons[e.No] = bones
	e.Data, e.Body = nil, nil
	e.Version++
}

// ---- ledger ------------------------------------------------------------

// PairStates implements store.Ledger.
func (m *Memory) PairStates(ctx context.Context, keys []store.PairKey) (states []store.PairState, err error) {
	err = m.do(ctx, "PairStates", func(s *state) error {
		for _, k := range keys {
			state := store.PairAbsent
			if row := s.messages[k.Message]; row != nil && row.has(k.Candidate) {
				state, _ = s.carrier(row)
			}
			states = append(states, state)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

func (s *state) carrier(row *memMessage) (store.PairState, string) {
	if e := s.events[row.last]; e != nil {
		return store.PairState(e.State), e.ID
	}
	return store.PairDelivered, ""
}

// Message implements store.Ledger.
func (m *Memory) Message(ctx context.Context, id string) (out store.LedgerMessage, err error) {
	err = m.do(ctx, "Message", func(s *state) error {
		if s.messages[id] == nil {
			return fmt.Errorf("message %q: %w", id, store.ErrNotFound)
		}
		out = s.ledgerMessage(id)
		return nil
	})
	return out, err
}

func (s *state) ledgerMessage(id string) store.LedgerMessage {
	row := s.messages[id]
	out := store.LedgerMessage{ID: id, Thread: row.thread.root().id, Holdings: slices.Clone(row.holdings)}
	state, event := s.carrier(row)
	for _, pair := range row.pairs {
		pair.Fields = slices.Clone(pair.Fields)
		out.Pairs = append(out.Pairs, store.LedgerPair{Pair: pair, State: state, Event: event, At: row.entered[pair.Candidate]})
	}
	return out
}

// CandidateMessages implements store.Ledger; its order is that of the ids.
func (m *Memory) CandidateMessages(ctx context.Context, ref, after string, limit int) (out []store.LedgerMessage, err error) {
	limit = cmp.Or(limit, 100)
	err = m.do(ctx, "CandidateMessages", func(s *state) error {
		for _, id := range slices.Sorted(maps.Keys(s.messages)) {
			if id > after && s.messages[id].has(ref) && len(out) < limit {
				out = append(out, s.ledgerMessage(id))
			}
		}
		return nil
	})
	return out, err
}

// ---- erasure -----------------------------------------------------------

// knows tells whether anything is kept of a mailbox.
func (s *state) knows(mailbox string) bool {
	if _, ok := s.mailboxes[mailbox]; ok {
		return true
	}
	for w := range s.walks {
		if w.Mailbox == mailbox {
			return true
		}
	}
	for _, t := range s.tasks {
		if t.owed[mailbox] {
			return true
		}
	}
	for k := range s.secrets {
		if k.mailbox == mailbox {
			return true
		}
	}
	for _, row := range s.messages {
		if slices.ContainsFunc(row.holdings, func(h store.Holding) bool { return h.ID == mailbox }) {
			return true
		}
	}
	return false
}

func (s *state) erased(now time.Time) {
	if s.erasure.Pending++; s.erasure.Oldest.IsZero() {
		s.erasure.Oldest = ms(now)
	}
}

// Erasure implements store.Eraser.
func (m *Memory) Erasure(ctx context.Context) (e store.Erasure, err error) {
	err = m.do(ctx, "Erasure", func(s *state) error {
		e = s.erasure
		return nil
	})
	return e, err
}

// Rewrite implements store.Eraser. Maps keep nothing of what was deleted: there
// is only the count to clear.
func (m *Memory) Rewrite(ctx context.Context, now time.Time) error {
	return m.do(ctx, "Rewrite", func(s *state) error {
		s.erasure = store.Erasure{LastRewrite: ms(now)}
		return nil
	})
}

// outlived tells that an event is the purge of a candidate who is back.
func (s *state) outlived(e *store.Event) bool {
	if e.Type != store.CandidatePurged || len(e.Candidates) == 0 {
		return false
	}
	_, back := s.rows[store.RowKey{Kind: "candidate", Ref: e.Candidates[0]}]
	return back
}
