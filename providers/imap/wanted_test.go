package imap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

// from makes a header block of a sender.
func from(sender, id string) string {
	return "From: " + sender + "\r\nTo: rita@example.com\r\nMessage-ID: <" + id + ">\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n\r\n"
}

// walk reads a search to its end; it returns the Message-IDs in their order.
func walk(t testing.TB, mb providers.Mailbox, q providers.Query) []string {
	t.Helper()
	ids, _ := walkFrom(t, mb, q, "")
	return ids
}

func walkFrom(t testing.TB, mb providers.Mailbox, q providers.Query, cur providers.Cursor) (ids []string, pages int) {
	t.Helper()
	seen := map[providers.Cursor]bool{}
	for {
		page, err := mb.Search(t.Context(), q, cur)
		if err != nil {
			t.Fatalf("Search: %v", err)
		}
		pages++
		for _, m := range page.Messages {
			ids = append(ids, m.Header.MessageID)
		}
		if !page.More {
			return ids, pages
		}
		if cur = page.Next; seen[cur] {
			t.Fatal("two pages have one cursor: a page that was not kept could not be asked for again")
		}
		seen[cur] = true
	}
}

func year() time.Time { return time.Now().AddDate(-1, 0, 0) }

func TestSearchReadsWholeHeadersOnlyOfMailThatNamesSomebody(t *testing.T) {
	s := newScript(t)
	s.put(many(30)...)
	s.set(func(s *script) {
		s.mails[7] = from("ann@example.net", "7@x")
		s.mails[11] = from("=?utf-8?q?ann=40example=2Enet?=", "11@x")
		s.mails[13] = "To: rita@example.com\r\nMessage-ID: <13@x>\r\n\r\n" // the sender may have been lost
	})
	var whole []string
	s.hook("UID FETCH", func(_ func(string, ...any), _, args string) bool {
		if strings.Contains(args, "SUBJECT") {
			whole = append(whole, strings.Fields(args)[0])
		}
		return false
	})
	mb := open(t, config(t, s.addr))
	got := walk(t, mb, providers.Query{Since: year(), Addresses: []string{"ann@example.net"}})
	if want := []string{"7@x", "11@x", "13@x"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []string{"7,11,13"}; !slices.Equal(whole, want) {
		t.Errorf("whole headers were read of %v, want %v", whole, want)
	}
}

func TestSearchForAnAddressThatCannotBeComparedTakesEverything(t *testing.T) {
	s := newScript(t)
	s.put(many(5)...)
	mb := open(t, config(t, s.addr))
	if got := walk(t, mb, providers.Query{Since: year(), Addresses: []string{"ann@example.net", "no address"}}); len(got) != 5 {
		t.Errorf("got %d of 5", len(got))
	}
}

func TestSearchMovesOnWhereItFindsNobody(t *testing.T) {
	s := newScript(t)
	s.put(many(100)...)
	cfg := config(t, s.addr)
	cfg.PageSize = 3
	mb := open(t, cfg)
	got, pages := walkFrom(t, mb, providers.Query{Since: year(), Addresses: []string{"ann@example.net"}}, "")
	if len(got) != 0 || pages != 4 {
		t.Errorf("%d mails on %d pages, want none on 4: a walk must note every 30 headers how far it is", len(got), pages)
	}
}

// long is a mailbox in which ann wrote the 1203rd, the 1400th and the newest mail,
// the 1205th in a way that no server finds, and an unlikely namesake the 1209th.
func long(t *testing.T) *script {
	s := newScript(t)
	s.put(many(2_500)...)
	s.set(func(s *script) {
		for uid, sender := range map[uint32]string{
			1203: "ann@example.net", 1400: "Ann <Ann@Example.NET>", 2500: "ann@example.net",
			1205: "ann (at home) @ example.net", 1209: "joann@example.net",
		} {
			s.mails[uid] = from(sender, fmt.Sprintf("%d@x", uid))
		}
	})
	return s
}

// impatient asks a server after a few hundred mails.
func impatient(cfg imap.Config) imap.Config {
	cfg.PageSize, cfg.Patience = 100, 1
	return cfg
}

// addressSearch is a hook for UID SEARCH that answers what asks for addresses.
func addressSearch(asked *[]string, answer func(say func(string, ...any), tag, args string)) func(func(string, ...any), string, string) bool {
	return func(say func(string, ...any), tag, args string) bool {
		if !strings.Contains(args, "FROM ") && !strings.Contains(args, "TO ") && !strings.Contains(args, "CC ") {
			return false
		}
		*asked = append(*asked, args)
		answer(say, tag, args)
		return true
	}
}

func TestQuickSearchDoesNotAskTheServer(t *testing.T) {
	s := long(t)
	var asked []string
	s.hook("UID SEARCH", addressSearch(&asked, func(say func(string, ...any), tag, _ string) { say("%s OK done", tag) }))
	cfg := config(t, s.addr)
	cfg.Patience = time.Hour
	got := walk(t, open(t, cfg), providers.Query{Since: year(), Addresses: []string{"ann@example.net"}})
	if want := []string{"1203@x", "1205@x", "1400@x", "2500@x"}; !slices.Equal(got, want) || len(asked) != 0 {
		t.Errorf("got %v and asked %d times, want %v and never", got, len(asked), want)
	}
}

func TestLongSearchAsksTheServerFirstAndBelievesItNothing(t *testing.T) {
	finds := func(say func(string, ...any), tag, _ string) {
		say("* SEARCH 1203 1209 1400 2500 99999")
		say("%s OK done", tag)
	}
	tests := []struct {
		name   string
		answer func(say func(string, ...any), tag, args string)
		ahead  []string // what comes before the walk
		asked  int      // commands in two walks
	}{
		{"a server that finds what is plain to see", finds, []string{"1203@x", "1209@x", "1400@x", "2500@x"}, 2},
		{"a server that finds nothing", func(say func(string, ...any), tag, _ string) {
			say("* SEARCH")
			say("%s OK done", tag)
		}, nil, 2},
		{"a server that refuses OR", func(say func(string, ...any), tag, args string) {
			if strings.Contains(args, "OR ") {
				say("%s BAD grouping is not supported", tag)
				return
			}
			finds(say, tag, args)
		}, []string{"1203@x", "1209@x", "1400@x", "2500@x"}, 8},
		{"a server that refuses everything is not asked again", func(say func(string, ...any), tag, _ string) {
			say("%s NO not today", tag)
		}, nil, 4},
		{"a server that wants a pause is not asked at once for the same in pieces", func(say func(string, ...any), tag, _ string) {
			say("%s NO [LIMIT] slow down", tag)
		}, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := long(t)
			var asked []string
			s.hook("UID SEARCH", addressSearch(&asked, tt.answer))
			p := imap.New(impatient(config(t, s.addr)))
			for range 2 {
				mb, err := p.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := walk(t, mb, providers.Query{Since: year(), Addresses: []string{"ann@example.net"}})
				_ = mb.Close()
				if len(got) < len(tt.ahead) || !slices.Equal(got[:len(tt.ahead)], tt.ahead) {
					t.Errorf("%v came first, want %v", got, tt.ahead)
				}
				for _, id := range []string{"1203@x", "1205@x", "1400@x", "2500@x"} {
					if n := count(got, id); n != 1 {
						t.Errorf("%s came %d times", id, n)
					}
				}
			}
			if len(asked) != tt.asked {
				t.Errorf("the server was asked %d times, want %d: %q", len(asked), tt.asked, asked)
			}
		})
	}
}

func count(list []string, x string) (n int) {
	for _, y := range list {
		if x == y {
			n++
		}
	}
	return n
}

func TestServerThatNeverAnswersASearchIsNotAskedAgain(t *testing.T) {
	s := long(t)
	var asked []string
	s.hook("UID SEARCH", addressSearch(&asked, func(func(string, ...any), string, string) {}))
	p := imap.New(impatient(quick(config(t, s.addr))))
	q := providers.Query{Since: year(), Addresses: []string{"ann@example.net"}}
	mb, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mb.Search(t.Context(), q, ""); providers.Classify(err) != providers.ClassNetwork {
		t.Fatalf("%v, want a network error", err)
	}
	_ = mb.Close()
	if mb, err = p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer mb.Close()
	if got := walk(t, mb, q); count(got, "1400@x") != 1 || len(asked) != 1 {
		t.Errorf("the next session found %v and asked %d times", got, len(asked)-1)
	}
}

func TestSearchResumesFromAnyPage(t *testing.T) {
	s := long(t)
	var asked []string
	s.hook("UID SEARCH", addressSearch(&asked, func(say func(string, ...any), tag, _ string) {
		say("* SEARCH %s", strings.Trim(fmt.Sprint(many(1_250)[1_000:]), "[]")) // three pages of namesakes with ann among them
		say("%s OK done", tag)
	}))
	cfg := impatient(config(t, s.addr))
	q := providers.Query{Since: year(), Addresses: []string{"ann@example.net"}}
	mb := open(t, cfg)
	var cursors []providers.Cursor
	var before [][]string
	var got []string
	for cur := providers.Cursor(""); ; {
		cursors, before = append(cursors, cur), append(before, slices.Clone(got))
		page, err := mb.Search(t.Context(), q, cur)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			got = append(got, m.Header.MessageID)
		}
		if cur = page.Next; !page.More || len(cursors) == 6 {
			break
		}
	}
	for i, cur := range cursors {
		for name, other := range map[string]providers.Mailbox{"the same": mb, "another": open(t, cfg)} {
			rest, _ := walkFrom(t, other, q, cur)
			all := append(slices.Clone(before[i]), rest...)
			for _, id := range []string{"1203@x", "1205@x", "1400@x", "2500@x"} {
				if !slices.Contains(all, id) {
					t.Errorf("%s session, from page %d: %s is missing", name, i+1, id)
				}
			}
		}
	}
}

func TestSearchCommands(t *testing.T) {
	var twenty, tooMany, lengthy []string
	for i := range 21 {
		tooMany = append(tooMany, fmt.Sprintf("a%02d@example.net", i))
		lengthy = append(lengthy, fmt.Sprintf("a%02d%s@example.net", i, strings.Repeat("x", 200)))
	}
	twenty, lengthy = tooMany[:20], lengthy[:20]
	tests := []struct {
		name      string
		addresses []string
		commands  int
	}{
		{"one address", []string{"ann@example.net"}, 1},
		{"twenty addresses", twenty, 1},
		{"twenty lengthy addresses", lengthy, 3},
		{"more than a search is worth", tooMany, 0},
		{"a folded address", []string{"anngm@gmail.com"}, 0},
		{"an address in another script", []string{"jürgen@bücher.example"}, 0},
		{"one that can be asked for beside one that cannot", []string{"anngm@gmail.com", "ann@example.net"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := long(t)
			var asked []string
			s.hook("UID SEARCH", addressSearch(&asked, func(say func(string, ...any), tag, _ string) { say("%s OK done", tag) }))
			walk(t, open(t, impatient(config(t, s.addr))), providers.Query{Since: year(), Addresses: tt.addresses})
			if len(asked) != tt.commands {
				t.Errorf("%d commands, want %d", len(asked), tt.commands)
			}
			for _, args := range asked {
				if len(args) > 7_900 || strings.Contains(args, "gmail") || !strings.Contains(args, "SINCE") {
					t.Errorf("a command of %d bytes: %.200s", len(args), args)
				}
			}
		})
	}
}

func TestSearchForAddressesCostsFewerBytes(t *testing.T) {
	const mails = 400
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	for i := range mails {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("%d@x", i), "References: <a@mail.example.com> <b@mail.example.com>\r\n"), time.Time{})
	}
	proxy := testutil.StartProxy(t, d.Plain)
	octets := func(addresses ...string) int64 {
		proxy.Reset()
		mb := open(t, config(t, proxy.Addr))
		walk(t, mb, providers.Query{Since: year(), Addresses: addresses})
		in, _ := proxy.Bytes()
		return in
	}
	all, some := octets(), octets("ann@example.org")
	if some*2 > all {
		t.Errorf("a search for addresses read %d bytes, one for everything %d: want at most half", some, all)
	}
	t.Logf("%d bytes a mail instead of %d", some/mails, all/mails)
}
