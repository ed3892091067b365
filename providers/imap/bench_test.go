package imap_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

// benchMessages is the size of the mailbox; MAILSYNCD_BENCH_MESSAGES sets another.
func benchMessages(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("MAILSYNCD_BENCH_MESSAGES"))
	if err != nil {
		return 5_000
	}
	return n
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// fill puts n mails into an INBOX, which arrived over a time until now. Every
// 500th is from ann.
func fill(b *testing.B, d *testutil.Dovecot, user string, n int, over time.Duration) {
	b.Helper()
	pad := "Received: from mx.example.net (mx.example.net [192.0.2.7]) by mail.example.com; Mon, 02 Nov 2026 10:00:00 +0100\r\n" +
		"X-Spam-Status: No, score=-2.1\r\nDKIM-Signature: v=1; a=rsa-sha256; b=" + strings.Repeat("Zm9v", 150) + "\r\n"
	body := strings.Repeat("The body that nobody reads.\r\n", 100)
	for i := range n {
		m := strings.Replace(mail(fmt.Sprintf("%d.bench@mail.example.net", i), "References: <a@x> <b@x>\r\n", pad), "The body that nobody reads.\r\n", body, 1)
		if i%500 == 250 {
			m = strings.Replace(m, "nora@example.net", "ann@example.net", 1)
		}
		d.Deliver(user, "INBOX", m, time.Now().Add(-time.Minute-over*time.Duration(n-i)/time.Duration(n)))
	}
}

// firstSync is what FetchFloor does, with all that the provider does.
func firstSync(b *testing.B, cfg imap.Config, want int) time.Duration {
	b.Helper()
	begun := time.Now()
	mb, err := imap.New(cfg).Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer mb.Close()
	cur, got := start(b, mb), 0
	for {
		page, err := mb.Next(b.Context(), cur, window())
		if err != nil {
			b.Fatal(err)
		}
		got += len(page.Messages)
		if cur = page.Next; !page.More {
			break
		}
	}
	if got != want {
		b.Fatalf("got %d of %d", got, want)
	}
	return time.Since(begun)
}

// BenchmarkFirstSync reports wall time as a ratio to the floor in the same
// round, and the process's own CPU for a header.
func BenchmarkFirstSync(b *testing.B) {
	n := benchMessages(b)
	for _, kind := range []string{"cold", "warm"} {
		b.Run(kind, func(b *testing.B) {
			d := testutil.StartDovecot(b, testutil.DovecotOptions{})
			fill(b, d, "rita", n, 0)
			cfg := config(b, d.Plain)
			floor := func() time.Duration {
				took, _ := testutil.FetchFloor(b, d.Plain, "rita", n, message.FieldNames[:])
				return took
			}
			floor()
			forget := func() {
				if kind == "cold" {
					d.Stop()
					d.Renumber("rita", 0)
					d.Start()
				}
			}
			var ratios []float64
			var own time.Duration
			for b.Loop() {
				forget()
				least := floor()
				forget()
				before := testutil.CPU(b)
				ours := firstSync(b, cfg, n)
				own += testutil.CPU(b) - before
				ratios = append(ratios, float64(ours)/float64(least))
			}
			b.ReportMetric(median(ratios), "x-floor")
			b.ReportMetric(float64(own.Microseconds())/float64(len(ratios)*n), "own-µs/header")
		})
	}
}

// BenchmarkUnchangedPoll is a whole session that finds nothing, over TLS with
// resumed sessions. floor-µs/poll is the processor time of a raw client that asks
// the same over resumed sessions. Goal: 1,500 µs.
func BenchmarkUnchangedPoll(b *testing.B) {
	d := testutil.StartDovecot(b, testutil.DovecotOptions{})
	d.Deliver("rita", "INBOX", mail("a@x"), time.Time{})
	cfg := config(b, d.TLS)
	cfg.TLS, cfg.CAFile = imap.TLSImplicit, d.CAFile
	p := imap.New(cfg)
	mb := open(b, cfg)
	_, cur := drain(b, mb, start(b, mb))
	before := testutil.CPU(b)
	b.ReportAllocs()
	for b.Loop() {
		mb, err := p.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		page, err := mb.Next(b.Context(), cur, window())
		if err != nil || page.Next != cur {
			b.Fatalf("changed: %v", err)
		}
		_ = mb.Close()
	}
	b.ReportMetric(float64((testutil.CPU(b)-before).Microseconds())/float64(b.N), "own-µs/poll")
	pem, err := os.ReadFile(d.CAFile)
	if err != nil {
		b.Fatal(err)
	}
	conf := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: cfg.Host, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	conf.RootCAs.AppendCertsFromPEM(pem)
	before = testutil.CPU(b)
	for range b.N {
		testutil.PollFloor(b, d.TLS, "rita", conf)
	}
	b.ReportMetric(float64((testutil.CPU(b)-before).Microseconds())/float64(b.N), "floor-µs/poll")
}

// BenchmarkResync searches a year for one candidate: over TCP, warm, in a mailbox
// of MAILSYNCD_BENCH_MESSAGES. x-floor is the ratio to a raw client that reads
// the same fields of every mail, x-walk that to one that reads all fields. Goal:
// 1.5. first-share is when the first hit came, as a share of the whole.
func BenchmarkResync(b *testing.B) {
	n := benchMessages(b)
	d := testutil.StartDovecot(b, testutil.DovecotOptions{})
	fill(b, d, "rita", n, 360*24*time.Hour)
	p := imap.New(config(b, d.Plain))
	q := providers.Query{Since: time.Now().AddDate(-1, 0, 0), Addresses: []string{"ann@example.net"}}
	fields := []string{"FROM", "SENDER", "REPLY-TO", "TO", "CC", "BCC"}
	testutil.FetchFloor(b, d.Plain, "rita", n, message.FieldNames[:])
	var floors, walks, firsts []float64
	for b.Loop() {
		floor, _ := testutil.FetchFloor(b, d.Plain, "rita", n, fields)
		all, _ := testutil.FetchFloor(b, d.Plain, "rita", n, message.FieldNames[:])
		ours, first := searched(b, p, q, n/500)
		floors = append(floors, ours.Seconds()/floor.Seconds())
		walks = append(walks, ours.Seconds()/all.Seconds())
		firsts = append(firsts, first.Seconds()/ours.Seconds())
	}
	b.ReportMetric(median(floors), "x-floor")
	b.ReportMetric(median(walks), "x-walk")
	b.ReportMetric(median(firsts), "first-share")
}

// searched runs one search from login to end; it must find want mails.
func searched(b *testing.B, p *imap.Provider, q providers.Query, want int) (took, first time.Duration) {
	b.Helper()
	begun := time.Now()
	mb, err := p.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer mb.Close()
	got, cur := 0, providers.Cursor("")
	for {
		page, err := mb.Search(b.Context(), q, cur)
		if err != nil {
			b.Fatal(err)
		}
		if got == 0 && len(page.Messages) > 0 {
			first = time.Since(begun)
		}
		got += len(page.Messages)
		if cur = page.Next; !page.More {
			break
		}
	}
	if got != want {
		b.Fatalf("found %d, want %d", got, want)
	}
	return time.Since(begun), first
}

// BenchmarkLookBack searches the window of many mailboxes of 500 mails for 50
// addresses. x-walk is the ratio to the walk over every header of the window.
// Goal: 1.2. MAILSYNCD_BENCH_MAILBOXES sets how many mailboxes.
func BenchmarkLookBack(b *testing.B) {
	boxes, err := strconv.Atoi(os.Getenv("MAILSYNCD_BENCH_MAILBOXES"))
	if err != nil {
		boxes = 10
	}
	const mails = 500
	d := testutil.StartDovecot(b, testutil.DovecotOptions{})
	var ps []*imap.Provider
	for i := range boxes {
		cfg := config(b, d.Plain)
		cfg.Username = fmt.Sprintf("u%03d", i)
		d.MakeFolder(cfg.Username, "INBOX")
		fill(b, d, cfg.Username, mails, 13*24*time.Hour)
		ps = append(ps, imap.New(cfg))
	}
	addresses := []string{"ann@example.net"}
	for i := range 49 {
		addresses = append(addresses, fmt.Sprintf("candidate%d@example.org", i))
	}
	all := func(want int, addresses ...string) (took time.Duration) {
		for _, p := range ps {
			one, _ := searched(b, p, providers.Query{Since: window().Since, Addresses: addresses}, want)
			took += one
		}
		return took
	}
	all(mails)
	var ratios []float64
	for b.Loop() {
		walk := all(mails)
		ratios = append(ratios, all(1, addresses...).Seconds()/walk.Seconds())
	}
	b.ReportMetric(median(ratios), "x-walk")
}
