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

func TestRoundTrips(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	for i := range 20 {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("%d@x", i)), time.Time{})
	}
	proxy := testutil.StartProxy(t, d.Plain)
	cfg := config(t, proxy.Addr)
	p := imap.New(cfg)
	poll := func(cur providers.Cursor) (int, providers.Cursor, int) {
		proxy.Reset()
		mb, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer mb.Close()
		if cur == "" {
			cur = start(t, mb)
		}
		got, next := drain(t, mb, cur)
		return proxy.RoundTrips(), next, len(got)
	}
	_, cur, n := poll("")
	if n != 20 {
		t.Fatalf("the first walk brought %d", n)
	}
	trips, same, n := poll(cur)
	if trips > 3 || same != cur || n != 0 {
		t.Errorf("an unchanged poll took %d round trips (want at most 3: greeting, login, list): %q", trips, proxy.Commands())
	}
	for i := range 50 {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("new%d@x", i)), time.Time{})
	}
	trips, _, n = poll(cur)
	if trips > 5 || n != 50 {
		t.Errorf("a poll with %d news took %d round trips, want at most 5: %q", n, trips, proxy.Commands())
	}
}

// everything a session can do, seen from outside.
func TestMailboxIsNotTouched(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	for i := range 30 {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("%d@x", i)), time.Time{})
	}
	d.Deliver("rita", "INBOX", "Subject: no sender\r\n\r\nx\r\n", time.Time{})
	proxy := testutil.StartProxy(t, d.Plain)
	cfg := config(t, proxy.Addr)
	cfg.PageSize = 7
	mb := open(t, cfg)
	_, cur := drain(t, mb, start(t, mb))
	drain(t, mb, cur)
	if _, err := mb.Search(t.Context(), providers.Query{Since: window().Since}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := mb.Find(t.Context(), "3@x"); err != nil {
		t.Fatal(err)
	}
	_ = mb.Close()
	allowed := []string{"CAPABILITY", "ID", "LOGIN", "AUTHENTICATE", "NAMESPACE", "LIST", "STATUS", "EXAMINE", "UID SEARCH", "UID FETCH", "NOOP", "LOGOUT", "UNSELECT"}
	for _, line := range proxy.Commands() {
		_, cmd, _ := strings.Cut(line, " ")
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(cmd, a) }) {
			t.Errorf("sent %q", line)
		}
		if i := strings.Index(cmd, "BODY"); i >= 0 && !strings.HasPrefix(cmd[i:], "BODY.PEEK[HEADER") {
			t.Errorf("asked for a body: %q", line)
		}
	}
	for _, name := range d.Files("rita", "INBOX") {
		if _, flags, _ := strings.Cut(name, ":2,"); flags != "" {
			t.Errorf("the flags of %s changed", name)
		}
	}
}

func TestFolders(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	watched := []string{"INBOX", "Sent", "Kunden", "Kunden/Müller & Söhne", "Projekte \"2026\"", "日本", "Archive", "%*", "Drafts old"}
	left := []string{"Junk", "Trash", "Drafts", "Trash/gone", "Privat", "privat/Arzt", "Papierkorb-x/../x"}
	names := append(slices.Clone(watched), left[:6]...)
	for _, name := range names {
		d.MakeFolder("rita", mutf7(name))
		d.Deliver("rita", mutf7(name), mail("in@x"), time.Time{})
	}
	cfg := config(t, d.Plain)
	cfg.IgnoreFolders = []string{"PRIVAT"}
	mb := open(t, cfg)
	got, _ := drain(t, mb, start(t, mb))
	var want []string
	for _, name := range watched {
		want = append(want, name+" in@x")
	}
	if len(got) < 2 || got[0] != "INBOX in@x" || got[1] != "Sent in@x" {
		t.Errorf("INBOX and Sent do not come first: %v", got)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
}

// mutf7 encodes a folder name for the file system (RFC 3501 §5.1.3), as far as
// this test needs it.
func mutf7(name string) string {
	return strings.NewReplacer("&", "&-", "ü", "&APw-", "ö", "&APY-", "日本", "&ZeVnLA-").Replace(name)
}

func TestFolderRenamedAndRecreated(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	d.MakeFolder("rita", "A")
	for i := range 3 {
		d.Deliver("rita", "A", mail(fmt.Sprintf("%d@x", i)), time.Time{})
	}
	c := rawClient(t, d.Plain)
	mb := open(t, config(t, d.Plain))
	_, cur := drain(t, mb, start(t, mb))
	_ = mb.Close()

	c.do(t, `RENAME A B`)
	d.Deliver("rita", "B", mail("new@x"), time.Time{})
	mb = open(t, config(t, d.Plain))
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || page.Reset != "folder renamed" {
		t.Errorf("after the rename: reset %q, %v", page.Reset, err)
	}
	if !has(page, "B new@x") {
		t.Error("the new mail of the renamed folder is missing")
	}
	_ = mb.Close()

	c.do(t, `DELETE B`)
	c.do(t, `CREATE B`)
	d.Deliver("rita", "B", mail("again@x"), time.Time{})
	mb = open(t, config(t, d.Plain))
	page, err = mb.Next(t.Context(), page.Next, window())
	if err != nil || page.Reset != "UIDVALIDITY changed" || !has(page, "B again@x") {
		t.Errorf("after it was made anew: reset %q, %d messages, %v", page.Reset, len(page.Messages), err)
	}
}

func has(page providers.Page, want string) bool {
	return slices.ContainsFunc(page.Messages, func(m providers.Message) bool { return m.Folder+" "+m.Header.MessageID == want })
}

func TestPlainServer(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{Capability: "IMAP4rev1"})
	d.Deliver("rita", "INBOX", mail("a@x"), time.Time{})
	mb := open(t, config(t, d.Plain))
	got, cur := drain(t, mb, start(t, mb))
	d.Deliver("rita", "INBOX", mail("b@x"), time.Time{})
	news, _ := drain(t, mb, cur)
	if len(got) != 1 || len(news) != 1 || news[0] != "INBOX b@x" {
		t.Errorf("without any extension: %v, then %v", got, news)
	}
}

// The following run against a scripted server, for what no good server does.

func TestMailThatIsNotHandedOut(t *testing.T) {
	tests := []struct {
		name   string
		refuse func(say func(string, ...any), tag, args string) bool
	}{
		{"NO to every FETCH that names it", func(say func(string, ...any), tag, args string) bool {
			if !inSet(strings.Fields(args)[0], 4, 9) {
				return false
			}
			say("%s NO [UNAVAILABLE] UID FETCH Server error", tag)
			return true
		}},
		{"its row is missing", func(say func(string, ...any), tag, args string) bool {
			set := strings.Fields(args)[0]
			for u := uint32(1); u <= 9; u++ {
				if h := head(fmt.Sprintf("%d@x", u)); u != 4 && inSet(set, u, 9) {
					say("* %d FETCH (UID %d BODY[HEADER] {%d}\r\n%s)", u, u, len(h), h)
				}
			}
			say("%s OK done", tag)
			return true
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t)
			s.put(1, 2, 3, 4, 5, 6, 7, 8, 9)
			s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
				return strings.Contains(args, "BODY") && tt.refuse(say, tag, args)
			})
			mb := open(t, config(t, s.addr))
			page, err := mb.Next(t.Context(), start(t, mb), window())
			if err != nil || len(page.Messages) != 8 || page.Unreadable != 1 {
				t.Fatalf("%d messages, %d unreadable, %v; want 8 and 1", len(page.Messages), page.Unreadable, err)
			}
			again, err := mb.Next(t.Context(), page.Next, window())
			if err != nil || len(again.Messages) != 0 || again.Unreadable != 1 {
				t.Errorf("the next poll: %d messages, %d unreadable, %v", len(again.Messages), again.Unreadable, err)
			}
			s.hook("UID FETCH", nil)
			repaired, cur := drain(t, mb, again.Next)
			if len(repaired) != 1 || repaired[0] != "INBOX 4@x" {
				t.Errorf("when the server has mended itself: %v", repaired)
			}
			if more, same := drain(t, mb, cur); len(more) != 0 || same != cur {
				t.Errorf("and then: %v", more)
			}
		})
	}
}

func TestFlagUpdatesDoNotHideRows(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3)
	s.hook("UID FETCH", func(say func(string, ...any), _, _ string) bool {
		say(`* 2 FETCH (UID 2 FLAGS (\Seen))`)
		return false
	})
	mb := open(t, config(t, s.addr))
	if got, _ := drain(t, mb, start(t, mb)); len(got) != 3 || !slices.Contains(got, "INBOX 2@x") {
		t.Errorf("got %v", got)
	}
}

func TestHeaderThatOnlyComesWhole(t *testing.T) {
	s := newScript(t)
	s.put(1)
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		h := "Message-ID: <1@x>\r\n\r\n"
		if strings.Contains(args, "BODY.PEEK[HEADER]<0.262144>") {
			h = head("1@x")
		}
		say("* 1 FETCH (UID 1 BODY[HEADER] {%d}\r\n%s)", len(h), h)
		say("%s OK done", tag)
		return true
	})
	mb := open(t, config(t, s.addr))
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 1 || len(page.Messages[0].Header.From) != 1 {
		t.Errorf("the sender is missing: %d messages, %v", len(page.Messages), err)
	}
}

func TestSearchThatCannotBeTrusted(t *testing.T) {
	tests := []struct {
		name   string
		answer func(say func(string, ...any), tag, args string) bool
	}{
		{"it finds nothing though there is new mail", func(say func(string, ...any), tag, args string) bool {
			say("* SEARCH")
			say("%s OK done", tag)
			return true
		}},
		{"it is refused", func(say func(string, ...any), tag, args string) bool {
			say("%s BAD what?", tag)
			return true
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t)
			s.put(1, 2, 3)
			s.hook("UID SEARCH", tt.answer)
			mb := open(t, config(t, s.addr))
			got, cur := drain(t, mb, start(t, mb))
			s.put(4)
			news, _ := drain(t, mb, cur)
			if len(got) != 3 || len(news) != 1 {
				t.Errorf("got %v, then %v", got, news)
			}
		})
	}
}

func TestExamineThatCannotBeTrusted(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3)
	invented := uint32(1000)
	s.hook("EXAMINE", func(say func(string, ...any), tag, _ string) bool {
		invented++ // Courier, for a folder nobody has selected: no UIDNEXT, another validity each time
		say("* 3 EXISTS")
		say("* OK [UIDVALIDITY %d] x", invented)
		say("%s OK done", tag)
		return true
	})
	p := imap.New(config(t, s.addr))
	for range 2 {
		mb, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, cur := drain(t, mb, start(t, mb))
		again, same := drain(t, mb, cur)
		_ = mb.Close()
		if len(got) != 3 || len(again) != 0 || same != cur {
			t.Errorf("got %v, then %v", got, again)
		}
	}
	if n := s.count("EXAMINE"); n != 1 {
		t.Errorf("EXAMINE was tried %d times, want once and then never", n)
	}
}

func TestServerRestoredFromABackup(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3, 4, 5)
	mb := open(t, config(t, s.addr))
	_, cur := drain(t, mb, start(t, mb))
	s.set(func(s *script) {
		delete(s.mails, 4)
		delete(s.mails, 5)
	})
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || page.Reset != "UIDNEXT went back" || len(page.Messages) != 3 {
		t.Errorf("reset %q, %d messages, %v", page.Reset, len(page.Messages), err)
	}
}

func TestFolderWithoutUIDVALIDITY(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.validity = 0 })
	s.put(1, 2, 3)
	cfg := config(t, s.addr)
	cfg.PageSize = 2
	mb := open(t, cfg)
	got, cur := drain(t, mb, start(t, mb))
	again, same := drain(t, open(t, cfg), cur)
	if len(got) != 3 || len(again) != 3 || same != cur {
		t.Errorf("each session should walk the window: %v, then %v; same cursor: %v", got, again, same == cur)
	}
}

func TestServerThatNeverTellsUIDNEXT(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.noNext = true })
	s.put(1, 2, 3)
	mb := open(t, config(t, s.addr))
	got, cur := drain(t, mb, start(t, mb))
	s.put(7)
	news, cur := drain(t, mb, cur)
	again, same := drain(t, mb, cur)
	if len(got) != 3 || len(news) != 1 || len(again) != 0 || same != cur {
		t.Errorf("got %v, then %v, then %v", got, news, again)
	}
}

func TestBadFolderNameIsLeftOut(t *testing.T) {
	s := newScript(t)
	s.put(1)
	s.hook("LIST", func(say func(string, ...any), _, _ string) bool {
		say(`* LIST () "/" "R&D"`)
		return false
	})
	mb := open(t, config(t, s.addr))
	if got, _ := drain(t, mb, start(t, mb)); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestFoldersOfOthersAreLeftOut(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.caps = "IMAP4rev1 LIST-EXTENDED LIST-STATUS NAMESPACE" })
	s.put(1)
	s.hook("NAMESPACE", func(say func(string, ...any), _, _ string) bool {
		say(`* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))`)
		return false
	})
	s.hook("LIST", func(say func(string, ...any), _, _ string) bool {
		say(`* LIST () "/" "Shared/team"`)
		say(`* LIST () "/" "Other Users/bob"`)
		return false
	})
	mb := open(t, config(t, s.addr))
	if got, _ := drain(t, mb, start(t, mb)); len(got) != 1 || s.count("EXAMINE") != 1 {
		t.Errorf("got %v with %d folders opened", got, s.count("EXAMINE"))
	}
}

func TestGmailIsReadInAllMail(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.caps = "IMAP4rev1 X-GM-EXT-1 SPECIAL-USE" })
	s.put(1)
	s.hook("LIST", func(say func(string, ...any), tag, _ string) bool {
		say(`* LIST (\HasNoChildren) "/" INBOX`)
		say(`* LIST (\HasNoChildren \All) "/" "[Gmail]/All Mail"`)
		say(`* LIST (\HasNoChildren \Sent) "/" "[Gmail]/Sent Mail"`)
		say("%s OK done", tag)
		return true
	})
	s.hook("STATUS", func(say func(string, ...any), tag, args string) bool {
		say(`* STATUS "[Gmail]/All Mail" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)`)
		say("%s OK done", tag)
		return true
	})
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		if strings.Contains(args, "X-GM-THRID") {
			h := head("1@x")
			say("* 1 FETCH (X-GM-THRID 1278455344230334865 UID 1 BODY[HEADER] {%d}\r\n%s)", len(h), h)
			say("%s OK done", tag)
			return true
		}
		return false
	})
	mb := open(t, config(t, s.addr))
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("%d messages, %v", len(page.Messages), err)
	}
	if m := page.Messages[0]; m.Folder != "[Gmail]/All Mail" || m.ThreadHint != "1278455344230334865" {
		t.Errorf("folder %q, thread %q", m.Folder, m.ThreadHint)
	}
}

func TestWindowOfALargeFolder(t *testing.T) {
	const old, recent = 1_900, 300
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	longAgo := time.Now().AddDate(0, -3, 0)
	stale := "From: a@x\r\nDate: " + longAgo.Format(time.RFC1123Z) + "\r\nMessage-ID: <%s>\r\n\r\n"
	for i := range old {
		d.Deliver("rita", "INBOX", fmt.Sprintf(stale, fmt.Sprintf("old%d@x", i)), longAgo)
	}
	d.Deliver("rita", "INBOX", mail("imported@x"), longAgo) // with the arrival of the import that went wrong
	mb := open(t, config(t, d.Plain))
	got, _ := drain(t, mb, start(t, mb))
	if len(got) != 1 || got[0] != "INBOX imported@x" {
		t.Errorf("of an old mailbox came %d: want the one with a new Date", len(got))
	}
	for i := range recent {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("new%d@x", i)), time.Time{})
	}
	proxy := testutil.StartProxy(t, d.Plain)
	mb = open(t, config(t, proxy.Addr))
	got, cur := drain(t, mb, start(t, mb))
	if len(got) != recent+1 {
		t.Errorf("of %d mails came %d, want %d", old+recent+1, len(got), recent+1)
	}
	if in, _ := proxy.Bytes(); in > 400<<10 {
		t.Errorf("%d bytes were read for %d mails: the window was not searched out", in, recent+1)
	}
	if again, same := drain(t, mb, cur); len(again) != 0 || same != cur {
		t.Errorf("and then %d more", len(again))
	}
}

func TestLargeFolderWithinTheWindowIsNotSearched(t *testing.T) {
	s := newScript(t)
	s.put(many(2_500)...)
	dated := 0
	s.hook("UID SEARCH", func(_ func(string, ...any), _, args string) bool {
		if strings.Contains(args, "SINCE") {
			dated++
		}
		return false
	})
	mb := open(t, config(t, s.addr))
	if got, _ := drain(t, mb, start(t, mb)); len(got) != 2_500 || dated != 0 {
		t.Errorf("got %d of 2500 with %d searches by date, want none", len(got), dated)
	}
}
