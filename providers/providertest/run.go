package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/providers"
)

// Server is one empty mailbox with its server, as a provider's test makes it.
// INBOX, Sent and Junk exist, or INBOX.Sent and INBOX.Junk where a server keeps
// everything below INBOX; walks leave Junk out. Pages must hold no more than a few
// messages, so that a walk of ten takes several.
type Server interface {
	providers.Opener
	// Deliver puts a mail (header, empty line, body) into a folder; it is there
	// when Deliver returns.
	Deliver(t *testing.T, folder, mail string, arrival time.Time)
	// Renumber makes the server forget how it numbered the mails of INBOX.
	Renumber(t *testing.T)
}

// Run holds a provider to the contract. fresh makes a new empty mailbox.
func Run(t *testing.T, fresh func(t *testing.T) Server) {
	tests := []struct {
		name string
		run  func(t *testing.T, s Server)
	}{
		{"the first walk takes the window of every watched folder", testFirstWalk},
		{"arrival or Date within the window is enough", testWindow},
		{"a poll without change gives back its cursor", testUnchanged},
		{"new mail comes once, also in another session", testNews},
		{"mail that arrives during a walk comes before its end", testArrivesDuringWalk},
		{"a walk resumes from the cursor of any page", testResume},
		{"a lost numbering walks the window again and says so", testRenumbered},
		{"a cursor of nobody is expired", testForeignCursor},
		{"Search walks old mail with a cursor of its own", testSearch},
		{"Search brings every mail of the addresses it is asked for", testSearchAddresses},
		{"Find finds by Message-ID wherever the mail lies", testFind},
		{"a cancelled call says so", testCancelled},
		{"Close is safe twice and ends the session", testClose},
		{"messages say what they are", testFacts},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, fresh(t)) })
	}
}

// maxPages ends a walk that does not.
const maxPages = 200

func recently() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

func window() providers.Window { return providers.Window{Since: time.Now().AddDate(0, 0, -14)} }

// text is a mail with the given id and Date.
func text(id string, date time.Time) string {
	return "From: Nora Brandt <nora@example.net>\r\nTo: rita@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n" +
		"Message-ID: <" + id + ">\r\nReferences: <root@x>\r\nDate: " + date.Format(time.RFC1123Z) + "\r\n\r\nbody\r\n"
}

func deliver(t *testing.T, s Server, folder string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		s.Deliver(t, folder, text(id, recently()), recently())
	}
}

func ids(n int, prefix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%02d@x", prefix, i)
	}
	return out
}

func open(t *testing.T, s Server) providers.Mailbox {
	t.Helper()
	mb, err := s.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = mb.Close() })
	return mb
}

func start(t *testing.T, mb providers.Mailbox) providers.Cursor {
	t.Helper()
	cur, err := mb.Start(t.Context(), window().Since)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return cur
}

// walk collects pages from a cursor to the end.
func walk(t *testing.T, cur providers.Cursor, page func(providers.Cursor) (providers.Page, error)) []providers.Page {
	t.Helper()
	var pages []providers.Page
	for range maxPages {
		p, err := page(cur)
		if err != nil {
			t.Fatalf("page %d: %v", len(pages)+1, err)
		}
		pages = append(pages, p)
		if cur = p.Next; !p.More {
			return pages
		}
	}
	t.Fatalf("the walk did not end within %d pages", maxPages)
	return nil
}

func next(t *testing.T, mb providers.Mailbox, cur providers.Cursor) []providers.Page {
	t.Helper()
	return walk(t, cur, func(cur providers.Cursor) (providers.Page, error) {
		return mb.Next(t.Context(), cur, window())
	})
}

func search(t *testing.T, mb providers.Mailbox, q providers.Query, cur providers.Cursor) []providers.Page {
	t.Helper()
	return walk(t, cur, func(cur providers.Cursor) (providers.Page, error) {
		return mb.Search(t.Context(), q, cur)
	})
}

func last(pages []providers.Page) providers.Cursor { return pages[len(pages)-1].Next }

// found lists the Message-IDs of pages, sorted.
func found(pages []providers.Page) []string {
	var out []string
	for _, p := range pages {
		for _, m := range p.Messages {
			out = append(out, m.Header.MessageID)
		}
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func testFirstWalk(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(10, "in")...)
	deliver(t, s, "Sent", ids(3, "out")...)
	deliver(t, s, "Junk", "junk@x")
	mb := open(t, s)
	pages := next(t, mb, start(t, mb))
	same(t, "the first walk", found(pages), append(ids(10, "in"), ids(3, "out")...))
	if len(pages) < 3 {
		t.Errorf("13 messages came on %d pages: the pages are not bounded", len(pages))
	}
}

func testWindow(t *testing.T, s Server) {
	old := time.Now().AddDate(-1, 0, 0)
	s.Deliver(t, "INBOX", text("new arrival, old Date@x", old), recently())
	s.Deliver(t, "INBOX", text("old@x", old), old)
	s.Deliver(t, "INBOX", text("oldarrival@x", recently()), old)
	s.Deliver(t, "INBOX", text("newarrival@x", old), recently())
	mb := open(t, s)
	got := found(next(t, mb, start(t, mb)))
	for _, want := range []string{"oldarrival@x", "newarrival@x"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing from %v", want, got)
		}
	}
	if slices.Contains(got, "old@x") {
		t.Error("a mail came that is older than the window in both respects")
	}
}

func testUnchanged(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(4, "a")...)
	mb := open(t, s)
	cur := last(next(t, mb, start(t, mb)))
	for _, session := range []providers.Mailbox{mb, open(t, s)} {
		p, err := session.Next(t.Context(), cur, window())
		if err != nil {
			t.Fatal(err)
		}
		if p.Next != cur || p.More || len(p.Messages) != 0 || p.Reset != "" {
			t.Errorf("an unchanged mailbox gave %d messages, more %v, reset %q, same cursor %v", len(p.Messages), p.More, p.Reset, p.Next == cur)
		}
	}
}

func testNews(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(4, "a")...)
	mb := open(t, s)
	cur := last(next(t, mb, start(t, mb)))
	deliver(t, s, "INBOX", "b@x")
	deliver(t, s, "Sent", "c@x")
	old := time.Now().AddDate(-2, 0, 0)
	s.Deliver(t, "INBOX", text("moved@x", old), old) // as a move from elsewhere: old, but new here
	pages := next(t, mb, cur)
	same(t, "news", found(pages), []string{"b@x", "c@x", "moved@x"})
	same(t, "the same news from the old cursor in another session", found(next(t, open(t, s), cur)), found(pages))
	same(t, "after the news", found(next(t, open(t, s), last(pages))), nil)
}

func testArrivesDuringWalk(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(8, "a")...)
	mb := open(t, s)
	p, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || !p.More {
		t.Fatalf("the first page of 8: more %v, %v", p.More, err)
	}
	deliver(t, s, "INBOX", "late@x")
	rest := next(t, mb, p.Next)
	got := append(found([]providers.Page{p}), found(rest)...)
	got = append(got, found(next(t, mb, last(rest)))...)
	slices.Sort(got)
	same(t, "the walk and the poll after it", got, append(ids(8, "a"), "late@x"))
}

func testResume(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(7, "a")...)
	deliver(t, s, "Sent", ids(5, "b")...)
	mb := open(t, s)
	pages := next(t, mb, start(t, mb))
	all := append(ids(7, "a"), ids(5, "b")...)
	for i := range pages[:len(pages)-1] {
		other := open(t, s)
		rest := next(t, other, pages[i].Next)
		got := append(found(pages[:i+1]), found(rest)...)
		slices.Sort(got)
		same(t, fmt.Sprintf("page 1 to %d and another session's rest", i+1), got, all)
	}
	// The cursor of a page that was not kept: the same session must obey an older one.
	got := found(next(t, mb, pages[0].Next))
	same(t, "the same session from an older cursor", got, found(pages[1:]))
}

func testRenumbered(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(5, "a")...)
	mb := open(t, s)
	cur := last(next(t, mb, start(t, mb)))
	_ = mb.Close()
	s.Renumber(t)
	deliver(t, s, "INBOX", "b@x")
	mb = open(t, s)
	pages := next(t, mb, cur)
	if pages[0].Reset == "" {
		t.Error("the provider does not say that it walks the window again")
	}
	same(t, "the window again", found(pages), append(ids(5, "a"), "b@x"))
	same(t, "after that", found(next(t, mb, last(pages))), nil)
}

func testForeignCursor(t *testing.T, s Server) {
	mb := open(t, s)
	for _, cur := range []providers.Cursor{"", "x", `{"v":99}`, `[]`, "\x00"} {
		if _, err := mb.Next(t.Context(), cur, window()); !errors.Is(err, providers.ErrCursorExpired) {
			t.Errorf("Next(%q): %v, want ErrCursorExpired", cur, err)
		}
	}
	if _, err := mb.Search(t.Context(), providers.Query{}, "nonsense"); !errors.Is(err, providers.ErrCursorExpired) {
		t.Errorf("Search: %v, want ErrCursorExpired", err)
	}
	same(t, "the session afterwards", found(next(t, mb, start(t, mb))), nil)
}

func testSearch(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(7, "a")...)
	deliver(t, s, "Sent", ids(5, "b")...)
	deliver(t, s, "Junk", "junk@x")
	all := append(ids(7, "a"), ids(5, "b")...)
	mb := open(t, s)
	cur := last(next(t, mb, start(t, mb)))
	q := providers.Query{Since: window().Since}
	pages := search(t, mb, q, "")
	same(t, "the walk", found(pages), all)
	for i := range pages[:len(pages)-1] {
		got := append(found(pages[:i+1]), found(search(t, open(t, s), q, pages[i].Next))...)
		slices.Sort(got)
		same(t, fmt.Sprintf("page 1 to %d and another session's rest", i+1), got, all)
	}
	deliver(t, s, "INBOX", "new@x")
	same(t, "the main walk is not moved by it", found(next(t, mb, cur)), []string{"new@x"})
}

func testSearchAddresses(t *testing.T, s Server) {
	deliver(t, s, "INBOX", ids(5, "a")...)
	mb := open(t, s)
	q := providers.Query{Since: window().Since, Addresses: []string{"nora@example.net"}}
	got := found(search(t, mb, q, ""))
	for _, id := range ids(5, "a") {
		if !slices.Contains(got, id) {
			t.Errorf("%s names the address and is missing from %v", id, got)
		}
	}
}

func testFind(t *testing.T, s Server) {
	deliver(t, s, "INBOX", "a@x", "aa@x")
	deliver(t, s, "Sent", "a@x")
	deliver(t, s, "Junk", "junk@x")
	mb := open(t, s)
	tests := []struct {
		name, id string
		want     []string
	}{
		{"in two folders, and not by a part of the id", "a@x", []string{"INBOX", "Sent"}},
		{"in a folder that walks leave out", "junk@x", []string{"Junk ignored"}},
		{"nowhere", "nobody@x", nil},
		{"no id", "", nil},
		{"an id that tries to be a command", "x\r\nT9 LOGOUT", nil},
	}
	for _, tt := range tests {
		ms, err := mb.Find(t.Context(), tt.id)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, m := range ms {
			folder := strings.TrimPrefix(m.Folder, "INBOX.")
			got = append(got, strings.TrimSpace(folder+map[bool]string{true: " ignored"}[m.Ignored]))
		}
		slices.Sort(got)
		same(t, tt.name, got, tt.want)
	}
}

func testCancelled(t *testing.T, s Server) {
	mb := open(t, s)
	cur := start(t, mb)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := map[string]func() error{
		"Open":   func() error { _, err := s.Open(ctx); return err },
		"Start":  func() error { _, err := mb.Start(ctx, window().Since); return err },
		"Next":   func() error { _, err := mb.Next(ctx, cur, window()); return err },
		"Search": func() error { _, err := mb.Search(ctx, providers.Query{}, ""); return err },
		"Find":   func() error { _, err := mb.Find(ctx, "a@x"); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
}

func testClose(t *testing.T, s Server) {
	mb := open(t, s)
	cur := start(t, mb)
	for range 2 {
		if err := mb.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := mb.Next(t.Context(), cur, window()); err == nil {
		t.Error("Next works after Close")
	}
}

func testFacts(t *testing.T, s Server) {
	arrival := recently()
	s.Deliver(t, "INBOX", text("a@x", arrival.Add(-time.Minute)), arrival)
	s.Deliver(t, "Sent", text("a@x", arrival.Add(-time.Minute)), arrival)
	mb := open(t, s)
	refs := map[string]bool{}
	for _, p := range next(t, mb, start(t, mb)) {
		for _, m := range p.Messages {
			if m.Ref == "" || refs[m.Ref] {
				t.Errorf("the Ref %q is empty or not unique", m.Ref)
			}
			refs[m.Ref] = true
			if !m.Arrival.Equal(arrival) || m.Arrival.Location() != time.UTC {
				t.Errorf("arrival is %v, want %v in UTC", m.Arrival, arrival.UTC())
			}
			if m.Ignored {
				t.Error("a mail of a walk is marked as ignored")
			}
			checkHeader(t, m, arrival)
		}
	}
	if len(refs) != 2 {
		t.Errorf("%d mails came, want 2", len(refs))
	}
}

func checkHeader(t *testing.T, m providers.Message, arrival time.Time) {
	t.Helper()
	h := m.Header
	if h.Subject != "Grüße" || h.MessageID != "a@x" || !h.Date.Equal(arrival.Add(-time.Minute)) {
		t.Errorf("the header is %q, %q, %v", h.Subject, h.MessageID, h.Date)
	}
	if len(h.From) != 1 || h.From[0].Key != "nora@example.net" || len(h.References) != 1 {
		t.Errorf("the header has From %d, References %d", len(h.From), len(h.References))
	}
}
