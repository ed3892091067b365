package bolt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

func (s *Store) walkKey(w store.Walk) []byte {
	box, task := s.ring.index.key(tMailbox, w.Mailbox), s.ring.index.key(tTask, w.Task)
	return join(box[:], task[:])
}

// walkRow is a walk at rest. It names the walk, because its key cannot be read
// back and walks are to be listed one day.
type walkRow struct {
	Mailbox string
	Task    string `json:",omitempty"`
	store.WalkState
}

// Walk implements store.Walks.
func (s *Store) Walk(ctx context.Context, w store.Walk) (st store.WalkState, err error) {
	err = s.view(ctx, func(t *tx) error {
		st = t.walk(w)
		return nil
	})
	return st, err
}

// walk reads where a walk stands. The addresses of a task's walk are kept with
// the task alone, where a purge finds them.
func (t *tx) walk(w store.Walk) (st store.WalkState) {
	var row walkRow
	if !t.getJSON(bWalks, t.s.walkKey(w), &row) {
		return st
	}
	st = row.WalkState
	if no, ok := t.s.taskNo(w.Task); ok {
		task, _ := t.task(no)
		st.Addresses = task.Addresses
	}
	return st
}

// Advance implements store.Walks.
func (s *Store) Advance(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
	var p *page
	err := s.update(ctx, func(t *tx) error {
		p = &page{t: t, b: &b, born: map[uint64]bool{}, gained: map[hkey]bool{}}
		return p.advance(w, version)
	})
	if err != nil {
		return store.Advanced{}, err
	}
	return p.done, nil
}

// advance does all of one Advance. Whether the outbox has room is asked last,
// when it is known whether the page needs any; the transaction is rolled back
// if not.
func (p *page) advance(w store.Walk, version uint64) error {
	if err := p.openTask(w); err != nil {
		return err
	}
	have := p.t.walk(w)
	if have.Version != version {
		return fmt.Errorf("walk at version %d, expected %d: %w", have.Version, version, store.ErrConflict)
	}
	full := p.t.room()
	for _, m := range inOrderOfDate(p.b.Messages) {
		p.decide(m)
	}
	p.emit()
	if full != nil && p.done.Events > 0 {
		return full
	}
	p.moveWalk(w, version+1)
	p.moveTask(w, have)
	if p.b.Mailbox != nil {
		p.t.putMailbox(*p.b.Mailbox)
	}
	return nil
}

// decide does with one message what the walk is for.
func (p *page) decide(m store.Matched) {
	if p.task != nil && p.task.row.Kind == store.TaskReread {
		p.fill(m)
		return
	}
	p.take(m)
}

func (p *page) moveWalk(w store.Walk, version uint64) {
	key := p.t.s.walkKey(w)
	if p.b.Done {
		p.t.del(bWalks, key)
		return
	}
	st := p.b.State
	st.Version, st.Since, st.Started = version, ms(st.Since), ms(st.Started)
	if p.task != nil {
		st.Addresses = nil
	}
	p.t.putJSON(bWalks, key, walkRow{w.Mailbox, w.Task, st})
	p.done.Version = version
}

// inOrderOfDate sorts messages by Date, where it cannot be read by arrival:
// the start of a thread before its replies makes merges rare.
func inOrderOfDate(all []store.Matched) []store.Matched {
	if len(all) < 2 {
		return all
	}
	date := func(m store.Matched) time.Time {
		if m.Header.Date.IsZero() {
			return m.Received
		}
		return m.Header.Date
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b store.Matched) int {
		return cmp.Or(date(a).Compare(date(b)), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// ---- mailboxes ---------------------------------------------------------

func (t *tx) putMailbox(m store.Mailbox) {
	m.Since, m.RetryAt, m.Horizon = ms(m.Since), ms(m.RetryAt), ms(m.Horizon)
	m.LastSuccess, m.LastAudit, m.LastReconcile, m.OwedSince = ms(m.LastSuccess), ms(m.LastAudit), ms(m.LastReconcile), ms(m.OwedSince)
	key := t.s.ring.index.key(tMailbox, m.ID)
	t.putJSON(bMailboxes, key[:], m)
}

// Mailbox implements store.Walks.
func (s *Store) Mailbox(ctx context.Context, id string) (m store.Mailbox, err error) {
	err = s.view(ctx, func(t *tx) error {
		key := s.ring.index.key(tMailbox, id)
		m, _ = s.mailboxes.get(t, bMailboxes, key[:])
		return nil
	})
	m.ID = id
	return m, err
}

// SetMailbox implements store.Walks.
func (s *Store) SetMailbox(ctx context.Context, m store.Mailbox, e *store.MailboxEvent, now time.Time) error {
	return s.update(ctx, func(t *tx) error {
		t.putMailbox(m)
		if e != nil {
			data := *e
			data.Since = ms(data.Since)
			t.append(store.MailboxStateEvent, "mailbox:"+m.ID, nil, store.EventData{Mailbox: &data}, now)
		}
		return nil
	})
}

// Mailboxes implements store.Store.
func (s *Store) Mailboxes(ctx context.Context) (all []store.Mailbox, err error) {
	err = s.view(ctx, func(t *tx) error {
		for _, key := range t.keys(bMailboxes, nil, 0) {
			var m store.Mailbox
			t.getJSON(bMailboxes, key, &m)
			all = append(all, m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b store.Mailbox) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// forgetPiece is how many messages ForgetMailbox takes in one commit: some
// 20 ms in which no page can be committed.
const forgetPiece = 500

// ForgetMailbox implements store.Store.
func (s *Store) ForgetMailbox(ctx context.Context, id string, now time.Time) error {
	counted := false // as an erasure that waits for the file to be rewritten
	for more := true; more; {
		err := s.update(ctx, func(t *tx) error {
			more = t.forgetPiece(id, now)
			if t.dirty && !counted {
				t.erased(now)
			}
			counted = counted || t.dirty
			return nil
		})
		if err != nil {
			return err
		}
	}
	key := s.ring.index.key(tMailbox, id)
	s.mailboxes.forget(key[:])
	return nil
}

// forgetPiece takes up to forgetPiece messages from the mailbox, or, when there
// are none left, its walks, its secrets and its row.
func (t *tx) forgetPiece(id string, now time.Time) (more bool) {
	box := t.s.ring.index.key(tMailbox, id)
	held := t.keys(bHoldings, box[:], forgetPiece)
	for _, key := range held {
		t.dropHolding(hkey(key[16:]), id)
	}
	if len(held) == forgetPiece {
		return true
	}
	t.dropOwed(id, now)
	for _, key := range t.keys(bWalks, box[:], 0) {
		t.del(bWalks, key)
	}
	t.dropSecrets(id)
	t.del(bMailboxes, box[:])
	return false
}

func (t *tx) dropHolding(msg hkey, mailbox string) {
	box := t.s.ring.index.key(tMailbox, mailbox)
	t.del(bHoldings, join(box[:], msg[:]))
	row, ok := t.message(msg)
	if !ok {
		return
	}
	row.Holdings = slices.DeleteFunc(row.Holdings, func(h store.Holding) bool { return h.ID == mailbox })
	if len(row.Holdings) > 0 {
		t.putMessage(msg, row)
		return
	}
	for _, pair := range row.Pairs {
		cand := t.candidate(pair.Candidate)
		t.del(bLedger, join(cand[:], msg[:]))
		t.counters().Pairs--
	}
	t.removeMessage(msg, row)
}

// ---- activations -------------------------------------------------------

// activationRow is one entry of a revision's list in bActivations.
type activationRow struct {
	Key   string `json:"k,omitempty"`
	Ref   string `json:"r,omitempty"`
	Since stamp  `json:"s"`
}

// Activations implements store.Walks.
func (s *Store) Activations(ctx context.Context, after, upTo uint64) (acts []store.Activation, ok bool, err error) {
	err = s.view(ctx, func(t *tx) error {
		if ok = after >= t.directory().Floor; !ok {
			return nil
		}
		c := t.bucket(bActivations).Cursor()
		for k, v := c.Seek(be8(after + 1)); k != nil && bytes.Compare(k, be8(upTo)) <= 0; k, v = c.Next() {
			acts = append(acts, t.activationsOf(k, v)...)
		}
		return nil
	})
	return acts, ok, err
}

func (t *tx) activationsOf(key, sealed []byte) (acts []store.Activation) {
	plain, ok := t.open(bActivations, key, sealed)
	if !ok {
		return nil
	}
	var list []activationRow
	if err := json.Unmarshal(plain, &list); err != nil {
		t.damaged(bActivations, key, err)
	}
	for _, a := range list {
		acts = append(acts, store.Activation{Revision: number(key), Key: a.Key, Ref: a.Ref, Since: a.Since.time()})
	}
	return acts
}

// logActivations writes the activations of one revision and drops the oldest
// revisions while the log is too long.
func (t *tx) logActivations(d *directoryRow, acts []store.Activation) {
	if len(acts) == 0 {
		return
	}
	list := make([]activationRow, len(acts))
	for i, a := range acts {
		list[i] = activationRow{Key: a.Key, Ref: a.Ref, Since: stampOf(a.Since)}
	}
	t.putJSON(bActivations, be8(d.Revision), list)
	for _, key := range t.activatedKeys(d.Revision, list) {
		t.put(bActivated, key, nil)
	}
	d.Activations += len(list)
	for d.Activations > t.s.opts.ActivationLog && t.err == nil {
		t.dropOldestActivations(d)
	}
}

func (t *tx) activatedKeys(revision uint64, list []activationRow) (keys [][]byte) {
	for _, a := range list {
		if a.Ref != "" {
			cand := t.candidate(a.Ref)
			keys = append(keys, join(cand[:], be8(revision)))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func (t *tx) dropOldestActivations(d *directoryRow) {
	key := t.firstKey(bActivations, nil)
	var list []activationRow
	if key == nil || !t.getJSON(bActivations, key, &list) {
		d.Activations = 0
		return
	}
	t.del(bActivations, key)
	d.Floor = number(key)
	d.Activations -= len(list)
	for _, key := range t.activatedKeys(d.Floor, list) {
		t.del(bActivated, key)
	}
}

// forgetActivations takes a candidate out of the log and returns the addresses
// it stood there with.
func (t *tx) forgetActivations(cand hkey, ref string, d *directoryRow) (addresses []string) {
	for _, key := range t.keys(bActivated, cand[:], 0) {
		t.del(bActivated, key)
		revision := key[16:]
		var list []activationRow
		if !t.getJSON(bActivations, revision, &list) {
			continue
		}
		for _, a := range list {
			if a.Ref == ref {
				addresses = append(addresses, a.Key)
			}
		}
		kept := slices.DeleteFunc(slices.Clone(list), func(a activationRow) bool { return a.Ref == ref })
		d.Activations -= len(list) - len(kept)
		if len(kept) > 0 {
			t.putJSON(bActivations, revision, kept)
		} else {
			t.del(bActivations, revision)
		}
	}
	return addresses
}
