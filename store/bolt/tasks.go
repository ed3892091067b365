package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsyncd/store"
)

// A task is one row, its scope another, because a scope may name thousands of
// mailboxes and the row changes with every page. Which walks have not ended is
// one row each in bOwed, which begins with the mailbox: a pass asks for its own
// with one seek. How far a walk is stands in bWalks, as for any other.

// taskRow is a task without its id and its scope.
type taskRow struct {
	Kind      store.TaskKind  `json:"kind"`
	Candidate string          `json:"candidate,omitempty"`
	Addresses []string        `json:"addresses,omitempty"`
	Since     stamp           `json:"since,omitempty"`
	DryRun    bool            `json:"dry,omitempty"`
	State     store.TaskState `json:"state"`
	Purged    bool            `json:"purged,omitempty"`
	Created   stamp           `json:"created"`
	Ended     stamp           `json:"ended,omitempty"`
	Left      int             `json:"left,omitempty"`
	Waiting   int             `json:"waiting,omitempty"` // events a re-read has not filled
	Scanned   uint64          `json:"scanned,omitempty"`
	Matched   uint64          `json:"matched,omitempty"`
	New       uint64          `json:"new,omitempty"`
}

// scopeRow is what a task goes over; it never changes.
type scopeRow struct {
	Mailboxes []string `json:"mailboxes,omitempty"`
	Events    []uint64 `json:"events,omitempty"`
}

// openTask is the task that a page belongs to.
type openTask struct {
	no  uint64
	row taskRow
}

func (r *taskRow) public(id string) store.Task {
	return store.Task{
		ID: id, Kind: r.Kind, Candidate: r.Candidate, Addresses: r.Addresses, Since: r.Since.time(),
		DryRun: r.DryRun, State: r.State, Purged: r.Purged, Created: r.Created.time(), Ended: r.Ended.time(),
		Left: r.Left, Scanned: r.Scanned, Matched: r.Matched, New: r.New,
	}
}

func (t *tx) task(no uint64) (row taskRow, ok bool) {
	ok = t.getJSON(bTasks, be8(no), &row)
	return row, ok
}

func (t *tx) putTask(no uint64, row *taskRow) { t.putJSON(bTasks, be8(no), row) }

func (t *tx) scope(no uint64) (row scopeRow) {
	t.getJSON(bScopes, be8(no), &row)
	return row
}

// wholeTask is a task as the contract shows it.
func (t *tx) wholeTask(no uint64) (store.Task, bool) {
	row, ok := t.task(no)
	if !ok {
		return store.Task{}, false
	}
	out, scope := row.public(t.s.taskID(no)), t.scope(no)
	out.Mailboxes, out.Events = scope.Mailboxes, scope.Events
	return out, true
}

func (t *tx) owedKey(mailbox string, no uint64) []byte {
	box := t.s.ring.index.key(tMailbox, mailbox)
	return join(box[:], be8(no))
}

func (t *tx) taskingKey(ref string, no uint64) []byte {
	cand := t.candidate(ref)
	return join(cand[:], be8(no))
}

// ---- what operators call -----------------------------------------------

// AddTasks implements store.Tasks.
func (s *Store) AddTasks(ctx context.Context, tasks []store.Task, now time.Time) (added []store.Task, err error) {
	if err := store.CheckTasks(tasks); err != nil {
		return nil, err
	}
	err = s.update(ctx, func(t *tx) error {
		var owed [][]byte
		for i, task := range tasks {
			if _, ok := t.row("candidate", task.Candidate); task.Candidate != "" && !ok {
				return fmt.Errorf("the candidate of task %d is not in the directory: %w", i+1, store.ErrNotFound)
			}
			no := t.addTask(task, now)
			owed = append(owed, t.owedOf(no)...)
			whole, _ := t.wholeTask(no)
			added = append(added, whole)
		}
		t.putOwed(owed)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return added, nil
}

// addTask writes a task and its scope; its walks are the caller's, who sorts
// those of many tasks.
func (t *tx) addTask(task store.Task, now time.Time) (no uint64) {
	c := t.counters()
	c.LastTask++
	no = c.LastTask
	scope := scopeRow{Mailboxes: unique(task.Mailboxes), Events: task.Events}
	row := taskRow{
		Kind: task.Kind, Candidate: task.Candidate, Addresses: task.Addresses, Since: stampOf(task.Since),
		DryRun: task.DryRun, State: store.TaskRunning, Created: stampOf(now),
		Left: len(scope.Mailboxes), Waiting: len(scope.Events),
	}
	t.putJSON(bScopes, be8(no), scope)
	if row.Candidate != "" {
		t.put(bTasking, t.taskingKey(row.Candidate, no), nil)
	}
	if row.Left == 0 {
		t.endTask(no, &row, store.TaskDone, now)
	}
	t.putTask(no, &row)
	return no
}

// unique leaves out what comes again.
func unique(texts []string) (out []string) {
	seen := make(map[string]bool, len(texts))
	for _, s := range texts {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func (t *tx) owedOf(no uint64) (keys [][]byte) {
	for _, mailbox := range t.scope(no).Mailboxes {
		keys = append(keys, t.owedKey(mailbox, no))
	}
	return keys
}

// putOwed writes walks in the order of their keys: 200,000 random keys would
// take bbolt many times as long.
func (t *tx) putOwed(keys [][]byte) {
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range keys {
		t.put(bOwed, key, nil)
	}
}

// Tasks implements store.Tasks.
func (s *Store) Tasks(ctx context.Context) (all []store.Task, err error) {
	err = s.view(ctx, func(t *tx) error {
		for _, key := range t.keys(bTasks, nil, 0) {
			task, _ := t.wholeTask(number(key))
			all = append(all, task)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Task implements store.Tasks.
func (s *Store) Task(ctx context.Context, id string) (out store.Task, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		out, err = t.taskByID(id)
		return err
	})
	return out, err
}

func (t *tx) taskByID(id string) (store.Task, error) {
	no, ok := t.s.taskNo(id)
	if ok {
		if task, found := t.wholeTask(no); found {
			return task, nil
		}
	}
	return store.Task{}, fmt.Errorf("task %q: %w", id, store.ErrNotFound)
}

// CancelTask implements store.Tasks.
func (s *Store) CancelTask(ctx context.Context, id string, now time.Time) (out store.Task, err error) {
	err = s.update(ctx, func(t *tx) error {
		no, _ := s.taskNo(id)
		if row, ok := t.task(no); ok && row.State == store.TaskRunning {
			t.endTask(no, &row, store.TaskCancelled, now)
		}
		var err error
		out, err = t.taskByID(id)
		return err
	})
	return out, err
}

// Owed implements store.Tasks. Numbers rise, so the keys' order is by age.
func (s *Store) Owed(ctx context.Context, mailbox string) (owed []store.OwedWalk, err error) {
	err = s.view(ctx, func(t *tx) error {
		box := s.ring.index.key(tMailbox, mailbox)
		for _, key := range t.keys(bOwed, box[:], 0) {
			no := number(key[16:])
			row, _ := t.task(no)
			o := store.OwedWalk{Task: row.public(s.taskID(no)), Walk: store.Walk{Mailbox: mailbox, Task: s.taskID(no)}}
			if o.State = t.walk(o.Walk); o.State.Version == 0 {
				o.State.Since, o.State.Addresses = row.Since.time(), row.Addresses
			}
			owed = append(owed, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return owed, nil
}

// ---- what pages do -----------------------------------------------------

var errDryRun = errors.New("a dry run records nothing, and got messages to record")

// openTask finds the task of a walk that is one's.
func (p *page) openTask(w store.Walk) error {
	if !strings.HasPrefix(w.Task, store.TaskPrefix) {
		return nil
	}
	no, _ := p.t.s.taskNo(w.Task)
	row, ok := p.t.task(no)
	switch {
	case !ok || !p.t.has(bOwed, p.t.owedKey(w.Mailbox, no)):
		return fmt.Errorf("task %q has no walk there any more: %w", w.Task, store.ErrConflict)
	case row.DryRun && len(p.b.Messages) > 0:
		return errDryRun
	}
	p.task = &openTask{no, row}
	return nil
}

// moveTask counts the page for its task and ends what it ends.
func (p *page) moveTask(w store.Walk, have store.WalkState) {
	if p.task == nil {
		if p.b.Done && w.Task == "" {
			p.t.dropOwed(w.Mailbox, p.b.Now)
		}
		return
	}
	no, row := p.task.no, &p.task.row
	row.Scanned += grown(have.Scanned, p.b.State.Scanned)
	row.Matched += grown(have.Matched, p.b.State.Matched)
	row.New += uint64(p.done.New + p.done.Again)
	switch {
	case p.b.Done:
		p.t.endWalk(no, row, w.Mailbox, p.b.Now)
	case row.Kind == store.TaskReread && row.Waiting == 0:
		p.t.endTask(no, row, store.TaskDone, p.b.Now)
		p.done.Ended, p.done.Version = true, 0
	default:
		p.t.putTask(no, row)
	}
}

// grown is by how much a count grew; a walk that began again may count less.
func grown(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// endWalk ends a task's walk in one mailbox, and the task with its last one.
func (t *tx) endWalk(no uint64, row *taskRow, mailbox string, now time.Time) {
	t.del(bOwed, t.owedKey(mailbox, no))
	t.del(bWalks, t.s.walkKey(store.Walk{Mailbox: mailbox, Task: t.s.taskID(no)}))
	if row.Left--; row.Left == 0 {
		t.endTask(no, row, store.TaskDone, now)
		return
	}
	t.putTask(no, row)
}

// endTask ends a task and the walks it has left. A re-read that was done lets
// its events go with what was found; one that was cancelled leaves them.
func (t *tx) endTask(no uint64, row *taskRow, state store.TaskState, now time.Time) {
	scope := t.scope(no)
	for _, mailbox := range scope.Mailboxes {
		t.del(bOwed, t.owedKey(mailbox, no))
		t.del(bWalks, t.s.walkKey(store.Walk{Mailbox: mailbox, Task: t.s.taskID(no)}))
	}
	for _, event := range scope.Events {
		t.endReread(event, no, state == store.TaskDone, now)
	}
	row.State, row.Ended, row.Left, row.Waiting = state, stampOf(now), 0, 0
	t.put(bExpiry, join([]byte{expiryTask}, row.Ended.key(), be8(no)), nil)
	t.putTask(no, row)
}

// dropOwed ends all walks that tasks have in a mailbox.
func (t *tx) dropOwed(mailbox string, now time.Time) {
	box := t.s.ring.index.key(tMailbox, mailbox)
	for _, key := range t.keys(bOwed, box[:], 0) {
		no := number(key[16:])
		if row, ok := t.task(no); ok {
			t.endWalk(no, &row, mailbox, now)
		}
	}
}

// purgeTasks ends a candidate's tasks and takes out of all of them, ended ones
// too, whom they were about.
func (t *tx) purgeTasks(cand hkey, now time.Time) {
	for _, key := range t.keys(bTasking, cand[:], 0) {
		t.del(bTasking, key)
		no := number(key[16:])
		row, ok := t.task(no)
		if !ok {
			continue
		}
		row.Candidate, row.Addresses, row.Purged = "", nil, true
		if row.State == store.TaskRunning {
			t.endTask(no, &row, store.TaskCancelled, now)
		} else {
			t.putTask(no, &row)
		}
	}
}

// removeTask takes an ended task's rows away.
func (t *tx) removeTask(no uint64) {
	if row, ok := t.task(no); ok && row.Candidate != "" {
		t.del(bTasking, t.taskingKey(row.Candidate, no))
	}
	t.del(bScopes, be8(no))
	t.del(bTasks, be8(no))
}
