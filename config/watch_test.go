package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a folder with files for a watcher.
type folder struct {
	t   *testing.T
	dir string
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) put(name, text string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestWatcherSeesWhatChanged(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(f folder)
		want   string // the names that changed
	}{
		{"nothing changed", func(folder) {}, ""},
		{"a file was written again with the same content", func(f folder) { f.put("a", "one") }, ""},
		{"a file was touched", func(f folder) { f.must(os.Chtimes(f.path("a"), time.Now(), time.Now().Add(time.Hour))) }, ""},
		{"a file got other content of the same length", func(f folder) { f.put("a", "two") }, "a"},
		{"the same, with its time stamp put back", func(f folder) {
			info, err := os.Stat(f.path("a"))
			f.must(err)
			f.put("a", "two")
			f.must(os.Chtimes(f.path("a"), info.ModTime(), info.ModTime()))
		}, "a"},
		{"a file was replaced by renaming", func(f folder) {
			f.put("new", "two")
			f.must(os.Rename(f.path("new"), f.path("a")))
		}, "a"},
		{"a file vanished", func(f folder) { f.must(os.Remove(f.path("a"))) }, "a"},
		{"a missing file appeared", func(f folder) { f.put("missing", "x") }, "missing"},
		{"a mode was mended", func(f folder) { f.must(os.Chmod(f.path("a"), 0o400)) }, "a"},
		{"the folder behind a link was swapped", func(f folder) {
			f.put("v2/secret", "new")
			f.must(os.Symlink("v2", f.path("tmp")))
			f.must(os.Rename(f.path("tmp"), f.path("current")))
		}, "current/secret"},
		{"the folder behind a link was swapped for an equal one", func(f folder) {
			f.put("v2/secret", "old")
			f.must(os.Symlink("v2", f.path("tmp")))
			f.must(os.Rename(f.path("tmp"), f.path("current")))
		}, ""},
		{"two files changed", func(f folder) { f.put("a", "x"); f.put("b", "y") }, "a b"},
		{"a file became a folder", func(f folder) {
			f.must(os.Remove(f.path("a")))
			f.must(os.Mkdir(f.path("a"), 0o700))
		}, "a"},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := folder{t, t.TempDir()}
			f.put("a", "one")
			f.put("b", "one")
			f.put("v1/secret", "old")
			f.must(os.Symlink("v1", f.path("current")))
			w := config.NewWatcher(time.Second)
			w.Watch([]string{f.path("a"), f.path("b"), f.path("missing"), f.path("current/secret")})
			c.change(f)
			var got []string
			for _, p := range w.Look() {
				got = append(got, strings.TrimPrefix(p, f.dir+"/"))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("changed: %v, want %q", got, c.want)
			}
			if again := w.Look(); again != nil {
				t.Errorf("the same change was seen twice: %v", again)
			}
		})
	}
}

// A reload sets the files again. What changed in between must not get lost.
func TestWatchKeepsWhatItKnows(t *testing.T) {
	f := folder{t, t.TempDir()}
	f.put("a", "one")
	f.put("b", "one")
	w := config.NewWatcher(time.Second)
	w.Watch([]string{f.path("a")})
	f.put("a", "two")
	w.Watch([]string{f.path("a"), f.path("b")})
	if got := w.Look(); !slices.Equal(got, []string{f.path("a")}) {
		t.Errorf("changed: %v", got)
	}
	f.put("b", "two")
	w.Watch([]string{f.path("a")})
	if got := w.Look(); got != nil {
		t.Errorf("a file that is no longer watched: %v", got)
	}
}

func TestWatcherRuns(t *testing.T) {
	f := folder{t, t.TempDir()}
	f.put("a", "one")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := config.NewWatcher(5 * time.Second)
		w.Watch([]string{f.path("a")})
		seen := make(chan []string, 9)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx, func(paths []string) { seen <- paths }) }()
		f.put("a", "two")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(seen) != 0 {
			t.Error("it looked before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(seen) != 1 {
			t.Fatalf("it told of %d changes", len(seen))
		}
		if got := <-seen; !slices.Equal(got, []string{f.path("a")}) {
			t.Errorf("changed: %v", got)
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("Run returned %v", err)
		}
	})
}

// A round over many files that did not change: the daemon pays it every few
// seconds.
func BenchmarkWatcherLook20000(b *testing.B) {
	dir := b.TempDir()
	paths := make([]string, 20_000)
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprintf("%d.pw", i))
		if err := os.WriteFile(paths[i], []byte("secret"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	w := config.NewWatcher(time.Second)
	w.Watch(paths)
	// Files that were just written are read again for two seconds.
	for begun := time.Now(); time.Since(begun) < 3*time.Second; {
		w.Look()
	}
	b.ReportAllocs()
	for b.Loop() {
		if changed := w.Look(); changed != nil {
			b.Fatal(changed)
		}
	}
}

// Start and reload with many mailboxes.
func BenchmarkLoad20000(b *testing.B) {
	var text strings.Builder
	text.WriteString(strings.Replace(small, "  - {id: rita, address: rita@example.com}\n", "", 1)[:strings.Index(small, "mailboxes:")])
	text.WriteString("webhook: {url: \"https://ats.example.com/hook\", secret_file: s}\nmailboxes:\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  - {id: m%d, address: m%d@example.com, user: usr_%d}\n", i, i, i)
	}
	path := filepath.Join(b.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := config.Load(path); err != nil {
			b.Fatal(err)
		}
	}
}
