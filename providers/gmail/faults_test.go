package gmail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// settled is a world whose first walk is done, and its cursor.
func settled(t *testing.T, o gmailtest.Options, mode gmail.Mode) (*world, providers.Cursor) {
	t.Helper()
	w := newWorld(t, o, mode)
	w.deliver("old@x")
	mb := open(t, w.cfg)
	return w, drain(t, mb, start(t, mb)).cur
}

func TestForgottenHistoryWalksTheWindowAgain(t *testing.T) {
	tests := []struct {
		name  string
		o     gmailtest.Options
		lose  func(*world)
		cause string
	}{
		{"404: too old", gmailtest.Options{}, func(w *world) { w.Advance(8 * 24 * time.Hour) }, "history expired"},
		{"404: too many changes", gmailtest.Options{HistoryRecords: 2}, func(*world) {}, "history expired"},
		{"404: the id is ahead", gmailtest.Options{AheadStatus: 404}, func(w *world) { w.account.Recreate() }, "history expired"},
		{"400: the id is ahead", gmailtest.Options{AheadStatus: 400}, func(w *world) { w.account.Recreate() }, "history id refused"},
		{"no error, but the id went back", gmailtest.Options{}, func(w *world) { w.account.Recreate() }, "history went back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, cur := settled(t, tt.o, gmail.ModeMetadata)
			ids := numbered(5, "new")
			w.deliver(ids...)
			tt.lose(w)
			mb := open(t, w.cfg)
			r := drain(t, mb, cur)
			if r.reset != tt.cause {
				t.Errorf("the page says %q, want %q", r.reset, tt.cause)
			}
			same(t, "the window again", r.ids, append(ids, "old@x"))
			w.deliver("after@x")
			after := drain(t, mb, r.cur)
			same(t, "after that", after.ids, []string{"after@x"})
			if after.reset != "" {
				t.Errorf("and then it says %q", after.reset)
			}
		})
	}
}

func TestHistoryExpiresWhileABackfillRuns(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(50, "b")
	w.deliver(ids...)
	w.cfg.PageSize = 10
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || !page.More {
		t.Fatalf("the first page: more %v, %v", page.More, err)
	}
	w.account.ForgetHistory()
	w.deliver("late@x")
	// A shorter window than the walk's own: what was owed stays owed.
	short := providers.Window{Since: time.Now().Add(-time.Second)}
	r := follow(t, page.Next, func(cur providers.Cursor) (providers.Page, error) {
		return open(t, w.cfg).Next(t.Context(), cur, short)
	})
	same(t, "the walk after all", r.ids, append(ids, "late@x"))
	if r.reset != "history expired" {
		t.Errorf("the page says %q", r.reset)
	}
}

func TestExpiredPageTokensBeginTheListingAgain(t *testing.T) {
	for _, what := range []string{"walk", "history"} {
		t.Run(what, func(t *testing.T) {
			o := gmailtest.Options{MaxPage: 4, PageTokenLifetime: time.Minute}
			w := newWorld(t, o, gmail.ModeMetadata)
			w.cfg.PageSize = 4
			ids := numbered(10, "b")
			mb := open(t, w.cfg)
			cur := start(t, mb)
			if what == "history" {
				cur = drain(t, mb, cur).cur
			}
			w.deliver(ids...)
			if what == "walk" {
				cur = start(t, mb)
			}
			page, err := mb.Next(t.Context(), cur, window())
			if err != nil || !page.More {
				t.Fatalf("the first page: more %v, %v", page.More, err)
			}
			all := run{cur: cur}
			all.take(page)
			w.Advance(time.Hour)
			rest := drain(t, open(t, w.cfg), page.Next)
			if rest.reset != "" {
				t.Errorf("a page token that ended became a lost position: %q", rest.reset)
			}
			got := append(all.ids, rest.ids...)
			slices.Sort(got)
			same(t, "everything", slices.Compact(got), ids)
		})
	}
}

// Page tokens that end sooner than a page is read must not make a walk read the
// same mails for ever.
func TestAWalkGetsOnThoughEveryPageTokenEnds(t *testing.T) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{MaxPage: 4, PageTokenLifetime: time.Minute}, mode)
			w.cfg.PageSize = 4
			w.cfg.Candidates = func() []string { return []string{"nora@example.net"} }
			ids := numbered(30, "b")
			refs := w.deliver(ids...)
			mb := open(t, w.cfg)
			all := follow(t, start(t, mb), func(cur providers.Cursor) (providers.Page, error) {
				w.Advance(time.Hour)
				if w.Usage().Calls["get"] == 12 {
					w.account.Delete(refs[len(refs)-12]) // read last, and now gone: others still tell the place
				}
				return mb.Next(t.Context(), cur, window())
			})
			same(t, "everything", all.ids, ids)
			for id, n := range w.Usage().Gets {
				if n > 1 {
					t.Errorf("mail %s was read %d times", id, n)
				}
			}
		})
	}
}

// Where nothing of what was read is left, the walk reads all that is there.
func TestAWalkWhosePlaceIsGoneReadsOn(t *testing.T) {
	w := newWorld(t, gmailtest.Options{MaxPage: 4, PageTokenLifetime: time.Minute}, gmail.ModeMetadata)
	w.cfg.PageSize = 4
	ids := numbered(10, "b")
	refs := w.deliver(ids...)
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 4 {
		t.Fatalf("the first page: %d mails, %v", len(page.Messages), err)
	}
	for _, ref := range refs[6:] { // newest first: these were read
		w.account.Delete(ref)
	}
	w.Advance(time.Hour)
	same(t, "the others", drain(t, mb, page.Next).ids, ids[:6])
}

// A place in the listing of a query is none in the listing of everything.
func TestAWalkThatChangesItsKindForgetsItsPlace(t *testing.T) {
	w := newWorld(t, gmailtest.Options{MaxPage: 4, PageTokenLifetime: time.Minute}, gmail.ModeSearch)
	w.cfg.PageSize = 6
	w.cfg.Candidates = func() []string { return []string{"nora@example.net"} }
	ids := numbered(12, "b")
	w.deliver(ids...)
	other := gmailtest.ParseMail(strings.ReplaceAll(mail("other@x"), "nora@", "omar@")) // newer than all of them
	w.account.Deliver(other)
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 6 {
		t.Fatalf("the first page: %d mails, %v", len(page.Messages), err)
	}
	var got run
	got.take(page)
	w.Advance(time.Hour)
	w.SetFault(gmailtest.FailNth("list", 2, gmailtest.Fault{Status: 503})) // the first finds the token ended
	if page, err = mb.Next(t.Context(), page.Next, window()); err != nil || len(page.Messages) != 2 {
		t.Fatalf("the page before the failure: %d mails, %v", len(page.Messages), err)
	}
	got.take(page)
	w.cfg.Mode = gmail.ModeMetadata
	w.tokens.kept["rita"] = gmail.RefreshToken(w.Grant(clientID, rita, w.cfg.Mode.Scope()))
	w.cfg.Credential = gmail.User(w.user(w.cfg.Mode, w.cfg.Transport))
	all := append(got.ids, drain(t, open(t, w.cfg), page.Next).ids...)
	slices.Sort(all)
	same(t, "everything", slices.Compact(all), append(ids, "other@x"))
}

// A poll that ended in the middle of its listing goes on there, and then looks at
// what came since: who asks for a poll gets what was there when he asked.
func TestAPollThatGoesOnAlsoSeesWhatCameSince(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.cfg.AtOnce = 1
	w.deliver("a@x", "b@x", "c@x")
	w.SetFault(gmailtest.FailNth("get", 2, gmailtest.Fault{Status: 429, RetryAfter: "1"}))
	page, err := open(t, w.cfg).Next(t.Context(), cur, window())
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("the page before the refusal: %d mails, %v", len(page.Messages), err)
	}
	w.deliver("d@x")
	same(t, "the next poll", drain(t, open(t, w.cfg), page.Next).ids, []string{"b@x", "c@x", "d@x"})
}

func TestMailsOutsideTheWalksAreLeftOut(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprint("records without labels ", bare), func(t *testing.T) {
			w, cur := settled(t, gmailtest.Options{BareHistory: bare}, gmail.ModeMetadata)
			put := func(id string, labels ...string) string {
				m := gmailtest.ParseMail(mail(id))
				m.Labels = labels
				return w.account.Deliver(m)
			}
			put("chat@x", "CHAT")
			put("sent@x", "SENT")
			spam := put("spam@x", "SPAM")
			trash := put("trash@x", "TRASH")
			draft := w.account.SaveDraft("", gmailtest.ParseMail(mail("draft@x")))
			draft = w.account.SaveDraft(draft, gmailtest.ParseMail(mail("draft@x")))
			r := drain(t, open(t, w.cfg), cur)
			same(t, "at first", r.ids, []string{"sent@x"})

			w.account.SendDraft(draft)
			w.account.Label(spam, []string{"INBOX"}, []string{"SPAM"})
			w.account.Label(trash, nil, []string{"TRASH"})
			r = drain(t, open(t, w.cfg), r.cur)
			same(t, "after a rescue from Spam and Trash, and sending the draft", r.ids, []string{"draft@x", "spam@x", "trash@x"})
			same(t, "a walk", search(t, open(t, w.cfg)).ids, []string{"draft@x", "old@x", "sent@x", "spam@x", "trash@x"})
		})
	}
}

func TestIgnoredLabels(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	private, below := w.account.MakeLabel("Privat"), w.account.MakeLabel("privat/Sport")
	public := w.account.MakeLabel("Privatkunden")
	put := func(id string, labels ...string) string {
		m := gmailtest.ParseMail(mail(id))
		m.Labels = labels
		return w.account.Deliver(m)
	}
	hidden := put("private@x", "INBOX", private)
	put("below@x", "INBOX", below)
	put("public@x", "INBOX", public)
	w.cfg.IgnoreLabels = []string{"PRIVAT", "Später"}
	p := gmail.New(w.cfg)
	mb, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := drain(t, mb, start(t, mb))
	same(t, "the first walk", r.ids, []string{"public@x"})
	found, err := mb.Find(t.Context(), "private@x")
	if err != nil || len(found) != 1 || !found[0].Ignored {
		t.Errorf("Find: %d mails, %v; want one that is marked as ignored", len(found), err)
	}

	w.account.Label(hidden, nil, []string{private})
	put("later@x", "INBOX", w.account.MakeLabel("Später")) // made after the labels were read
	r = drain(t, mb, r.cur)
	same(t, "after the label is taken off", r.ids, []string{"private@x"})
}

func TestMailDeletedBetweenListAndRead(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := w.deliver("a@x", "b@x", "c@x")
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" {
			w.account.Delete(ids[1])
		}
		return gmailtest.Fault{}
	})
	r := drain(t, open(t, w.cfg), cur)
	same(t, "what is left", r.ids, []string{"a@x", "c@x"})
}

// One mail that cannot be read neither blocks the others nor vanishes.
func TestBrokenMailComesLater(t *testing.T) {
	faults := map[string]gmailtest.Fault{
		"500": {Status: 500, Reason: "backendError"}, "503": {Status: 503}, "cut": {Cut: true}, "garbage": {Garbage: true},
		"400 on a get": {Status: 400, Reason: "badRequest"},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
			bad := w.deliver("a@x", "bad@x", "c@x")[1]
			w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
				if r.ID == bad {
					return fault
				}
				return gmailtest.Fault{}
			})
			page, err := open(t, w.cfg).Next(t.Context(), cur, window())
			if err != nil || page.Unreadable != 1 || page.More {
				t.Fatalf("the page: %d unreadable, more %v, %v", page.Unreadable, page.More, err)
			}
			var r run
			r.take(page)
			same(t, "the others", r.ids, []string{"a@x", "c@x"})
			same(t, "while it stays broken", drain(t, open(t, w.cfg), page.Next).ids, nil)
			w.SetFault(nil)
			r = drain(t, open(t, w.cfg), page.Next)
			same(t, "once it is whole again", r.ids, []string{"bad@x"})
			if same := drain(t, open(t, w.cfg), r.cur); same.cur != r.cur || len(same.ids) != 0 {
				t.Error("the mail is not forgotten after that")
			}
		})
	}
}

// A mail that stays broken costs a few tries, then one a day, then is given up
// and said so once.
func TestBrokenMailIsGivenUpAfterTwoWeeks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gmailtest.New(gmailtest.Options{HistoryAge: 90 * 24 * time.Hour})
		w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
		var logged bytes.Buffer
		w.cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		p := gmail.New(w.cfg)
		mb, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cur := drain(t, mb, start(t, mb)).cur
		bad := w.deliver("bad@x")[0]
		w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
			if r.ID == bad {
				return gmailtest.Fault{Status: 500}
			}
			return gmailtest.Fault{}
		})
		tries := map[int]int{} // by day
		last := 0
		w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
			if r.ID != bad {
				return gmailtest.Fault{}
			}
			tries[last]++
			return gmailtest.Fault{Status: 500}
		})
		for hour := range 24 * 20 {
			last = hour / 24
			cur = drain(t, mb, cur).cur
			time.Sleep(time.Hour)
		}
		if tries[0] != 3 || tries[5] != 1 || tries[10] != 1 || tries[16] != 0 {
			t.Errorf("tries by day: %v", tries)
		}
		if n := strings.Count(logged.String(), "mail_given_up"); n != 1 {
			t.Errorf("giving up was logged %d times: %s", n, logged.String())
		}
		if strings.Contains(string(cur), bad) {
			t.Error("the mail is still in the cursor")
		}
	})
}

// A walk over old mail comes back to what it could not read, with time between.
func TestBrokenMailInASearch(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail int // reads of the mail that fail
		took time.Duration
		want []string
	}{
		{"is read at the end of the walk", 1, 0, []string{"a@x", "bad@x", "c@x"}},
		{"is read some minutes later", 3, 20 * time.Minute, []string{"a@x", "bad@x", "c@x"}},
		{"is given up after eight tries", 99, time.Hour, []string{"a@x", "c@x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := gmailtest.New(gmailtest.Options{})
				w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
				bad, n := w.deliver("a@x", "bad@x", "c@x")[1], 0
				w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
					if r.ID == bad {
						if n++; n <= tt.fail {
							return gmailtest.Fault{Status: 503}
						}
					}
					return gmailtest.Fault{}
				})
				mb, begun := open(t, w.cfg), time.Now()
				r := patiently(t, "", func(cur providers.Cursor) (providers.Page, error) {
					return mb.Search(t.Context(), providers.Query{Since: window().Since}, cur)
				})
				same(t, "the walk", r.ids, tt.want)
				if took := time.Since(begun); n > 8 || took != tt.took {
					t.Errorf("the mail was tried %d times in %v, want %v", n, took, tt.took)
				}
			})
		})
	}
}

// One call in ten fails at random, for all of a long walk.
func TestWalkOnABadDay(t *testing.T) {
	for _, what := range []string{"first walk", "search"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := gmailtest.New(gmailtest.Options{})
				w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
				ids := numbered(4_000, "b")
				w.deliver(ids...)
				mb := open(t, w.cfg)
				cur := start(t, mb)
				w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
					if r.Call == "get" && r.N%10 == 3 {
						return gmailtest.Fault{Status: 500, Reason: "backendError"}
					}
					return gmailtest.Fault{}
				})
				if what == "search" {
					r := patiently(t, "", func(cur providers.Cursor) (providers.Page, error) {
						return mb.Search(t.Context(), providers.Query{Since: window().Since}, cur)
					})
					same(t, "the walk", r.ids, ids)
					return
				}
				r := drain(t, mb, cur)
				w.SetFault(nil)
				same(t, "the walk, and the poll after the bad day", append(r.ids, drain(t, mb, r.cur).ids...), ids)
			})
		})
	}
}

// patiently follows a walk as the schedule does, in a synctest bubble: it waits
// as long as it is told.
func patiently(t *testing.T, cur providers.Cursor, page func(providers.Cursor) (providers.Page, error)) run {
	t.Helper()
	return follow(t, cur, func(cur providers.Cursor) (providers.Page, error) {
		for {
			p, err := page(cur)
			wait, ok := throttled(err)
			if !ok {
				return p, err
			}
			time.Sleep(wait)
		}
	})
}

func TestServiceThatFailsMovesNothing(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(30, "n")
	w.deliver(ids...)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" {
			return gmailtest.Fault{Status: 500, Reason: "backendError"}
		}
		return gmailtest.Fault{}
	})
	if _, err := open(t, w.cfg).Next(t.Context(), cur, window()); providers.Classify(err) != providers.ClassServer {
		t.Errorf("a service that fails on every mail: %v, want a failure of the server", err)
	}
	w.SetFault(nil)
	same(t, "afterwards", drain(t, open(t, w.cfg), cur).ids, ids)
}

// Every kind of failure of every call: its class, and that everything comes once
// it is over.
func TestFailuresAreClassed(t *testing.T) {
	tests := []struct {
		name  string
		fault gmailtest.Fault
		class providers.Class
		after time.Duration // of a ThrottledError; 0: not looked at
	}{
		{"403 rateLimitExceeded", gmailtest.Fault{Status: 403, Reason: "rateLimitExceeded", RetryAfter: "7"}, providers.ClassThrottled, 7 * time.Second},
		{"403 userRateLimitExceeded", gmailtest.Fault{Status: 403, Reason: "userRateLimitExceeded"}, providers.ClassThrottled, 0},
		{"403 quotaExceeded", gmailtest.Fault{Status: 403, Reason: "quotaExceeded"}, providers.ClassThrottled, 0},
		{"403 dailyLimitExceeded", gmailtest.Fault{Status: 403, Reason: "dailyLimitExceeded"}, providers.ClassThrottled, time.Hour},
		{"429 without a reason", gmailtest.Fault{Status: 429, RetryAfter: "30"}, providers.ClassThrottled, 30 * time.Second},
		{"429 for a day", gmailtest.Fault{Status: 429, RetryAfter: "86400"}, providers.ClassThrottled, 6 * time.Hour},
		{"403 domainPolicy", gmailtest.Fault{Status: 403, Reason: "domainPolicy"}, providers.ClassUnauthorized, 0},
		{"403 insufficientPermissions", gmailtest.Fault{Status: 403, Reason: "insufficientPermissions"}, providers.ClassUnauthorized, 0},
		{"403 forbidden", gmailtest.Fault{Status: 403, Reason: "forbidden"}, providers.ClassUnauthorized, 0},
		{"403 accessNotConfigured", gmailtest.Fault{Status: 403, Reason: "accessNotConfigured"}, providers.ClassConfig, 0},
		{"400 failedPrecondition", gmailtest.Fault{Status: 400, Reason: "failedPrecondition"}, providers.ClassUnauthorized, 0},
		{"401 for ever", gmailtest.Fault{Status: 401, Reason: "authError"}, providers.ClassUnauthorized, 0},
		{"500", gmailtest.Fault{Status: 500}, providers.ClassServer, 0},
		{"503", gmailtest.Fault{Status: 503, Reason: "backendError"}, providers.ClassServer, 0},
		{"a redirect", gmailtest.Fault{Status: 302}, providers.ClassServer, 0},
		{"a cut body", gmailtest.Fault{Cut: true}, providers.ClassNetwork, 0},
		{"no JSON", gmailtest.Fault{Garbage: true}, providers.ClassServer, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
			w.deliver("a@x")
			w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
				if r.Call == "history" {
					return tt.fault
				}
				return gmailtest.Fault{}
			})
			_, err := open(t, w.cfg).Next(t.Context(), cur, window())
			if got := providers.Classify(err); err == nil || got != tt.class {
				t.Errorf("class %q, want %q: %v", got, tt.class, err)
			}
			if wait, _ := throttled(err); tt.after != 0 && (wait > tt.after || wait < tt.after-time.Second) {
				t.Errorf("it asks to wait %v, want %v", wait, tt.after)
			}
			w.SetFault(nil)
			same(t, "when it is over", drain(t, open(t, w.cfg), cur).ids, []string{"a@x"})
		})
	}
}

// A consent of an account without Gmail, such as one whose licence was taken away.
func TestAnAccountWithoutGmail(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.tokens.kept["rita"] = gmail.RefreshToken(w.Grant(clientID, "nobody@example.com", gmail.ModeMetadata.Scope()))
	_, err := gmail.New(w.cfg).Open(t.Context())
	if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), "give it a licence with Gmail") {
		t.Errorf("%v, want a word about the licence", err)
	}
}

// A failure in the middle of a page does not throw away what was read, and paid.
func TestFailureInAPageKeepsWhatWasRead(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(30, "n")
	w.deliver(ids...)
	over := false
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" && r.N > 16 && !over {
			return gmailtest.Fault{Status: 429, RetryAfter: "1"}
		}
		return gmailtest.Fault{}
	})
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || !page.More || len(page.Messages) < 10 {
		t.Fatalf("the page before the refusal: %d mails, more %v, %v", len(page.Messages), page.More, err)
	}
	if _, err := mb.Next(t.Context(), page.Next, window()); providers.Classify(err) != providers.ClassThrottled {
		t.Errorf("the page after it: %v, want throttled", err)
	}
	over = true
	var r run
	r.take(page)
	same(t, "everything", append(r.ids, drain(t, mb, page.Next).ids...), ids)
	for id, n := range w.Usage().Gets {
		if n > 1 {
			t.Errorf("mail %s was paid %d times", id, n)
		}
	}
}

// The same in a walk, which reads in several batches: the refusal comes exactly
// between two of them.
func TestFailureBetweenBatchesKeepsWhatWasRead(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(60, "n")
	w.deliver(ids...)
	mb := open(t, w.cfg)
	cur := start(t, mb)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" && r.N > 25 {
			return gmailtest.Fault{Status: 503, Reason: "rateLimitExceeded"}
		}
		return gmailtest.Fault{}
	})
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || !page.More || len(page.Messages) != 25 {
		t.Fatalf("the page before the refusal: %d mails, more %v, %v", len(page.Messages), page.More, err)
	}
	w.SetFault(nil)
	var r run
	r.take(page)
	same(t, "everything", append(r.ids, drain(t, mb, page.Next).ids...), ids)
}

// A session that is in the middle of a walk is asked from another cursor.
func TestAnotherCursorInTheSameSession(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(10, "n")
	w.deliver(ids...)
	w.cfg.PageSize = 4
	mb := open(t, w.cfg)
	if page, err := mb.Next(t.Context(), start(t, mb), window()); err != nil || !page.More {
		t.Fatalf("a page of a walk: more %v, %v", page.More, err)
	}
	same(t, "the news since the other cursor", drain(t, mb, cur).ids, ids)
}

// inFlight counts the reads that are under way at the same time.
type inFlight struct {
	http.RoundTripper
	now, most atomic.Int32
}

func (c *inFlight) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.URL.Path, "/messages/") {
		return c.RoundTripper.RoundTrip(r)
	}
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	time.Sleep(100 * time.Millisecond) // in a synctest bubble: everybody who may, arrives
	return c.RoundTripper.RoundTrip(r)
}

// Four reads at a time; after a refusal for concurrency fewer, and step by step
// four again.
func TestReadsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gmailtest.New(gmailtest.Options{})
		count := &inFlight{RoundTripper: s.Transport()}
		w := worldOf(t, s, count, gmail.ModeMetadata)
		w.deliver(numbered(200, "n")...)
		w.cfg.PageSize = 25
		mb := open(t, w.cfg)
		cur := start(t, mb)
		var got []int32
		for i := range 5 {
			if i == 1 {
				w.SetFault(gmailtest.FailNth("get", 5, gmailtest.Fault{Status: 429, RetryAfter: "1"}))
			}
			count.most.Store(0)
			page, err := mb.Next(t.Context(), cur, window())
			if err != nil {
				t.Fatal(err)
			}
			got, cur = append(got, count.most.Load()), page.Next
		}
		if want := []int32{4, 4, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("reads at a time, page by page: %v, want %v", got, want)
		}
	})
}

func TestNetworkFailures(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.deliver("a@x")
	mb := open(t, w.cfg)
	w.Close()
	_, err := mb.Next(t.Context(), cur, window())
	if providers.Classify(err) != providers.ClassNetwork {
		t.Errorf("a server that is gone: class %q, %v", providers.Classify(err), err)
	}
}

// A certificate that nobody trusts: its own class, and not a word of the query.
func TestUntrustedCertificate(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
	mb := open(t, w.cfg)
	fake := httptest.NewUnstartedServer(w.Server)
	fake.Config.ErrorLog = log.New(io.Discard, "", 0) // it would print the failed handshake
	fake.StartTLS()
	t.Cleanup(fake.Close)
	w.cfg.Endpoint = fake.URL
	_, err := gmail.New(w.cfg).Open(t.Context())
	if providers.Classify(err) != providers.ClassTLS || strings.Contains(err.Error(), "fields=") {
		t.Errorf("class %q, %v; want tls, without the query", providers.Classify(err), err)
	}
	same(t, "the session with the right server", drain(t, mb, start(t, mb)).ids, nil)
}

func TestSlowServerTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gmailtest.New(gmailtest.Options{})
		w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
		mb := open(t, w.cfg)
		cur := start(t, mb)
		w.cfg.Transport = hanging{}
		p := gmail.New(w.cfg)
		begun := time.Now()
		_, err := p.Open(t.Context())
		if providers.Classify(err) != providers.ClassNetwork || time.Since(begun) != 30*time.Second {
			t.Errorf("after %v: class %q, %v", time.Since(begun), providers.Classify(err), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when the caller's time ends: %v", err)
		}
		same(t, "the session that works", drain(t, mb, cur).ids, nil)
	})
}

// hanging never answers.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Whatever goes wrong, no error and no log line holds an address, a subject or
// a secret; the server's own words hold them all.
func TestErrorsAndLogsLeakNothing(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeSearch)
	var logged bytes.Buffer
	w.cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.deliver("a@x")
	mb := open(t, w.cfg)
	reasons := []string{"", "authError", "nora@example.net said no", "rateLimitExceeded", "notFound", strings.Repeat("x", 100)}
	for _, status := range []int{0, 302, 400, 401, 403, 404, 410, 418, 429, 500, 503} {
		for i, reason := range reasons {
			w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
				return gmailtest.Fault{Status: status, Reason: reason, Cut: status == 0 && i%2 == 0, Garbage: status == 0 && i%2 == 1}
			})
			for _, err := range []error{
				second(mb.Next(t.Context(), cur, window())),
				second(mb.Search(t.Context(), providers.Query{Addresses: []string{"nora@example.net"}}, "")),
				second(mb.Find(t.Context(), "a@x")),
				second(gmail.New(w.cfg).Open(t.Context())),
			} {
				for _, bad := range []string{"nora", "rita", "@", "ya29", "1//", "Interview", "xxxx"} {
					if err != nil && strings.Contains(err.Error(), bad) {
						t.Fatalf("%d %q: the error holds %q: %v", status, reason, bad, err)
					}
				}
			}
		}
	}
	if logged.Len() > 0 {
		t.Errorf("logged: %s", logged.String())
	}
}

// The generated client prints requests and answers when its environment
// variable says so. Not ours.
func TestGeneratedClientIsNotTalkedIntoLogging(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	printed, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	stderr := os.Stderr
	os.Stderr = printed
	defer func() { os.Stderr = stderr }()
	w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
	w.deliver("a@x")
	same(t, "the search", search(t, open(t, w.cfg), "nora@example.net").ids, []string{"a@x"})
	if b, err := os.ReadFile(printed.Name()); err != nil || len(b) > 0 {
		t.Errorf("%d bytes were printed, %v", len(b), err)
	}
}

func second[T any](_ T, err error) error { return err }

// A life at random: mail arrives, moves and vanishes, calls fail in every way,
// tokens die, the history is forgotten, the daemon is killed between any two
// pages. At the end every mail that stayed was delivered, and none that never
// should.
func TestRandomLivesDeliverEverything(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				newLife(t, rand.New(rand.NewPCG(seed, 7))).live()
			})
		})
	}
}

type life struct {
	*world
	t         *testing.T
	mu        sync.Mutex // held by fault
	rnd       *rand.Rand
	provider  *gmail.Provider
	kept      providers.Cursor
	delivered map[string]bool
	due       map[string]string // Gmail's id of every mail that must come → Message-ID
	spam      map[string]string
	serial    int
	faulty    bool
	killed    bool // access tokens died in this pass: twice within one call is a refusal
	resets    int
}

func newLife(t *testing.T, rnd *rand.Rand) *life {
	o := gmailtest.Options{
		EmptyPages: rnd.IntN(2) == 0, BareHistory: rnd.IntN(2) == 0, Rotate: rnd.IntN(2) == 0,
		MaxPage: rnd.IntN(6), PageTokenLifetime: time.Duration(rnd.IntN(3)) * time.Hour,
		HistoryRecords: rnd.IntN(2) * 60, UserPerMinute: 600 * (1 + rnd.IntN(10)), RefuseWith429: rnd.IntN(2) == 0,
		AheadStatus: []int{0, 400, 404}[rnd.IntN(3)], TokenLifetime: time.Duration(20+rnd.IntN(60)) * time.Minute,
	}
	s := gmailtest.New(o)
	mode := gmail.ModeMetadata
	if rnd.IntN(2) == 0 {
		mode = gmail.ModeSearch
	}
	w := worldOf(t, s, s.Transport(), mode)
	w.cfg.PageSize = 1 + rnd.IntN(8)
	w.cfg.Limiter = gmail.NewLimiter(gmail.NewProjectQuota())
	if rnd.IntN(2) == 0 {
		w.cfg.Candidates = func() []string { return []string{"nora@example.net", "other@example.net"} }
	}
	l := &life{world: w, t: t, rnd: rnd, delivered: map[string]bool{}, due: map[string]string{}, spam: map[string]string{}}
	l.SetFault(l.fault)
	return l
}

func (l *life) live() {
	for range 20 {
		l.event()
	}
	for range 60 {
		for range l.rnd.IntN(4) {
			l.event()
		}
		l.faulty = l.rnd.IntN(3) > 0
		l.pass(1 + l.rnd.IntN(6))
		time.Sleep(time.Duration(l.rnd.IntN(120)) * time.Minute)
	}
	l.faulty = false
	for range 400 { // quiet passes until nothing is left to do
		if l.pass(200) {
			break
		}
		time.Sleep(25 * time.Hour) // also what is tried once a day
	}
	for id, messageID := range l.due {
		if !l.delivered[messageID] {
			l.t.Errorf("mail %s was never delivered", id)
		}
	}
	for _, messageID := range l.spam {
		if l.delivered[messageID] {
			l.t.Error("a mail of Spam was delivered")
		}
	}
	l.t.Logf("%d mails, %d walks again", len(l.due), l.resets)
}

// event is something that happens in the mailbox.
func (l *life) event() {
	l.serial++
	id := fmt.Sprintf("m%d@x", l.serial)
	switch l.rnd.IntN(10) {
	case 0:
		m := gmailtest.ParseMail(mail("s" + id))
		m.Labels = []string{"SPAM"}
		l.spam[l.account.Deliver(m)] = "s" + id
	case 1:
		for spam, messageID := range l.spam { // a rescue
			l.account.Label(spam, []string{"INBOX"}, []string{"SPAM"})
			delete(l.spam, spam)
			l.due[spam] = messageID
			break
		}
	case 2:
		for gone := range l.due {
			l.account.Delete(gone)
			delete(l.due, gone)
			break
		}
	case 3:
		l.account.SaveDraft("", gmailtest.ParseMail(mail("d"+id)))
	default:
		l.due[l.deliver(id)[0]] = id
	}
	switch l.rnd.IntN(40) {
	case 0:
		l.account.ForgetHistory()
	case 1:
		l.kill()
	}
}

func (l *life) kill() {
	if !l.killed {
		l.killed = true
		l.KillAccess()
	}
}

// fault is what a call meets; several are under way at a time.
func (l *life) fault(r gmailtest.Request) gmailtest.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.faulty || l.rnd.IntN(8) > 0 {
		return gmailtest.Fault{}
	}
	switch l.rnd.IntN(8) {
	case 0:
		return gmailtest.Fault{Cut: true}
	case 1:
		return gmailtest.Fault{Status: 403, Reason: "rateLimitExceeded"}
	case 2:
		return gmailtest.Fault{Status: 429, RetryAfter: "9"}
	case 3:
		return gmailtest.Fault{Garbage: r.Call != "token"}
	case 4:
		l.event()
		return gmailtest.Fault{}
	case 5:
		l.kill()
		return gmailtest.Fault{}
	}
	return gmailtest.Fault{Status: 500 + l.rnd.IntN(4)}
}

// pass is one pass of at most so many pages; after any of them the daemon may be
// killed, before the page is kept or after. It tells that nothing more follows.
func (l *life) pass(pages int) (done bool) {
	l.killed = false
	if l.provider == nil || l.rnd.IntN(4) == 0 {
		l.provider = gmail.New(l.cfg)
	}
	mb, err := l.provider.Open(l.t.Context())
	if err != nil {
		l.failed(err)
		return false
	}
	defer mb.Close()
	if l.kept == "" {
		cur, err := mb.Start(l.t.Context(), window().Since)
		if err != nil {
			l.failed(err)
			return false
		}
		l.kept = cur
	}
	for range pages {
		page, err := mb.Next(l.t.Context(), l.kept, providers.Window{Since: time.Now().AddDate(0, 0, -60)})
		if err != nil {
			l.failed(err)
			return false
		}
		if l.faulty && l.rnd.IntN(10) == 0 {
			l.provider = nil
			return false
		}
		l.keep(page)
		if !page.More {
			return !strings.Contains(string(page.Next), `"retry"`)
		}
	}
	return false
}

func (l *life) keep(page providers.Page) {
	l.kept = page.Next
	if page.Reset != "" {
		l.resets++
	}
	for _, m := range page.Messages {
		l.delivered[m.Header.MessageID] = true
	}
}

// failed waits as the schedule would. Nothing here may park the mailbox or be
// called our own fault.
func (l *life) failed(err error) {
	switch providers.Classify(err) {
	case providers.ClassThrottled, providers.ClassServer, providers.ClassNetwork:
	default:
		l.t.Fatalf("a passing failure is classed %q: %v", providers.Classify(err), err)
	}
	wait, _ := throttled(err)
	time.Sleep(max(wait, time.Minute))
}
