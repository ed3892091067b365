package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"
)

func TestLoopThatHangsIsNotAlive(t *testing.T) {
	for _, c := range []struct {
		what string
		beat time.Time
		want string // in the error, "" for none
	}{
		{"a loop that has not begun", time.Time{}, ""},
		{"a loop that took a turn now", noon, ""},
		{"a loop that took its last turn at the limit", noon.Add(-loopDead), ""},
		{"a loop that hangs", noon.Add(-loopDead - time.Second), "the schedule has not moved since 20"},
	} {
		err := alive("the schedule", c.beat, loopDead, noon)
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestHealthWatchesEveryLoop(t *testing.T) {
	r := newRig(t, job9)
	r.run()
	for what, beat := range map[string]time.Time{
		"schedule": r.fleet.schedule.Beat(), "courier": r.courier.Beat(), "keeper": r.keeper.Beat(),
	} {
		if time.Since(beat) > time.Minute {
			t.Errorf("the %s's last beat is %v", what, beat)
		}
	}
	if err := r.healthy(t.Context()); err != nil {
		t.Error(err)
	}
}

// Damage that nobody has read yet is found after the start, and ends the daemon
// with the exit code that keeps a service manager from trying again.
func TestDamageIsFoundAfterTheStart(t *testing.T) {
	r := newRig(t, job9, nora)
	t.Run("healthy", func(t *testing.T) {
		r.t = t
		r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
		r.run()
		r.wants("backfill a@test cand_nora")
		r.delivered()
		if err := r.checkStore(t.Context()); err != nil {
			t.Error(err)
		}
	})
	flip(t, r.path("store"), "messages")
	d, err := newDaemon(r.config(), r.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.fleet.dial = r.dial
	d.courier.Use(r.posts)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err = errors.Join(d.work(ctx), d.close())
	if exitCode(err) != exitStore || !strings.Contains(err.Error(), "checking the store") {
		t.Errorf("the daemon ended with %v", err)
	}
}

// flip changes one bit of a row, as a bad disk does.
func flip(t *testing.T, path, bucket string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		key, value := b.Cursor().First()
		bad := append([]byte(nil), value...)
		bad[len(bad)-1] ^= 1
		return b.Put(append([]byte(nil), key...), bad)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
