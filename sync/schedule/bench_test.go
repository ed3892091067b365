package schedule_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"mailsyncd/sync/schedule"
)

const fleet = 20_000

// fleetOf returns a schedule of 20,000 keys over 50 hosts, none of them due.
func fleetOf(run func(context.Context, string) schedule.Verdict) *schedule.Scheduler {
	s := schedule.New(schedule.Config{Run: run, Limits: schedule.Limits{Concurrency: 16, PerHost: schedule.PerHost{Connections: 8}}})
	for i := range fleet {
		s.Set(fmt.Sprintf("mailbox-%05d", i), schedule.Entry{
			Host: fmt.Sprintf("imap%d.example.com", i%50), Interval: time.Hour, LastSuccess: time.Now(),
		})
	}
	return s
}

// BenchmarkIdleKey is what a key costs between its runs.
func BenchmarkIdleKey(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		s := fleetOf(nil)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/fleet, "B/key")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/fleet, "goroutines/key")
		runtime.KeepAlive(s)
	}
}

// BenchmarkRun is what the schedule adds to a run: a kick of one of 20,000 keys,
// its turn, its goroutine, its verdict and the answer.
func BenchmarkRun(b *testing.B) {
	s := fleetOf(func(context.Context, string) schedule.Verdict { return schedule.Verdict{} })
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.Kick(ctx, fmt.Sprintf("mailbox-%05d", i%fleet)); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkKickAll is one run of each of 20,000 keys.
func BenchmarkKickAll(b *testing.B) {
	s := fleetOf(func(context.Context, string) schedule.Verdict { return schedule.Verdict{} })
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for b.Loop() {
		if failed := s.KickAll(ctx); len(failed) > 0 {
			b.Fatalf("%d keys failed", len(failed))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/fleet, "ns/key")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSnapshot is what status and metrics cost with 20,000 keys.
func BenchmarkSnapshot(b *testing.B) {
	s := fleetOf(nil)
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Snapshot()) != fleet {
			b.Fatal("keys are missing")
		}
	}
}
