package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

func TestRotateNeedsOnlyTheNewKeyAfterwards(t *testing.T) {
	o := options(t)
	lived(t, o)
	before := read(t, o)
	old := o.Keys.Current
	o.Keys = bolt.Keys{Current: bolt.NewKey(), Previous: old}
	s := open(t, o)
	due := func(s *bolt.Store) bool {
		st, err := s.Stats(t.Context())
		mustNot(t, err)
		return st.RotationDue
	}
	if !due(s) {
		t.Error("a store sealed under line 2 does not ask for a rotation")
	}
	mustNot(t, rotate(t.Context(), s, o.Keys))
	if due(s) {
		t.Error("after the rotation it asks for one")
	}
	mustNot(t, s.Check(t.Context()))
	mustNot(t, s.Close())
	o.Keys.Previous = bolt.Key{}
	if after := read(t, o); after != before {
		t.Error("the rotation changed what the store holds")
	}
	o.Keys = bolt.Keys{Current: old}
	refuses(t, o, bolt.WrongKey)
}

// read opens a store and returns all that it holds. Whether a rotation is due
// is left out.
func read(t *testing.T, o bolt.Options) string {
	t.Helper()
	s, err := bolt.Open(o)
	mustNot(t, err)
	got, err := content(s)
	mustNot(t, errors.Join(err, s.Check(context.Background()), s.Close()))
	return string(bytes.ReplaceAll([]byte(got), []byte(`"RotationDue":true`), []byte(`"RotationDue":false`)))
}

func TestRotateBesideNormalUse(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(3000), Now: benchNow()}))
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	version := uint64(0)
	group.Go(func() {
		for ctx.Err() == nil {
			batch := store.Batch{Now: benchNow(), Origin: store.OriginPoll, Messages: []store.Matched{matched(int(version), 0)}}
			done, err := s.Advance(t.Context(), store.Walk{Mailbox: "rita"}, version, batch)
			if err != nil || done.New != 1 {
				t.Errorf("advancing beside a rotation: %+v, %v", done, err)
				return
			}
			version++
		}
	})
	group.Go(func() {
		for ctx.Err() == nil {
			n := 0
			err := s.ScanRows(t.Context(), "candidate", nil, func([16]byte, store.Row) error { n++; return nil })
			if err != nil || n != 3000 {
				t.Errorf("scanning beside a rotation: %d rows, %v", n, err)
				return
			}
		}
	})
	for range 5 {
		o.Keys = bolt.Keys{Current: bolt.NewKey(), Previous: o.Keys.Current}
		if err := rotate(t.Context(), s, o.Keys); err != nil {
			t.Errorf("rotating: %v", err)
		}
	}
	stop()
	group.Wait()
	mustNot(t, s.Close())
	o.Keys.Previous = bolt.Key{}
	s = open(t, o)
	mustNot(t, s.Check(t.Context()))
	st, err := s.Stats(t.Context())
	mustNot(t, err)
	if uint64(st.Messages) != version {
		t.Errorf("%d messages, expected %d", st.Messages, version)
	}
}

func TestRotateGoesOnAfterACancel(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(5000), Now: benchNow()}))
	next := bolt.Keys{Current: bolt.NewKey(), Previous: o.Keys.Current}
	for pieces := range 3 {
		ctx := &countdown{Context: t.Context(), left: pieces + 1}
		if err := rotate(ctx, s, next); !errors.Is(err, context.Canceled) {
			t.Fatalf("rotating for %d pieces: got %v", pieces, err)
		}
		mustNot(t, s.Check(t.Context()))
	}
	mustNot(t, s.Close())
	o.Keys = next
	s = open(t, o)
	mustNot(t, rotate(t.Context(), s, next))
	mustNot(t, s.Close())
	o.Keys.Previous = bolt.Key{}
	mustNot(t, open(t, o).Check(t.Context()))
}

// countdown is a context that is cancelled once it was asked often enough.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func rotateChild(path, keyFile string) error {
	ks, err := bolt.LoadKeys(keyFile)
	if err != nil {
		return err
	}
	s, err := bolt.Open(bolt.Options{Path: path, Keys: ks})
	if err != nil {
		return err
	}
	return errors.Join(rotate(context.Background(), s, ks), s.Close())
}

// TestRotateKilled kills a rotating process at one write after another, by
// strace, and lets the next process go on, until one comes through.
func TestRotateKilled(t *testing.T) {
	needStrace(t)
	o := options(t)
	lived(t, o)
	before := read(t, o)
	first := keyLine(t)
	keys := o.Path + ".keys"
	// The store is sealed under a key made for the test: give it one from a file.
	k, err := bolt.ParseKey(first)
	mustNot(t, err)
	s := open(t, o)
	mustNot(t, rotate(t.Context(), s, bolt.Keys{Current: k, Previous: o.Keys.Current}))
	mustNot(t, s.Close())
	second := keyLine(t)
	mustNot(t, os.WriteFile(keys, []byte(second+"\n"+first+"\n"), 0o600))
	ks, err := bolt.LoadKeys(keys)
	mustNot(t, err)
	o.Keys = ks
	kills := 0
	for n := 1; ; n++ {
		cmd := child(t, "rotate", o.Path, keys)
		cmd.Args = append([]string{"strace", "-f", "-o", "/dev/null", "-e", "trace=pwrite64",
			"-e", fmt.Sprintf("inject=pwrite64:signal=SIGKILL:when=%d", n), cmd.Path}, cmd.Args[1:]...)
		cmd.Path, err = exec.LookPath("strace")
		mustNot(t, err)
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		kills++
		if len(out) > 0 && !bytes.Contains(out, []byte("killed")) {
			t.Fatalf("kill %d: the child says %s", n, out)
		}
		if got := read(t, o); got != before {
			t.Fatalf("kill %d changed what the store holds", n)
		}
		if n > 300 {
			t.Fatal("a rotation never comes to its end")
		}
	}
	if kills == 0 {
		t.Error("no kill met a write")
	}
	o.Keys.Previous = bolt.Key{}
	if got := read(t, o); got != before {
		t.Error("the rotation changed what the store holds")
	}
	t.Logf("%d kills", kills)
}

// rotate seals everything under new keys, however many rows that is.
func rotate(ctx context.Context, s *bolt.Store, ks bolt.Keys) error {
	_, err := s.Rotate(ctx, ks)
	return err
}
