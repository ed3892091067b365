package gmail_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

func TestForeignCursors(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	mb := open(t, w.cfg)
	for name, cur := range map[string]providers.Cursor{
		"no history id":         `{"v":1,"history":"0","since":1}`,
		"an id that is a path":  `{"v":1,"history":"5","since":1,"list":{"upto":"6","pending":["../labels"]}}`,
		"a newer version":       `{"v":2,"history":"5","since":1}`,
		"a broken walk":         `{"v":1,"history":"5","since":1,"walk":{"since":1,"old":-1}}`,
		"a retry without an id": `{"v":1,"history":"5","since":1,"retry":[{"id":""}]}`,
		"far too long":          providers.Cursor(`{"v":1,"history":"5","since":1,"x":"` + strings.Repeat("x", 2<<20) + `"}`),
		"a cursor of Search":    `{"v":1,"old":{"since":1,"begun":1}}`,
	} {
		if _, err := mb.Next(t.Context(), cur, window()); !errors.Is(err, providers.ErrCursorExpired) {
			t.Errorf("%s: %v, want ErrCursorExpired", name, err)
		}
	}
	if _, err := mb.Search(t.Context(), providers.Query{}, `{"v":1,"history":"5","since":1}`); !errors.Is(err, providers.ErrCursorExpired) {
		t.Errorf("a cursor of Next in Search: %v", err)
	}
}

// Whatever text comes: decoding neither panics nor lets through what encoding
// would not read again.
func FuzzCursor(f *testing.F) {
	f.Add(`{"v":1,"history":"4711","since":1763596800}`)
	f.Add(`{"v":1,"history":"1","since":-1,"list":{"upto":"0"},"walk":{"since":1,"begun":2,"pending":["a"]},"retry":[{"id":"b","tries":1}]}`)
	f.Add(`{"v":1,"old":{"since":1,"by_address":true,"part":"ff","listed":true}}`)
	f.Fuzz(func(t *testing.T, text string) {
		gmail.ProgressOf(providers.Cursor(text))
		once, err := gmail.DecodeCursor(providers.Cursor(text))
		if err != nil {
			return
		}
		twice, err := gmail.DecodeCursor(once)
		if err != nil || once != twice {
			t.Errorf("%q became %q, then %q: %v", text, once, twice, err)
		}
	})
}

// A cursor is kept longer than what it is about: it must hold no address.
func TestCursorsHoldNoAddress(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
	w.deliver(numbered(30, "a")...)
	w.cfg.PageSize = 4
	w.cfg.Candidates = func() []string { return []string{"nora@example.net", "other@example.org"} }
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || !page.More {
		t.Fatalf("more %v, %v", page.More, err)
	}
	found, err := mb.Search(t.Context(), providers.Query{Since: window().Since, Addresses: w.cfg.Candidates()}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, cur := range []providers.Cursor{page.Next, found.Next} {
		for _, bad := range []string{"nora", "example", "@", "from:"} {
			if strings.Contains(string(cur), bad) {
				t.Errorf("the cursor holds %q: %s", bad, cur)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	for i := range 100 { // evenly over the 14 days of the window
		m := gmailtest.ParseMail(mail("a@x"))
		m.Arrival = time.Now().Add(-time.Duration(i) * 14 * 24 * time.Hour / 100)
		w.account.Deliver(m)
	}
	w.cfg.PageSize = 25
	mb := open(t, w.cfg)
	cur := start(t, mb)
	if p, ok := gmail.ProgressOf(cur); !ok || p != (gmail.Progress{}) {
		t.Errorf("at the start: %+v, %v", p, ok)
	}
	for i := range 3 {
		page, err := mb.Next(t.Context(), cur, window())
		if err != nil {
			t.Fatal(err)
		}
		cur = page.Next
		p, ok := gmail.ProgressOf(cur)
		read := 25 * (i + 1)
		if done := float64(read) / 100; !ok || p.Read != read || p.Done < done-0.02 || p.Done > done+0.02 || p.Left < 95-read || p.Left > 105-read {
			t.Errorf("after %d: %+v, %v", read, p, ok)
		}
	}
	if p, ok := gmail.ProgressOf(drain(t, mb, cur).cur); ok {
		t.Errorf("at the end a walk is under way: %+v", p)
	}
	for _, cur := range []providers.Cursor{"", "x", `{"v":9}`} {
		if _, ok := gmail.ProgressOf(cur); ok {
			t.Errorf("%q has a walk", cur)
		}
	}
}

// The candidates change while a walk by address is under way, at any moment of
// it: whoever was there from the beginning to the end is found, whatever comes
// and goes around them.
func TestCandidatesChangeDuringAWalk(t *testing.T) {
	var steady, coming, going []string
	for i := range 60 {
		who := string(rune('a'+i%26)) + string(rune('a'+i/26)) + "@example.net"
		list := []*[]string{&steady, &coming, &going}[i%3]
		*list = append(*list, who)
	}
	tests := []struct {
		name                  string
		before, always, after []string
	}{
		{"many come", nil, steady, coming},
		{"many go", going, steady, nil},
		{"some come and some go", going, steady, coming},
		{"all go", going, nil, nil},
	}
	for _, o := range []gmailtest.Options{{MaxPage: 2}, {MaxPage: 2, LooseTokens: true}, {}} {
		w := newWorld(t, o, gmail.ModeSearch)
		for _, who := range slices.Concat(steady, coming, going) {
			w.account.Deliver(gmailtest.ParseMail(strings.ReplaceAll(mail("x"+who), "nora@example.net", who)))
		}
		for _, tt := range tests {
			for moment := range 15 {
				t.Run(fmt.Sprintf("%s at page %d, %+v", tt.name, moment, o.MaxPage), func(t *testing.T) {
					cfg, calls := w.cfg, 0
					cfg.PageSize = 3
					cfg.Candidates = func() []string {
						if calls++; calls <= moment {
							return slices.Concat(tt.always, tt.before)
						}
						return slices.Concat(tt.always, tt.after)
					}
					mb := open(t, cfg)
					got := drain(t, mb, start(t, mb)).ids
					for _, who := range tt.always {
						if !slices.Contains(got, "x"+who) {
							t.Errorf("a mail of a candidate who was there all the time is missing")
						}
					}
					if tt.always == nil && len(got) > 3*moment+10 { // what was listed is read

						t.Errorf("%d mails of nobody's were read", len(got))
					}
				})
			}
		}
	}
}

// The mode changes in the middle of a walk: the walk begins again the other way.
func TestModeChangesDuringAWalk(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
	ids := numbered(20, "a")
	w.deliver(ids...)
	w.cfg.PageSize = 4
	w.cfg.Candidates = func() []string { return []string{message.Fold("nora@example.net")} }
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || !page.More {
		t.Fatal(err)
	}
	w.cfg.Mode = gmail.ModeMetadata
	w.regrant(gmail.ModeMetadata.Scope())
	w.cfg.Credential = gmail.User(w.user(gmail.ModeMetadata, w.cfg.Transport))
	r := drain(t, open(t, w.cfg), page.Next)
	for _, m := range page.Messages {
		r.ids = append(r.ids, m.Header.MessageID)
	}
	slices.Sort(r.ids)
	same(t, "everything", slices.Compact(r.ids), ids)
}

// A walk ends behind the window, and does not read years of mail.
func TestWalkEndsBehindTheWindow(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	for i := range 1_000 {
		m := gmailtest.ParseMail("From: a@example.net\r\nMessage-ID: <old@x>\r\n\r\n")
		if i == 45 { // a little disorder: in the window by its Date alone
			m = gmailtest.ParseMail(mail("hidden@x"))
		}
		m.Arrival = time.Now().AddDate(-1, 0, -i)
		w.account.Deliver(m)
	}
	ids := append(numbered(30, "new"), "hidden@x")
	w.deliver(ids[:30]...)
	mb := open(t, w.cfg)
	same(t, "the walk", drain(t, mb, start(t, mb)).ids, ids)
	if n := w.Usage().Calls["get"]; n > 30+46+75 {
		t.Errorf("%d mails were read for 31 in the window", n)
	}
}

func TestMessagesSayWhereTheyAre(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	m := gmailtest.ParseMail(mail("a@x"))
	m.Labels, m.ThreadID = []string{"INBOX", "IMPORTANT"}, "1900000000000abc"
	id := w.account.Deliver(m)
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 1 {
		t.Fatal(err)
	}
	got := page.Messages[0]
	if got.Ref != id || got.ThreadHint != m.ThreadID || !slices.Equal(got.Labels, m.Labels) || got.Folder != "" {
		t.Errorf("ref %q, thread %q, labels %q, folder %q", got.Ref, got.ThreadHint, got.Labels, got.Folder)
	}
	if want := "https://mail.google.com/mail/?authuser=rita%40example.com#all/" + id; got.Link != want {
		t.Errorf("the link is %s, want %s", got.Link, want)
	}
}

// Gmail hands out the fields apart: what becomes of them is what becomes of the
// same mail over IMAP, so that both are one message.
func TestHeaderIsThatOfIMAP(t *testing.T) {
	text := mail("a@x", "Cc: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>,\r\n\tother@example.org\r\n",
		"References: <r1@x>\r\n <r2@x>\r\n", "List-Id: <list.example.org>\r\n", "Auto-Submitted: auto-replied\r\n",
		"Reply-To: reply@example.net\r\n", "Sender: sender@example.net\r\n", "Precedence: bulk\r\n",
		"In-Reply-To: <r2@x>\r\n", "Bcc: b@example.net\r\n", "List-Post: <mailto:l@x>\r\n", "List-Unsubscribe: <mailto:l@x>\r\n")
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.account.Deliver(gmailtest.ParseMail(text))
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 1 {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	got, want := page.Messages[0].Header, message.Parse([]byte(head+"\r\n\r\n"))
	if !equalHeaders(got, want) {
		t.Error("the header is another than that of the same mail over IMAP")
	}
}
