package bolt_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

func benchNow() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }

// matched is message i of candidate c, in a thread of ten.
func matched(c, i int) store.Matched {
	ref := fmt.Sprintf("cand_%d", c)
	at := benchNow().Add(time.Duration(i) * time.Second)
	from := message.Address{Name: "Nora Brandt", Addr: ref + "@example.net", Key: ref + "@example.net"}
	to := message.Address{Name: "Rita Keller", Addr: "rita@example.com", Key: "rita@example.com"}
	return store.Matched{
		ID: fmt.Sprintf("msg_%d_%d", c, i), Mailbox: store.Holding{ID: "rita", User: "usr_7"}, Received: at, Direction: "inbound",
		Header: message.Header{
			MessageID: fmt.Sprintf("%d.%d@mail.example.net", c, i), Date: at, Subject: "Re: Interview on Thursday",
			References: []string{fmt.Sprintf("%d.root%d@mail.example.net", c, i/10)},
			From:       []message.Address{from}, To: []message.Address{to},
		},
		Pairs: []store.Pair{{Candidate: ref, Key: from.Key, Address: from.Addr, Fields: []string{"from"}}},
	}
}

func candidates(n int) (rows []store.Row) {
	for c := range n {
		ref := fmt.Sprintf("cand_%d", c)
		rows = append(rows, store.Row{Kind: "candidate", Ref: ref, Value: bytes.Repeat([]byte{7}, 60), Active: []string{ref + "@example.net"}})
	}
	return rows
}

func mustNot(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAdvance500None is the common page: 500 headers, no match, one put.
func BenchmarkAdvance500None(b *testing.B) {
	s := open(b, options(b))
	for i := range b.N {
		_, err := s.Advance(b.Context(), store.Walk{Mailbox: "rita"}, uint64(i), store.Batch{State: store.WalkState{Cursor: "cursor", Scanned: 500}, Now: benchNow()})
		mustNot(b, err)
	}
}

// BenchmarkAdvanceMatches is a page of 100 matches of 100 candidates.
func BenchmarkAdvanceMatches(b *testing.B) {
	s := open(b, options(b))
	mustNot(b, s.Change(b.Context(), store.Change{Put: candidates(100), Now: benchNow()}))
	b.ResetTimer()
	for i := range b.N {
		batch := store.Batch{State: store.WalkState{Cursor: "cursor"}, Now: benchNow(), Origin: store.OriginPoll}
		for c := range 100 {
			batch.Messages = append(batch.Messages, matched(c, i))
		}
		_, err := s.Advance(b.Context(), store.Walk{Mailbox: "rita"}, uint64(i), batch)
		mustNot(b, err)
	}
	b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkCourier is due, attempt and outcome of events over independent
// streams, 200 a round; the target is 2,000 a second.
func BenchmarkCourier(b *testing.B) {
	s := open(b, options(b))
	const streams = 2000
	mustNot(b, s.Change(b.Context(), store.Change{Put: candidates(streams), Now: benchNow()}))
	fill(b, s, streams)
	ids := 0
	b.ResetTimer()
	for range b.N {
		due, _, err := s.Due(b.Context(), benchNow(), 200, nil)
		mustNot(b, err)
		if len(due) == 0 {
			b.StopTimer()
			_, err := s.Replay(b.Context(), store.EventFilter{}, benchNow())
			mustNot(b, err)
			b.StartTimer()
			continue
		}
		as := make([]store.Attempt, len(due))
		for i, e := range due {
			as[i] = store.Attempt{No: e.No, Version: e.Version, Body: bytes.Repeat([]byte("x"), 1100), At: benchNow()}
		}
		posted, err := s.Attempt(b.Context(), as)
		mustNot(b, err)
		os := make([]store.Outcome, len(posted))
		for i, e := range posted {
			os[i] = store.Outcome{No: e.No, Version: e.Version, State: store.EventDelivered, At: benchNow()}
		}
		mustNot(b, s.Outcome(b.Context(), os))
		ids += len(os)
	}
	b.ReportMetric(float64(ids)/b.Elapsed().Seconds(), "events/s")
}

// fill puts one event for each candidate into the outbox.
func fill(b *testing.B, s *bolt.Store, n int) {
	for from := 0; from < n; from += 100 {
		batch := store.Batch{Now: benchNow(), Origin: store.OriginPoll}
		for c := from; c < from+100; c++ {
			batch.Messages = append(batch.Messages, matched(c, 0))
		}
		_, err := s.Advance(b.Context(), store.Walk{Mailbox: "rita"}, uint64(from/100), batch)
		mustNot(b, err)
	}
}

// BenchmarkMillion loads 1,000,000 candidates in the store's own order, 2,000 a
// change, scans them and opens the file again. It reports seconds, the longest
// change, and the mapped memory held
// after the scan.
func BenchmarkMillion(b *testing.B) {
	for range b.N {
		o := options(b)
		s := open(b, o)
		rows := candidates(1_000_000)
		order := s.RowOrder("candidate")
		inOrder(rows, order)
		start, longest := time.Now(), time.Duration(0)
		rev := uint64(0)
		for part := range slices.Chunk(rows, 2000) {
			began := time.Now()
			mustNot(b, s.Change(b.Context(), store.Change{From: rev, Put: part, Now: benchNow()}))
			longest = max(longest, time.Since(began))
			rev++
		}
		b.ReportMetric(time.Since(start).Seconds(), "load-s")
		b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
		n, start := 0, time.Now()
		mustNot(b, s.ScanRows(context.Background(), "candidate", nil, func([16]byte, store.Row) error { n++; return nil }))
		if n != len(rows) {
			b.Fatalf("scanned %d rows", n)
		}
		b.ReportMetric(time.Since(start).Seconds(), "scan-s")
		b.ReportMetric(float64(mappedResident(b))/1e6, "mapped-MB")
		mustNot(b, s.Close())
		began := time.Now()
		mustNot(b, open(b, o).Close())
		b.ReportMetric(time.Since(began).Seconds(), "open-s")
		info, err := os.Stat(s.Path())
		mustNot(b, err)
		b.ReportMetric(float64(info.Size())/1e6, "file-MB")
	}
}

// inOrder sorts rows by the store's order.
func inOrder(rows []store.Row, order func(string) [16]byte) {
	type keyed struct {
		key [16]byte
		row store.Row
	}
	all := make([]keyed, len(rows))
	for i, r := range rows {
		all[i] = keyed{order(r.Ref), r}
	}
	slices.SortFunc(all, func(x, y keyed) int { return bytes.Compare(x.key[:], y.key[:]) })
	for i := range all {
		rows[i] = all[i].row
	}
}

// mappedResident is how much of mapped files the process holds, in bytes.
func mappedResident(b *testing.B) int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	mustNot(b, err)
	var size, resident, shared int64
	_, err = fmt.Sscan(string(raw), &size, &resident, &shared)
	mustNot(b, err)
	return shared * int64(os.Getpagesize())
}
