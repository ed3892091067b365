package bolt_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// A backup is taken, more events are made and delivered, the backup is put back:
// what is made then must not have the id or the place of what was lost.
func TestRestoredStoreRepeatsNoID(t *testing.T) {
	o := bolt.Options{Path: filepath.Join(t.TempDir(), "mailsyncd.db"), Keys: bolt.Keys{Current: bolt.NewKey()}}
	now := time.Now()
	event := func(mailbox string) store.Event {
		t.Helper()
		s, err := bolt.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		now = now.Add(2 * time.Second)
		if err := s.SetMailbox(t.Context(), store.Mailbox{ID: mailbox}, &store.MailboxEvent{Mailbox: mailbox}, now); err != nil {
			t.Fatal(err)
		}
		all, err := s.Events(t.Context(), store.EventFilter{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		last := all[len(all)-1]
		for _, e := range all { // every id still finds its event
			if got, err := s.Event(t.Context(), e.ID); err != nil || got.No != e.No || got.Epoch != e.Epoch {
				t.Errorf("event %d is not found under its id: %v", e.No, err)
			}
		}
		return last
	}
	first := event("rita")
	backup, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	lost := event("rita")
	if err := os.WriteFile(o.Path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	next := event("timo")
	if next.ID == lost.ID || next.No != lost.No {
		t.Errorf("event %d after the restore is %s, the lost event %d was %s", next.No, next.ID, lost.No, lost.ID)
	}
	if next.Epoch <= lost.Epoch || lost.Epoch <= first.Epoch {
		t.Errorf("epochs %d, %d (lost), %d (restored): want them to rise", first.Epoch, lost.Epoch, next.Epoch)
	}
}
