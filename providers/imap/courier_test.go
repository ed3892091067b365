package imap_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
	"mailsyncd/providers/providertest"
)

func TestConformanceOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	providertest.Run(t, func(t *testing.T) providertest.Server {
		return newCourierServer(t, c, userOf(t))
	})
}

func TestSpellingsOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	providertest.RunSpellings(t, newCourierServer(t, c, "spellings"))
}

func newCourierServer(t *testing.T, c *testutil.Courier, user string) providertest.Server {
	t.Helper()
	return newRealServer(t, c, c.Plain, user, c.Renumber)
}

func TestCursorHoldsAcrossSessionsOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	proxy := testutil.StartProxy(t, c.Plain)
	poll := func(cur providers.Cursor) ([]string, providers.Cursor) {
		proxy.Reset()
		mb := open(t, config(t, proxy.Addr)) // another provider, which has yet to learn that EXAMINE cannot be trusted
		defer mb.Close()
		if cur == "" {
			cur = start(t, mb)
		}
		return drain(t, mb, cur)
	}
	deliverTo(c, "INBOX", "a@x", "b@x")
	got, cur := poll("")
	same(t, "the first walk", got, "INBOX a@x", "INBOX b@x")
	c.NextSecond()
	again, unchanged := poll(cur)
	if len(again) != 0 || unchanged != cur {
		t.Errorf("without a change came %v; the same cursor: %v", again, unchanged == cur)
	}
	if n := sent(proxy, "EXAMINE") + sent(proxy, "SELECT"); n != 0 {
		t.Errorf("a poll without a change opened %d folders: %q", n, proxy.Commands())
	}
	deliverTo(c, "INBOX", "c@x")
	got, cur = poll(cur)
	same(t, "news", got, "INBOX c@x")
	if sent(proxy, "EXAMINE") != 1 || sent(proxy, "SELECT") != 1 {
		t.Errorf("want one EXAMINE, which tells no UIDNEXT, and then SELECT: %q", proxy.Commands())
	}
	if again, unchanged = poll(cur); len(again) != 0 || unchanged != cur {
		t.Errorf("after the news came %v; the same cursor: %v", again, unchanged == cur)
	}
}

// EXAMINE gives new mail UIDs that Courier does not keep: with mail that sorts
// before it they shift.
func TestUIDsThatAnEXAMINEInventedOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	deliverTo(c, "INBOX", "a@x")
	mb := open(t, config(t, c.Plain))
	_, cur := drain(t, mb, start(t, mb))
	deliverTo(c, "INBOX", "b@x")
	rawClient(t, c.Plain).do(t, "EXAMINE INBOX")
	c.Deliver("rita", "INBOX", mail("c@x"), time.Now().Add(-time.Hour)) // its file sorts first
	got, cur := drain(t, mb, cur)
	same(t, "news", got, "INBOX b@x", "INBOX c@x")
	got, _ = drain(t, open(t, config(t, c.Plain)), cur)
	same(t, "after the news", got)
}

func TestEmptyFolderOnCourierThatNobodyHasOpened(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	c.MakeFolder("rita", "Sent")
	deliverTo(c, "INBOX", "a@x")
	mb := open(t, config(t, c.Plain))
	_, cur := drain(t, mb, start(t, mb))
	c.NextSecond() // STATUS now tells another UIDVALIDITY of Sent
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || page.Next != cur || page.Reset != "" {
		t.Errorf("without a change: reset %q, the same cursor %v, %v", page.Reset, page.Next == cur, err)
	}
	longAgo := time.Now().AddDate(-2, 0, 0)
	c.Deliver("rita", "Sent", strings.ReplaceAll(mail("moved@x"), "Date: ", "X-Date: "), longAgo) // moved here from elsewhere
	c.NextSecond()
	page, err = mb.Next(t.Context(), cur, window())
	if err != nil || !has(page, "INBOX.Sent moved@x") || page.Reset != "" {
		t.Errorf("with its first mail: %d messages, reset %q, %v", len(page.Messages), page.Reset, err)
	}
}

// STATUS counts mail to which Courier gives a UID only when the folder is opened:
// if it is gone by then, the next mail gets that UID.
func TestMailThatIsGoneBeforeItsFolderIsOpenedOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	c.MakeFolder("rita", "Sent")
	deliverTo(c, "Sent", "a@x")
	cfg := config(t, c.Plain)
	cfg.PageSize = 2
	mb := open(t, cfg)
	_, cur := drain(t, mb, start(t, mb))
	deliverTo(c, "INBOX", "1@x", "2@x", "3@x")
	deliverTo(c, "Sent", "gone@x")
	_ = mb.Close()
	mb = open(t, cfg) // the first session has Sent open
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || !page.More {
		t.Fatalf("the first page: more %v, %v", page.More, err)
	}
	c.Collect("rita", "Sent")
	got, cur := drain(t, mb, page.Next)
	same(t, "the rest", got, "INBOX 3@x")
	deliverTo(c, "Sent", "next@x")
	got, _ = drain(t, mb, cur)
	same(t, "the next poll", got, "INBOX.Sent next@x")
}

// The same as a folder that nobody has opened yet on Courier, when each answer
// falls into another second.
func TestNumberingThatMovesUntilTheFolderIsOpened(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3)
	s.set(func(s *script) { s.caps, s.noNext = "IMAP4rev1", true })
	moves := true
	state := func(say func(string, ...any), tag, line string) bool {
		if moves {
			s.set(func(s *script) { s.validity++ })
		}
		say(line, s.validity)
		say("%s OK done", tag)
		return true
	}
	s.hook("STATUS", func(say func(string, ...any), tag, _ string) bool {
		return state(say, tag, "* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY %d)")
	})
	opened := func(say func(string, ...any), tag, _ string) bool {
		return state(say, tag, "* 3 EXISTS\r\n* OK [UIDVALIDITY %d] x")
	}
	s.hook("EXAMINE", opened)
	s.hook("SELECT", func(say func(string, ...any), tag, args string) bool {
		defer func() { moves = false }()
		return opened(say, tag, args)
	})
	mb := open(t, config(t, s.addr))
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 3 || page.Reset != "" {
		t.Errorf("the first walk: %d messages, reset %q, %v", len(page.Messages), page.Reset, err)
	}
	if again, same := drain(t, mb, page.Next); len(again) != 0 || same != page.Next {
		t.Errorf("and then: %v, the same cursor %v", again, same == page.Next)
	}
}

// A server that counts in STATUS what came since a folder was opened, and shows the
// folder as it was.
func TestMailThatComesWhileAFolderIsOpenedIsTheNextPolls(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.caps, s.noNext = "IMAP4rev1", true })
	s.put(1, 2)
	messages, next := 2, []int{3}
	s.hook("STATUS", func(say func(string, ...any), tag, _ string) bool {
		say("* STATUS INBOX (MESSAGES %d UIDNEXT %d UIDVALIDITY 7)", messages, next[0])
		say("%s OK done", tag)
		next = next[min(1, len(next)-1):]
		return true
	})
	mb := open(t, config(t, s.addr))
	got, cur := drain(t, mb, start(t, mb))
	same(t, "the first walk", got, "INBOX 1@x", "INBOX 2@x")

	s.put(3)
	s.set(func(s *script) { delete(s.mails, 2) }) // between STATUS and SELECT
	messages, next = 3, []int{4, 5}               // and mail 4 comes behind SELECT
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("the poll: %d messages, %v", len(page.Messages), err)
	}
	s.put(4)
	got, _ = drain(t, mb, page.Next)
	same(t, "the next poll", got, "INBOX 4@x")
}

func TestFoldersOnCourierLieBelowINBOX(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	for _, folder := range []string{"Sent", "Junk", "Trash", "Trash.gone", "Drafts", "Kunden", "Kunden.2026", "Privat.Arzt"} {
		c.MakeFolder("rita", folder)
		deliverTo(c, folder, "in@x")
	}
	deliverTo(c, "INBOX", "in@x")
	proxy := testutil.StartProxy(t, c.Plain)
	cfg := config(t, proxy.Addr)
	cfg.IgnoreFolders = []string{"Privat"} // as the owner calls it, without the prefix
	mb := open(t, cfg)
	got, cur := drain(t, mb, start(t, mb))
	same(t, "the folders", got, "INBOX in@x", "INBOX.Kunden in@x", "INBOX.Kunden.2026 in@x", "INBOX.Sent in@x")
	deliverTo(c, "Kunden", "new@x")
	got, _ = drain(t, mb, cur)
	same(t, "news", got, "INBOX.Kunden new@x")
	for _, cmd := range []string{"ID", "UNSELECT", "ENABLE"} {
		if sent(proxy, cmd) != 0 {
			t.Errorf("%s was sent, which the server does not offer", cmd)
		}
	}
	for _, line := range proxy.Commands() {
		if strings.Contains(line, "RETURN") {
			t.Errorf("sent %q to a server without extended LIST", line)
		}
	}
}

// On Courier a renamed folder has another UIDVALIDITY: nothing tells it from a
// new one, and its window is walked once more.
func TestFolderRenamedOnCourierIsWalkedAgain(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	c.MakeFolder("rita", "A")
	deliverTo(c, "A", "a@x", "b@x")
	mb := open(t, config(t, c.Plain))
	_, cur := drain(t, mb, start(t, mb))
	_ = mb.Close()
	c.NextSecond()
	rawClient(t, c.Plain).do(t, "RENAME INBOX.A INBOX.B")
	deliverTo(c, "B", "new@x")
	mb = open(t, config(t, c.Plain))
	got, cur := drain(t, mb, cur)
	same(t, "after the rename", got, "INBOX.B a@x", "INBOX.B b@x", "INBOX.B new@x")
	got, _ = drain(t, mb, cur)
	same(t, "and then", got)
}

// All that Courier does by itself when a folder is opened: it takes mail from new/
// to cur/, where the name gets room for flags, and keeps its list of UIDs.
func TestMailboxOnCourierIsNotTouched(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	c.MakeFolder("rita", "Sent")
	deliverTo(c, "INBOX", "a@x", "b@x", "c@x")
	deliverTo(c, "Sent", "s@x")
	delivered := append(c.Files("rita", "INBOX"), c.Files("rita", "Sent")...)
	proxy := testutil.StartProxy(t, c.Plain)
	cfg := config(t, proxy.Addr)
	everything := func() {
		mb := open(t, cfg)
		_, cur := drain(t, mb, start(t, mb))
		drain(t, mb, cur)
		walk(t, mb, providers.Query{Since: window().Since})
		walk(t, mb, providers.Query{Since: window().Since, Addresses: []string{"nora@example.net"}})
		if _, err := mb.Find(t.Context(), "b@x"); err != nil {
			t.Fatal(err)
		}
		_ = mb.Close()
	}
	everything()
	opened := append(c.Files("rita", "INBOX"), c.Files("rita", "Sent")...)
	for i := range delivered {
		delivered[i] += ":2," // and no flag
	}
	same(t, "the files after the first session", opened, delivered...)
	everything()
	same(t, "the files after the second", append(c.Files("rita", "INBOX"), c.Files("rita", "Sent")...), opened...)
	for _, cmd := range []string{"STORE", "UID STORE", "COPY", "UID COPY", "EXPUNGE", "CLOSE", "APPEND", "CREATE", "DELETE", "RENAME", "SETACL"} {
		if sent(proxy, cmd) != 0 {
			t.Errorf("%s was sent", cmd)
		}
	}
}

func TestWrongPasswordOnCourierIsUnauthorized(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	cfg := config(t, c.Plain)
	cfg.Credential = func(context.Context) (string, error) { return "wrong", nil }
	if _, err := imap.New(cfg).Open(t.Context()); !errors.Is(err, providers.ErrUnauthorized) {
		t.Errorf("%v, want ErrUnauthorized", err)
	}
}

func deliverTo(c *testutil.Courier, folder string, ids ...string) {
	for _, id := range ids {
		c.Deliver("rita", folder, mail(id), time.Time{})
	}
}

// sent counts the commands that begin with a verb.
func sent(proxy *testutil.Proxy, verb string) int {
	n := 0
	for _, line := range proxy.Commands() {
		if _, cmd, _ := strings.Cut(line, " "); cmd == verb || strings.HasPrefix(cmd, verb+" ") {
			n++
		}
	}
	return n
}

// same compares what came with what was due, in any order.
func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if got, want := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
