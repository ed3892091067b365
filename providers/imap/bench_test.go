package imap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/message"
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

func fill(b *testing.B, d *testutil.Dovecot, n int) {
	b.Helper()
	pad := "Received: from mx.example.net (mx.example.net [192.0.2.7]) by mail.example.com; Mon, 02 Nov 2026 10:00:00 +0100\r\n" +
		"X-Spam-Status: No, score=-2.1\r\nDKIM-Signature: v=1; a=rsa-sha256; b=" + strings.Repeat("Zm9v", 150) + "\r\n"
	body := strings.Repeat("The body that nobody reads.\r\n", 100)
	for i := range n {
		m := strings.Replace(mail(fmt.Sprintf("%d.bench@mail.example.net", i), "References: <a@x> <b@x>\r\n", pad), "The body that nobody reads.\r\n", body, 1)
		d.Deliver("rita", "INBOX", m, time.Now().Add(-time.Minute))
	}
}

// floor is the least that reading all headers can cost: a socket, everything
// pipelined, the answers thrown away.
func floor(b *testing.B, addr string, n int) time.Duration {
	b.Helper()
	begun := time.Now()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	fields := strings.Join(message.FieldNames[:], " ")
	var cmds bytes.Buffer
	fmt.Fprintf(&cmds, "a LOGIN rita %s\r\nb EXAMINE INBOX\r\n", testutil.Password)
	for lo := 1; lo <= n; lo += 500 {
		fmt.Fprintf(&cmds, "c UID FETCH %d:%d (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (%s)])\r\n", lo, lo+499, fields)
	}
	fmt.Fprint(&cmds, "z NOOP\r\n")
	if _, err := c.Write(cmds.Bytes()); err != nil {
		b.Fatal(err)
	}
	br := bufio.NewReaderSize(c, 64<<10)
	for {
		line, err := br.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			b.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("z OK")) {
			return time.Since(begun)
		}
	}
}

// firstSync is the same with all that the provider does.
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

func cpu() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkFirstSync reports wall time as a ratio to the floor in the same
// round, and the process's own CPU for a header.
func BenchmarkFirstSync(b *testing.B) {
	n := benchMessages(b)
	for _, kind := range []string{"cold", "warm"} {
		b.Run(kind, func(b *testing.B) {
			d := testutil.StartDovecot(b, testutil.DovecotOptions{})
			fill(b, d, n)
			cfg := config(b, d.Plain)
			floor(b, d.Plain, n)
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
				least := floor(b, d.Plain, n)
				forget()
				before := cpu()
				ours := firstSync(b, cfg, n)
				own += cpu() - before
				ratios = append(ratios, float64(ours)/float64(least))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x-floor")
			b.ReportMetric(float64(own.Microseconds())/float64(len(ratios)*n), "own-µs/header")
		})
	}
}

// BenchmarkUnchangedPoll is a whole session that finds nothing, over TLS with
// resumed sessions.
func BenchmarkUnchangedPoll(b *testing.B) {
	d := testutil.StartDovecot(b, testutil.DovecotOptions{})
	d.Deliver("rita", "INBOX", mail("a@x"), time.Time{})
	cfg := config(b, d.TLS)
	cfg.TLS, cfg.CAFile = imap.TLSImplicit, d.CAFile
	p := imap.New(cfg)
	mb := open(b, cfg)
	_, cur := drain(b, mb, start(b, mb))
	before := cpu()
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
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "own-µs/poll")
}
