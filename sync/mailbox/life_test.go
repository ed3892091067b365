package mailbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

// task adds one task over the mailbox.
func (w *world) task(t store.Task) store.Task {
	w.t.Helper()
	t.Mailboxes = []string{"rita"}
	added, err := w.store.AddTasks(context.Background(), []store.Task{t}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return added[0]
}

func (w *world) taskNow(id string) store.Task {
	w.t.Helper()
	t, err := w.store.Task(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// A mailbox that was polled, with mail of two candidates from before its window.
func withOldMail(t *testing.T) *world {
	w := newWorld(t, storetest.MemoryOptions{})
	w.candidate("nora", "nora@example.net")
	w.candidate("ben", "ben@example.net")
	for _, id := range []string{"old1@test", "old2@test", "old3@test", "old4@test"} {
		w.mailAs("INBOX", "nora@example.net", id, time.Now().Add(-100*24*time.Hour))
	}
	w.mailAs("INBOX", "nora@example.net, ben@example.net", "both@test", time.Now().Add(-100*24*time.Hour))
	w.pass()
	w.wants()
	return w
}

func TestResyncReachesBehindTheHorizonForOneCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withOldMail(t)
		task := w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", Since: time.Now().Add(-365 * 24 * time.Hour)})
		w.pass()
		w.wants("old1@test nora", "old2@test nora", "old3@test nora", "old4@test nora", "both@test nora")
		for _, e := range w.events() {
			if e.Data.Thread.Origin != store.OriginResync {
				t.Errorf("origin %q", e.Data.Thread.Origin)
			}
		}
		if got := w.taskNow(task.ID); got.State != store.TaskDone || got.New != 5 {
			t.Errorf("task ended %q with %d pairs", got.State, got.New)
		}
		w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", Since: time.Now().Add(-365 * 24 * time.Hour)})
		w.pass() // again: the ledger has it all
		if n := len(w.delivered()); n != 5 {
			t.Errorf("%d pairs after a second resync", n)
		}
	})
}

func TestResyncOnlyTakesWhatItsSinceCovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withOldMail(t)
		w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", Since: time.Now().Add(-50 * 24 * time.Hour)})
		w.pass()
		w.wants()
	})
}

func TestDryRunCountsAndRecordsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withOldMail(t)
		task := w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", DryRun: true, Since: time.Now().Add(-365 * 24 * time.Hour)})
		w.pass()
		w.wants()
		if got := w.taskNow(task.ID); got.Matched != 5 || got.New != 0 {
			t.Errorf("dry run matched %d and recorded %d", got.Matched, got.New)
		}
	})
}

func TestRedeliverPostsAgainUnderTheSameIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		id := w.mail("INBOX", "nora@example.net")
		w.pass()
		w.task(store.Task{Kind: store.TaskRedeliver, Candidate: "nora", Since: time.Now().Add(-backfill)})
		w.pass()
		w.wants(id+" nora", id+" nora")
		es := w.events()
		first, again := es[0], es[1]
		if first.Data.Thread.Messages[0].ID != again.Data.Thread.Messages[0].ID || first.ID == again.ID {
			t.Errorf("events %s and %s, messages %s and %s", first.ID, again.ID,
				first.Data.Thread.Messages[0].ID, again.Data.Thread.Messages[0].ID)
		}
		if again.Data.Thread.Origin != store.OriginRedeliver {
			t.Errorf("origin %q", again.Data.Thread.Origin)
		}
	})
}

func TestCancelledTaskStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withOldMail(t)
		task := w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", Since: time.Now().Add(-365 * 24 * time.Hour)})
		if _, err := w.store.CancelTask(t.Context(), task.ID, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.pass()
		w.wants()
	})
}

// Another provider's cursor, or one that the server forgot, begins a walk again.
func TestExpiredWalkBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withOldMail(t)
		forgets := &forgettingOpener{Opener: w.server}
		w.opener = forgets
		w.task(store.Task{Kind: store.TaskResync, Candidate: "nora", Since: time.Now().Add(-365 * 24 * time.Hour)})
		forgets.left = 1
		w.pass()
		w.pass()
		if forgets.left != 0 {
			t.Fatal("no cursor was refused")
		}
		w.wants("old1@test nora", "old2@test nora", "old3@test nora", "old4@test nora", "both@test nora")
	})
}

func TestReconcileAccountsForEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		for range 5 {
			w.mail("INBOX", "nora@example.net")
		}
		w.mail("INBOX", "mum@family.example")
		w.mailAs("INBOX", "rita@example.com, nora@example.net", "own@test", time.Now())
		w.pass()
		fresh := w.mail("INBOX", "nora@example.net") // not polled yet: drained first
		r, err := w.box().Reconcile(t.Context(), time.Time{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if r.Messages != 8 || r.Pending != 7 || r.Unaccounted != 0 {
			t.Errorf("%+v, want 8 messages, 7 pending pairs, nothing unaccounted", r)
		}
		found := false
		for _, pair := range w.delivered() {
			found = found || pair == fresh+" nora"
		}
		if !found {
			t.Error("reconcile did not drain what was new")
		}
	})
}

// Mail that a lying server hid from the polls is unaccounted for, until a repair
// queues it.
func TestReconcileFindsAndRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.pass()
		hides := &hidingOpener{Opener: w.server, hide: true}
		w.opener = hides
		want := []string{w.mail("INBOX", "nora@example.net") + " nora", w.mail("Sent", "nora@example.net") + " nora"}
		w.pass()
		w.wants()
		r, err := w.box().Reconcile(t.Context(), time.Time{}, false)
		if err != nil || r.Unaccounted != 2 || r.Repaired != 0 {
			t.Fatalf("%+v, %v; want 2 unaccounted", r, err)
		}
		w.wants()
		if r, err = w.box().Reconcile(t.Context(), time.Time{}, true); err != nil || r.Unaccounted != 2 || r.Repaired != 2 {
			t.Fatalf("%+v, %v; want 2 repaired", r, err)
		}
		w.wants(want...)
		if r, err = w.box().Reconcile(t.Context(), time.Time{}, false); err != nil || r.Unaccounted != 0 {
			t.Errorf("%+v, %v; want nothing unaccounted after the repair", r, err)
		}
	})
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net")
		w.mailAs("INBOX", "nora@example.net", "matched@test", time.Now())
		w.mailAs("Junk", "nora@example.net", "junk@test", time.Now())
		w.mailAs("INBOX", "nora@example.net", "old@test", time.Now().Add(-2*backfill))
		w.mailAs("INBOX", "mum@family.example", "private@test", time.Now())
		w.pass()
		explain := func(id string) (d matcher.Decision, states []store.PairState) {
			t.Helper()
			all, err := w.box().Explain(t.Context(), id)
			if err != nil || len(all) != 1 {
				t.Fatalf("%s: %d answers, %v", id, len(all), err)
			}
			return all[0].Decision, all[0].States
		}
		if d, states := explain("matched@test"); len(d.Matches) != 1 || states[0] != store.PairPending {
			t.Errorf("matched: %+v, %v", d, states)
		}
		if d, _ := explain("junk@test"); len(d.Matches) != 0 || d.Refusals[0].Guard != matcher.GuardIgnoredFolder {
			t.Errorf("junk: %+v", d)
		}
		if d, _ := explain("old@test"); len(d.Matches) != 0 || d.Refusals[0].Guard != matcher.GuardHorizon {
			t.Errorf("old: %+v", d)
		}
		if d, _ := explain("private@test"); len(d.Matches)+len(d.Refusals) != 0 {
			t.Errorf("private: %+v", d)
		}
		if all, err := w.box().Explain(t.Context(), "nowhere@test"); err != nil || len(all) != 0 {
			t.Errorf("nowhere: %v, %v", all, err)
		}
	})
}

// forgettingOpener refuses the cursors of walks, a number of times.
type forgettingOpener struct {
	providers.Opener
	left int
}

func (o *forgettingOpener) Open(ctx context.Context) (providers.Mailbox, error) {
	m, err := o.Opener.Open(ctx)
	return &forgettingMailbox{m, o}, err
}

type forgettingMailbox struct {
	providers.Mailbox
	o *forgettingOpener
}

func (m *forgettingMailbox) Search(ctx context.Context, q providers.Query, c providers.Cursor) (providers.Page, error) {
	if c != "" && m.o.left > 0 {
		m.o.left--
		return providers.Page{}, providers.ErrCursorExpired
	}
	return m.Mailbox.Search(ctx, q, c)
}

// The directory moved on while a page was decided: one of the candidate's two
// addresses in the mail is gone, the other still stands.
func TestPairStandsWhileOneOfItsAddressesDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.MemoryOptions{})
		w.candidate("nora", "nora@example.net", "nora@work.example")
		before := w.dir
		w.candidate("nora", "nora@work.example")
		w.dir = before // the pass still sees the older snapshot
		w.mailAs("INBOX", "nora@example.net, nora@work.example", "two@test", time.Now())
		w.mailAs("INBOX", "nora@example.net", "one@test", time.Now())
		w.pass()
		w.wants("two@test nora")
	})
}
