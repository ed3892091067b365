package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
)

func TestSync(t *testing.T) {
	d := &oddDaemon{
		sync:    admin.SyncResult{Mailbox: "rita", OK: true, Began: noon, Ended: noon.Add(1200 * time.Millisecond), Scanned: 120, Matched: 3},
		syncAll: admin.SyncAllResult{Mailboxes: 2, OK: 2, Skipped: 1, Scanned: 5, Matched: 1},
	}
	c := startDaemon(t, d)
	c.run(t, "sync", "rita").want(t, "one mailbox", exitDone, "rita: 120 scanned, 3 matched, in 1.2s\n", "")
	c.run(t, "sync").want(t, "all mailboxes", exitDone, "2 mailboxes polled: 2 ok, 1 skipped; 5 scanned, 1 matched\n", "")
	d.sync = admin.SyncResult{Mailbox: "rita", Class: "network", Error: "dial: timeout", Action: "check the network"}
	c.run(t, "sync", "rita").want(t, "a failed pass", exitFailed,
		"rita: network: dial: timeout; check the network\n", "mailsyncd: rita was not synced\n")
	d.syncAll = admin.SyncAllResult{Mailboxes: 102, OK: 1, Failed: []admin.SyncResult{d.sync}, FailedLeftOut: 100}
	c.run(t, "sync").want(t, "failed passes", exitFailed, `
102 mailboxes polled: 1 ok, 0 skipped; 0 scanned, 0 matched
rita: network: dial: timeout; check the network
… and 100 more
`, "mailsyncd: 101 mailboxes were not synced\n")
}

func TestDeliveries(t *testing.T) {
	d := &oddDaemon{
		events: []admin.Delivery{
			{No: 1, ID: "evt_a", Type: "thread.matched", State: "delivered", Created: noon.Add(-time.Hour), Attempts: 1, LastResult: "204", Stream: "thr_1"},
			{No: 2, ID: "evt_b", Type: "thread.matched", State: "dead", Created: noon.Add(-30 * 24 * time.Hour), Attempts: 11, LastResult: "422", Stream: "thr_2"},
			{No: 5, ID: "evt_c", Type: "mailbox.state", State: "pending", Created: noon, Stream: "mailbox:rita"},
		},
		delivery: admin.Delivery{
			ID: "evt_b", Type: "thread.matched", State: "dead", Stream: "thr_2", Epoch: 1, Seq: 7, Created: noon.Add(-time.Hour),
			Attempts: 12, Tries: 11, FirstFailure: noon.Add(-time.Hour), LastAttempt: noon, LastResult: "422",
			Candidates: []string{"cand_1", "cand_2"}, Payload: []byte(`{"type":"thread.matched","data":{"subject":"<b>` + "\u009b" + `31m"}}`),
		},
	}
	c := startDaemon(t, d)
	c.run(t, "deliveries", "list").want(t, "all events", exitDone, `
ID     TYPE            STATE      CREATED  ATTEMPTS  LAST  STREAM
evt_a  thread.matched  delivered  1h ago   1         204   thr_1
evt_b  thread.matched  dead       30d ago  11        422   thr_2
evt_c  mailbox.state   pending    0s ago   0         -     mailbox:rita
`, "")
	c.run(t, "deliveries", "list", "--limit", "1").want(t, "the first event", exitDone, `
ID     TYPE            STATE      CREATED  ATTEMPTS  LAST  STREAM
evt_a  thread.matched  delivered  1h ago   1         204   thr_1
… there are more; --limit 0 lists all
`, "")
	c.run(t, "deliveries", "list", "--state", "dead", "--output", "json").wantJSON(t, "dead events",
		`{"items":[{"no":2,"id":"evt_b","type":"thread.matched","stream":"thr_2","epoch":0,"seq":0,"state":"dead",`+
			`"created":"2026-10-22T12:00:00Z","tries":0,"attempts":11,"last_result":"422","candidates":[]}]}`)
	c.run(t, "deliveries", "list", "--state", "held", "--output", "json").wantJSON(t, "no events", `{"items":[]}`)
	c.run(t, "deliveries", "show", "evt_b", "--payload").want(t, "one event", exitDone, `
id             evt_b
type           thread.matched
state          dead
stream         thr_2, epoch 1, seq 7
candidates     cand_1, cand_2
created        2026-11-21T11:00:00Z (1h ago)
attempts       12, of which 11 count against the schedule
first failure  2026-11-21T11:00:00Z (1h ago)
last attempt   2026-11-21T12:00:00Z (0s ago)
last answer    422

{
  "type": "thread.matched",
  "data": {
    "subject": "<b>?31m"
  }
}
`, "")
	d.delivery = admin.Delivery{ID: "evt_d", State: "delivered"}
	if got := c.run(t, "deliveries", "show", "evt_d", "--payload"); !strings.HasSuffix(got.stdout, "\nthe payload is no longer kept (retention.delivered_payload)\n") {
		t.Errorf("an erased payload: %s", got.stdout)
	}
}

// A list longer than a page of the socket is read page by page.
func TestDeliveriesOfManyPages(t *testing.T) {
	d := &oddDaemon{}
	for i := range 2500 {
		d.events = append(d.events, admin.Delivery{No: uint64(i + 1), ID: "e", State: "dead"})
	}
	c := startDaemon(t, d)
	for limit, want := range map[string]int{"0": 2500, "1500": 1500, "2500": 2500, "9999": 2500} {
		got := c.run(t, "deliveries", "list", "--limit", limit, "--output", "json")
		if n := strings.Count(got.stdout, `"no":`); n != want || got.code != exitDone {
			t.Errorf("--limit %s listed %d, want %d: %s", limit, n, want, got.stderr)
		}
	}
}

func TestReplay(t *testing.T) {
	d := &oddDaemon{}
	c := startDaemon(t, d)
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, r := range []struct {
		args   []string
		want   admin.Replay
		stdout string
	}{
		{[]string{"evt_a", "evt_b"}, admin.Replay{IDs: []string{"evt_a", "evt_b"}}, "2 events are pending again\n1 left out: their payload is no longer kept and no mailbox holds the mail\n"},
		{[]string{"--dead"}, admin.Replay{Dead: true}, "1 event is pending again\n"},
		{[]string{"--candidate", "cand_1"}, admin.Replay{Candidate: "cand_1"}, "1 event is pending again\n"},
		{[]string{"--since", "2026-11-20"}, admin.Replay{Since: day}, "1 event is pending again\n"},
		{[]string{"--since", "2026-11-20 00:00:00"}, admin.Replay{Since: day}, "1 event is pending again\n"},
		{[]string{"--since", "2026-11-20T02:00:00+02:00"}, admin.Replay{Since: day}, "1 event is pending again\n"},
		{[]string{"--since", "1d12h"}, admin.Replay{Since: day}, "1 event is pending again\n"},
	} {
		c.run(t, append([]string{"deliveries", "replay"}, r.args...)...).want(t, strings.Join(r.args, " "), exitDone, r.stdout, "")
		if !reflect.DeepEqual(d.replay, r.want) {
			t.Errorf("%v asked for %+v, want %+v", r.args, d.replay, r.want)
		}
	}
}

// Events whose payload is gone come back by way of the mailbox.
func TestReplayThatReadsAgain(t *testing.T) {
	c := startDaemon(t, &oddDaemon{rereading: 3})
	c.run(t, "deliveries", "replay", "--dead").want(t, "replay", exitDone, `
1 event is pending again
3 more once their mails are read again: their payload is no longer kept; `+"`mailsyncd tasks list`"+` shows how far that is
`, "")
}

func TestDirectory(t *testing.T) {
	jobs := []string{}
	d := &oddDaemon{records: []admin.Record{
		{Kind: "candidate", Ref: "7", State: "active", Emails: []string{"nora@example.net"}, Matched: true, Source: "file"},
		{Kind: "candidate", Ref: "8", State: "active", Emails: []string{"otto@example.net"}, Jobs: &jobs, Inactive: "no_jobs", Source: "put", Rev: "12"},
		{Kind: "user", Ref: "7", State: "enabled", Emails: []string{"rita@example.com"}, Source: "file"},
	}}
	c := startDaemon(t, d)
	c.run(t, "directory", "list").want(t, "all records, no addresses", exitDone, `
KIND       REF  STATE    MATCHED      SOURCE
candidate  7    active   yes          file
candidate  8    active   no: no_jobs  put
user       7    enabled  -            file
`, "")
	c.run(t, "directory", "show", "7").want(t, "every record with the ref", exitDone, `
kind     candidate
ref      7
state    active
matched  yes
emails   nora@example.net
source   file

kind    user
ref     7
state   enabled
emails  rita@example.com
source  file
`, "")
	c.run(t, "directory", "show", "8", "--output", "json").wantJSON(t, "one record",
		`[{"kind":"candidate","ref":"8","state":"active","emails":["otto@example.net"],"jobs":[],"rev":"12","source":"put","matched":false,"inactive":"no_jobs"}]`)
	c.run(t, "directory", "show", "9").want(t, "no record", exitFailed, "",
		"mailsyncd: there is no record with this ref; check its spelling, or whether it was purged\n")
	c.run(t, "directory", "delete", "candidate", "8").want(t, "delete", exitDone, "candidate 8 deleted; if it still stands in the directory file, the next reading brings it back\n", "")
	if d.deleted != "candidate 8" {
		t.Errorf("the daemon deleted %q", d.deleted)
	}
	c.run(t, "directory", "approve").want(t, "nothing to approve", exitDone, "nothing was held\n", "")
	d.approve = admin.ApproveResult{Sweeps: 2}
	c.run(t, "directory", "approve").want(t, "approve", exitDone, "released: 2 sweeps, 0 addresses\n", "")
}

func TestDirectoryPut(t *testing.T) {
	d := &oddDaemon{}
	c := startDaemon(t, d)
	file := filepath.Join(t.TempDir(), "f.jsonl")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "directory", "put", file).want(t, "a file", exitDone, "3 records: 2 changed, 0 unchanged, 1 stale\n", "")
	c.stdin = "{\"from\":\"stdin\"}\n"
	c.run(t, "directory", "put", "-").want(t, "standard input", exitDone, "3 records: 2 changed, 0 unchanged, 1 stale\n", "")
	if d.put != c.stdin {
		t.Errorf("the daemon was sent %q", d.put)
	}
	c.run(t, "directory", "put", file+"x").want(t, "no file", exitFailed, "", "mailsyncd: open "+file+"x: no such file or directory\n")
}

func TestMailboxAndWebhook(t *testing.T) {
	d := &oddDaemon{webhook: admin.WebhookStatus{State: "ok"}}
	c := startDaemon(t, d)
	c.run(t, "mailbox", "list").want(t, "list mailboxes over two pages", exitDone, ""+
		"MAILBOX  STATE         TROUBLE       LAST SUCCESS  NEXT POLL\n"+
		"rita     active        -             -             -\n"+
		"tom      unauthorized  unauthorized  -             -\n", "")
	c.run(t, "mailbox", "pause", "rita").want(t, "pause a mailbox", exitDone, "rita is paused\n", "")
	c.run(t, "mailbox", "resume", "rita").want(t, "resume a mailbox", exitDone, "rita is active\n", "")
	c.run(t, "mailbox", "forget", "rita").want(t, "forget without --yes", exitUsage, "",
		"mailsyncd: forget cannot be undone; add --yes if that is meant\nSee `mailsyncd mailbox forget --help`.\n")
	if d.deleted != "" {
		t.Error("a mailbox was forgotten without --yes")
	}
	c.run(t, "mailbox", "forget", "rita", "--yes").want(t, "forget", exitDone, "rita is forgotten\n", "")
	if d.deleted != "rita" {
		t.Errorf("the daemon forgot %q", d.deleted)
	}
	c.run(t, "webhook", "pause").want(t, "pause the webhook", exitDone, "the webhook is disabled (operator), since 0s ago\n", "")
	c.run(t, "webhook", "resume").want(t, "resume the webhook", exitDone, "the webhook is ok\n", "")
}

func TestReload(t *testing.T) {
	d := &oddDaemon{}
	c := startDaemon(t, d)
	c.run(t, "reload").want(t, "nothing new", exitDone, "reloaded; nothing changed in the configuration\n", "")
	d.reload = admin.ReloadResult{Added: strings.Split(strings.Repeat("m ", 22)+"n", " "), Removed: []string{"old"}, Settings: []string{"store.path"}, Restart: []string{"store.path"}}
	c.run(t, "reload").want(t, "changes", exitDone, `
mailboxes added: `+strings.TrimSuffix(strings.Repeat("m, ", 20), ", ")+` and 3 more
mailboxes removed: old
settings changed: store.path
! without effect until a restart: store.path
`, "")
	d.reloadErr = admin.Invalid("the configuration is not valid; the one before it stays in force").With("c.yaml:1: log: unknown key", "c.yaml:2: x: y")
	c.run(t, "reload").want(t, "a bad configuration", exitUsage, "", `mailsyncd: the configuration is not valid; the one before it stays in force
c.yaml:1: log: unknown key
c.yaml:2: x: y
`)
	d.reloadErr = errors.New("disk on fire")
	c.run(t, "reload").want(t, "another failure", exitFailed, "", "mailsyncd: disk on fire\n")
}

func TestKeyRotate(t *testing.T) {
	d := &oddDaemon{rotate: admin.RotateResult{Resealed: 1200, Complete: true}}
	c := startDaemon(t, d)
	c.run(t, "key", "rotate").want(t, "a whole rotation", exitDone, "1200 rows sealed again\ncomplete: everything is sealed with the first key of the file; the second can go\n", "")
	d.rotate.Complete = false
	c.run(t, "key", "rotate").want(t, "half a rotation", exitDone, "1200 rows sealed again\nnot complete: run it again before you remove the previous key\n", "")
}

func TestUnreachableDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none")
	c := console{socket: "/elsewhere"}
	want := "mailsyncd: the daemon cannot be reached at " + socket + ": there is no such socket; start the daemon (mailsyncd serve), or name its socket with --socket or MAILSYNCD_SOCKET\n"
	for _, args := range [][]string{
		{"status"}, {"status", "--mailbox", "x"}, {"sync"}, {"sync", "x"}, {"resync", "x"}, {"resync", "x", "--wait=false"},
		{"tasks", "list"}, {"tasks", "cancel", "x"}, {"explain", "--message-id", "x"}, {"explain", "--candidate", "x"}, {"reconcile"},
		{"deliveries", "list"}, {"deliveries", "show", "x"},
		{"deliveries", "replay", "x"}, {"directory", "list"}, {"directory", "show", "x"}, {"directory", "put", "-"},
		{"directory", "delete", "job", "x"}, {"directory", "approve"}, {"mailbox", "pause", "x"}, {"mailbox", "resume", "x"},
		{"mailbox", "forget", "x", "--yes"}, {"webhook", "pause"}, {"webhook", "resume"}, {"reload"}, {"key", "rotate"},
	} {
		c.run(t, append(args, "--socket", socket)...).want(t, strings.Join(args, " "), exitUnreachable, "", want)
	}
}
