package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/store"
	"mailsyncd/store/bolt"
	"mailsyncd/webhook"
)

// free is an outbox of independent streams that costs nothing: what it leaves is
// rendering, signing, posting and the courier's own work.
type free struct {
	left, next uint64
	delivered  atomic.Int64
	done       chan struct{}
	want       int64
}

func newFree(n int) *free { return &free{left: uint64(n), done: make(chan struct{}), want: int64(n)} }

func (f *free) Due(_ context.Context, now time.Time, limit int, _ func(uint64) bool) (out []store.Event, _ time.Time, _ error) {
	for len(out) < limit && f.left > 0 {
		f.next++
		f.left--
		e := contractEvent()
		e.No, e.ID, e.Stream = f.next, fmt.Sprintf("evt_%d", f.next), fmt.Sprintf("thr_%d", f.next)
		out = append(out, e)
	}
	return out, time.Time{}, nil
}

func (f *free) Attempt(_ context.Context, as []store.Attempt) (out []store.Event, _ error) {
	for _, a := range as {
		e := contractEvent()
		e.No, e.ID, e.Stream = a.No, fmt.Sprintf("evt_%d", a.No), fmt.Sprintf("thr_%d", a.No)
		e.Body, e.Attempts, e.Tries, e.LastAttempt = a.Body, 1, 1, a.At
		out = append(out, e)
	}
	return out, nil
}

func (f *free) Outcome(_ context.Context, os []store.Outcome) error {
	n := slices.IndexFunc(os, func(o store.Outcome) bool { return o.State != store.EventDelivered })
	if n >= 0 {
		return fmt.Errorf("event %d was not delivered: %s", os[n].No, os[n].Result)
	}
	if f.delivered.Add(int64(len(os))) == f.want {
		close(f.done)
	}
	return nil
}

func (f *free) PurgesPending(context.Context) ([]string, error)   { return nil, nil }
func (f *free) Endpoint(context.Context) (store.Endpoint, error)  { return store.Endpoint{}, nil }
func (f *free) SetEndpoint(context.Context, store.Endpoint) error { return nil }
func (f *free) wait(b *testing.B) {
	b.Helper()
	select {
	case <-f.done:
	case <-time.After(time.Minute):
		b.Fatalf("%d of %d events were delivered in a minute", f.delivered.Load(), f.want)
	}
}

// BenchmarkCourierToALocalReceiver counts signed events a second over
// independent streams to a receiver in the same process, leaving the commits of
// the store aside.
func BenchmarkCourierToALocalReceiver(b *testing.B) {
	url := sink(b)
	outbox := newFree(b.N)
	c, err := webhook.New(webhook.Config{Outbox: outbox, Poster: newPoster(b, url), Log: discard()})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	runCourier(b, c, outbox.wait)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCourierWithTheStore is the same with every attempt and outcome
// committed to the store's file.
func BenchmarkCourierWithTheStore(b *testing.B) {
	db, err := bolt.Open(bolt.Options{Path: filepath.Join(b.TempDir(), "mailsyncd.db"), Keys: bolt.Keys{Current: bolt.NewKey()}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	fill(b, db, b.N)
	outbox := &counted{Outbox: db, want: b.N, done: make(chan struct{})}
	c, err := webhook.New(webhook.Config{Outbox: outbox, Poster: newPoster(b, sink(b)), Log: discard()})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	runCourier(b, c, func(*testing.B) { <-outbox.done })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/float64(outbox.commits), "events/commit")
}

// counted is an outbox that tells when everything was delivered.
type counted struct {
	store.Outbox
	want, commits int
	done          chan struct{}
}

func (c *counted) Outcome(ctx context.Context, os []store.Outcome) error {
	if err := c.Outbox.Outcome(ctx, os); err != nil {
		return err
	}
	c.commits++
	for _, o := range os {
		if o.State == store.EventDelivered {
			c.want--
		}
	}
	if c.want == 0 {
		close(c.done)
	}
	return nil
}

// fill brings n mails of n threads.
func fill(b *testing.B, s store.Store, n int) {
	b.Helper()
	row := store.Row{Kind: "candidate", Ref: "nora", Active: []string{"nora@example.net"}}
	if err := s.Change(b.Context(), store.Change{Put: []store.Row{row}, Now: time.Now()}); err != nil {
		b.Fatal(err)
	}
	var version uint64
	for from := 0; from < n; from += 500 {
		batch := store.Batch{Origin: store.OriginPoll, Now: time.Now()}
		for i := from; i < min(from+500, n); i++ {
			batch.Messages = append(batch.Messages, store.Matched{
				ID: fmt.Sprintf("msg_%d", i), Mailbox: store.Holding{ID: "rita"}, Received: time.Now(), Direction: "inbound",
				Header: message.Header{MessageID: fmt.Sprintf("%d@example.net", i), Date: time.Now(), Subject: "Re: Interview"},
				Pairs:  []store.Pair{{Candidate: "nora", Key: "nora@example.net", Address: "nora@example.net", Fields: []string{"from"}}},
			})
		}
		done, err := s.Advance(b.Context(), store.Walk{Mailbox: "rita"}, version, batch)
		if err != nil {
			b.Fatal(err)
		}
		version = done.Version
	}
}

// BenchmarkRenderAndSign is the part of it that is not HTTP.
func BenchmarkRenderAndSign(b *testing.B) {
	keys, e, now := secrets(b, currentSecret), contractEvent(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		webhook.Sign(keys, "evt_1", now, render(b, e))
	}
}

// sink is a receiver that reads and accepts.
func sink(b *testing.B) string {
	b.Helper()
	return receiver(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}).URL
}

// runCourier runs a courier until wait returns.
func runCourier(b *testing.B, c *webhook.Courier, wait func(*testing.B)) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	wait(b)
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
