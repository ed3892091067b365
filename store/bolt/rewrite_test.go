package bolt_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// raw reads a closed store file as it lies there.
func raw(t *testing.T, path string) (rows map[string]string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	mustNot(t, err)
	defer db.Close()
	mustNot(t, db.View(func(tx *bbolt.Tx) error { rows = bolt.Raw(tx); return nil }))
	return rows
}

// noLeftovers fails the test if a rewrite left a file beside the store's.
func noLeftovers(t *testing.T, path string) {
	t.Helper()
	names, err := filepath.Glob(path + ".*")
	mustNot(t, err)
	if len(names) > 0 {
		t.Errorf("left beside the store: %v", names)
	}
}

// page commits message i of candidates 0 to n-1 to rita's main walk.
func page(t testing.TB, s *bolt.Store, i int, n int) {
	t.Helper()
	mustNot(t, tryPage(t.Context(), s, i, n))
}

func tryPage(ctx context.Context, s *bolt.Store, i int, n int) error {
	w := store.Walk{Mailbox: "rita"}
	st, err := s.Walk(ctx, w)
	if err != nil {
		return err
	}
	b := store.Batch{State: store.WalkState{Cursor: "cursor"}, Now: benchNow(), Origin: store.OriginPoll}
	for c := range n {
		b.Messages = append(b.Messages, matched(c, i))
	}
	_, err = s.Advance(ctx, w, st.Version, b)
	return err
}

// deliverAll posts all that is due.
func deliverAll(t testing.TB, s *bolt.Store) {
	t.Helper()
	for {
		due, _, err := s.Due(t.Context(), benchNow(), 500, nil)
		mustNot(t, err)
		if len(due) == 0 {
			return
		}
		var as []store.Attempt
		for _, e := range due {
			as = append(as, store.Attempt{No: e.No, Version: e.Version, Body: []byte("body of " + e.ID), At: benchNow()})
		}
		posted, err := s.Attempt(t.Context(), as)
		mustNot(t, err)
		var os []store.Outcome
		for _, e := range posted {
			os = append(os, store.Outcome{No: e.No, Version: e.Version, State: store.EventDelivered, At: benchNow()})
		}
		mustNot(t, s.Outcome(t.Context(), os))
	}
}

func purge(t testing.TB, s *bolt.Store, refs ...string) {
	t.Helper()
	rev, _, err := s.Revision(t.Context())
	mustNot(t, err)
	c := store.Change{From: rev, Now: benchNow()}
	for _, ref := range refs {
		c.Purges = append(c.Purges, store.Purge{Ref: ref, Reason: "deleted"})
	}
	mustNot(t, s.Change(t.Context(), c))
}

func pending(t testing.TB, s *bolt.Store) int {
	t.Helper()
	e, err := s.Erasure(t.Context())
	mustNot(t, err)
	return e.Pending
}

// withHistory returns a store in which candidate 0 left traces of every kind: ledger,
// threads, delivered, erased and waiting events, tasks, walks, activations.
func withHistory(t *testing.T, o bolt.Options) *bolt.Store {
	t.Helper()
	s := open(t, o)
	acts := []store.Activation{{Key: "cand_0@example.net", Ref: "cand_0"}}
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(20), Activations: acts, Now: benchNow()}))
	for i := range 10 {
		page(t, s, i, 20)
	}
	deliverAll(t, s)
	_, err := s.Expire(t.Context(), store.Expiry{Delivered: benchNow().Add(time.Second)})
	mustNot(t, err)
	for i := range 10 {
		page(t, s, 10+i, 20)
	}
	deliverAll(t, s)
	page(t, s, 30, 20)
	added, err := s.AddTasks(t.Context(), []store.Task{{
		Kind: store.TaskResync, Candidate: "cand_0", Addresses: []string{"cand_0@example.net"}, Mailboxes: []string{"rita"},
	}}, benchNow())
	mustNot(t, err)
	for _, task := range []string{added[0].ID, "lookback"} {
		st := store.WalkState{Cursor: "c", Addresses: []string{"cand_0@example.net"}}
		_, err = s.Advance(t.Context(), store.Walk{Mailbox: "rita", Task: task}, 0, store.Batch{State: st, Now: benchNow()})
		mustNot(t, err)
	}
	return s
}

// What a purge deletes stays in free pages until the rewrite. The bytes are
// taken before the purge, so this is checked for exactly what was there.
func TestAPurgeAndARewriteLeaveNoByte(t *testing.T) {
	o := options(t)
	mustNot(t, withHistory(t, o).Close())
	before := raw(t, o.Path)
	s := open(t, o)
	purge(t, s, "cand_0")
	mustNot(t, s.Close())
	gone := goneFrom(before, raw(t, o.Path))
	if len(gone) < 50 {
		t.Fatalf("the purge took %d rows, expected all of a candidate with 21 messages", len(gone))
	}
	if left := occurring(t, o.Path, gone); left < len(gone)/2 {
		t.Fatalf("only %d of %d purged rows are left in free pages: this test shows nothing", left, len(gone))
	}
	s = open(t, o)
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	if left := occurring(t, o.Path, gone); left > 0 {
		t.Errorf("%d of %d purged rows are in the file after the rewrite", left, len(gone))
	}
	if n := pending(t, s); n != 0 {
		t.Errorf("%d erasures are pending", n)
	}
	mustNot(t, s.Check(t.Context()))
	noLeftovers(t, o.Path)
}

// goneFrom are the sealed values that stand in before and not in after.
func goneFrom(before, after map[string]string) (gone []string) {
	left := map[string]bool{}
	for _, v := range after {
		left[v] = true
	}
	for _, v := range before {
		if !left[v] && len(v) >= 32 { // shorter is no sealed value
			gone = append(gone, v)
		}
	}
	return gone
}

func occurring(t *testing.T, path string, values []string) (n int) {
	t.Helper()
	file, err := os.ReadFile(path)
	mustNot(t, err)
	for _, v := range values {
		if bytes.Contains(file, []byte(v)) {
			n++
		}
	}
	return n
}

// The file that was replaced is overwritten, not only unlinked.
func TestTheReplacedFileIsOverwritten(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	old, err := os.Open(o.Path)
	mustNot(t, err)
	defer old.Close()
	overwritten := false
	s.OnStep(func(step string) error {
		if step != "overwriting" {
			return nil
		}
		bytesLeft, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", old.Fd()))
		overwritten = err == nil && len(bytesLeft) > 0 && len(bytes.Trim(bytesLeft, "\x00")) == 0
		return nil
	})
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	info, err := old.Stat()
	mustNot(t, err)
	if !overwritten || info.Size() != 0 {
		t.Errorf("overwritten with zeros: %v, size afterwards %d, expected true and 0", overwritten, info.Size())
	}
}

// At each step where writers go on, rows are added, changed and deleted. In the
// end the new file holds what the old one did, byte by byte.
func TestRowsWrittenDuringARewriteAreInTheNewFile(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	last := filepath.Join(t.TempDir(), "old.db")
	writes := 0
	s.OnStep(func(step string) error {
		switch {
		case slices.Contains(bolt.StepsBeforeReplace(), step):
			writes++
			page(t, s, 100+writes, 20)
			deliverAll(t, s)
			purge(t, s, fmt.Sprint("cand_", writes))
		case step == "linked": // writers wait, nothing more comes into the old file
			file, err := os.ReadFile(o.Path)
			mustNot(t, err)
			mustNot(t, os.WriteFile(last, file, 0o600))
		}
		return nil
	})
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	if n := pending(t, s); n != writes {
		t.Errorf("%d erasures are pending, expected the %d that came during the rewrite", n, writes)
	}
	mustNot(t, s.Check(t.Context()))
	mustNot(t, s.Close())
	got, want := raw(t, o.Path), raw(t, last)
	const own = "meta/erasure"
	delete(got, own)
	delete(want, own)
	if !maps.Equal(got, want) {
		t.Errorf("the new file holds %d rows, the old one held %d, and they differ", len(got), len(want))
	}
}

// With more rows touched than are noted at once, and more than writers are made
// to wait for.
func TestALoadOfTheDirectoryDuringARewrite(t *testing.T) {
	s := open(t, options(t))
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(2000), Now: benchNow()}))
	loaded := false
	s.OnStep(func(step string) error {
		if loaded || step != "begun" {
			return nil
		}
		loaded = true
		for from := uint64(1); from <= 60; from++ { // 120,000 touched rows
			mustNot(t, s.Change(t.Context(), store.Change{From: from, Put: candidates(2000), Now: benchNow()}))
		}
		rows := candidates(120_000)
		for from, part := range slices.Collect(slices.Chunk(rows, 10_000)) {
			mustNot(t, s.Change(t.Context(), store.Change{From: uint64(61 + from), Put: part, Now: benchNow()}))
		}
		return nil
	})
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	st, err := s.Stats(t.Context())
	mustNot(t, err)
	n := 0
	mustNot(t, s.ScanRows(t.Context(), "candidate", nil, func([16]byte, store.Row) error { n++; return nil }))
	if st.Candidates != 120_000 || n != 120_000 {
		t.Errorf("counted %d candidates and scanned %d, expected 120000", st.Candidates, n)
	}
}

func TestReadersFinishOnTheFileTheyBeganWith(t *testing.T) {
	s := withHistory(t, options(t))
	replaced, let, read := make(chan struct{}), make(chan struct{}), make(chan error)
	s.OnStep(func(step string) error {
		if step == "replaced" {
			close(replaced)
		}
		return nil
	})
	began := make(chan struct{})
	go func() {
		read <- s.Holding(t.Context(), func(before map[string]string) {
			close(began)
			<-let
			if len(before) == 0 {
				t.Error("the reader found nothing")
			}
		})
	}()
	<-began
	done := make(chan error)
	go func() { done <- s.Rewrite(t.Context(), benchNow()) }()
	<-replaced
	page(t, s, 200, 20) // writers and new readers do not wait for the old reader
	mustNot(t, s.Check(t.Context()))
	select {
	case err := <-done:
		t.Fatalf("the rewrite ended (%v) while a reader had the old file", err)
	default:
	}
	close(let)
	mustNot(t, errors.Join(<-read, <-done))
}

// ---- failures ----------------------------------------------------------

var errStep = errors.New("this step fails")

// failing lets a rewrite fail at a step.
func failing(t *testing.T, s *bolt.Store, at string) error {
	t.Helper()
	s.OnStep(func(step string) error {
		if step == at {
			return errStep
		}
		return nil
	})
	err := s.Rewrite(t.Context(), benchNow())
	s.OnStep(nil)
	if !errors.Is(err, errStep) {
		t.Fatalf("rewriting: got %v, expected the step's error", err)
	}
	return err
}

func TestARewriteThatFailsLeavesTheStoreInUse(t *testing.T) {
	for _, step := range slices.Concat(bolt.StepsBeforeReplace(), bolt.StepsBeforeRename(), bolt.StepsAfterReplace()) {
		t.Run(step, func(t *testing.T) {
			o := options(t)
			s := withHistory(t, o)
			purge(t, s, "cand_0")
			_ = failing(t, s, step)
			want := 1
			if slices.Contains(bolt.StepsAfterReplace(), step) {
				want = 0
			} else {
				noLeftovers(t, o.Path)
			}
			if n := pending(t, s); n != want {
				t.Errorf("%d erasures are pending, expected %d", n, want)
			}
			page(t, s, 100, 20)
			mustNot(t, s.Rewrite(t.Context(), benchNow()))
			page(t, s, 101, 20)
			noLeftovers(t, o.Path)
			mustNot(t, s.Close())
			s = open(t, o)
			mustNot(t, s.Check(t.Context()))
			if st, err := s.Stats(t.Context()); err != nil || st.Pairs != (21+2)*19 {
				t.Errorf("%d pairs (%v), expected %d", st.Pairs, err, (21+2)*19)
			}
		})
	}
}

// Whether the new name is on the disk is not known: nothing may be written that
// a power loss would take back.
func TestARenameOfUnknownFateStopsTheStore(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	purge(t, s, "cand_0")
	err := failing(t, s, bolt.StepRenamed)
	if !errors.Is(err, store.ErrUnusable) || !errors.Is(s.Writable(t.Context()), store.ErrUnusable) {
		t.Errorf("rewriting: got %v, expected the store to be unusable", err)
	}
	mustNot(t, s.Close())
	s = open(t, o)
	if n := pending(t, s); n != 0 {
		t.Errorf("%d erasures are pending in the new file", n)
	}
	page(t, s, 100, 20)
	noLeftovers(t, o.Path)
}

func TestARewriteNeedsRoomForACopy(t *testing.T) {
	o := options(t)
	free := uint64(1 << 40)
	o.MinFreeBytes, o.FreeBytes = 1000, func(string) (uint64, error) { return free, nil }
	s := withHistory(t, o)
	free = 2000
	err := s.Rewrite(t.Context(), benchNow())
	if !errors.Is(err, store.ErrDiskLow) {
		t.Fatalf("rewriting: got %v, expected %v", err, store.ErrDiskLow)
	}
	says(t, err, "bytes of free disk space, there are 2000")
	noLeftovers(t, o.Path)
}

func TestClosingEndsARewrite(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	copied := make(chan struct{})
	s.OnStep(func(step string) error {
		if step == "begun" {
			go func() { _ = s.Close() }()
			for s.Writable(t.Context()) == nil { // until Close has begun
			}
			close(copied)
		}
		return nil
	})
	if err := s.Rewrite(t.Context(), benchNow()); err == nil {
		t.Error("the rewrite of a closed store went through")
	}
	<-copied
	s = open(t, o)
	page(t, s, 100, 20)
	noLeftovers(t, o.Path)
}

func TestACancelledRewriteStops(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	s.OnStep(func(step string) error { cancel(); return nil })
	if err := s.Rewrite(ctx, benchNow()); !errors.Is(err, context.Canceled) {
		t.Errorf("rewriting: got %v, expected %v", err, context.Canceled)
	}
	page(t, s, 100, 20)
	noLeftovers(t, o.Path)
}

// ---- files -------------------------------------------------------------

// A second process that waits for the lock must not get it on a file that is
// the store no more.
func TestWhoWaitsForTheLockGetsTheNewFile(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	o.LockTimeout = time.Minute
	opened, failed := make(chan *bolt.Store, 1), make(chan error, 1)
	s.OnStep(func(step string) error {
		if step == "copied" {
			go func() {
				second, err := bolt.Open(o)
				failed <- err
				opened <- second
			}()
		}
		return nil
	})
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	page(t, s, 100, 20)
	want, err := s.Stats(t.Context())
	mustNot(t, err)
	select {
	case err := <-failed:
		t.Fatalf("a second process opened the store beside the first, or failed: %v", err)
	default:
	}
	mustNot(t, s.Close())
	mustNot(t, <-failed)
	second := <-opened
	defer second.Close()
	if got, err := second.Stats(t.Context()); err != nil || got.Pairs != want.Pairs {
		t.Errorf("the second process sees %d pairs (%v), expected %d", got.Pairs, err, want.Pairs)
	}
}

func TestARewriteFollowsASymbolicLink(t *testing.T) {
	o := options(t)
	target := filepath.Join(t.TempDir(), "elsewhere.db")
	o.Path = target
	mustNot(t, withHistory(t, o).Close())
	o.Path = filepath.Join(t.TempDir(), "link.db")
	mustNot(t, os.Symlink(target, o.Path))
	s := open(t, o)
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	info, err := os.Lstat(o.Path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link became %v (%v)", info.Mode(), err)
	}
	mustNot(t, s.Close())
	o.Path = target
	page(t, open(t, o), 100, 20)
	noLeftovers(t, target)
}

func TestTheNewFileIsPrivateAndShorter(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	var refs []string
	for c := range 20 {
		refs = append(refs, fmt.Sprint("cand_", c))
	}
	purge(t, s, refs...)
	before, err := os.Stat(o.Path)
	mustNot(t, err)
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	after, err := os.Stat(o.Path)
	mustNot(t, err)
	if after.Mode().Perm() != 0o600 || after.Size() >= before.Size() {
		t.Errorf("mode %v and %d bytes after %d, expected 0600 and fewer", after.Mode(), after.Size(), before.Size())
	}
}

// What a rewrite leaves when it is killed goes at the next Open, but a file that
// somebody keeps under another name is not overwritten.
func TestOpenClearsAwayWhatARewriteLeft(t *testing.T) {
	o := options(t)
	mustNot(t, withHistory(t, o).Close())
	kept := filepath.Join(t.TempDir(), "backup")
	mustNot(t, os.WriteFile(kept, []byte("a backup"), 0o600))
	mustNot(t, os.WriteFile(o.Path+".rewrite", []byte("half a copy"), 0o600))
	mustNot(t, os.Link(kept, o.Path+".erase"))
	mustNot(t, open(t, o).Close())
	noLeftovers(t, o.Path)
	if text, err := os.ReadFile(kept); err != nil || string(text) != "a backup" {
		t.Errorf("the backup became %q (%v)", text, err)
	}
}

func TestRotationCountsWhatItResealed(t *testing.T) {
	o := options(t)
	s := withHistory(t, o)
	mustNot(t, s.Close())
	rows := 0
	for key := range raw(t, o.Path) {
		if !strings.HasPrefix(key, "keys/") && key != "meta/schema" {
			rows++
		}
	}
	s = open(t, o)
	next := bolt.Keys{Current: bolt.NewKey(), Previous: o.Keys.Current}
	n, err := s.Rotate(t.Context(), next)
	mustNot(t, err)
	if n < rows-3 || n > rows { // rows that the rotation itself wrote are new already
		t.Errorf("resealed %d rows, expected about all of %d", n, rows)
	}
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	mustNot(t, s.Close())
	o.Keys = bolt.Keys{Current: next.Current}
	mustNot(t, open(t, o).Check(t.Context()))
}

// ---- kills -------------------------------------------------------------

const victimStep = "MAILSYNCD_TEST_REWRITE_STEP"

// TestAKilledRewrite kills a process at each step of its rewrite, while it
// commits pages. The store is the old file or the new one, with every page that
// was acknowledged.
func TestAKilledRewrite(t *testing.T) {
	if step := os.Getenv(victimStep); step != "" {
		victim(t, step)
		return
	}
	steps := slices.Concat(bolt.StepsBeforeReplace(), bolt.StepsBeforeRename(), []string{bolt.StepRenamed}, bolt.StepsAfterReplace())
	for i, step := range steps {
		t.Run(step, func(t *testing.T) {
			o := options(t)
			key := filepath.Join(t.TempDir(), "key")
			mustNot(t, bolt.NewKeyFile(key))
			keys, err := bolt.LoadKeys(key)
			mustNot(t, err)
			o.Keys = keys
			s := withHistory(t, o)
			purge(t, s, "cand_0")
			mustNot(t, s.Close())
			acknowledged := killed(t, step, o.Path, key)
			s = open(t, o)
			noLeftovers(t, o.Path)
			want := 1
			if i >= slices.Index(steps, bolt.StepRenamed) {
				want = 0
			}
			if n := pending(t, s); n != want {
				t.Errorf("%d erasures are pending, expected %d", n, want)
			}
			mustNot(t, s.Check(t.Context()))
			for n := range acknowledged {
				if _, err := s.Message(t.Context(), matched(1, 1000+n).ID); err != nil {
					t.Fatalf("page %d of %d acknowledged ones: %v", n, acknowledged, err)
				}
			}
			mustNot(t, s.Rewrite(t.Context(), benchNow()))
		})
	}
}

// killed runs the victim to its death and returns how many pages it had
// acknowledged.
func killed(t *testing.T, step, path, key string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAKilledRewrite$")
	cmd.Env = append(os.Environ(), victimStep+"="+step, "MAILSYNCD_TEST_STORE="+path, "MAILSYNCD_TEST_KEY="+key)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the victim was not killed at step %q: %v\n%s", step, err, out)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			acknowledged = n + 1
		}
	}
	if acknowledged == 0 {
		t.Fatal("the victim committed no page")
	}
	return acknowledged
}

// victim commits pages and rewrites its store until it kills itself.
func victim(t *testing.T, at string) {
	keys, err := bolt.LoadKeys(os.Getenv("MAILSYNCD_TEST_KEY"))
	mustNot(t, err)
	s, err := bolt.Open(bolt.Options{Path: os.Getenv("MAILSYNCD_TEST_STORE"), Keys: keys, Epoch: 7})
	mustNot(t, err)
	s.OnStep(func(step string) error {
		if step == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return nil
	})
	begun := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			if err := tryPage(context.Background(), s, 1000+n, 20); err != nil {
				fmt.Println("failed:", err)
				return
			}
			fmt.Println(n)
			if n == 3 {
				close(begun)
			}
		}
	}()
	<-begun
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	t.Error("the victim outlived its rewrite")
}
