package dirsync_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

// hooked calls before each commit.
type hooked struct {
	store.Directory
	before func(n int)
	n      int
}

func (h *hooked) Change(ctx context.Context, c store.Change) error {
	h.n++
	h.before(h.n)
	return h.Directory.Change(ctx, c)
}

func TestAFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.wrap = func(st store.Directory) store.Directory {
		return &hooked{Directory: st, before: func(n int) {
			if n == 2 { // in the middle of the second reading
				rewrite(t, w, strings.Join(append(cands(0, 2499), cand("late")), "\n")+"\n")
				later := time.Now().Add(time.Hour)
				if err := os.Chtimes(w.path, later, later); err != nil {
					t.Error(err)
				}
			}
		}}
	}
	w.start()
	w.take(cands(0, 2500)...)
	if w.matched("late@x.net") != "late" || w.matched("c2498@x.net") != "c2498" {
		t.Error("the newer version was not read")
	}
	if w.matched("c2499@x.net") != "" {
		t.Error("a record that only the older version holds matches")
	}
}

func TestAFileThatNeverStandsStillIsRefused(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a"))
	n := 0
	w.wrap = func(st store.Directory) store.Directory {
		return &ordered{Directory: st, before: func() {
			n++
			rewrite(t, w, strings.Repeat(cand("b")+"\n", n))
		}}
	}
	w.start()
	if err := w.keeper.Reload(w.ctx); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("says %v", err)
	}
	w.wantMatched("a")
}

// ordered calls before each reading of a file.
type ordered struct {
	store.Directory
	before func()
}

func (o *ordered) RowOrder(kind string) func(string) [16]byte {
	if kind == "candidate" {
		o.before()
	}
	return o.Directory.RowOrder(kind)
}

// rows prints what the store holds.
func (w *world) rows() (all []string) {
	w.t.Helper()
	for _, kind := range []string{"user", "job", "candidate"} {
		err := w.store.ScanRows(w.ctx, kind, nil, func(_ [16]byte, r store.Row) error {
			all = append(all, fmt.Sprintf("%s %s %x %v", r.Kind, r.Ref, r.Value, r.Active))
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

// life is two directories with everything between them: candidates that come,
// go, change and are deleted, jobs that close and are lost, users that leave.
// The second takes several commits.
func life() (first, second []string) {
	for i := range 1500 {
		line := cand(fmt.Sprintf("c%04d", i), fmt.Sprintf(`"jobs":["j%d"]`, i%10))
		first = append(first, line)
		switch {
		case i < 20: // missing
		case i < 60:
			second = append(second, fmt.Sprintf(`{"kind":"candidate","ref":"c%04d","deleted":true}`, i))
		case i < 1400:
			second = append(second, cand(fmt.Sprintf("c%04d", i), fmt.Sprintf(`"jobs":["j%d"]`, i%10), fmt.Sprintf(`"rev":%d`, i)))
		default:
			second = append(second, line)
		}
	}
	for i := range 10 {
		first = append(first, job(fmt.Sprintf("j%d", i), "open"))
		if i > 1 {
			state := "open"
			if i == 5 {
				state = "archived"
			}
			second = append(second, job(fmt.Sprintf("j%d", i), state))
		}
	}
	first = append(first, `{"kind":"user","ref":"u","emails":["c1400@x.net"]}`, `{"kind":"user","ref":"v"}`)
	second = append(second, `{"kind":"user","ref":"u","state":"disabled"}`, `{"kind":"user","ref":"v"}`)
	for i := range 20 {
		second = append(second, fmt.Sprintf(`{"kind":"candidate","ref":"twin%d","emails":["c%04d@x.net"]}`, i, 1480+i))
	}
	return first, second
}

// TestACrashAtAnyCommit breaks a round at each of its commits, both ways, lets
// the process die, and wants what an undisturbed round leaves: the same rows,
// every purge told once, every conflict told, every activation there.
func TestACrashAtAnyCommit(t *testing.T) {
	first, second := life()
	var want outcome
	run := func(t *testing.T, fault int, kind storetest.FaultKind) {
		w := newWorld(t)
		w.take(first...)
		before, n := w.revision(), 0
		w.fault = func() storetest.FaultKind {
			if n++; n == fault {
				return kind
			}
			return storetest.NoFault
		}
		w.complete(second...)
		w.keeper.SetBatch(200)
		err := w.keeper.Reload(w.ctx)
		if fault == 0 && err == nil {
			want = outcome{n, w.rows(), w.events(), w.activated(before)}
			return
		}
		if !errors.Is(err, storetest.ErrFault) {
			t.Fatalf("the fault was swallowed: %v", err)
		}
		w.restart()
		if err := w.keeper.Load(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.wantActiveRows(w.keeper.Snapshot()) // whatever becomes of the file
		w.run()(time.Minute)
		w.wantOutcome(want, before)
		w.wantSettled()
	}
	synctest.Test(t, func(t *testing.T) { run(t, 0, storetest.NoFault) })
	if want.commits < 6 {
		t.Fatalf("the round takes %d commits; the test means nothing", want.commits)
	}
	for fault := 1; fault <= want.commits; fault++ {
		for name, kind := range map[string]storetest.FaultKind{"failed": storetest.Failed, "failed but persisted": storetest.FailedButPersisted} {
			t.Run(fmt.Sprintf("commit %d of %d %s", fault, want.commits, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { run(t, fault, kind) })
			})
		}
	}
}

// outcome is what a round leaves behind.
type outcome struct {
	commits                 int
	rows, events, activated []string
}

// wantOutcome holds the store to what an undisturbed round left; events may
// come again, activations may be one for all.
func (w *world) wantOutcome(want outcome, before uint64) {
	w.t.Helper()
	if got := w.rows(); !slices.Equal(got, want.rows) {
		w.t.Errorf("other rows than without the crash: %s", firstDifference(got, want.rows))
	}
	events := w.events()
	if got, want := unique(events), unique(want.events); !slices.Equal(got, want) {
		w.t.Errorf("events %s", firstDifference(got, want))
	}
	if n := len(events) - len(want.events); n < 0 || n > 42 { // the conflicts once more
		w.t.Errorf("%d events too many", n)
	}
	activated := w.activated(before)
	for _, a := range want.activated {
		if !slices.Contains(activated, a) && !slices.Contains(activated, "*") {
			w.t.Errorf("no look-back is owed for %s", strings.Fields(a)[0])
		}
	}
}

// TestACrashInAReadingOfTheSameFileIsMadeGood: the file did not change, and yet
// it has to be read again.
func TestACrashInAReadingOfTheSameFileIsMadeGood(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 1000)...)
	want := w.rows()
	var stopped []string
	for i := range 900 {
		stopped = append(stopped, cand(fmt.Sprintf("c%03d", i), `"state":"stopped"`))
	}
	w.put(stopped...)
	n := 0
	w.fault = func() storetest.FaultKind {
		if n++; n == 3 {
			return storetest.Failed
		}
		return storetest.NoFault
	}
	w.keeper.SetBatch(200)
	if err := w.keeper.Reload(w.ctx); !errors.Is(err, storetest.ErrFault) {
		t.Fatal("the fault was swallowed:", err)
	}
	w.restart()
	if err := w.keeper.Look(w.ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.rows(); !slices.Equal(got, want) {
		t.Errorf("rows %s", firstDifference(got, want))
	}
}

// wantSettled holds the snapshot to the store: same revision, same matches.
func (w *world) wantSettled() {
	w.t.Helper()
	s := w.keeper.Snapshot()
	if s.Revision() != w.revision() {
		w.t.Errorf("snapshot of revision %d, store at %d", s.Revision(), w.revision())
	}
	before := w.revision()
	w.reload()
	if w.revision() != before {
		w.t.Error("reading the same file again changes something")
	}
}

func unique(list []string) []string {
	list = slices.Sorted(slices.Values(list))
	return slices.Compact(list)
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%q, want %q", got[i], want[i])
		}
	}
	return fmt.Sprintf("%d, want %d", len(got), len(want))
}

// TestTheSameKeeperRecoversFromAFault is the crash without the death: the
// keeper goes on after a commit of which it does not know whether it happened.
func TestTheSameKeeperRecoversFromAFault(t *testing.T) {
	for name, kind := range map[string]storetest.FaultKind{"failed": storetest.Failed, "failed but persisted": storetest.FailedButPersisted} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.take(cand("a"))
			armed := true
			w.fault = func() storetest.FaultKind {
				if armed {
					armed = false
					return kind
				}
				return storetest.NoFault
			}
			if _, err := w.keeper.Put(w.ctx, records(t, cand("b"))); !errors.Is(err, storetest.ErrFault) {
				t.Fatalf("the fault was swallowed: %v", err)
			}
			if w.matched("a@x.net") != "a" {
				t.Error("the published snapshot was dropped")
			}
			w.put(cand("b"), cand("c"))
			w.wantMatched("a b c")
		})
	}
}

func TestANewerStateIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := w.store.Change(w.ctx, store.Change{Meta: []byte(`{"version":2}`)}); err != nil {
		t.Fatal(err)
	}
	if err := w.keeper.Load(w.ctx); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("says %v", err)
	}
}
