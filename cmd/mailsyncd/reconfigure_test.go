package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/store"
	"mailsyncd/webhook"
)

// amend replaces text of the configuration's file.
func (r *rig) amend(old, with string) {
	r.t.Helper()
	text := r.read("config.yaml")
	if !strings.Contains(text, old) {
		r.t.Fatalf("the configuration has no %q", old)
	}
	r.write("config.yaml", strings.Replace(text, old, with, 1))
}

func TestReloadHasTwoVerdicts(t *testing.T) {
	const badLevel, badEnd = "\nlog: {level: loud}\n", `{"kind":"end","records":9}` + "\n"
	for _, c := range []struct {
		what                string
		config, directory   string // what is put into the files
		status              int    // of the answer, 0 for none
		says                string
		interval            time.Duration // in force afterwards
		logged, neverLogged string
	}{
		{"both are good", "sync: {interval: 7m, ", "", 0, "", 7 * time.Minute, "event=reloaded", "refused"},
		{"the configuration is bad", badLevel + "sync: {interval: 7m, ", "", http.StatusUnprocessableEntity,
			"the one before stays in force", time.Hour, "event=reload_refused", "event=reloaded"},
		{"the directory is bad", "sync: {interval: 7m, ", badEnd, http.StatusUnprocessableEntity,
			"the new configuration is in force; the directory file was refused", 7 * time.Minute, "event=reload_directory_refused", "event=reload_refused"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRig(t, job9, nora)
			r.yaml("example.com")
			r.run()
			r.amend("sync: {", c.config)
			if c.directory != "" {
				r.write("directory.jsonl", c.directory)
			}
			_, err := r.Reload(t.Context())
			var p *admin.Problem
			if status := 0; (errors.As(err, &p) && p.Status != c.status) || err == nil && c.status != status {
				t.Errorf("answered %v", err)
			}
			if c.says != "" && !strings.Contains(err.Error(), c.says) {
				t.Errorf("answered %v, want %q", err, c.says)
			}
			if got := r.fleet.member("rita").cfg.Interval; got != c.interval {
				t.Errorf("the interval in force is %v", got)
			}
			if log := r.log.String(); !strings.Contains(log, c.logged) || strings.Contains(log, c.neverLogged) {
				t.Errorf("the log:\n%s", log)
			}
			if st, err := r.Status(t.Context()); err != nil || (st.ReloadError != "") != (c.status != 0) {
				t.Errorf("status says %q, %v", st.ReloadError, err)
			}
		})
	}
}

// busy asks for an hour's pause.
type busy struct{}

func (busy) Post(context.Context, string, []byte) webhook.Result {
	return webhook.Result{Kind: webhook.Throttled, After: time.Hour, Code: "429", Err: errors.New("busy")}
}

// A reload that leaves the webhook as it is leaves it in peace, too; one that
// changes it, or its secret, tries at once.
func TestReloadAndAWebhookThatAskedForAPause(t *testing.T) {
	r := newRig(t, job9, nora)
	r.yaml("example.com")
	r.courier.Use(busy{})
	r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	r.run()
	r.until("the webhook asked for a pause", func() bool { return r.courier.Status().State == webhook.StatePaused })
	pause := r.courier.Status().NextProbe
	reload := func() {
		t.Helper()
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.amend("sync: {", "sync: {interval: 7m, ")
	reload()
	if got := r.courier.Status(); got.State != webhook.StatePaused || !got.NextProbe.Equal(pause) {
		t.Errorf("after a reload of something else the webhook is %+v", got)
	}
	before := r.posting.poster
	r.write("webhook.secret", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	reload()
	if got := r.courier.Status().NextProbe; got.Equal(pause) || r.posting.poster == before {
		t.Error("a new secret is not tried at once")
	}
	before = r.posting.poster
	r.amend("/hook", "/other")
	reload()
	if r.posting.poster == before {
		t.Error("a new address is not posted to")
	}
}

// A changed file and a reload meet: what is posted with afterwards is made of the
// configuration in force.
func TestFileChangesBesideReloads(t *testing.T) {
	r := newRig(t, job9, nora)
	r.yaml("example.com")
	r.run()
	for i := range 30 {
		if i%2 == 0 {
			r.amend("/hook", "/other")
		} else {
			r.amend("/other", "/hook")
		}
		var both sync.WaitGroup
		both.Go(func() { r.renewPoster(t.Context()) })
		both.Go(func() {
			if _, err := r.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if r.posting.digest != postingDigest(r.cfg.Load().Webhook) {
			t.Fatal("posts go by another configuration than the one in force")
		}
	}
}

func TestReloadThatNobodyWaitsFor(t *testing.T) {
	r := newRig(t, job9, nora)
	r.yaml("example.com")
	r.run()
	if err := r.change.enter(t.Context()); err != nil { // another one is under way
		t.Fatal(err)
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, err := r.Reload(gone)
	r.change.leave()
	var p *admin.Problem
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
		t.Errorf("a caller that hung up before its turn: %v", err)
	}
}

// flaky is a store whose list of mailboxes, or rows, cannot be read for a while.
type flaky struct {
	store.Store
	left atomic.Int32
}

var errDisk = errors.New("no space left on device")

func (f *flaky) Mailboxes(ctx context.Context) ([]store.Mailbox, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errDisk
	}
	return f.Store.Mailboxes(ctx)
}

func (f *flaky) Mailbox(ctx context.Context, id string) (store.Mailbox, error) {
	if f.left.Add(-1) >= 0 {
		return store.Mailbox{}, errDisk
	}
	return f.Store.Mailbox(ctx, id)
}

// A disk that is full at the start or at a reload ends nothing; what could not be
// done is done when there is room.
func TestDaemonOutlivesAStoreThatRecovers(t *testing.T) {
	r := newRig(t, job9, nora)
	r.yaml("example.com")
	r.storeRetry = time.Millisecond
	disk := &flaky{Store: r.store}
	disk.left.Store(8)
	r.fleet.store = disk
	r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	r.start()
	r.until("the mailboxes are settled", func() bool {
		return disk.left.Load() < 0 && !r.unsettled.Load() && !r.fleet.isUnsettled(r.fleet.member("rita"))
	})
	r.synced()
	r.wants("backfill a@test cand_nora")
	if !strings.Contains(r.log.String(), "event=mailboxes_unsettled") {
		t.Error("it was not logged")
	}

	r.amend("  - {id: tom,", "  - {id: tim,")
	r.servers["tim"] = r.servers["tom"]
	disk.left.Store(3)
	_, err := r.Reload(t.Context())
	if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "in force but not yet carried out") {
		t.Errorf("the reload answered %v", err)
	}
	r.until("tom has left", func() bool {
		row, err := r.store.Mailbox(t.Context(), "tom")
		return err == nil && row.State == store.MailboxRemoved && !r.unsettled.Load()
	})
	if _, known := r.fleet.schedule.Status("tim"); !known {
		t.Error("tim is not scheduled")
	}
}
