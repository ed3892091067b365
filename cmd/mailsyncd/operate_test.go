package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// broken panics when it is opened.
type broken struct{}

func (broken) Open(context.Context) (providers.Mailbox, error) { panic("a defect") }

// A sync whose pass did not come to its end does not show the one before.
func TestSyncNeverShowsAnOlderPass(t *testing.T) {
	r := newRig(t, job9, nora)
	r.fleet.dial = func(m config.Mailbox) (providers.Opener, error) {
		if m.ID == "tom" {
			return broken{}, nil
		}
		return r.dial(m)
	}
	r.start()
	desk := mailboxDesk{r.daemon}
	tom := r.fleet.member("tom")
	r.fleet.mu.Lock()
	tom.last = pass{began: time.Now(), ended: time.Now()} // it went well before
	r.fleet.mu.Unlock()
	got, err := desk.Sync(t.Context(), "tom")
	if err != nil || got.OK || !strings.Contains(got.Error, "panicked") {
		t.Errorf("sync of a pass that panicked: %+v, %v", got, err)
	}
	all, err := desk.SyncAll(t.Context())
	if err != nil || all.OK != 1 || len(all.Failed) != 1 || all.Failed[0].Mailbox != "tom" {
		t.Errorf("sync of all: %+v, %v", all, err)
	}
	asked := time.Now()
	if p := r.fleet.passSince("rita", asked, nil); !errors.Is(p.err, errNoPass) {
		t.Errorf("no pass since: %+v", p)
	}
	if p := r.fleet.passSince("gone", asked, store.ErrNotFound); !errors.Is(p.err, store.ErrNotFound) {
		t.Errorf("a mailbox that is gone: %+v", p)
	}
}

// full is a store whose outbox is full.
type full struct{ store.Store }

func (full) Room(context.Context) error { return store.ErrFull }

// A full outbox is no wish of a server: sync tries again and says what it is.
func TestSyncOfAllWhileTheOutboxIsFull(t *testing.T) {
	r := newRig(t, job9, nora)
	r.fleet.store = full{r.store}
	r.start()
	for range 2 { // the second finds the pause that the first began
		all, err := mailboxDesk{r.daemon}.SyncAll(t.Context())
		if err != nil || all.Skipped != 0 || len(all.Failed) != 2 {
			t.Fatalf("sync of all: %+v, %v", all, err)
		}
	}
}

func TestPutThatFailsIsNotTheRecordsFault(t *testing.T) {
	r := newRig(t, job9)
	r.run()
	desk := directoryDesk{r.daemon}
	status := func(err error) int {
		var p *admin.Problem
		if !errors.As(err, &p) {
			return http.StatusInternalServerError
		}
		return p.Status
	}
	if _, err := desk.Put(t.Context(), strings.NewReader(nora+"\n"+nora)); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("a record that is named twice: %v", err)
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := desk.Put(gone, strings.NewReader(nora)); status(err) != http.StatusServiceUnavailable {
		t.Errorf("a caller that hung up: %v", err)
	}
	if err := putFault(t.Context(), store.ErrUnusable); status(err) != http.StatusInternalServerError {
		t.Errorf("a broken store: %v", err)
	}
}

// What waits for a restart is shown, and used, as it was at the start.
func TestWhatWaitsForARestartStaysInForce(t *testing.T) {
	r := newRig(t, job9)
	r.yaml("example.com")
	r.run()
	want := r.atStart.Outbox.MaxEvents
	r.amend("admin: {", "outbox: {max_events: 77777}\nadmin: {")
	r.amend("/key}", "/other-key}")
	r.write("other-key", "not a key")
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := r.Status(t.Context()); err != nil || st.Outbox.MaxEvents != want {
		t.Errorf("status shows a limit of %d events, %v; in force are %d", st.Outbox.MaxEvents, err, want)
	}
	if _, err := r.RotateKey(t.Context()); err != nil {
		t.Errorf("rotating under the key file in force: %v", err)
	}
}
