package dirsync_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	dirsync "mailsyncd/sync/directory"
)

// TestARandomLifeSurvivesFaultsAndCrashes plays the same random life twice: once
// undisturbed, and once with a store that fails at every third commit, both
// ways, and a process that often dies of it and tries again. Both must end the
// same after every step.
func TestARandomLifeSurvivesFaultsAndCrashes(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playTwice(t, seed) })
		})
	}
}

func playTwice(t *testing.T, seed uint64) {
	steps := newLife(seed)
	calm, rough := newWorld(t), newWorld(t)
	faults := rand.New(rand.NewPCG(seed, 2))
	rough.fault = func() storetest.FaultKind {
		if faults.IntN(3) > 0 {
			return storetest.NoFault
		}
		return []storetest.FaultKind{storetest.Failed, storetest.FailedButPersisted}[faults.IntN(2)]
	}
	for n := range 40 {
		s := steps.next()
		calm.play(s)
		rough.survive(s, faults)
		if got, want := rough.rows(), calm.rows(); !slices.Equal(got, want) {
			t.Fatalf("step %d, %s: rows %s", n, s.what, firstDifference(got, want))
		}
		if got, want := unique(rough.events()), unique(calm.events()); !slices.Equal(got, want) {
			t.Fatalf("step %d, %s: events %s", n, s.what, firstDifference(got, want))
		}
		calm.wantOneTruth()
		rough.wantOneTruth()
		if t.Failed() {
			t.Fatalf("step %d, %s", n, s.what)
		}
		time.Sleep(s.after)
	}
}

// step is one thing that happens to a directory.
type step struct {
	what  string
	file  []string // nil: as it is
	end   bool
	do    func(w *world) error
	after time.Duration
	// batch is the rows of a commit. A file is one commit here: what a sweep
	// takes is counted against the records there were, and a crash in the middle
	// of a file adds to those. TestACrashAtAnyCommit has files of several.
	batch int
}

// play does a step in a world without faults.
func (w *world) play(s step) {
	w.t.Helper()
	if err := w.try(s); err != nil {
		w.t.Fatalf("%s: %v", s.what, err)
	}
}

func (w *world) try(s step) error {
	switch {
	case s.file != nil && s.end:
		w.complete(s.file...)
	case s.file != nil:
		w.write(s.file...)
	}
	w.keeper.SetBatch(s.batch)
	err := s.do(w)
	for _, fine := range []error{dirsync.ErrNotFound, dirsync.ErrNothingHeld, os.ErrNotExist} {
		if errors.Is(err, fine) {
			return nil
		}
	}
	return err
}

// survive does a step until it works, dying now and then.
func (w *world) survive(s step, rnd *rand.Rand) {
	w.t.Helper()
	err := w.try(s)
	for tries := 0; err != nil; tries++ {
		if !errors.Is(err, storetest.ErrFault) || tries == 500 {
			w.t.Fatalf("%s: %v", s.what, err)
		}
		if rnd.IntN(2) == 0 {
			w.restart()
		}
		again := s
		again.file = nil
		err = w.try(again)
	}
	for w.keeper.Load(w.ctx) != nil { // whatever is left to heal
	}
}

// wantOneTruth holds the snapshot that grew change by change to one that is
// read from the store.
func (w *world) wantOneTruth() {
	w.t.Helper()
	s := w.keeper.Snapshot()
	if s == nil {
		return
	}
	b := directory.NewBuilder(0)
	for _, kind := range []string{"user", "job", "candidate"} {
		err := w.store.ScanRows(w.ctx, kind, nil, func(_ [16]byte, r store.Row) error {
			stored, err := directory.Decode(directory.Kind(kind), r.Ref, r.Value)
			b.Replace(directory.Stored{}, stored)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	fresh := b.Build(w.revision())
	if s.Counts() != fresh.Counts() || s.Revision() != fresh.Revision() {
		w.t.Errorf("snapshot %d %+v, store %d %+v", s.Revision(), s.Counts(), fresh.Revision(), fresh.Counts())
	}
	for i := range addresses {
		key := fmt.Sprintf("p%d@x.net", i)
		if got, want := s.Lookup(key), fresh.Lookup(key); !slices.Equal(got, want) || s.OwnAddress(key) != fresh.OwnAddress(key) {
			w.t.Errorf("address %d: snapshot %v, store %v", i, got, want)
		}
	}
	w.wantActiveRows(s)
}

// wantActiveRows holds the addresses that the store accepts to the snapshot.
func (w *world) wantActiveRows(s *directory.Snapshot) {
	w.t.Helper()
	job := func(ref string) directory.State { state, _ := s.Job(ref); return state }
	err := w.store.ScanRows(w.ctx, "candidate", nil, func(_ [16]byte, r store.Row) error {
		stored, err := directory.Decode(directory.KindCandidate, r.Ref, r.Value)
		if active, _ := stored.Active(job); !slices.Equal(active, r.Active) {
			w.t.Errorf("%s: %d addresses are active in the store, %d in the snapshot", r.Ref, len(r.Active), len(active))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// addresses is how many addresses a random life has, few enough to be shared.
const addresses = 40

// randomLife makes steps.
type randomLife struct{ rnd *rand.Rand }

func newLife(seed uint64) *randomLife {
	return &randomLife{rnd: rand.New(rand.NewPCG(seed, 1))}
}

func (l *randomLife) next() step {
	s := l.step()
	s.batch = 1
	if s.file != nil || s.what == "an approval" || s.what == "a look" {
		s.batch = 1000
	}
	s.after = []time.Duration{time.Second, time.Hour, grace / 2, grace}[l.rnd.IntN(4)]
	return s
}

func (l *randomLife) step() step {
	look := func(w *world) error { return w.keeper.Look(w.ctx) }
	switch l.rnd.IntN(10) {
	case 0, 1, 2:
		return step{what: "a complete file", file: l.file(), end: true, do: look}
	case 3:
		return step{what: "a file without an end", file: l.file(), do: look}
	case 4:
		return step{what: "an approval", do: func(w *world) error { return w.keeper.Approve(w.ctx, "") }}
	case 5:
		ref := fmt.Sprint("c", l.rnd.IntN(30))
		return step{what: "a delete", do: func(w *world) error { return w.keeper.Delete(w.ctx, directory.KindCandidate, ref) }}
	case 6:
		return step{what: "a restart", do: func(w *world) error { w.restart(); return w.keeper.Load(w.ctx) }}
	case 7:
		return step{what: "a look", do: look}
	}
	lines := l.some(5)
	return step{what: "a put", do: func(w *world) error {
		_, err := w.keeper.Put(w.ctx, records(w.t, lines...))
		return err
	}}
}

// file is most of a directory, so that some sweeps pass and some are held.
func (l *randomLife) file() []string {
	return l.some(40 + l.rnd.IntN(30))
}

// some makes up to n lines, each ref once.
func (l *randomLife) some(n int) (lines []string) {
	seen := map[string]bool{}
	for range n {
		ref, line := l.line()
		if !seen[ref] {
			seen[ref] = true
			lines = append(lines, line)
		}
	}
	return lines
}

func (l *randomLife) line() (ref, line string) {
	switch l.rnd.IntN(12) {
	case 0:
		ref = fmt.Sprint("j", l.rnd.IntN(4))
		return ref, l.maybeDeleted("job", ref, fmt.Sprintf(`"state":%q`, []string{"open", "archived"}[l.rnd.IntN(2)]))
	case 1:
		ref = fmt.Sprint("u", l.rnd.IntN(3))
		return ref, l.maybeDeleted("user", ref, fmt.Sprintf(`"emails":["p%d@x.net"]`, l.rnd.IntN(addresses)))
	}
	ref = fmt.Sprint("c", l.rnd.IntN(30))
	more := fmt.Sprintf(`"emails":["p%d@x.net"]`, l.rnd.IntN(addresses))
	switch l.rnd.IntN(4) {
	case 0:
		more += fmt.Sprintf(`,"jobs":["j%d"]`, l.rnd.IntN(5))
	case 1:
		more += `,"state":"stopped"`
	}
	return ref, l.maybeDeleted("candidate", ref, more)
}

func (l *randomLife) maybeDeleted(kind, ref, more string) string {
	if l.rnd.IntN(3) == 0 {
		more += fmt.Sprintf(`,"rev":%d`, l.rnd.IntN(5))
	}
	if l.rnd.IntN(15) == 0 {
		more += `,"deleted":true`
		if kind == "job" {
			more = `"deleted":true`
		}
	}
	return fmt.Sprintf(`{"kind":%q,"ref":%q,%s}`, kind, ref, more)
}
