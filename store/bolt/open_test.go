package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// refuses opens a store that must refuse for a reason and returns the error.
func refuses(t *testing.T, o bolt.Options, reason bolt.Reason) *bolt.UnusableError {
	t.Helper()
	s, err := bolt.Open(o)
	if err == nil {
		_ = s.Close()
	}
	var unusable *bolt.UnusableError
	if !errors.As(err, &unusable) || !errors.Is(err, store.ErrUnusable) || unusable.Reason != reason {
		t.Fatalf("opening: got %v, expected reason %q", err, reason)
	}
	return unusable
}

func says(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error %q does not say %q", err, text)
		}
	}
}

func TestOpenMakesAPrivateFile(t *testing.T) {
	o := options(t)
	open(t, o)
	info, err := os.Stat(o.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v (%v), expected 0600", info.Mode(), err)
	}
	if _, err := os.Stat(o.Path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the draft is still there: %v", err)
	}
}

func TestOpenTakesUpAHalfMadeDraft(t *testing.T) {
	o := options(t)
	if err := os.WriteFile(o.Path+".new", bytes.Repeat([]byte("half made"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, o).Writable(t.Context()); err != nil {
		t.Errorf("writing: %v", err)
	}
}

func TestOpenWithoutAKey(t *testing.T) {
	o := options(t)
	o.Keys = bolt.Keys{}
	_, err := bolt.Open(o)
	if err == nil {
		t.Fatal("opened without a key")
	}
	says(t, err, "mailsyncd key new")
}

func TestOpenLockedStoreNamesTheHolder(t *testing.T) {
	o := options(t)
	open(t, o)
	o.LockTimeout = time.Millisecond
	says(t, refuses(t, o, bolt.Locked), fmt.Sprint("process ", os.Getpid()), "stop the other one")
}

func TestTwoProcessesMakeOneStore(t *testing.T) {
	o := options(t)
	o.LockTimeout = 10 * time.Second
	epochs := make(chan uint64, 4)
	for i := range cap(epochs) {
		go func() {
			mine := o
			mine.Epoch = uint64(100 + i)
			s, err := bolt.Open(mine)
			if err != nil {
				t.Errorf("opening: %v", err)
				epochs <- 0
				return
			}
			st, _ := s.Stats(t.Context())
			if err := s.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
			epochs <- st.Epoch
		}()
	}
	first := <-epochs
	for range cap(epochs) - 1 {
		if e := <-epochs; e != first {
			t.Errorf("epochs %d and %d: the store was made twice", first, e)
		}
	}
}

func TestOpenWithAnotherKeyNamesBoth(t *testing.T) {
	o := options(t)
	_ = open(t, o).Close()
	right := o.Keys.Current.ID()
	o.Keys = bolt.Keys{Current: bolt.NewKey(), Previous: bolt.NewKey()}
	says(t, refuses(t, o, bolt.WrongKey), right, o.Keys.Current.ID(), o.Keys.Previous.ID(), "line 2")
}

func TestOpenNewerSchema(t *testing.T) {
	o := options(t)
	_ = open(t, o).Close()
	edit(t, o.Path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte{0, 0, 0, 2})
	})
	says(t, refuses(t, o, bolt.NewerSchema), "schema 2", "knows 1", "run the mailsyncd that wrote it")
}

// edit changes a closed store's file behind its back.
func edit(t *testing.T, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenForeignFiles(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	edit(t, foreign, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	})
	another, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"an empty file":              {},
		"a short file":               []byte("hello"),
		"a text file":                bytes.Repeat([]byte("not a store\n"), 5000),
		"another program's database": another,
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			if err := os.WriteFile(o.Path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			says(t, refuses(t, o, bolt.Corrupt), "backup")
			after, err := os.ReadFile(o.Path)
			if err != nil || !bytes.Equal(after, content) {
				t.Errorf("the refused file was changed (%v)", err)
			}
		})
	}
}

func TestAMissingBucketIsNamed(t *testing.T) {
	o := options(t)
	_ = open(t, o).Close()
	edit(t, o.Path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("ledger")) })
	says(t, refuses(t, o, bolt.Corrupt), `"ledger" is missing`)
}

func TestAValueMovedToAnotherRowIsFound(t *testing.T) {
	o := options(t)
	s := open(t, o)
	err := s.Change(t.Context(), store.Change{Put: candidates(2), Now: benchNow()})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	edit(t, o.Path, func(tx *bbolt.Tx) error {
		rows := tx.Bucket([]byte("rows"))
		first, value := rows.Cursor().First()
		last, _ := rows.Cursor().Last()
		return rows.Put(append([]byte(nil), last...), append([]byte(nil), rows.Get(first)[:len(value)]...))
	})
	s = open(t, o)
	err = s.ScanRows(t.Context(), "candidate", nil, func([16]byte, store.Row) error { return nil })
	if !errors.Is(err, store.ErrUnusable) {
		t.Fatalf("scanning: got %v", err)
	}
	says(t, err, `bucket "rows"`, "moved from another row")
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrUnusable) {
		t.Errorf("checking: got %v", err)
	}
}

func TestAStoreCutShortWhileOpenGivesAnError(t *testing.T) {
	o := options(t)
	s := open(t, o)
	if err := s.Change(t.Context(), store.Change{Put: candidates(5000), Now: benchNow()}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.Path, 8192); err != nil {
		t.Fatal(err)
	}
	err := s.ScanRows(t.Context(), "candidate", nil, func([16]byte, store.Row) error { return nil })
	if !errors.Is(err, store.ErrUnusable) {
		t.Fatalf("scanning: got %v", err)
	}
	if err := s.Writable(t.Context()); !errors.Is(err, store.ErrUnusable) {
		t.Errorf("writing afterwards: got %v", err)
	}
}

func TestNothingStandsInClear(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(3), Activations: []store.Activation{{Key: "cand_1@example.net", Ref: "cand_1"}}, Now: benchNow()}))
	batch := store.Batch{State: store.WalkState{Cursor: "cursor-canary"}, Now: benchNow(), Mailbox: &store.Mailbox{ID: "rita", State: store.MailboxActive}}
	for c := range 3 {
		batch.Messages = append(batch.Messages, matched(c, 1))
	}
	_, err := s.Advance(t.Context(), store.Walk{Mailbox: "rita", Task: "task-canary"}, 0, batch)
	mustNot(t, err)
	due, _, err := s.Due(t.Context(), benchNow(), 10, nil)
	mustNot(t, err)
	_, err = s.Attempt(t.Context(), []store.Attempt{{No: due[0].No, Version: due[0].Version, Body: []byte("body-canary"), At: benchNow()}})
	mustNot(t, err)
	mustNot(t, s.Change(t.Context(), store.Change{From: 1, Purges: []store.Purge{{Ref: "cand_2", Reason: "deleted"}}, Now: benchNow()}))
	mustNot(t, s.Close())
	raw, err := os.ReadFile(o.Path)
	mustNot(t, err)
	for _, canary := range []string{
		"cand_0", "cand_1", "cand_2", "example.net", "Nora", "Interview", "rita", "usr_7", "canary", "msg_", "thr_", "evt_", "thread.matched",
	} {
		if bytes.Contains(raw, []byte(canary)) {
			t.Errorf("the file holds %q in clear", canary)
		}
	}
}

func TestAPollThatFindsNothingWritesNothing(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustNot(t, s.Change(t.Context(), store.Change{Put: candidates(1), Now: benchNow()}))
	before, err := os.ReadFile(o.Path)
	mustNot(t, err)
	_, err = s.Walk(t.Context(), store.Walk{Mailbox: "rita"})
	mustNot(t, err)
	_, err = s.Expire(t.Context(), store.Expiry{Delivered: benchNow(), Dead: benchNow(), Tasks: benchNow()})
	mustNot(t, err)
	_, err = s.Replay(t.Context(), store.EventFilter{}, benchNow())
	mustNot(t, err)
	mustNot(t, s.Outcome(t.Context(), []store.Outcome{{No: 5}}))
	after, err := os.ReadFile(o.Path)
	mustNot(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
}
