package gmail_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// costs compares the server's own meter with the most that something may cost.
func costs(t *testing.T, w *world, what string, calls, units int) {
	t.Helper()
	u := w.Usage()
	t.Logf("%s: %d calls, %d units", what, u.Total(), u.Units)
	if u.Total() > calls || u.Units > units {
		t.Errorf("%s: %d calls and %d units, at most %d and %d are due: %v", what, u.Total(), u.Units, calls, units, u.Calls)
	}
	w.ResetUsage()
}

func TestCostOfPolls(t *testing.T) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{}, mode)
			p := gmail.New(w.cfg)
			poll := func(cur providers.Cursor) run {
				mb, err := p.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer mb.Close()
				if cur == "" {
					cur = start(t, mb)
				}
				return drain(t, mb, cur)
			}
			cur := poll("").cur
			w.ResetUsage()
			if r := poll(cur); r.cur != cur {
				t.Error("a quiet poll moved the cursor")
			}
			costs(t, w, "a quiet poll", 1, 2)
			ids := numbered(30, "n")
			w.deliver(ids...)
			same(t, "news", poll(cur).ids, ids)
			costs(t, w, "a poll with 30 new", 31, 602)
		})
	}
}

func TestCostOfBackfill(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(10_000, "b")
	w.deliver(ids...)
	mb := open(t, w.cfg)
	cur := start(t, mb)
	same(t, "the backfill", drain(t, mb, cur).ids, ids)
	costs(t, w, "a backfill of 10,000", 10_030, 200_200)
}

func TestKilledBackfillReadsOnePageTwice(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(1_200, "b")
	w.deliver(ids...)
	mb := open(t, w.cfg)
	var all run
	all.cur = start(t, mb)
	for more := true; more; {
		page, err := mb.Next(t.Context(), all.cur, window())
		if err != nil {
			t.Fatal(err)
		}
		if all.pages == 4 { // this page was read, and the daemon killed before it was kept
			mb, page.Next, page.Messages = open(t, w.cfg), all.cur, nil
		}
		all.take(page)
		more = page.More
	}
	same(t, "the backfill", all.ids, ids)
	u, twice := w.Usage(), 0
	for _, n := range u.Gets {
		twice += n - 1
	}
	if twice != 100 {
		t.Errorf("%d mails were read twice, want one page of 100", twice)
	}
}

func TestCostByCandidates(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
	var candidates []string
	for i := range 200 {
		candidates = append(candidates, fmt.Sprintf("cand%03d@example.net", i))
	}
	var want []string
	fields := []string{"From", "To", "Cc", "Bcc"}
	for i := range 1_500 { // a third of the mail names a candidate
		m := gmailtest.Mail{Arrival: w.Now().Add(-time.Duration(i) * time.Minute)}
		id := fmt.Sprintf("c%04d@x", i)
		m.Header = []gmailtest.Field{
			{Name: "Message-ID", Value: "<" + id + ">"}, {Name: "Date", Value: m.Arrival.Format(time.RFC1123Z)},
		}
		if i%3 == 0 {
			m.Header = append(m.Header, gmailtest.Field{Name: fields[i/3%4], Value: "Somebody <Cand" + candidates[i/3%200][4:] + ">"})
			want = append(want, id)
		}
		w.account.Deliver(m)
	}
	w.cfg.Candidates = func() []string { return candidates }
	mb := open(t, w.cfg)
	cur := start(t, mb)
	same(t, "the first walk", drain(t, mb, cur).ids, want)
	costs(t, w, "a candidate-first backfill of 200 candidates with 500 mails", 550, 10_200)
	same(t, "a look-back for the same", search(t, mb, candidates...).ids, want)
	costs(t, w, "a look-back for 200 candidates with 500 mails", 550, 10_200)
}

// The whole machine against a server that enforces its budget, at the pace of a
// real clock: nothing is refused, and the time is what Quota.Time says.
func TestLimitedBackfillIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gmailtest.New(gmailtest.Options{UserPerMinute: 6_000})
		w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
		quota := gmail.NewProjectQuota()
		w.cfg.Limiter = gmail.NewLimiter(quota)
		ids := numbered(2_000, "b")
		w.deliver(ids...)
		begun := time.Now()
		mb := open(t, w.cfg)
		same(t, "the backfill", drain(t, mb, start(t, mb)).ids, ids)
		u, took := s.Usage(), time.Since(begun)
		t.Logf("%d units in %v, at most %d a minute; estimated %v", u.Units, took, u.MostPerMinute, quota.Time(u.Units))
		if u.Refused != 0 || u.MostPerMinute > 6_000 {
			t.Errorf("%d calls were refused, the busiest minute cost %d units", u.Refused, u.MostPerMinute)
		}
		if estimate := quota.Time(u.Units); took < estimate-time.Second || took > estimate+time.Minute {
			t.Errorf("it took %v, the estimate is %v", took, estimate)
		}
	})
}

// Two limiters that know nothing of each other (two daemons, or a restart):
// the server refuses, everybody slows down, and everything still comes.
func TestRefusedCallsComeLater(t *testing.T) {
	tests := []struct {
		name string
		o    gmailtest.Options
	}{
		{"403", gmailtest.Options{UserPerMinute: 2_000}},
		{"429", gmailtest.Options{UserPerMinute: 2_000, RefuseWith429: true}},
		{"429 with Retry-After", gmailtest.Options{UserPerMinute: 2_000, RefuseWith429: true, RetryAfter: 20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := gmailtest.New(tt.o)
				w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
				w.cfg.Limiter = gmail.NewLimiter(gmail.NewProjectQuota()) // believes in 6,000
				ids := numbered(600, "b")
				w.deliver(ids...)
				mb := open(t, w.cfg)
				all, pauses := persist(t, mb, start(t, mb))
				same(t, "the backfill", all.ids, ids)
				u := s.Usage()
				t.Logf("%d refusals, %d pauses of the pass", u.Refused, pauses)
				if u.Refused == 0 || u.Refused > 60 {
					t.Errorf("the server refused %d calls, want some and not many", u.Refused)
				}
			})
		})
	}
}

// persist does what the schedule does: it waits as long as it is told and tries
// again. It returns each mail once, and how often it had to wait.
func persist(t *testing.T, mb providers.Mailbox, cur providers.Cursor) (run, int) {
	t.Helper()
	all := run{cur: cur}
	seen := map[string]bool{}
	for pauses := 0; pauses < 500; {
		page, err := mb.Next(t.Context(), all.cur, window())
		if wait, ok := throttled(err); ok {
			time.Sleep(max(wait, time.Second)) // in a synctest bubble
			pauses++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		fresh := page
		fresh.Messages = nil
		for _, m := range page.Messages {
			if !seen[m.Ref] {
				seen[m.Ref] = true
				fresh.Messages = append(fresh.Messages, m)
			}
		}
		if all.take(fresh); !page.More {
			return all, pauses
		}
	}
	t.Fatal("the walk does not end")
	return all, 0
}

// A gmail.com address is spelled in ways that no query can name: the domain is
// asked for, and the matcher decides.
func TestSearchFindsWhatFoldingHides(t *testing.T) {
	tests := []struct{ name, candidate, header string }{
		{"dots and a tag at Gmail", "Nora.Brandt@gmail.com", "n.orabrandt+jobs@googlemail.com"},
		{"an internationalised domain in its ASCII form", "nora@büro.example", "nora@xn--bro-hoa.example"},
		{"an internationalised domain as it is written", "nora@xn--bro-hoa.example", "nora@büro.example"},
		{"upper case", "Nora@Example.net", "NORA@EXAMPLE.NET"},
		{"a local part that needs quotes", `"nora brandt"@example.net`, `"nora brandt"@example.net`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{}, gmail.ModeSearch)
			w.account.Deliver(gmailtest.ParseMail("From: <" + tt.header + ">\r\nMessage-ID: <a@x>\r\n\r\n"))
			w.account.Deliver(gmailtest.ParseMail("From: <other@unrelated.example>\r\nMessage-ID: <b@x>\r\n\r\n"))
			got := search(t, open(t, w.cfg), message.Fold(tt.candidate))
			same(t, "the search", got.ids, []string{"a@x"})
		})
	}
}
