package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mailsyncd/store"
)

func TestKeptRowsAreTheRowsOfTheFile(t *testing.T) {
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "kept.db"), Keys: Keys{Current: NewKey()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	reads := func(when string, want store.Mailbox) {
		t.Helper()
		for range 2 { // decoded, then kept
			got, err := s.Mailbox(t.Context(), "rita")
			if err != nil || got != want {
				t.Errorf("%s: got %v, %v", when, got, err)
			}
		}
	}
	never := store.Mailbox{ID: "rita"}
	reads("before the first write", never)
	for tries := range 3 {
		row := store.Mailbox{ID: "rita", State: store.MailboxBackingOff, Tries: tries, Since: ms(now)}
		if err := s.SetMailbox(t.Context(), row, nil, now); err != nil {
			t.Fatal(err)
		}
		reads("after a write", row)
	}
	if err := s.ForgetMailbox(t.Context(), "rita", now); err != nil {
		t.Fatal(err)
	}
	for range s.mailboxes.rows.Range {
		t.Error("the row of a forgotten mailbox is kept")
	}
	reads("after it was forgotten", never)
}

func TestAKeptRowDoesNotHideDamage(t *testing.T) {
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "kept.db"), Keys: Keys{Current: NewKey()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetMailbox(t.Context(), store.Mailbox{ID: "rita", State: store.MailboxPaused}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mailbox(t.Context(), "rita"); err != nil {
		t.Fatal(err)
	}
	key := s.ring.index.key(tMailbox, "rita")
	err = s.file.Load().Update(func(btx *bolt.Tx) error {
		b := btx.Bucket([]byte(bMailboxes))
		sealed := append([]byte(nil), b.Get(key[:])...)
		sealed[len(sealed)-1] ^= 1
		return b.Put(key[:], sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var damage *UnusableError
		if _, err := s.Mailbox(t.Context(), "rita"); !errors.As(err, &damage) || damage.Reason != Corrupt {
			t.Errorf("reading a damaged row: %v", err)
		}
	}
}

func TestFewRowsAreKept(t *testing.T) {
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "kept.db"), Keys: Keys{Current: NewKey()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.update(t.Context(), func(t *tx) error {
		for i := range 2 * maxKept {
			t.putMailbox(store.Mailbox{ID: fmt.Sprint(i)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxKept {
		if m, err := s.Mailbox(t.Context(), fmt.Sprint(i)); err != nil || m.ID != fmt.Sprint(i) {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	n := 0
	for range s.mailboxes.rows.Range {
		n++
	}
	if n > maxKept {
		t.Errorf("%d rows are kept", n)
	}
}
