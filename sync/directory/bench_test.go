package dirsync_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
	dirsync "mailsyncd/sync/directory"
)

// watched measures how long commits keep other writers waiting.
type watched struct {
	store.Directory
	longest time.Duration
	commits int
}

func (w *watched) Change(ctx context.Context, c store.Change) error {
	begun := time.Now()
	err := w.Directory.Change(ctx, c)
	w.longest = max(w.longest, time.Since(begun))
	w.commits++
	return err
}

// writeMany writes a file of n candidates whose rev is rev.
func writeMany(b *testing.B, path string, n, rev int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	for i := range 500 {
		fmt.Fprintf(out, `{"kind":"job","ref":"job_%d","state":"open"}`+"\n", i)
	}
	for i := range n {
		fmt.Fprintf(out, `{"kind":"candidate","ref":"cand_%07d","emails":["nora.brandt%d@example.net"],"jobs":["job_%d"],"state":"active","rev":%d}`+"\n", i, i, i%500, rev)
	}
	fmt.Fprintf(out, `{"kind":"end","records":%d}`+"\n", n+500)
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// residentMB is the process's memory now and at its peak, in megabytes.
func residentMB(b *testing.B) (now, peak float64) {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	read := func(key string) float64 {
		_, rest, _ := strings.Cut(string(status), key+":")
		kb, _ := strconv.Atoi(strings.Fields(rest)[0])
		return float64(kb) / 1024
	}
	return read("VmRSS"), read("VmHWM")
}

// cpuTime is the processor time the process has taken: what a busy machine does
// not stretch.
func cpuTime() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// resetPeak makes the kernel forget the peak so far.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// BenchmarkReloadMillion is the life of a directory of 1,000,000 candidates on
// the real store: the first load, a restart, the same file again, a file in
// which every record changed, one put. Each reports seconds, the longest commit
// and resident memory.
func BenchmarkReloadMillion(b *testing.B) {
	n := 1_000_000
	if s := os.Getenv("CANDIDATES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	dir := b.TempDir()
	st, err := bolt.Open(bolt.Options{Path: filepath.Join(dir, "db"), Keys: bolt.Keys{Current: bolt.NewKey()}})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	path := filepath.Join(dir, "directory.jsonl")
	ctx := b.Context()
	watch := &watched{Directory: st}
	open := func() *dirsync.Keeper {
		return dirsync.New(dirsync.Config{
			Settings: dirsync.Settings{File: path, MissingGrace: grace, Backfill: backfill},
			Store:    watch, Logger: slog.New(slog.DiscardHandler),
		})
	}
	var keeper *dirsync.Keeper
	step := func(name string, prepare func(), f func() error) {
		b.Run(name, func(b *testing.B) {
			prepare()
			for b.Loop() {
				runtime.GC()
				resetPeak()
				*watch = watched{Directory: st}
				begun, cpu := time.Now(), cpuTime()
				if err := f(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric((cpuTime() - cpu).Seconds(), "cpu-s")
				b.ReportMetric(time.Since(begun).Seconds(), "s")
				b.ReportMetric(float64(watch.longest.Milliseconds()), "ms-longest-commit")
				b.ReportMetric(float64(watch.commits), "commits")
				now, peak := residentMB(b)
				b.ReportMetric(now, "MB-now")
				b.ReportMetric(peak, "MB-peak")
			}
		})
	}
	nop := func() {}
	step("first", func() { writeMany(b, path, n, 1); keeper = open() }, func() error { return keeper.Reload(ctx) })
	step("restart", func() { keeper = nil }, func() error { keeper = open(); return keeper.Load(ctx) })
	step("unchanged", nop, func() error { return keeper.Reload(ctx) })
	step("all changed", func() { writeMany(b, path, n, 2) }, func() error { return keeper.Reload(ctx) })
	put := 0
	step("put", nop, func() error {
		put++
		_, err := keeper.Put(ctx, records(b, cand(fmt.Sprint("put", put))))
		return err
	})
}
