package mailbox_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

// blind is a server whose search knows From alone.
type blind struct{ providers.Opener }

type blindSession struct{ providers.Mailbox }

func (o blind) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := o.Opener.Open(ctx)
	return blindSession{s}, err
}

func (s blindSession) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	page, err := s.Mailbox.Search(ctx, q, cur)
	if q.Addresses != nil {
		page.Messages = from(page.Messages, q.Addresses...)
	}
	return page, err
}

// from are the messages with one of these senders.
func from(all []providers.Message, keys ...string) []providers.Message {
	return slices.DeleteFunc(all, func(m providers.Message) bool {
		return !slices.ContainsFunc(m.Header.From, func(a message.Address) bool { return slices.Contains(keys, a.Key) })
	})
}

// asking is a world where the server is asked first and its headers are read once
// a day.
func asking(t *testing.T) (w *world, walks *int) {
	t.Helper()
	w, walks = newWorld(t, storetest.MemoryOptions{}), new(int)
	w.opener = counting{blind{w.server}, walks}
	w.walkEvery, w.reconcile, w.searches = 24*time.Hour, 24*time.Hour, true
	return w, walks
}

// behind delivers a mail that names somebody in Sender only.
func (w *world) behind(sender string) string {
	return w.mail("INBOX", "relay@board.example\r\nSender: "+sender)
}

func TestAServersAnswerComesFirstAndTheHeadersLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := asking(t)
		seen, hidden := w.mail("INBOX", "omar@example.net"), w.behind("omar@example.net")
		w.pass()
		time.Sleep(time.Hour)
		w.candidate("omar", "omar@example.net")
		w.pass()
		w.wants(seen + " omar")
		if *walks != 1 {
			t.Errorf("%d walks began, want the server asked once", *walks)
		}
		w.pass()
		if *walks != 1 {
			t.Error("the server was asked again for the same candidate")
		}
		time.Sleep(24 * time.Hour)
		w.pass()
		w.wants(seen+" omar", hidden+" omar")
		events := w.events()
		if o := events[len(events)-1].Data.Thread.Origin; o != store.OriginLookback {
			t.Errorf("origin %s, want a look-back", o)
		}
	})
}

// A first walk that only asks leaves the window to be read; so does one that
// begins again because the server forgot the position.
func TestAWindowThatWasOnlyAskedForIsReadWithinADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		w.candidate("nora", "nora@example.net")
		begun := time.Now()
		w.pass()
		if row := w.row(); !row.OwedSince.Equal(row.Horizon) || row.Horizon.After(begun) {
			t.Errorf("owed since %v, want the horizon %v", row.OwedSince, row.Horizon)
		}
		time.Sleep(25 * time.Hour)
		w.pass()
		if row := w.row(); !row.OwedSince.IsZero() {
			t.Errorf("still owed since %v after the walk of the day", row.OwedSince)
		}
		w.server.Expire()
		w.pass()
		if row := w.row(); row.OwedSince.IsZero() {
			t.Error("the window was walked again, and nothing is owed")
		}
	})
}

// What came while the walk of the day ran is not in its listing. If the position
// is lost then, the walk begins again.
func TestAWalkOfTheDayBeginsAgainWhenThePositionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		w.candidate("nora", "nora@example.net")
		w.pass()
		w.leaveAt("lookback", "")
		w.server.Expire()
		w.pass()
		if st, err := w.store.Walk(t.Context(), store.Walk{Mailbox: "rita", Task: "lookback"}); err != nil || st.Version != 0 {
			t.Errorf("the old walk goes on: %+v, %v", st, err)
		}
	})
}

// A purge takes the addresses of a search away. Without them it would read
// everything.
func TestASearchForNobodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := asking(t)
		w.mail("INBOX", "omar@example.net")
		w.pass()
		w.leaveAt("search", "")
		w.pass()
		if st, err := w.store.Walk(t.Context(), store.Walk{Mailbox: "rita", Task: "search"}); err != nil || st.Version != 0 || *walks != 0 {
			t.Errorf("it goes on: %+v, %v; %d walks began", st, err, *walks)
		}
	})
}

// Too many to be asked for one by one wait for the headers.
func TestManyNewCandidatesWaitForTheHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := asking(t)
		seen := w.mail("INBOX", "c0@example.net")
		w.pass()
		for i := range 250 {
			w.candidate(fmt.Sprint("c", i), fmt.Sprint("c", i)+"@example.net")
		}
		w.pass()
		w.wants()
		if *walks != 0 {
			t.Errorf("%d walks began", *walks)
		}
		time.Sleep(25 * time.Hour)
		w.pass()
		w.wants(seen + " c0")
	})
}

// A look-back that only asks, begun when nothing was read daily, must not end as
// the proof that everything was read.
func TestALookBackThatAskedIsNotTheWalkOfTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		hidden := w.behind("omar@example.net")
		w.walkEvery = 0
		w.pass()
		w.candidate("omar", "omar@example.net")
		w.leave(store.Walk{Mailbox: "rita", Task: "lookback"}, store.WalkState{
			Since: time.Now().Add(-backfill), Started: time.Now(), Addresses: []string{"omar@example.net"}, Revision: 1,
		})
		w.walkEvery = 24 * time.Hour
		w.pass()
		if row := w.row(); row.LookedBack != 0 || !row.LastReconcile.IsZero() {
			t.Errorf("it counts as a proof: looked back to %d, reconciled %v", row.LookedBack, row.LastReconcile)
		}
		time.Sleep(25 * time.Hour)
		w.pass()
		w.wants(hidden + " omar")
	})
}

// A first walk that began before anybody noted what it leaves out owes it too.
func TestAFirstWalkThatBeganUnnotedIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		w.candidate("nora", "nora@example.net")
		for range 5 {
			w.mail("INBOX", "nora@example.net")
		}
		w.server.SetFault(func(providertest.Op) error {
			time.Sleep(time.Second)
			return nil
		})
		w.walkEvery, w.budget = 0, 2*time.Second
		if rep := w.pass(); !rep.More {
			t.Fatal("the first pass did everything")
		}
		w.walkEvery, w.budget = 24*time.Hour, 0
		w.pass()
		if row := w.row(); !row.OwedSince.Equal(row.Horizon) {
			t.Errorf("owed since %v, want the horizon %v", row.OwedSince, row.Horizon)
		}
	})
}

// Nothing is read from before the horizon, so nothing is owed from there.
func TestNothingIsOwedFromBeforeTheHorizon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		w.candidate("nora", "nora@example.net")
		w.pass()
		row := w.row()
		row.OwedSince = row.Horizon.Add(-time.Hour)
		if err := w.store.SetMailbox(t.Context(), row, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		w.pass()
		if row := w.row(); !row.OwedSince.IsZero() {
			t.Errorf("still owed since %v, the horizon is %v", row.OwedSince, row.Horizon)
		}
	})
}

// A purge beside a search must not make the proof fail.
func TestReconcileAfterAPurgeBesideASearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		hidden := w.behind("omar@example.net")
		w.pass()
		w.leaveAt("search", "")
		w.candidate("omar", "omar@example.net")
		r, err := w.box().Reconcile(t.Context(), time.Time{}, false)
		if err != nil || r.Unaccounted != 0 || r.Pending != 1 {
			t.Errorf("%+v, %v; want the late candidate looked back for", r, err)
		}
		w.wants(hidden + " omar")
	})
}

// Where the server is not asked any more, no search stands in the store.
func TestASearchEndsWithTheAsking(t *testing.T) {
	t.Run("after another one", func(t *testing.T) { searchEnds(t, true) })
	t.Run("the first one", func(t *testing.T) { searchEnds(t, false) })
}

func searchEnds(t *testing.T, another bool) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := asking(t)
		w.pass()
		if another {
			w.candidate("omar", "omar@example.net")
			w.pass()
		}
		w.leave(store.Walk{Mailbox: "rita", Task: "search"}, store.WalkState{Started: time.Now(), Addresses: []string{"omar@example.net"}, Revision: 1})
		w.searches = false
		w.pass()
		if st, err := w.store.Walk(t.Context(), store.Walk{Mailbox: "rita", Task: "search"}); err != nil || st.Version != 0 {
			t.Errorf("it is still there: %+v, %v", st, err)
		}
	})
}
