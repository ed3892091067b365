package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
)

// BenchmarkResidentMemory starts the real binary with so many mailboxes and
// candidates, and reports what it occupies once it is ready and idle (rss-MB,
// the peak on the way as peak-MB), how long it took to be ready from an empty
// store (load-s), and from the filled one (start-s).
func BenchmarkResidentMemory(b *testing.B) {
	for _, size := range []struct {
		mailboxes, candidates int
		idle                  bool // no server: the mailboxes wait for their next try
		limit                 int  // MB, the goal
	}{
		{200, 10_000, false, 32},
		{1_000, 100_000, false, 64},
		{1_000, 1_000_000, false, 160},
		{20_000, 100_000, true, 200},
	} {
		b.Run(fmt.Sprintf("%dx%d", size.mailboxes, size.candidates), func(b *testing.B) {
			for range b.N {
				w := benchWorld(b, size.mailboxes, size.candidates, size.idle)
				load := w.ready(b)
				w.rest(b, size.idle)
				b.ReportMetric(w.memory(b, "VmRSS"), "rss-MB")
				b.ReportMetric(w.memory(b, "VmHWM"), "peak-MB")
				w.halt(b)
				start := w.ready(b)
				w.rest(b, size.idle)
				b.ReportMetric(w.memory(b, "VmRSS"), "restarted-MB")
				w.halt(b)
				b.ReportMetric(load.Seconds(), "load-s")
				b.ReportMetric(start.Seconds(), "start-s")
				b.ReportMetric(float64(size.limit), "goal-MB")
			}
		})
	}
}

// benchWorld is a world of a given size. Its mailboxes are empty.
func benchWorld(b *testing.B, mailboxes, candidates int, idle bool) *world {
	b.Helper()
	w := &world{t: b, dir: b.TempDir(), interval: "24h", log: &logFile{}}
	for i := range mailboxes {
		w.users = append(w.users, fmt.Sprintf("u%05d", i))
	}
	w.server = "127.0.0.1:9" // discard: refused at once
	if !idle {
		w.server = testutil.StartDovecot(b, testutil.DovecotOptions{Users: w.users}).Plain
	}
	w.hook = "http://127.0.0.1:9"
	w.write("webhook.secret", webhookSecret)
	for _, u := range w.users {
		w.write(u+".pw", testutil.Password)
	}
	w.must("key", "new", w.path("key"))
	w.configure()
	bigDirectory(b, w.path("directory.jsonl"), candidates)
	return w
}

// bigDirectory writes a directory of n candidates in an order of no use.
func bigDirectory(b *testing.B, path string, n int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		j := (i*7919 + 13) % n
		fmt.Fprintf(out, `{"kind":"candidate","ref":"cand_%07d","emails":["first.last%d@mail%d.example"],"jobs":["job_%d"]}`+"\n", j, j, j%1000, j%50)
	}
	fmt.Fprintf(out, `{"kind":"end","records":%d}`+"\n", n)
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// ready starts the daemon and returns how long it took to have its directory.
func (w *world) ready(b *testing.B) time.Duration {
	b.Helper()
	begun := time.Now()
	w.start()
	w.up()
	return time.Since(begun)
}

// rest polls every mailbox once, so that what is measured is a daemon that has
// worked.
func (w *world) rest(b *testing.B, idle bool) {
	b.Helper()
	if !idle {
		w.await("every mailbox to be polled", func() bool { // a sync right after the start meets mailboxes that come still
			_, err := w.run("sync")
			return err == nil
		})
	}
}

// memory reads a figure of /proc/PID/status in MB.
func (w *world) memory(b *testing.B, name string) float64 {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.daemon.cmd.Process.Pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name+":" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	b.Fatalf("no %s in /proc", name)
	return 0
}

func (w *world) halt(b *testing.B) {
	b.Helper()
	if w.stop(); b.Failed() {
		b.Fatalf("daemon's log:\n%s", w.log.tail(40))
	}
}
