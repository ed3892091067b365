package main

import (
	"context"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
)

func TestTasks(t *testing.T) {
	d := &oddDaemon{tasks: []admin.Task{
		{ID: "task_a", Kind: "resync", Candidate: "cand_1", State: "done", Created: noon.Add(-time.Hour), Mailboxes: 3, Scanned: 1200, Matched: 4, New: 2},
		{ID: "task_b", Kind: "redeliver", State: "running", Created: noon.Add(-time.Minute), Mailboxes: 200, Left: 150, Scanned: 9000, Matched: 70, New: 70},
		{ID: "task_c", Kind: "resync", Candidate: "cand_2", DryRun: true, State: "cancelled", Purged: true, Created: noon, Mailboxes: 1, Left: 1},
	}}
	c := startDaemon(t, d)
	c.run(t, "tasks", "list").want(t, "tasks", exitDone, `
ID      KIND              CANDIDATE  STATE               BEGAN   MAILBOXES  SCANNED  MATCHED  DELIVERED
task_a  resync            cand_1     done                1h ago  3 of 3     1200     4        2
task_b  redeliver         all        running             1m ago  50 of 200  9000     70       70
task_c  resync (dry run)  cand_2     cancelled (purged)  0s ago  0 of 1     0        0        0
`, "")
	d.tasks = nil
	c.run(t, "tasks", "list", "--output", "json").wantJSON(t, "no tasks", `{"items":[]}`)
	c.run(t, "tasks", "cancel", "task_a").want(t, "cancel", exitDone, "task_a is cancelled\n", "")
}

func TestResyncAsksForWhatWasMeant(t *testing.T) {
	d := &oddDaemon{tasks: []admin.Task{{ID: "task_a", State: "running", Mailboxes: 2, Left: 2}}}
	c := startDaemon(t, d)
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, r := range []struct {
		args string
		want admin.Resync
	}{
		{"cand_1", admin.Resync{Who: "cand_1"}},
		{"nora@example.net --since 2026-11-20", admin.Resync{Who: "nora@example.net", Since: day}},
		{"cand_1 --mailbox rita --dry-run", admin.Resync{Who: "cand_1", Mailbox: "rita", DryRun: true}},
		{"--all --redeliver --since 1d12h", admin.Resync{All: true, Redeliver: true, Since: day}},
	} {
		args := append([]string{"resync", "--wait=false"}, strings.Fields(r.args)...)
		c.run(t, args...).want(t, r.args, exitDone, "task_a begun over 2 mailboxes; `mailsyncd tasks list` shows it\n", "")
		if !reflect.DeepEqual(d.resync, r.want) {
			t.Errorf("%s asked for %+v, want %+v", r.args, d.resync, r.want)
		}
	}
	c.run(t, "resync", "gone").want(t, "nobody", exitFailed, "", "mailsyncd: no candidate has this ref or address; check its spelling\n")
}

// Waiting shows a line when a mailbox is done, and then what came of it.
func TestResyncWaits(t *testing.T) {
	running := admin.Task{ID: "task_a", Kind: "resync", Candidate: "cand_1", State: "running", Mailboxes: 3, Left: 3}
	half, done := running, running
	half.Left, half.Scanned = 1, 500
	done.Left, done.State, done.Scanned, done.Matched, done.New = 0, "done", 1201, 3, 2
	d := &oddDaemon{tasks: []admin.Task{running}, progress: []admin.Task{running, running, half, half, done}}
	c := startDaemon(t, d)
	c.run(t, "resync", "cand_1").want(t, "a resync", exitDone,
		"resync of cand_1 done: 3 mailboxes, 1201 headers read, 3 matched, 2 delivered\n",
		"0 of 3 mailboxes read\n2 of 3 mailboxes read\n")

	done.DryRun, done.New = true, 0
	d.progress = []admin.Task{done}
	c.run(t, "resync", "cand_1", "--dry-run").want(t, "a dry run", exitDone,
		"resync of cand_1 done: 3 mailboxes, 1201 headers read, 3 matched, nothing recorded (dry run)\n", "")

	d.progress = []admin.Task{{Kind: "resync", Candidate: "cand_1", State: "cancelled", Purged: true, Mailboxes: 3, Left: 2}}
	c.run(t, "resync", "cand_1").want(t, "a purge meanwhile", exitFailed,
		"resync of cand_1 cancelled (purged): 1 mailbox, 0 headers read, 0 matched, 0 delivered\n", "mailsyncd: not every mailbox was read\n")
}

// A task whose rest waits for mailboxes that nobody polls is not waited for.
func TestResyncDoesNotWaitForUnpolledMailboxes(t *testing.T) {
	left := admin.Task{Kind: "resync", Candidate: "cand_1", State: "running", Mailboxes: 14, Left: 12, Scanned: 9, Matched: 1, New: 1}
	for range 12 {
		left.Waiting = append(left.Waiting, admin.WaitingMailbox{Mailbox: "tom", State: "paused"})
	}
	d := &oddDaemon{tasks: []admin.Task{{ID: "task_a", State: "running", Mailboxes: 14, Left: 14}}, progress: []admin.Task{left}}
	startDaemon(t, d).run(t, "resync", "cand_1").want(t, "a paused rest", exitFailed, `
resync of cand_1 running: 2 mailboxes, 9 headers read, 1 matched, 1 delivered
! task_a goes on when these are polled again: `+strings.Repeat("tom (paused), ", 10)+`and 2 more
`, "mailsyncd: not every mailbox was read\n")
}

// Ctrl-C leaves the task running and says how to come back to it.
func TestResyncInterrupted(t *testing.T) {
	running := admin.Task{ID: "task_a", State: "running", Mailboxes: 3, Left: 3}
	ctx, interrupt := context.WithCancel(t.Context())
	d := &oddDaemon{tasks: []admin.Task{running}, progress: []admin.Task{running}, look: interrupt}
	c := startDaemon(t, d)
	c.ctx = ctx
	got := c.run(t, "resync", "cand_1")
	want := "mailsyncd: interrupted; the daemon goes on with task_a: `mailsyncd tasks list` shows it, `mailsyncd tasks cancel ID` ends it\n"
	if got.code != exitFailed || got.stdout != "" || !strings.HasSuffix(got.stderr, want) {
		t.Errorf("%+v", got)
	}
}

// A daemon that ends meanwhile takes the task up again; the command says so.
func TestResyncWhileTheDaemonEnds(t *testing.T) {
	running := admin.Task{ID: "task_a", State: "running", Mailboxes: 3, Left: 3}
	client := admin.NewClient(filepath.Join(t.TempDir(), "none"))
	defer client.Close()
	w := &watch{client: client, every: time.Millisecond, out: io.Discard}
	_, err := w.tasks(t.Context(), []admin.Task{running})
	if err == nil || exitCode(err) != exitUnreachable || !strings.HasSuffix(err.Error(), "; it goes on with task_a when it runs again") {
		t.Errorf("%v", err)
	}
}

// On a terminal the progress is one line that goes when the answer comes.
func TestProgressOnATerminal(t *testing.T) {
	running := admin.Task{ID: "task_a", State: "running", Mailboxes: 1, Left: 1, Scanned: 500}
	more, done := running, running
	more.Scanned, more.Matched = 1000, 1
	done.State, done.Left = "done", 0
	d := &oddDaemon{progress: []admin.Task{running, running, more, done}}
	client := admin.NewClient(startDaemon(t, d).socket)
	defer client.Close()
	var out strings.Builder
	w := &watch{client: client, every: time.Millisecond, out: &out, rewrite: true}
	if _, err := w.tasks(t.Context(), []admin.Task{running}); err != nil {
		t.Fatal(err)
	}
	want := "\r\x1b[K0 of 1 mailbox read, 500 headers, 0 matched\r\x1b[K0 of 1 mailbox read, 1000 headers, 1 matched\r\x1b[K"
	if out.String() != want {
		t.Errorf("showed %q, want %q", out.String(), want)
	}
}
