package mailbox_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

// counting counts the walks that begin.
type counting struct {
	providers.Opener
	walks *int
}

type countingSession struct {
	providers.Mailbox
	walks *int
}

func (c counting) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := c.Opener.Open(ctx)
	return countingSession{s, c.walks}, err
}

func (c countingSession) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	if cur == "" {
		*c.walks++
	}
	return c.Mailbox.Search(ctx, q, cur)
}

// dear is a world where walks cost quota: they begin once a day.
func dear(t *testing.T) (w *world, walks *int) {
	t.Helper()
	w, walks = newWorld(t, storetest.MemoryOptions{}), new(int)
	w.opener = counting{w.server, walks}
	w.walkEvery, w.reconcile = 24*time.Hour, 24*time.Hour
	return w, walks
}

func (w *world) row() store.Mailbox {
	w.t.Helper()
	row, err := w.box().Row(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

func TestWalksThatCostAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := dear(t)
		w.candidate("nora", "nora@example.net")
		w.mail("INBOX", "nora@example.net")
		omar, pia := w.mail("INBOX", "omar@example.net"), w.mail("INBOX", "pia@example.net")
		w.pass()
		if *walks != 0 {
			t.Fatalf("the first pass began %d walks beside the first one", *walks)
		}
		w.candidate("omar", "omar@example.net")
		w.pass()
		time.Sleep(10 * time.Hour)
		w.candidate("pia", "pia@example.net")
		w.pass()
		time.Sleep(10 * time.Hour)
		w.pass()
		w.wants("m1@test nora")
		if *walks != 0 {
			t.Fatalf("%d walks began within a day of the first one", *walks)
		}

		time.Sleep(4 * time.Hour)
		w.pass()
		w.wants("m1@test nora", omar+" omar", pia+" pia")
		if *walks != 1 {
			t.Errorf("two look-backs, an audit and a reconcile took %d walks, want 1", *walks)
		}
		w.pass()
		time.Sleep(23 * time.Hour)
		w.pass()
		if *walks != 1 {
			t.Errorf("after %d walks, want 1 a day", *walks)
		}
		time.Sleep(time.Hour)
		w.pass()
		if row := w.row(); *walks != 2 || time.Since(row.LastReconcile) > time.Minute || row.Unaccounted != 0 {
			t.Errorf("after two days: %d walks, reconciled %v ago, %d unaccounted", *walks, time.Since(row.LastReconcile), row.Unaccounted)
		}
	})
}

func TestACollectedWalkDeliversWhatPollingMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := dear(t)
		w.candidate("nora", "nora@example.net")
		w.pass()
		missing := w.mail("INBOX", "nora@example.net")
		w.opener = &hidingOpener{Opener: w.opener, hide: true}
		w.pass()
		w.wants()
		time.Sleep(25 * time.Hour)
		w.pass()
		w.wants(missing + " nora")
		if events := w.events(); events[len(events)-1].Data.Thread.Origin != store.OriginRepair {
			t.Errorf("origin %s", events[len(events)-1].Data.Thread.Origin)
		}
		if !strings.Contains(w.log.String(), "event=audit_found matched=1") {
			t.Error("nobody was told")
		}
	})
}

func TestAnOperatorsReconcileDoesNotWaitForTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := dear(t)
		omar := w.mail("INBOX", "omar@example.net")
		w.pass()
		w.candidate("omar", "omar@example.net")
		r, err := w.box().Reconcile(context.Background(), time.Time{}, false)
		if err != nil || r.Unaccounted != 0 || r.Pending != 1 {
			t.Errorf("%+v, %v; want the late candidate looked back for", r, err)
		}
		w.wants(omar + " omar")
		*walks = 0
		w.pass()
		if *walks != 0 {
			t.Error("the next pass walked again")
		}
	})
}

// named is a provider that knows only cursors of its own.
type named struct {
	providers.Opener
	name string
}

type namedSession struct {
	providers.Mailbox
	name string
}

func (n named) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := n.Opener.Open(ctx)
	return namedSession{s, n.name + ":"}, err
}

func (n namedSession) own(cur providers.Cursor) (providers.Cursor, error) {
	rest, ok := strings.CutPrefix(string(cur), n.name)
	if !ok && cur != "" {
		return "", providers.ErrCursorExpired
	}
	return providers.Cursor(rest), nil
}

func (n namedSession) mark(p providers.Page, err error) (providers.Page, error) {
	p.Next = providers.Cursor(n.name) + p.Next
	return p, err
}

func (n namedSession) Start(ctx context.Context, since time.Time) (providers.Cursor, error) {
	cur, err := n.Mailbox.Start(ctx, since)
	return providers.Cursor(n.name) + cur, err
}

func (n namedSession) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	cur, err := n.own(cur)
	if err != nil {
		return providers.Page{}, err
	}
	return n.mark(n.Mailbox.Next(ctx, cur, w))
}

func (n namedSession) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	cur, err := n.own(cur)
	if err != nil {
		return providers.Page{}, err
	}
	return n.mark(n.Mailbox.Search(ctx, q, cur))
}

// A mailbox that moves to another provider keeps its id. The walks that were
// under way stand at positions that the new one does not know.
func TestAMailboxThatMovesToAnotherProvider(t *testing.T) {
	for _, every := range []time.Duration{0, 24 * time.Hour} {
		w := newWorld(t, storetest.MemoryOptions{})
		w.walkEvery = every
		w.server.SetPageSize(2)
		w.opener = named{w.server, "imap"}
		w.candidate("nora", "nora@example.net")
		var pairs []string
		for range 7 {
			pairs = append(pairs, w.mail("INBOX", "nora@example.net")+" nora")
		}
		w.pass()
		w.wants(pairs...)
		task := w.beginTask("nora")
		w.leaveAt("lookback", "imap:17")
		w.leaveAt("audit", "imap:18")
		w.leaveAt(task, "imap:19")

		for _, provider := range []string{"gmail", "imap"} {
			w.opener = named{w.server, provider}
			pairs = append(pairs, w.mail("INBOX", "nora@example.net")+" nora")
			for w.pass().More {
			}
			w.wants(pairs...)
			for _, walk := range []string{"lookback", "audit", task} {
				if st, err := w.store.Walk(context.Background(), store.Walk{Mailbox: "rita", Task: walk}); err != nil || st.Version != 0 {
					t.Errorf("walks every %v, now %s: walk %s is still under way: %+v, %v", every, provider, walk, st, err)
				}
			}
		}
	}
}

// leaveAt leaves a walk under way at a position.
func (w *world) leaveAt(task, cursor string) {
	w.t.Helper()
	w.leave(store.Walk{Mailbox: "rita", Task: task}, store.WalkState{Cursor: cursor, Since: time.Now().Add(-backfill), Started: time.Now()})
}

// leave leaves a walk under way.
func (w *world) leave(walk store.Walk, state store.WalkState) {
	w.t.Helper()
	if _, err := w.store.Advance(context.Background(), walk, 0, store.Batch{State: state, Now: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) beginTask(ref string) string {
	w.t.Helper()
	tasks, err := w.store.AddTasks(context.Background(), []store.Task{{
		Kind: store.TaskResync, Candidate: ref, Since: time.Now().Add(-backfill), Mailboxes: []string{"rita"},
	}}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return tasks[0].ID
}
