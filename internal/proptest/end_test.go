package proptest_test

import (
	"errors"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// ---- the quiet end -----------------------------------------------------

// settle mends everything, lets the parts do what they owe, and holds the end to
// the model.
func (w *world) settle() {
	w.cut, w.receiver.how = nil, accepts
	w.trouble.Store(nil)
	w.load()
	for _, id := range boxes {
		w.do(step{do: setUser, ref: userOf(id), state: directory.UserEnabled})
	}
	w.followUsers()
	for range 3 {
		w.drainOutbox()
		for _, id := range boxes {
			w.pollAll(id)
		}
		if w.script.gmail {
			w.off(25 * time.Hour) // the walk of the day
		}
	}
	w.drainOutbox()
	if w.failed() {
		return
	}
	w.judge()
}

// pollAll polls until the mailbox has nothing left to do.
func (w *world) pollAll(box string) {
	for range 40 {
		w.model.begin(box)
		w.passing = []string{box}
		report, err := w.boxes[box].Pass(w.ctx)
		w.passing = nil
		w.taken(box, w.model.end(box, err == nil && !report.More))
		w.runCourier()
		switch {
		case errors.Is(err, store.ErrFull):
			w.drainOutbox()
		case w.waits(box, err):
			w.sleep(11 * time.Minute)
		case err != nil:
			w.fail(broken, "a pass over %s failed and nothing was wrong: %v", box, err)
			return
		case !report.More:
			return
		}
	}
	w.fail(broken, "the passes over %s do not end", box)
}

// drainOutbox lets the courier work until nothing waits. Between two retries the
// daemon is off, which costs no time of ours.
func (w *world) drainOutbox() {
	w.resume()
	w.replay("")
	for range 100 {
		w.runCourier()
		w.sleep(3 * time.Second)
		w.await(synctest.Wait)
		var due time.Time
		waiting := false
		w.quietly(func() { due, waiting = w.nextDue() })
		switch d := time.Until(due); {
		case !waiting:
			return
		case d > time.Hour:
			w.off(d)
		default:
			w.sleep(max(d, time.Second))
		}
	}
	w.fail(broken, "the outbox does not run empty")
}

// nextDue is when the next event is due, and whether any waits. What is due
// already waits for another event: of its stream, or for a candidate.purged.
func (w *world) nextDue() (next time.Time, waiting bool) {
	now := time.Now()
	for _, e := range w.events(store.EventFilter{State: store.EventPending}) {
		waiting = true
		if e.Due.After(now) && (next.IsZero() || e.Due.Before(next)) {
			next = e.Due
		}
	}
	return next, waiting
}

// judge holds the end of a life to the model.
func (w *world) judge() {
	w.quiet.Store(true)
	for p, life := range w.model.must {
		if life == w.model.life(p.ref) && w.model.told[p] < life {
			w.fail(lost, "%s of %s was never accepted", w.nameOf(p.message), p.ref)
		}
	}
	for _, ref := range refs {
		w.judgePurged(ref)
	}
	for _, id := range boxes {
		w.reconcile(id)
	}
}

// judgePurged: the ATS knows of every purge, and no row names who is gone.
func (w *world) judgePurged(ref string) {
	m := w.model
	if m.lives[ref] != m.erased[ref] {
		w.fail(erasure, "%s was purged %d times, and the ATS heard of %d", ref, m.lives[ref], m.erased[ref])
	}
	if m.lives[ref] == 0 || !m.gone(ref) {
		return
	}
	for _, e := range w.events(store.EventFilter{Candidate: ref}) {
		if e.Type != store.CandidatePurged {
			w.fail(erasure, "an event (%s, %s) still names %s", e.Type, e.State, ref)
		}
	}
	for _, e := range w.events(store.EventFilter{}) {
		whole, err := w.mem.Event(w.ctx, e.ID)
		if err != nil || e.Type != store.CandidatePurged && strings.Contains(string(whole.Body), `"`+ref+`"`) {
			w.fail(erasure, "the body of an event (%s, %s) still names %s: %v", e.Type, e.State, ref, err)
		}
	}
	w.judgeRows(ref)
}

func (w *world) judgeRows(ref string) {
	if left, err := w.mem.CandidateMessages(w.ctx, ref, "", 1); err != nil || len(left) > 0 {
		w.fail(erasure, "the ledger still has a message of %s (%v)", ref, err)
	}
	acts, _, err := w.mem.Activations(w.ctx, 0, w.revision())
	if err != nil || slices.ContainsFunc(acts, func(a store.Activation) bool { return a.Ref == ref }) {
		w.fail(erasure, "the activation log still names %s (%v)", ref, err)
	}
	for _, t := range w.tasks() {
		if t.Candidate == ref {
			w.fail(erasure, "a task still names %s", ref)
		}
	}
}

// reconcile is the product's own proof; it must agree that nothing is missing.
func (w *world) reconcile(box string) {
	r, err := w.boxes[box].Reconcile(w.ctx, time.Time{}, false)
	switch {
	case err != nil:
		w.fail(broken, "reconciling %s: %v", box, err)
	case r.Unaccounted != 0:
		w.fail(lost, "reconcile of %s finds %d pairs that nobody delivered", box, r.Unaccounted)
	case r.Pending+r.Dead+r.Held > 0:
		w.fail(lost, "reconcile of %s finds %d pairs undelivered", box, r.Pending+r.Dead+r.Held)
	}
}
