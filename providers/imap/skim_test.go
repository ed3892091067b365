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

func TestNewsInManyFoldersCostOneRoundTrip(t *testing.T) {
	const folders = 30
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	names := []string{"INBOX", "Sent"}
	for i := range folders {
		names = append(names, fmt.Sprintf("Clients %d", i))
	}
	deliver := func(id string) {
		for _, name := range names {
			d.Deliver("rita", name, mail(id), time.Time{})
		}
	}
	for _, name := range names {
		d.MakeFolder("rita", name)
	}
	deliver("old@x")
	mb := open(t, config(t, d.Plain))
	_, cur := drain(t, mb, start(t, mb))
	deliver("new@x")
	deliver("newer@x")
	proxy := testutil.StartProxy(t, d.Plain)
	mb = open(t, config(t, proxy.Addr))
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || page.More || len(page.Messages) != 2*len(names) {
		t.Fatalf("%d messages, more %v, %v; want %d", len(page.Messages), page.More, err, 2*len(names))
	}
	for _, name := range names {
		if !has(page, name+" new@x") || !has(page, name+" newer@x") {
			t.Errorf("news of %s are missing", name)
		}
	}
	// Greeting, login, list, and the flight; a long answer may come in two pieces
	// with a packet of ours between.
	if trips := proxy.RoundTrips(); trips > 5 {
		t.Errorf("%d round trips, want at most 5", trips)
	}
	if again, same := drain(t, mb, page.Next); len(again) != 0 || same != page.Next {
		t.Errorf("and then came %v", again)
	}
}

// manyFolders is a script with INBOX, A, B and C. Each holds three mails, later
// four, with the same UIDs; their ids tell the folder.
type manyFolders struct {
	*script
	held    int    // mails of each folder
	current string // the folder that is open
	refuse  string // not to be opened
	shift   string // opening it tells another UIDVALIDITY, once
	withold string // its fourth mail has no row
	bare    string // its fourth mail comes without its sender, but whole with it
}

func newManyFolders(t *testing.T) *manyFolders {
	m := &manyFolders{script: newScript(t), held: 3}
	names := []string{"INBOX", "A", "B", "C"}
	status := func(name string) string {
		return fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY 7)", name, m.held, m.held+1)
	}
	m.hook("LIST", func(say func(string, ...any), tag, _ string) bool {
		for _, name := range names {
			say(`* LIST () "/" %s`, name)
			say("%s", status(name))
		}
		say("%s OK done", tag)
		return true
	})
	m.hook("STATUS", func(say func(string, ...any), tag, args string) bool {
		say("%s", status(strings.Trim(strings.Fields(args)[0], `"`)))
		say("%s OK done", tag)
		return true
	})
	m.hook("EXAMINE", m.examine)
	m.hook("UID SEARCH", m.search)
	m.hook("UID FETCH", m.fetchRows)
	return m
}

func (m *manyFolders) examine(say func(string, ...any), tag, args string) bool {
	name := strings.Trim(args, `"`)
	m.current = ""
	if name == m.refuse {
		say("%s NO [NOPERM] not for you", tag)
		return true
	}
	m.current = name
	validity := 7
	if name == m.shift {
		validity, m.shift = 8, ""
	}
	say("* %d EXISTS", m.held)
	say("* OK [UIDVALIDITY %d] x", validity)
	say("* OK [UIDNEXT %d] x", m.held+1)
	say("%s OK done", tag)
	return true
}

func (m *manyFolders) search(say func(string, ...any), tag, args string) bool {
	if m.current == "" {
		say("%s BAD no folder is open", tag)
		return true
	}
	_, set, _ := strings.Cut(args, "UID ")
	set, _, _ = strings.Cut(set, " ")
	found := ""
	for u := range m.held {
		if inSet(set, uint32(u+1), uint32(m.held)) {
			found += fmt.Sprintf(" %d", u+1)
		}
	}
	say("* SEARCH%s", found)
	say("%s OK done", tag)
	return true
}

func (m *manyFolders) fetchRows(say func(string, ...any), tag, args string) bool {
	if m.current == "" {
		say("%s BAD no folder is open", tag)
		return true
	}
	set, items, _ := strings.Cut(args, " ")
	for u := range m.held {
		uid := uint32(u + 1)
		if !inSet(set, uid, uint32(m.held)) || uid == 4 && m.current == m.withold {
			continue
		}
		h := head(fmt.Sprintf("%s%d@x", m.current, uid))
		if uid == 4 && m.current == m.bare && strings.Contains(items, "FIELDS") {
			_, h, _ = strings.Cut(h, "\r\n")
		}
		say("* %d FETCH (UID %d INTERNALDATE %q BODY[HEADER] {%d}\r\n%s)", uid, uid, time.Now().Format("02-Jan-2006 15:04:05 -0700"), len(h), h)
	}
	say("%s OK done", tag)
	return true
}

func TestOneOddFolderDoesNotSpoilTheFlight(t *testing.T) {
	all := []string{"A A4@x", "B B4@x", "C C4@x", "INBOX INBOX4@x"}
	tests := []struct {
		name  string
		odd   func(m *manyFolders)
		want  []string
		later []string // at the poll after it, when the server has mended itself
	}{
		{"none is odd", func(*manyFolders) {}, all, nil},
		{"one may not be opened", func(m *manyFolders) { m.refuse = "A" }, []string{"B B4@x", "C C4@x", "INBOX INBOX4@x"}, []string{"A A4@x"}},
		{"the last may not be opened", func(m *manyFolders) { m.refuse = "C" }, []string{"A A4@x", "B B4@x", "INBOX INBOX4@x"}, []string{"C C4@x"}},
		{"one tells another numbering", func(m *manyFolders) { m.shift = "B" }, all, nil},
		{"one does not hand out a mail", func(m *manyFolders) { m.withold = "INBOX" }, []string{"A A4@x", "B B4@x", "C C4@x"}, []string{"INBOX INBOX4@x"}},
		{"one loses a sender", func(m *manyFolders) { m.bare = "B" }, all, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newManyFolders(t)
			p := imap.New(config(t, m.addr))
			poll := func(cur providers.Cursor) ([]string, providers.Cursor) {
				mb, err := p.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer mb.Close()
				if cur == "" {
					cur = start(t, mb)
				}
				var got []string
				for more := true; more; {
					page, err := mb.Next(t.Context(), cur, window())
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range page.Messages {
						got = append(got, m.Folder+" "+m.Header.MessageID)
						if len(m.Header.From) != 1 {
							t.Errorf("%s has no sender", m.Header.MessageID)
						}
					}
					cur, more = page.Next, page.More
				}
				slices.Sort(got)
				return got, cur
			}
			_, cur := poll("")
			m.held = 4
			tt.odd(m)
			got, cur := poll(cur)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v,\nwant %v", got, tt.want)
			}
			m.refuse, m.withold = "", ""
			if later, _ := poll(cur); !slices.Equal(later, tt.later) {
				t.Errorf("later came %v, want %v", later, tt.later)
			}
		})
	}
}

func TestFlightThatIsThrottledLeavesNothingBehind(t *testing.T) {
	m := newManyFolders(t)
	mb := open(t, config(t, m.addr))
	_, cur := drain(t, mb, start(t, mb))
	m.held = 4
	m.hook("EXAMINE", func(say func(string, ...any), tag, args string) bool {
		if strings.Trim(args, `"`) != "A" {
			return m.examine(say, tag, args)
		}
		m.hook("EXAMINE", m.examine)
		say("%s NO [LIMIT] slow down", tag)
		return true
	})
	if _, err := mb.Next(t.Context(), cur, window()); providers.Classify(err) != providers.ClassThrottled {
		t.Fatalf("%v, want a ThrottledError", err)
	}
	if got, _ := drain(t, mb, cur); len(got) != 4 {
		t.Errorf("afterwards came %v, want the news of four folders", got)
	}
}
