package main

import (
	"testing"
	"time"

	"mailsyncd/admin"
)

// calm is a daemon that has nothing to complain of.
func calm() admin.Status {
	return admin.Status{
		Version: "v1.2.0", Started: noon.Add(-76 * time.Hour), UptimeSeconds: 76 * 3600, ConfigFile: "/etc/mailsyncd/config.yaml",
		Mailboxes: admin.MailboxSummary{Total: 200, States: map[string]int{"active": 199, "paused": 1, "removed": 0}, OldestSuccess: noon.Add(-70 * time.Minute)},
		Outbox:    admin.OutboxStatus{Pending: 0, Delivered: 1234, MaxEvents: 1000000},
		Webhook:   admin.WebhookStatus{State: "ok", LastAccepted: noon.Add(-10 * time.Second), LastResult: "204"},
		Directory: admin.DirectoryStatus{Ready: true, Candidates: 10000, Jobs: 1, Users: 30, Checked: noon.Add(-time.Minute)},
		Erasure:   admin.ErasureStatus{Done: 3},
		Store:     admin.StoreStatus{Bytes: 12_900_000, Messages: 10234, Threads: 3456},
	}
}

// stormy is one where everything goes wrong at once.
func stormy() admin.Status {
	s := calm()
	s.ReloadError = "config.yaml:3: log.level: \"loud\" is not one of them"
	s.PollingStopped = "outbox_full"
	s.Mailboxes.States = map[string]int{"active": 197, "backing_off": 2, "unauthorized": 1}
	s.Mailboxes.Stale, s.Mailboxes.Unaccounted = 3, 4
	s.Mailboxes.Trouble = []admin.Mailbox{
		{ID: "rita", State: "unauthorized", Since: noon.Add(-50 * time.Hour), Class: "unauthorized", RetryAt: noon.Add(40 * time.Minute), Action: "write the new password to its password_file"},
		{ID: "timo", State: "backing_off", Since: noon.Add(-90 * time.Second), Class: "network", RetryAt: noon.Add(30 * time.Second), Action: "check\x1b[31m the \u202enetwork"},
	}
	s.Mailboxes.TroubleLeftOut = 1
	s.Outbox = admin.OutboxStatus{Pending: 1000000, Held: 4, Dead: 2, Delivered: 5, Oldest: noon.Add(-26 * time.Hour), MaxEvents: 1000000}
	s.Webhook = admin.WebhookStatus{State: "disabled", Reason: "gone", Since: noon.Add(-25 * time.Hour), LastResult: "410", Action: "the receiver said that it is gone; mend webhook.url, then `mailsyncd webhook resume`"}
	s.Directory.Held = []admin.HeldSweep{{Kind: "candidate", Missing: 600, Total: 1000}}
	s.Directory.LastError = "directory.jsonl:7: not JSON"
	s.Erasure = admin.ErasureStatus{Pending: 2, Oldest: noon.Add(-3 * time.Hour), Done: 9}
	s.Store.RotationDue = true
	return s
}

func TestStatus(t *testing.T) {
	d := &oddDaemon{status: calm()}
	c := startDaemon(t, d)
	c.run(t, "status").want(t, "a calm daemon", exitDone, `
mailsyncd v1.2.0, up 3d4h, /etc/mailsyncd/config.yaml

MAILBOXES       200 mailboxes: 199 active, 1 paused
OLDEST SUCCESS  1h10m ago

OUTBOX     0 pending; 0 held, 0 dead, 1234 delivered; room for 1000000
WEBHOOK    ok, last accepted 10s ago, last answer 204
DIRECTORY  10000 candidates, 1 job, 30 users; checked 1m ago
ERASURE    nothing pending; 3 done
STORE      12.3 MiB, 10234 messages in 3456 threads
`, "")
	d.status = stormy()
	c.run(t, "status").want(t, "a daemon in trouble", exitDone, `
mailsyncd v1.2.0, up 3d4h, /etc/mailsyncd/config.yaml
! no mailbox is polled: the outbox is at outbox.max_events; it goes on when the webhook takes events again
! the last reload was refused, the configuration before it is in force: config.yaml:3: log.level: "loud" is not one of them

MAILBOXES       200 mailboxes: 197 active, 2 backing_off, 1 unauthorized
STALE           3 without a success for three intervals
OLDEST SUCCESS  1h10m ago

IN TROUBLE  STATE         SINCE      CLASS         RETRY   WHAT TO DO
rita        unauthorized  2d2h ago   unauthorized  in 40m  write the new password to its password_file
timo        backing_off   1m30s ago  network       in 30s  check?[31m the ?network
… and 1 more

OUTBOX     1000000 pending, the oldest from 1d2h ago; 4 held, 2 dead, 5 delivered; room for 1000000
WEBHOOK    disabled (gone), since 1d1h ago, last answer 410
DIRECTORY  10000 candidates, 1 job, 30 users; checked 1m ago
ERASURE    2 pending, the oldest from 3h ago; 9 done
STORE      12.3 MiB, 10234 messages in 3456 threads; a key rotation is not finished

! the directory would lose 600 of 1000 candidate records and is held; check the source, then `+"`mailsyncd directory approve`"+`
! 4 messages are neither delivered nor refused, though they match: `+"`mailsyncd reconcile` names the mailboxes, `--repair`"+` queues what is missing
! directory: directory.jsonl:7: not JSON
! webhook: the receiver said that it is gone; mend webhook.url, then `+"`mailsyncd webhook resume`"+`
! 2 dead letters: `+"`mailsyncd deliveries list --state dead`"+`, mend the receiver, then `+"`mailsyncd deliveries replay --dead`"+`
`, "")
	for code, want := range map[string]string{
		"no_directory": "! no mailbox is polled: no complete directory has been read yet; check directory.file",
		"disk_low":     "! no mailbox is polled: the disk is low; make room where store.path lies",
		"later":        "! no mailbox is polled: later",
	} {
		if got := "! no mailbox is polled: " + stoppedReason(code); got != want {
			t.Errorf("%s: %s", code, got)
		}
	}
}

func TestStatusAsJSON(t *testing.T) {
	c := startDaemon(t, &oddDaemon{status: admin.Status{Version: "v1", Started: noon, Webhook: admin.WebhookStatus{State: "ok"}}})
	c.run(t, "status", "--output", "json").wantJSON(t, "status", `{"version":"v1","started":"2026-11-21T12:00:00Z","uptime_seconds":0,"config_file":"",`+
		`"mailboxes":{"total":0,"states":{},"stale":0,"unaccounted":0,"trouble":[]},`+
		`"outbox":{"pending":0,"held":0,"dead":0,"delivered":0,"max_events":0},"webhook":{"state":"ok"},`+
		`"directory":{"ready":false,"candidates":0,"jobs":0,"users":0,"revision":0,"held":[]},`+
		`"erasure":{"pending":0,"done":0},"store":{"bytes":0,"epoch":0,"messages":0,"threads":0,"rotation_due":false}}`)
}

func TestStatusOfOneMailbox(t *testing.T) {
	d := &oddDaemon{mailbox: admin.Mailbox{
		ID: "rita", Address: "rita@example.com", User: "usr_7", Host: "imap.example.com", State: "backing_off",
		Class: "network", Error: "dial: timeout", Action: "check the network", Since: noon.Add(-time.Hour), Tries: 2,
		RetryAt: noon.Add(4 * time.Minute), LastSuccess: noon.Add(-2 * time.Hour), Horizon: noon.Add(-14 * 24 * time.Hour),
		IntervalSeconds: 900, Running: true,
		Walks: []admin.Walk{{Task: "main", Scanned: 5000, Matched: 12}, {Task: "lookback", Started: noon.Add(-time.Minute), Scanned: 70}},
	}}
	startDaemon(t, d).run(t, "status", "--mailbox", "rita").want(t, "one mailbox", exitDone, `
mailbox       rita
address       rita@example.com
user          usr_7
host          imap.example.com
state         backing_off
since         2026-11-21T11:00:00Z (1h ago)
now           a pass is under way
class         network
error         dial: timeout
tries         2 failures in a row
retry         2026-11-21T12:04:00Z (in 4m)
what to do    check the network
last success  2026-11-21T10:00:00Z (2h ago)
interval      15m
horizon       2026-11-07T12:00:00Z (14d ago)

WALK      BEGAN   SCANNED  MATCHED
main      -       5000     12
lookback  1m ago  70       0
`, "")
}
