package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/directory"
	"mailsyncd/internal/testutil"
	"mailsyncd/matcher"
	"mailsyncd/message"
	"mailsyncd/providers/imap"
	"mailsyncd/store/bolt"
	"mailsyncd/sync/mailbox"
)

// The benchmarks of a pass, from the wire to the ledger: the provider, the
// matcher against 10,000 candidates, and a store on disk, against the floor of
// the same answers on the same server in the same round. The median of the
// rounds is reported, each a ratio (x-floor).

// rounds is how often floor and pass take turns.
const rounds = 5

// size reads a benchmark's size from the environment, so that the full sizes of
// the goals can be asked for: MAILSYNCD_BENCH_MESSAGES=50000 make bench.
func size(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return n
}

// bench is the parts of a pass without a daemon around them.
type bench struct {
	b       *testing.B
	dovecot *testutil.Dovecot
	store   *bolt.Store
	snap    *directory.Snapshot
	guards  *matcher.Matcher
	metrics *mailbox.Metrics
	tls     bool
	server  *imap.Server // its TLS
}

func newBench(b *testing.B, d *testutil.Dovecot) *bench {
	b.Helper()
	x := &bench{b: b, dovecot: d, metrics: mailbox.NewMetrics(prometheus.NewRegistry()), server: imap.NewServer()}
	var err error
	if x.guards, err = matcher.New(matcher.Config{Domains: []string{"example.com"}, MaxRecipients: 20}); err != nil {
		b.Fatal(err)
	}
	index := directory.NewBuilder(10_000)
	for i := range 10_000 {
		rec, err := directory.ParseRecord(fmt.Appendf(nil, `{"kind":"candidate","ref":"c%d","emails":["cand%d@cand.example"]}`, i, i))
		if err != nil {
			b.Fatal(err)
		}
		index.Replace(directory.Stored{}, directory.Stored{Record: rec, Source: directory.SourceFile})
	}
	x.snap = index.Build(1)
	x.fresh()
	b.Cleanup(func() { x.store.Close() })
	return x
}

// fresh begins with an empty store.
func (x *bench) fresh() {
	x.b.Helper()
	if x.store != nil {
		x.store.Close()
	}
	var err error
	x.store, err = bolt.Open(bolt.Options{
		Path: filepath.Join(x.b.TempDir(), "bench.db"), Keys: bolt.Keys{Current: bolt.NewKey()},
	})
	if err != nil {
		x.b.Fatal(err)
	}
}

// box is one user's mailbox.
func (x *bench) box(user string) *mailbox.Mailbox {
	addr, conf := x.dovecot.Plain, imap.Config{TLS: imap.TLSNone}
	if x.tls {
		addr, conf = x.dovecot.TLS, imap.Config{TLS: imap.TLSImplicit, CAFile: x.dovecot.CAFile, Server: x.server}
	}
	conf.Host, conf.Port = testutil.HostPort(x.b, addr)
	conf.Username = user
	conf.Credential = func(context.Context) (string, error) { return testutil.Password, nil }
	return mailbox.New(mailbox.Config{
		ID: user, Provider: "imap", Opener: imap.New(conf), Store: x.store,
		Directory: func() mailbox.Snapshot { return x.snap }, Matcher: func() *matcher.Matcher { return x.guards },
		Backfill: backfillOfBench, Metrics: x.metrics, Log: slog.New(slog.DiscardHandler),
	})
}

const backfillOfBench = 14 * 24 * time.Hour

// pass runs one and returns how many headers it read.
func (x *bench) pass(box *mailbox.Mailbox) int {
	rep, err := box.Pass(x.b.Context())
	if err != nil {
		x.b.Error(err)
	}
	return rep.Scanned
}

// fill puts n mails of an ordinary kind into a user's INBOX; none matches.
func (x *bench) fill(user string, n int) {
	x.b.Helper()
	received := strings.Repeat("Received: from mx.example.net (mx.example.net [192.0.2.7]) by mail.example.com with ESMTPS id 4XyZ; Mon, 02 Nov 2026 10:00:00 +0100\n", 3)
	pad := received + "X-Spam-Status: No, score=-2.1\nDKIM-Signature: v=1; a=rsa-sha256; b=" + strings.Repeat("Zm9v", 150)
	body := strings.Repeat("The body that nobody reads.\n", 100)
	for i := range n {
		m := mail{name: fmt.Sprintf("bench-%d", i), header: fmt.Sprintf(
			"From: \"Colleague %d\" <person%d@other.example>\nTo: Rita Keller <rita@example.com>\nReferences: <a%d@other.example> <b%d@other.example>\nIn-Reply-To: <b%d@other.example>\n%s",
			i, i, i, i, i, pad)}
		x.dovecot.Deliver(user, "INBOX", m.text(time.Now())+body, time.Now().Add(-time.Minute))
	}
}

// forget makes the server forget what it has cached of these users' mail.
func (x *bench) forget(users ...string) {
	x.dovecot.Stop()
	for _, u := range users {
		x.dovecot.Renumber(u, 0)
	}
	x.dovecot.Start()
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// BenchmarkFirstSync: one mailbox on one connection. Goals: cold 1.2, warm 1.8
// times the floor, 25 µs of own processor time a header, 0.75 kB on the wire.
func BenchmarkFirstSync(b *testing.B) {
	n := size(b, "MAILSYNCD_BENCH_MESSAGES", 5_000)
	d := testutil.StartDovecot(b, testutil.DovecotOptions{Users: []string{"rita"}})
	x := newBench(b, d)
	x.fill("rita", n)
	for _, kind := range []string{"cold", "warm"} {
		b.Run(kind, func(b *testing.B) {
			x.b = b
			var ratios, own []float64
			var octets int64
			for range rounds * b.N {
				if kind == "cold" {
					x.forget("rita")
				}
				floor, in := testutil.FetchFloor(b, d.Plain, "rita", n, message.FieldNames[:])
				if kind == "cold" {
					x.forget("rita")
				}
				x.fresh()
				begun, cpu := time.Now(), testutil.CPU(b)
				if got := x.pass(x.box("rita")); got != n {
					b.Fatalf("read %d of %d headers", got, n)
				}
				ratios = append(ratios, time.Since(begun).Seconds()/floor.Seconds())
				own = append(own, float64((testutil.CPU(b)-cpu).Microseconds())/float64(n))
				octets = in
			}
			b.ReportMetric(median(ratios), "x-floor")
			b.ReportMetric(median(own), "own-µs/header")
			b.ReportMetric(float64(octets)/float64(n)/1000, "kB/header")
		})
	}
}

// BenchmarkManyMailboxes: the first sync of many mailboxes of 500 messages each,
// eight at a time. Goal: 1.2 times the floor.
func BenchmarkManyMailboxes(b *testing.B) {
	boxes := size(b, "MAILSYNCD_BENCH_MAILBOXES", 40)
	const messages = 500
	users := names(boxes)
	d := testutil.StartDovecot(b, testutil.DovecotOptions{Users: users})
	x := newBench(b, d)
	for _, u := range users {
		x.fill(u, messages)
	}
	floor := func() time.Duration {
		return eight(users, func(u string) { testutil.FetchFloor(b, d.Plain, u, messages, message.FieldNames[:]) })
	}
	var ratios []float64
	for range rounds * b.N {
		x.forget(users...) // a first sync meets a server that has nothing in its cache
		least := floor()
		x.forget(users...)
		x.fresh()
		ours := eight(users, func(u string) { x.pass(x.box(u)) })
		ratios = append(ratios, ours.Seconds()/least.Seconds())
	}
	b.ReportMetric(median(ratios), "x-floor")
}

// BenchmarkUnchangedPoll: mailboxes without news, eight at a time, over TLS with
// resumed sessions. Goals: 1.25 times the floor, 1.5 ms of own processor time.
func BenchmarkUnchangedPoll(b *testing.B) {
	boxes := size(b, "MAILSYNCD_BENCH_POLLS", 200)
	users := names(boxes)
	d := testutil.StartDovecot(b, testutil.DovecotOptions{Users: users})
	x := newBench(b, d)
	x.tls = true
	all := map[string]*mailbox.Mailbox{}
	for _, u := range users {
		all[u] = x.box(u)
		x.fill(u, 1)
	}
	eight(users, func(u string) { x.pass(all[u]) })
	pem, err := os.ReadFile(d.CAFile)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	host, _ := testutil.HostPort(b, d.TLS)
	conf := &tls.Config{RootCAs: roots, ServerName: host, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	var ratios, own []float64
	for range rounds * b.N {
		least := eight(users, func(u string) { testutil.PollFloor(b, d.TLS, u, conf) })
		cpu := testutil.CPU(b)
		ours := eight(users, func(u string) { x.pass(all[u]) })
		own = append(own, float64((testutil.CPU(b)-cpu).Microseconds())/float64(boxes))
		ratios = append(ratios, ours.Seconds()/least.Seconds())
	}
	b.ReportMetric(median(ratios), "x-floor")
	b.ReportMetric(median(own), "own-µs/poll")
}

func names(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("u%04d", i))
	}
	return users
}

// eight calls f for every user, eight at a time, and returns how long it took.
func eight(users []string, f func(user string)) time.Duration {
	begun := time.Now()
	next := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for u := range next {
				f(u)
			}
		})
	}
	for _, u := range users {
		next <- u
	}
	close(next)
	wg.Wait()
	return time.Since(begun)
}
