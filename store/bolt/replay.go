package bolt

import (
	"context"
	"maps"
	"slices"
	"time"

	"mailsyncd/store"
)

// rereadMargin is how long before the earliest message of an event a re-read
// begins: servers search by day, and in their own time zone.
const rereadMargin = 24 * time.Hour

// replaying is one piece of a replay.
type replaying struct {
	t    *tx
	f    *store.EventFilter
	now  time.Time
	done store.Replayed
	// What has to be read again, and where.
	events    []uint64
	mailboxes map[string]bool
	since     stamp
}

// Replay implements store.Deliveries.
func (s *Store) Replay(ctx context.Context, f store.EventFilter, now time.Time) (done store.Replayed, err error) {
	sel := selection{f: f, after: f.After}
	for !sel.done {
		var piece replaying
		err := s.update(ctx, func(t *tx) error {
			piece = replaying{t: t, f: &f, now: now, mailboxes: map[string]bool{}}
			for _, no := range sel.next(t) {
				if f.Limit > 0 && taken(done)+taken(piece.done) == f.Limit {
					sel.done = true
					break
				}
				if e, ok := t.event(no); ok && sel.matches(&e) {
					piece.event(no, &e)
				}
			}
			piece.reread()
			return nil
		})
		if err != nil {
			return done, err
		}
		done.Replayed += piece.done.Replayed
		done.Rereading += piece.done.Rereading
		done.Erased += piece.done.Erased
		done.Tasks = append(done.Tasks, piece.done.Tasks...)
	}
	return done, nil
}

// taken is how many events a replay was asked for and found.
func taken(r store.Replayed) int { return r.Replayed + r.Rereading + r.Erased }

// event replays one event as its state and what is left of it allow.
func (r *replaying) event(no uint64, e *eventRow) {
	t := r.t
	switch {
	case e.State == store.EventPending && r.f.IDs != nil:
		t.hasten(no, e, r.now)
		r.done.Replayed++
	case e.State != store.EventDead && e.State != store.EventDelivered:
	case t.outlived(e):
	case t.has(bData, be8(no)) || t.has(bBodies, be8(no)):
		t.replay(no, e, r.now)
		r.done.Replayed++
	case e.Reread != 0 || r.wants(no):
		r.done.Rereading++
	default:
		r.done.Erased++
	}
}

// replay makes a dead or delivered event pending again.
func (t *tx) replay(no uint64, e *eventRow, now time.Time) {
	t.del(bExpiry, expiryKey(no, e))
	t.countState(e.State, -1)
	e.State, e.Due = store.EventPending, stampOf(now)
	e.Tries, e.FirstFailure, e.Delivered = 0, 0, 0
	t.countState(e.State, 1)
	t.put(bPending, be8(no), nil)
	if e.Type == store.CandidatePurged {
		t.put(bPurging, be8(no), []byte(e.Candidates[0]))
	}
	t.putEvent(no, e)
	t.enqueue(no, e)
	t.appended++
}

// hasten makes a pending event due now. Its version stays: the outcome of an
// attempt in flight must still find it.
func (t *tx) hasten(no uint64, e *eventRow, now time.Time) {
	head := t.del(bDue, dueKey(no, e))
	e.Due = stampOf(now)
	t.putJSON(bEvents, be8(no), e)
	if head {
		t.setDue(no, e)
		t.appended++
	}
}

// wants puts an erased event among those to be read again, and tells whether
// any mailbox can be read for it.
func (r *replaying) wants(no uint64) bool {
	bones, ok := r.t.skeleton(no)
	if !ok {
		return false
	}
	found, since := false, r.since
	for _, m := range bones.Messages {
		row, _ := r.t.message(r.t.s.ring.index.key(tMessage, m.ID))
		for _, h := range row.Holdings {
			if r.t.has(bWalks, r.t.s.walkKey(store.Walk{Mailbox: h.ID})) {
				r.mailboxes[h.ID], found = true, true
			}
		}
		if m.Received != 0 && (since == 0 || m.Received < since) {
			since = m.Received
		}
	}
	if found {
		r.events, r.since = append(r.events, no), since
	}
	return found
}

// reread makes one task of all that has to be read again.
func (r *replaying) reread() {
	if len(r.events) == 0 {
		return
	}
	task := store.Task{
		Kind: store.TaskReread, Since: r.since.time().Add(-rereadMargin),
		Mailboxes: slices.Sorted(maps.Keys(r.mailboxes)), Events: r.events,
	}
	no := r.t.addTask(task, r.now)
	r.t.putOwed(r.t.owedOf(no))
	for _, event := range r.events {
		r.t.beginReread(event, no)
	}
	r.done.Tasks = []string{r.t.s.taskID(no)}
}

// outlived tells that an event is the purge of a candidate who is back. Posting
// it again would have the ATS erase what was delivered since.
func (t *tx) outlived(e *eventRow) bool {
	if e.Type != store.CandidatePurged || len(e.Candidates) == 0 {
		return false
	}
	_, back := t.row("candidate", e.Candidates[0])
	return back
}
