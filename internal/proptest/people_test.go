package proptest_test

import (
	"encoding/json"
	"slices"

	"mailsyncd/directory"
)

// ---- the directory -----------------------------------------------------

func (w *world) put(s step) {
	rec := map[string]any{"kind": "candidate", "ref": s.ref, "emails": s.emails, "state": s.state}
	if s.hasJobs {
		rec["jobs"] = append([]string{}, s.jobs...)
	}
	if s.rev > 0 {
		rec["rev"] = s.rev
	}
	in := person{emails: s.emails, jobs: s.jobs, hasJobs: s.hasJobs, state: s.state, rev: s.rev}
	w.change(func() error { return w.record(rec) }, func() (truth, string) { return w.model.committed.put(s.ref, in), "" })
}

func (w *world) erase(s step) {
	rev := s.rev
	if s.how == "operator" {
		rev = 0
	}
	if next, gone := w.model.committed.remove(s.ref, rev); gone {
		w.change(func() error { return w.remove(s, rev) }, func() (truth, string) { return next, s.ref })
	}
}

func (w *world) remove(s step, rev int64) error {
	if s.how == "operator" {
		return w.keeper.Delete(w.ctx, directory.KindCandidate, s.ref)
	}
	rec := map[string]any{"kind": "candidate", "ref": s.ref, "deleted": true}
	if rev > 0 {
		rec["rev"] = rev
	}
	return w.record(rec)
}

func (w *world) setOther(s step) {
	rec := map[string]any{"kind": "job", "ref": s.ref, "state": s.state}
	if s.do == setUser {
		rec["kind"] = "user"
		if rec["emails"] = s.emails; s.emails == nil {
			rec["emails"] = []string{}
		}
	}
	w.change(func() error { return w.record(rec) }, func() (truth, string) {
		next := w.model.committed.clone()
		switch {
		case s.do == setJob:
			next.jobs[s.ref] = s.state
		case s.ref == owner:
			next.own = s.emails
		default:
			next.disabled[s.ref] = s.state == directory.UserDisabled
		}
		return next, ""
	})
}

// record puts one record as an operator's client does.
func (w *world) record(rec map[string]any) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	r, err := directory.ParseRecord(line)
	if err != nil {
		w.fail(broken, "the script has a bad record: %v", err)
		return nil
	}
	_, err = w.keeper.Put(w.ctx, []directory.Record{r})
	return err
}

// change runs a round of the directory and tells the model whether it was
// persisted, which an error does not say.
func (w *world) change(do func() error, next func() (truth, string)) {
	before := w.revision()
	err := do()
	if w.revision() > before {
		w.model.commit(next())
	} else if err == nil {
		w.unchanged(next)
	}
	w.published()
}

// unchanged: a round that writes nothing must have had nothing to write.
func (w *world) unchanged(next func() (truth, string)) {
	after, purged := next()
	for ref, p := range after.people {
		old := w.model.committed.people[ref]
		if purged != "" || old.state != p.state || old.hasJobs != p.hasJobs || !slices.Equal(old.emails, p.emails) || !slices.Equal(old.jobs, p.jobs) {
			w.fail(broken, "a change of %s was taken and nothing was written", ref)
		}
	}
}

func (w *world) revision() (revision uint64) {
	w.peek(func() error {
		var err error
		revision, _, err = w.mem.Revision(w.ctx)
		return err
	})
	return revision
}

// peek reads the store for the model, also one that a cut has closed.
func (w *world) peek(f func() error) {
	was := w.quiet.Swap(true)
	defer w.quiet.Store(was)
	if w.killed {
		closed := w.mem
		w.mem = closed.Reopen()
		defer func() { w.mem = closed }()
	}
	if err := f(); err != nil {
		w.fail(broken, "the model could not read the store: %v", err)
	}
}

// published compares what passes see with what the store holds.
func (w *world) published() {
	if snap := w.keeper.Snapshot(); snap != nil && snap.Revision() == w.revision() {
		w.model.publish()
	}
}

// load makes the keeper read the store, as its timer does within seconds.
func (w *world) load() {
	w.quietly(func() {
		if err := w.keeper.Load(w.ctx); err != nil {
			w.fail(broken, "loading the directory: %v", err)
		}
	})
	w.published()
	w.followUsers()
}

// followUsers suspends the mailboxes of disabled users and wakes the others, as
// the daemon does after each change of users.
func (w *world) followUsers() {
	snap := w.keeper.Snapshot()
	if snap == nil {
		return
	}
	w.quietly(func() {
		for _, id := range boxes {
			change := w.boxes[id].Unsuspend
			if state, known := snap.User(userOf(id)); known && state == directory.UserDisabled {
				change = w.boxes[id].Suspend
			}
			if err := change(w.ctx); err != nil {
				w.fail(broken, "following the users: %v", err)
			}
		}
	})
}
