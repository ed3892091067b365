package bolt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// BenchmarkRewrite rewrites a store while pages and deliveries are committed
// and rows are read. Reported are the longest that a page waited for its commit
// during the rewrite and, to compare, in as long a time without one.
func BenchmarkRewrite(b *testing.B) {
	for _, megabytes := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			s := big(b, megabytes)
			info, err := os.Stat(s.Path())
			mustNot(b, err)
			var rewriting, waited, quiet time.Duration
			b.ResetTimer()
			for range b.N {
				began := time.Now()
				during := longestWait(b, s, func() { mustNot(b, s.Rewrite(b.Context(), benchNow())) })
				took := time.Since(began)
				rewriting += took
				waited = max(waited, during)
				quiet = max(quiet, longestWait(b, s, func() { time.Sleep(took) }))
			}
			b.ReportMetric(float64(info.Size())/1e6, "file-MB")
			b.ReportMetric(rewriting.Seconds()/float64(b.N), "rewrite-s")
			b.ReportMetric(float64(waited.Microseconds())/1000, "longest-wait-ms")
			b.ReportMetric(float64(quiet.Microseconds())/1000, "longest-wait-without-ms")
		})
	}
}

// big makes a store of about so many megabytes: rows of a kilobyte, and a ledger.
func big(b *testing.B, megabytes int) *bolt.Store {
	b.Helper()
	o := options(b)
	o.MaxEvents = 1_000_000
	s := open(b, o)
	rev := uint64(0)
	put := func(rows []store.Row) {
		mustNot(b, s.Change(b.Context(), store.Change{From: rev, Put: rows, Now: benchNow()}))
		rev++
	}
	put(candidates(100))
	for from := 0; from < megabytes*900; from += 5000 {
		rows := make([]store.Row, 5000)
		for i := range rows {
			rows[i] = store.Row{Kind: "job", Ref: fmt.Sprint("job_", from+i), Value: bytes.Repeat([]byte{7}, 900)}
		}
		put(rows)
	}
	for i := range 20 {
		page(b, s, i, 100)
	}
	return s
}

// longestWait commits pages and deliveries while f runs, and returns how long
// the slowest page took.
func longestWait(b *testing.B, s *bolt.Store, f func()) (longest time.Duration) {
	b.Helper()
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			page(b, s, rand.Int(), 20)
			longest = max(longest, time.Since(began))
		}
	})
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				mustNot(b, s.Writable(b.Context()))
				_, err := s.Stats(b.Context())
				mustNot(b, err)
			}
		}
	})
	f()
	close(stop)
	group.Wait()
	return longest
}

// BenchmarkAddTasks records the most walks one step may make: 100 candidates
// over 2,000 mailboxes.
func BenchmarkAddTasks(b *testing.B) {
	s := open(b, options(b))
	mustNot(b, s.Change(b.Context(), store.Change{Put: candidates(100), Now: benchNow()}))
	var tasks []store.Task
	for c := range 100 {
		t := store.Task{Kind: store.TaskResync, Candidate: fmt.Sprint("cand_", c), Since: benchNow()}
		for i := range store.MaxTaskWalks / 100 {
			t.Mailboxes = append(t.Mailboxes, fmt.Sprint("mailbox_", i))
		}
		tasks = append(tasks, t)
	}
	b.ResetTimer()
	for range b.N {
		_, err := s.AddTasks(b.Context(), tasks, benchNow())
		mustNot(b, err)
	}
}
