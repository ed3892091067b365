package gmail_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
	"mailsyncd/providers/providertest"
)

// gmailtest and the provider come from the same hands: where both are wrong
// about Gmail in the same way, no test notices. This test asks somebody else:
// @emulators/google, which was written elsewhere and for other programs. The
// provider reads it over real HTTP, through a proxy that makes history ids short
// enough for Google's client and supplies getProfile (see proxy), and nothing
// else.
//
// It is asked for the contract of all providers, for a story of a mailbox that
// both must tell alike, for listings of several pages, headers field by field,
// and all of OAuth. It is no Gmail for failures (it throttles nobody, forgets
// nothing, never fails), nor for search by address. What the two are known to
// disagree on stands in disagreements.
func TestEmulator(t *testing.T) {
	e := startEmulator(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *emulator)
	}{
		{"the contract", testEmulatorContract},
		{"a story", testStory},
		{"mail is deleted between list and get", testDeletedBetween},
		{"listings of several pages", testManyPages},
		{"headers", testSameHeaders},
		{"connect", testEmulatorConnect},
		{"consents that are refused", testEmulatorRefusals},
		{"access tokens that die", testEmulatorAccess},
		{"a consent that is withdrawn", testEmulatorWithdrawn},
		{"disagreements", testDisagreements},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, e) })
	}
}

// emulated is a mailbox on the emulator as the conformance suite wants it.
type emulated struct {
	labelled
	s       *side
	skipped func(t *testing.T, why string)
}

func (m emulated) Deliver(t *testing.T, folder, mail string, arrival time.Time) {
	if h := message.Parse([]byte(mail)); !h.Date.Equal(arrival.Truncate(time.Second)) {
		m.skipped(t, "the emulator writes the arrival into Date")
	}
	m.s.deliver(t, mail, arrival, folders[folder])
}

func (m emulated) Renumber(t *testing.T) { m.skipped(t, "the emulator forgets no history") }

// skippedOfContract are the parts of the contract that the emulator cannot be
// asked for. The list is exact: a part that begins or ceases to be skipped fails.
var skippedOfContract = []string{
	"a lost numbering walks the window again and says so",
	"arrival or Date within the window is enough",
	"messages say what they are",
}

func testEmulatorContract(t *testing.T, e *emulator) {
	var want, skipped []string
	providertest.Run(t, func(t *testing.T) providertest.Server {
		name := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
		if slices.Contains(skippedOfContract, strings.ReplaceAll(name, "_", " ")) {
			want = append(want, name) // unless -run leaves it out
		}
		s := e.checked(t, gmail.ModeMetadata)
		skip := func(t *testing.T, why string) {
			skipped = append(skipped, name)
			t.Skip("NOT RUN: " + why)
		}
		return emulated{labelled{Provider: gmail.New(s.cfg)}, s, skip}
	})
	same(t, "parts that were skipped", skipped, want)
}

// checked is a mailbox whose every answer, and every request to it, is held to
// Google's description.
func (e *emulator) checked(t *testing.T, mode gmail.Mode) *side {
	t.Helper()
	d, err := discovery()
	if err != nil {
		t.Fatal(err)
	}
	s := e.side(t, mode)
	s.calls.onAnswer = func(r gmailtest.Request, b []byte) {
		if err := d.Check(r, b); err != nil {
			t.Errorf("not what Google describes: %v", err)
		}
	}
	return s
}

func lately() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

// story is what happens in a mailbox, and which mails the next poll must bring.
var story = []struct {
	what string
	do   func(t *testing.T, p person)
	want []string
}{
	{"nothing happens", func(*testing.T, person) {}, nil},
	{"mail comes and is sent", func(t *testing.T, p person) {
		p.deliver(t, mail("b@x"), lately())
		p.deliver(t, mail("c@x"), lately(), "SENT")
	}, []string{"b@x", "c@x"}},
	{"mail of years ago is imported", func(t *testing.T, p person) {
		p.deliver(t, mail("import@x"), time.Now().AddDate(-2, 0, 0))
	}, []string{"import@x"}},
	{"a mail is rescued from Spam", func(t *testing.T, p person) {
		p.relabel(t, "spam@x", []string{"INBOX"}, []string{"SPAM"})
	}, []string{"spam@x"}},
	{"a mail is taken out of Trash", func(t *testing.T, p person) {
		p.relabel(t, "trash@x", []string{"INBOX"}, []string{"TRASH"})
	}, []string{"trash@x"}},
	{"a mail comes as Spam and is rescued before the poll", func(t *testing.T, p person) {
		p.deliver(t, mail("quick@x"), lately(), "SPAM")
		p.relabel(t, "quick@x", []string{"INBOX"}, []string{"SPAM"})
	}, []string{"quick@x"}},
	{"a mail comes as Spam and stays there", func(t *testing.T, p person) {
		p.deliver(t, mail("junk@x"), lately(), "SPAM")
	}, nil},
	{"a draft is saved", func(t *testing.T, p person) { p.saveDraft(t, mail("second draft@x")) }, nil},
	{"a draft of before is sent", func(t *testing.T, p person) { p.sendDraft(t, "draft@x") }, []string{"draft@x"}},
	{"a draft is saved and sent before the poll", func(t *testing.T, p person) {
		p.saveDraft(t, mail("note@x"))
		p.sendDraft(t, "note@x")
	}, []string{"note@x"}},
	{"a mail comes and is deleted before the poll", func(t *testing.T, p person) {
		p.deliver(t, mail("gone@x"), lately())
		p.remove(t, "gone@x")
	}, nil},
	{"known mail is archived, starred, thrown away, deleted", func(t *testing.T, p person) {
		p.relabel(t, "b@x", nil, []string{"INBOX"})
		p.relabel(t, "b@x", []string{"STARRED"}, nil)
		p.relabel(t, "c@x", []string{"TRASH"}, nil)
		p.remove(t, "import@x")
	}, nil},
	{"mail comes under a label that is left out", func(t *testing.T, p person) {
		p.deliver(t, mail("sport@x"), lately(), "INBOX", p.makeLabel(t, "Privat/Sport"))
	}, nil},
}

func testStory(t *testing.T, e *emulator) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		t.Run(string(mode), func(t *testing.T) { eachSide(t, e, mode, tell) })
	}
}

// tell plays the story: a first walk, then a poll after every line.
func tell(t *testing.T, s *side) {
	s.cfg.IgnoreLabels = []string{"privat"}
	private := s.makeLabel(t, "Privat")
	window := numbered(7, "in")
	for i, id := range window {
		s.deliver(t, mail(id), lately().Add(-time.Duration(i)*time.Hour))
	}
	s.deliver(t, mail("sent@x"), lately(), "SENT")
	old := time.Now().AddDate(-1, 0, 0)
	s.deliver(t, strings.Replace(mail("old@x"), "Date: ", "Date: "+old.Format(time.RFC1123Z)+"\r\nX-Date: ", 1), old)
	s.deliver(t, mail("spam@x"), lately(), "SPAM")
	s.deliver(t, mail("trash@x"), lately(), "TRASH")
	s.deliver(t, mail("private@x"), lately(), "INBOX", private)
	s.saveDraft(t, mail("draft@x"))

	mb := open(t, s.cfg)
	r := drain(t, mb, start(t, mb))
	same(t, "the first walk", r.ids, append(window, "sent@x"))
	for _, line := range story {
		line.do(t, s)
		r = drain(t, open(t, s.cfg), r.cur)
		same(t, line.what, r.ids, line.want)
		settledAt(t, line.what, r)
	}
	s.relabel(t, "private@x", nil, []string{private})
	same(t, "a label that is left out is taken off", drain(t, mb, r.cur).ids, []string{"private@x"})
}

// settledAt expects that a poll left nothing behind: no mail to try again, and no
// second walk.
func settledAt(t *testing.T, what string, r run) {
	t.Helper()
	if r.reset != "" || strings.Contains(string(r.cur), "retry") {
		t.Errorf("%s: reset %q, cursor %s", what, r.reset, r.cur)
	}
}

func testDeletedBetween(t *testing.T, e *emulator) {
	eachSide(t, e, gmail.ModeMetadata, func(t *testing.T, s *side) {
		ids := numbered(5, "a") // the first is the newest, and a page holds three
		for i, id := range ids {
			s.deliver(t, mail(id), lately().Add(-time.Duration(i)*time.Hour))
		}
		mb := open(t, s.cfg)
		r := oneRemoved(t, s, mb, start(t, mb), ids[3])
		same(t, "the walk", r.ids, []string{ids[0], ids[1], ids[2], ids[4]})

		ids = numbered(5, "b") // the history tells the oldest change first
		for _, id := range ids {
			s.deliver(t, mail(id), lately())
		}
		r = oneRemoved(t, s, mb, r.cur, ids[3])
		same(t, "the news", r.ids, []string{ids[0], ids[1], ids[2], ids[4]})
	})
}

// oneRemoved reads a page, lets a mail vanish that is listed and not read yet,
// and reads the rest.
func oneRemoved(t *testing.T, s *side, mb providers.Mailbox, cur providers.Cursor, id string) run {
	t.Helper()
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || len(page.Messages) != 3 || !page.More {
		t.Fatalf("the first page: %d mails, more %v, %v", len(page.Messages), page.More, err)
	}
	s.remove(t, id)
	rest := drain(t, mb, page.Next)
	var r run
	r.take(page)
	r.ids, r.cur = append(r.ids, rest.ids...), rest.cur
	settledAt(t, "a mail that vanished", r)
	return r
}

// testManyPages makes both listings longer than the 500 that one answer holds.
// Of the changes most are none of new mail, and cost no call.
func testManyPages(t *testing.T, e *emulator) {
	s := e.side(t, gmail.ModeMetadata)
	s.cfg.PageSize = 0
	owner := s.person.(*ofEmulator)
	old := numbered(510, "old")
	for i, id := range old {
		s.deliver(t, mail(id), lately().Add(-time.Duration(i)*time.Minute))
	}
	all := slices.Collect(maps.Values(owner.ids))
	mb := open(t, s.cfg)
	r := drain(t, mb, start(t, mb))
	same(t, "the window", r.ids, old)

	gets := s.calls.made("get")
	s.deliver(t, mail("first@x"), lately())
	owner.markRead(t, all)
	s.deliver(t, mail("last@x"), lately())
	same(t, "the news", drain(t, mb, r.cur).ids, []string{"first@x", "last@x"})
	if lists, histories := s.calls.made("list on"), s.calls.made("history on"); lists != 1 || histories != 1 {
		t.Errorf("the second pages were asked for %d and %d times, want once each", lists, histories)
	}
	if n := s.calls.made("get") - gets; n != 2 {
		t.Errorf("%d mails were read, want the 2 that are new", n)
	}
}

// sameMails are mails whose headers both must hand out alike. $ID and $DATE
// stand for a Message-ID and for the arrival; see disagreements for what cannot
// stand here.
var sameMails = map[string]string{
	"every field":   "From: Nora Brandt <nora@example.net>\r\nTo: rita@example.com, Bo <bo@example.com>\r\nCc: c@example.org\r\nBcc: d@example.org\r\nReply-To: nora+jobs@example.net\r\nSubject: Interview\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\nIn-Reply-To: <root@x>\r\nReferences: <root@x> <second@x>\r\n",
	"folded":        "From: Nora\r\n <nora@example.net>\r\nTo: rita@example.com,\r\n bo@example.com,\r\n\tcy@example.com\r\nSubject: a\r\n b\r\n c\r\nDate: $DATE\r\nMessage-ID:\r\n <$ID>\r\nReferences: <root@x>\r\n <second@x>\r\n\t<third@x>\r\n",
	"encoded words": "From: =?utf-8?q?N=C3=B6ra?= <nora@example.net>\r\nTo: \"Keller, Rita\" <rita@example.com>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?= =?utf-8?q?_aus_K=C3=B6ln?=\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\n",
	"bare UTF-8":    "From: Nöra <nora@example.net>\r\nTo: rita@example.com\r\nSubject: Grüße: 你好\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\n",
	"names in any case": "FROM: nora@example.net\r\nto: rita@example.com\r\ncC: c@example.org\r\nSUBJECT: loud\r\nDATE: $DATE\r\nMessage-Id: <$ID>\r\nin-reply-to: <root@x>\r\n" +
		"reply-to: n@example.net\r\n",
	"groups and comments":   "From: nora@example.net (Nora)\r\nTo: undisclosed-recipients:;\r\nCc: Team: c@example.org, d@example.org;\r\nSubject: x\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\n",
	"nearly nothing":        "From: nora@example.net\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\n",
	"an address that isn't": "From: nora at example\r\nTo: rita@example.com\r\nSubject:\r\nDate: $DATE\r\nMessage-ID: <$ID>\r\nReferences: nonsense\r\n",
}

func testSameHeaders(t *testing.T, e *emulator) {
	emu, fake := e.checked(t, gmail.ModeMetadata), fakeSide(t, gmail.ModeMetadata)
	for i, name := range slices.Sorted(maps.Keys(sameMails)) {
		arrival := lately().Add(-time.Duration(i) * time.Minute)
		text := strings.NewReplacer("$ID", strings.ReplaceAll(name, " ", "-")+"@x", "$DATE", arrival.UTC().Format(http.TimeFormat)).Replace(sameMails[name])
		emu.deliver(t, text+"\r\nbody\r\n", arrival, "INBOX")
		fake.deliver(t, text+"\r\nbody\r\n", arrival, "INBOX")
	}
	got, want := emu.messages(t), fake.messages(t)
	if len(got) != len(sameMails) || len(want) != len(sameMails) {
		t.Fatalf("%d and %d mails came, want %d", len(got), len(want), len(sameMails))
	}
	for id, w := range want {
		g := got[id]
		if !equalHeaders(g.Header, w.Header) {
			t.Errorf("%s:\nemulator  %s\ngmailtest %s", id, shown(g), shown(w))
		}
		if !g.Arrival.Equal(w.Arrival) || !slices.Equal(g.Labels, w.Labels) || g.Ignored != w.Ignored {
			t.Errorf("%s: %v %v %v, want %v %v %v", id, g.Arrival, g.Labels, g.Ignored, w.Arrival, w.Labels, w.Ignored)
		}
	}
}

// messages reads a mailbox, by Message-ID.
func (s *side) messages(t *testing.T) map[string]providers.Message {
	t.Helper()
	mb := open(t, s.cfg)
	got := map[string]providers.Message{}
	follow(t, start(t, mb), func(cur providers.Cursor) (providers.Page, error) {
		p, err := mb.Next(t.Context(), cur, window())
		for _, m := range p.Messages {
			got[m.Header.MessageID] = m
		}
		return p, err
	})
	return got
}

// shown writes a header out: by itself it prints as "[header]".
func shown(m providers.Message) string {
	h := m.Header
	text := fmt.Sprintf("%q %q %q %q %v %q %q", h.MessageID, h.InReplyTo, h.References, h.RawDate, h.Date, h.Subject, h.Problems)
	for _, list := range [][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		text += " |"
		for _, a := range list {
			text += fmt.Sprintf(" %q %q %q", a.Name, a.Addr, a.Key)
		}
	}
	return text
}
