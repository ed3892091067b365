package dirsync_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	dirsync "mailsyncd/sync/directory"
)

func TestNothingIsPublishedBeforeACompleteDirectory(t *testing.T) {
	w := newWorld(t)
	if err := w.keeper.Load(w.ctx); err != nil || w.keeper.Snapshot() != nil {
		t.Fatal("an empty store counts as a directory", err)
	}
	w.put(cand("a"))
	if w.keeper.Snapshot() != nil || w.keeper.Status().Ready || len(w.changes) > 0 {
		t.Error("a put counts as a complete directory")
	}
	w.write("nonsense")
	if err := w.keeper.Reload(w.ctx); err == nil || w.keeper.Snapshot() != nil {
		t.Error("a bad file counts as a complete directory", err)
	}
	w.take(cand("b"))
	w.wantMatched("a b")
	if !w.keeper.Status().Ready || len(w.changes) != 1 {
		t.Errorf("not told: %v", w.changes)
	}
	w.wantActivated(0)
}

func TestWithoutAFileTheFirstPutIsTheDirectory(t *testing.T) {
	w := newWorld(t)
	if err := w.keeper.Configure(w.ctx, dirsync.Settings{MissingGrace: grace, Backfill: backfill}); err != nil {
		t.Fatal(err)
	}
	w.put(cand("a"))
	w.wantMatched("a")
	if err := w.keeper.Reload(w.ctx); err != nil {
		t.Error("a reload without a file:", err)
	}
}

func TestARestartNeedsNoFile(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a", `"jobs":["j"]`), cand("b"), job("j", "open"), `{"kind":"user","ref":"u","emails":["u@example.com"],"state":"disabled"}`)
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if err := w.keeper.Load(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wantMatched("a b")
	if state, ok := w.keeper.Snapshot().User("u"); state != "disabled" || !ok {
		t.Error("the user was lost")
	}
	if err := w.keeper.Reload(w.ctx); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lost file is not told: %v", err)
	}
	w.wantMatched("a b")
	if st := w.keeper.Status(); !strings.Contains(st.Problem, "no such file") {
		t.Errorf("status: %q", st.Problem)
	}
}

func TestABadFileChangesNothing(t *testing.T) {
	for _, c := range []struct {
		what  string
		lines []string
		says  string
	}{
		{"a bad line", []string{cand("b"), `{"kind":"candidate","ref":"c","email":["c@x.net"]}`}, `:2: unknown key "email"; did you mean "emails"?`},
		{"a wrong count", []string{cand("b"), `{"kind":"end","records":2}`}, `:2: the end line counts 2 records and the file holds 1`},
		{"a record behind the end", []string{`{"kind":"end","records":0}`, cand("b")}, `:2: a line behind the end line`},
		{"a ref twice", []string{cand("b"), job("b", "open"), cand("c"), cand("b")}, `:4: candidate "b" stands on line 1 already`},
		{"an empty file", []string{""}, `is empty; an empty directory is the line {"kind":"end","records":0}`},
		{"a ref twice in a file of many", append(cands(0, 1500), cand("c007")), `:1501: candidate "c007" stands on line 8 already`},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t)
			w.take(cand("a"))
			before := w.revision()
			w.write(c.lines...)
			err := w.keeper.Reload(w.ctx)
			if err == nil || !strings.Contains(err.Error(), w.path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("says  %v\nwants %s", err, c.says)
			}
			if w.revision() != before {
				t.Error("something was written")
			}
			w.wantMatched("a")
		})
	}
}

func TestAFileThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := syscall.Mkfifo(w.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.keeper.Reload(w.ctx); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

func TestAnEmptyDirectoryIsComplete(t *testing.T) {
	w := newWorld(t)
	w.take()
	if w.keeper.Snapshot() == nil {
		t.Error("an end line alone is a complete directory")
	}
}

// run starts the loop inside a bubble and returns a function that lets time pass.
func (w *world) run() (pass func(time.Duration)) {
	w.ctx = w.t.Context()
	done := make(chan error, 1)
	go func() { done <- w.keeper.Run(w.ctx) }()
	w.t.Cleanup(func() {
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	return func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
	}
}

func TestTheLoopBeatsWhateverTheFileSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if !w.keeper.Beat().IsZero() {
			t.Error("a beat before the loop runs")
		}
		pass := w.run() // there is no file
		pass(time.Hour)
		if age := time.Since(w.keeper.Beat()); age > 30*time.Second {
			t.Errorf("the last beat is %v old", age)
		}
	})
}

func TestTheLoopSeesEveryWayAFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		pass(time.Minute)
		if w.matched("a@x.net") != "-" || w.keeper.Status().Problem == "" {
			t.Error("a file that is not there yet is not told")
		}
		w.complete(cand("a"))
		pass(time.Minute)
		w.wantMatched("a")
		if st := w.keeper.Status(); st.Problem != "" || !st.Checked.Equal(time.Now()) {
			t.Errorf("status %+v", st)
		}

		rewrite(t, w, cand("a")+"\n"+cand("b")+"\n")
		pass(time.Minute)
		w.wantMatched("a b")

		swapLink(t, w, "v1", cand("a")+"\n"+cand("c")+"\n"+cand("b")+"\n")
		pass(time.Minute)
		w.wantMatched("a b c")
		swapLink(t, w, "v2", cand("a")+"\n"+cand("c")+"\n"+cand("b")+"\n"+cand("d")+"\n")
		pass(time.Minute)
		w.wantMatched("a b c d")

		before := w.revision()
		pass(time.Hour)
		if w.revision() != before {
			t.Error("looking at an unchanged file writes")
		}
	})
}

// rewrite writes the file in place.
func rewrite(t *testing.T, w *world, content string) {
	t.Helper()
	if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// swapLink makes the file a link into a directory, as Kubernetes mounts do.
func swapLink(t *testing.T, w *world, version, content string) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(w.path), version)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "f"), []byte(content), 0o600),
		os.Symlink(filepath.Join(dir, "f"), w.path+".link"), os.Rename(w.path+".link", w.path)); err != nil {
		t.Fatal(err)
	}
}

func TestABadFileIsLoggedOncePerText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.complete(cand("a"))
		pass := w.run()
		pass(time.Minute)
		w.write("nonsense")
		pass(time.Hour)
		if n := strings.Count(w.log.String(), "event=directory_refused"); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.log)
		}
		checked := w.keeper.Status().Checked
		if time.Since(checked) < 50*time.Minute {
			t.Error("a refused file counts as checked")
		}
		w.write(cand("a"), "nonsense")
		pass(time.Minute)
		if n := strings.Count(w.log.String(), "event=directory_refused"); n != 2 {
			t.Errorf("another text was told %d times", n-1)
		}
		w.complete(cand("a"), cand("b"))
		pass(time.Minute)
		if !strings.Contains(w.log.String(), "event=directory_recovered") || w.keeper.Status().Problem != "" {
			t.Error("the end of the trouble is not told")
		}
		w.wantMatched("a b")
	})
}

func TestARestartDoesNotReadAnUnchangedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(cand("a"))
		w.put(cand("a", `"state":"stopped"`))
		before := w.revision()
		w.restart()
		w.run()(time.Hour)
		if w.revision() != before {
			t.Error("the file was taken over again")
		}
		w.wantMatched("")
		w.reload()
		w.wantMatched("a")
	})
}
