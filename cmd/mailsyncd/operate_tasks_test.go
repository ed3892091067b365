package main

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/store"
)

// ended waits for a task's end and returns it.
func (r *rig) ended(id string) admin.Task {
	r.t.Helper()
	var last admin.Task
	r.until("task "+id+" has ended", func() bool {
		var err error
		if last, err = (taskDesk{r.daemon}).Task(r.t.Context(), id); err != nil {
			r.t.Fatal(err)
		}
		return last.State != admin.TaskRunning
	})
	return last
}

func (r *rig) resync(ask admin.Resync) admin.Task {
	r.t.Helper()
	list, err := taskDesk{r.daemon}.Resync(r.t.Context(), ask)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(list.Items) != 1 {
		r.t.Fatalf("%d tasks, want one", len(list.Items))
	}
	return r.ended(list.Items[0].ID)
}

// Mail from before the horizon comes by a resync, and only the candidate's own.
func TestResyncBringsOlderMail(t *testing.T) {
	r := newRig(t, job9, nora, ben)
	r.mail("rita", "INBOX", "new@test", "nora@example.net", time.Hour)
	r.mail("rita", "INBOX", "old@test", "nora@example.net, ben@example.net", 3*month)
	r.mail("tom", "Sent", "older@test", "nora@example.net", 5*month)
	r.mail("tom", "INBOX", "ancient@test", "nora@example.net", 13*month)
	r.run()
	r.wants("backfill new@test cand_nora")

	dry := r.resync(admin.Resync{Who: "Nora@Example.net", DryRun: true})
	if dry.State != admin.TaskDone || dry.Matched != 3 || dry.New != 0 || dry.Mailboxes != 2 {
		t.Errorf("the dry run ended as %+v", dry)
	}
	r.wants("backfill new@test cand_nora")

	near := r.resync(admin.Resync{Who: "cand_nora", Since: time.Now().Add(-4 * month)})
	if near.New != 1 {
		t.Errorf("four months back ended as %+v", near)
	}
	r.wants("backfill new@test cand_nora", "resync old@test cand_nora")

	far := r.resync(admin.Resync{Candidate: "cand_nora"})
	if far.New != 1 || far.Left != 0 || far.Scanned == 0 {
		t.Errorf("without since it ended as %+v", far)
	}
	r.wants("backfill new@test cand_nora", "resync old@test cand_nora", "resync older@test cand_nora")

	again := r.resync(admin.Resync{All: true, Redeliver: true, Since: time.Now().Add(-time.Hour * 24), Mailbox: "rita"})
	if again.New != 1 || again.Mailboxes != 1 {
		t.Errorf("delivering again ended as %+v", again)
	}
	r.wants("backfill new@test cand_nora", "resync old@test cand_nora", "resync older@test cand_nora", "redeliver new@test cand_nora")
}

func TestResyncIsRefusedWithTheMend(t *testing.T) {
	r := newRig(t, nora, ben, `{"kind":"job","ref":"job_9","state":"archived"}`,
		`{"kind":"candidate","ref":"cand_stopped","emails":["s@example.net"],"state":"stopped"}`,
		`{"kind":"candidate","ref":"cand_jobless","emails":["j@example.net"],"jobs":[]}`,
		`{"kind":"candidate","ref":"cand_gone","emails":["g@example.net"]}`)
	r.run()
	ctx := t.Context()
	if err := (directoryDesk{r.daemon}).Delete(ctx, "candidate", "cand_gone"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		ask    admin.Resync
		status int
		says   string
	}{
		{"a ref that nobody has", admin.Resync{Who: "cand_x"}, 404, "there is no candidate with this ref; check its spelling"},
		{"an address that nobody has", admin.Resync{Who: "x@example.net"}, 404, "no candidate has this ref or address; check its spelling"},
		{"an address as a ref", admin.Resync{Candidate: "ben@example.net"}, 404, "there is no candidate with this ref; check its spelling"},
		{"a candidate whose jobs are archived", admin.Resync{Who: "cand_nora"}, 409, "(jobs_archived), so nothing would be delivered: reopen one of its jobs, or add an open one"},
		{"the address of such a one", admin.Resync{Who: "nora@example.net"}, 409, "reopen one of its jobs"},
		{"a stopped candidate", admin.Resync{Who: "cand_stopped"}, 409, "(stopped), so nothing would be delivered: let the ATS set its state to active"},
		{"a candidate without a job", admin.Resync{Who: "cand_jobless"}, 409, "(no_jobs), so nothing would be delivered: its list of jobs is empty"},
		{"a purged candidate", admin.Resync{Who: "cand_gone"}, 409, "the candidate is erased: let the ATS send its record again"},
		{"further back than the limit", admin.Resync{Who: "cand_ben", Since: time.Now().Add(-366 * 24 * time.Hour)}, 422, "since is further back than sync.resync_limit, 365d, lets: choose "},
		{"the future", admin.Resync{Who: "cand_ben", Since: time.Now().Add(time.Hour)}, 422, "since lies in the future; choose an earlier time"},
		{"an unknown mailbox", admin.Resync{Who: "cand_ben", Mailbox: "uwe"}, 404, "no mailbox \"uwe\" in the configuration"},
	} {
		_, err := taskDesk{r.daemon}.Resync(ctx, c.ask)
		var p *admin.Problem
		if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %v, want %d %s", c.what, err, c.status, c.says)
		}
	}
	if list, err := (taskDesk{r.daemon}).Tasks(ctx); err != nil || len(list.Items) != 0 {
		t.Errorf("refused resyncs left %+v, %v", list, err)
	}
}

func TestResyncSince(t *testing.T) {
	limit := 365 * 24 * time.Hour
	for _, c := range []struct {
		what  string
		since time.Duration // before noon
		want  time.Duration
		bad   bool
	}{
		{"a month", month, month, false},
		{"the limit as the caller counted it", limit + time.Second, limit + time.Second, false},
		{"a day beyond the limit", limit + 24*time.Hour, 0, true},
		{"tomorrow", -24 * time.Hour, 0, true},
	} {
		got, err := resyncSince(noon.Add(-c.since), limit, noon)
		if (err != nil) != c.bad || !c.bad && !got.Equal(noon.Add(-c.want)) {
			t.Errorf("%s: %v, %v", c.what, got, err)
		}
	}
	if got, err := resyncSince(time.Time{}, limit, noon); err != nil || !got.Equal(noon.Add(-limit)) {
		t.Errorf("nothing said: %v, %v", got, err)
	}
}

// A task waits for a paused mailbox, says so, can be cancelled, and its mailbox
// is not walked for it any more.
func TestTaskWaitsForAPausedMailbox(t *testing.T) {
	r := newRig(t, job9, nora)
	r.mail("tom", "INBOX", "old@test", "nora@example.net", 3*month)
	r.run()
	ctx, desk := t.Context(), taskDesk{r.daemon}
	if _, err := (mailboxDesk{r.daemon}).SetPaused(ctx, "tom", true); err != nil {
		t.Fatal(err)
	}
	list, err := desk.Resync(ctx, admin.Resync{Who: "cand_nora"})
	if err != nil {
		t.Fatal(err)
	}
	id := list.Items[0].ID
	r.until("rita is walked", func() bool {
		got, err := desk.Task(ctx, id)
		return err == nil && got.Left == 1 && len(got.Waiting) == 1 && got.Waiting[0] == admin.WaitingMailbox{Mailbox: "tom", State: "paused"}
	})
	if m, err := (mailboxDesk{r.daemon}).Mailbox(ctx, "tom"); err != nil || m.Walks[len(m.Walks)-1].Task != id {
		t.Errorf("tom does not show the walk it owes: %+v, %v", m.Walks, err)
	}
	if got, err := desk.CancelTask(ctx, id); err != nil || got.State != admin.TaskCancelled {
		t.Errorf("cancelled: %+v, %v", got, err)
	}
	if _, err := (mailboxDesk{r.daemon}).SetPaused(ctx, "tom", false); err != nil {
		t.Fatal(err)
	}
	r.synced()
	r.wants()
	for _, call := range []func(string) error{
		func(id string) error { _, err := desk.Task(ctx, id); return err },
		func(id string) error { _, err := desk.CancelTask(ctx, id); return err },
	} {
		var p *admin.Problem
		if err := call("task_none"); !errors.As(err, &p) || p.Status != http.StatusNotFound {
			t.Errorf("an unknown task: %v", err)
		}
	}
}

// ---- the resync file -----------------------------------------------------

func (r *rig) read(name string) string {
	text, err := os.ReadFile(r.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func TestResyncFile(t *testing.T) {
	r := newRig(t, job9, nora, ben, `{"kind":"candidate","ref":"cand_stopped","emails":["s@example.net"],"state":"stopped"}`)
	r.mail("rita", "INBOX", "nora@test", "nora@example.net", 3*month)
	r.mail("tom", "INBOX", "ben@test", "ben@example.net", 3*month)
	r.run()
	r.write("resync", "# from the ATS\ncand_nora\n\n  NORA@example.net \nben@example.net\nnobody@example.net\ncand_stopped\n")
	r.ask()
	r.wants("resync nora@test cand_nora", "resync ben@test cand_ben")
	r.until("the taken file is gone", func() bool { return r.read("resync.taken") == "(none)" })
	if got := r.read("resync"); got != "(none)" {
		t.Errorf("the file is still there: %q", got)
	}
	const rejected = `# line 6: no candidate has this ref or address; check its spelling
nobody@example.net
# line 7: the candidate is not matched now (stopped), so nothing would be delivered: let the ATS set its state to active
cand_stopped
`
	if got := r.read("resync.rejected"); got != rejected {
		t.Errorf("rejected are\n%s\nwant\n%s", got, rejected)
	}
	all, err := r.store.Tasks(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("%d tasks, %v, want one for each candidate", len(all), err)
	}
	log := r.log.String()
	if !strings.Contains(log, `event=resync_lines_rejected`) || !strings.Contains(log, `count=2 lines="[6 7]"`) {
		t.Errorf("the log does not name the lines:\n%s", log)
	}
	if strings.Contains(log, "@example.net") {
		t.Errorf("the log holds an address:\n%s", log)
	}
}

// What a crash left is taken at the start; the file itself waits for its signal.
func TestResyncFileOfACrash(t *testing.T) {
	r := newRig(t, job9, nora, ben)
	r.mail("rita", "INBOX", "nora@test", "nora@example.net", 3*month)
	r.mail("tom", "INBOX", "ben@test", "ben@example.net", 3*month)
	r.write("resync.taken", "cand_nora\n")
	r.write("resync", "cand_ben\n")
	r.run()
	r.wants("resync nora@test cand_nora")
	r.until("the taken file is gone", func() bool { return r.read("resync.taken") == "(none)" })
	if got := r.read("resync"); got != "cand_ben\n" {
		t.Errorf("the file was taken without a signal: %q", got)
	}
	r.ask()
	r.wants("resync nora@test cand_nora", "resync ben@test cand_ben")
}

// A file that cannot be used stays for a person to look at, and does not stop
// the polling.
func TestResyncFileThatCannotBeUsed(t *testing.T) {
	for what, put := range map[string]func(*rig) error{
		"a link":      func(r *rig) error { return os.Symlink(r.path("key"), r.path("resync")) },
		"a folder":    func(r *rig) error { return os.Mkdir(r.path("resync"), 0o700) },
		"a long line": func(r *rig) error { return os.WriteFile(r.path("resync"), make([]byte, 5000), 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, job9, nora)
			r.run()
			if err := put(r); err != nil {
				t.Fatal(err)
			}
			r.mail("rita", "INBOX", "new@test", "nora@example.net", time.Hour)
			r.ask()
			r.wants("poll new@test cand_nora")
			if !strings.Contains(r.log.String(), "event=resync_file_failed") {
				t.Errorf("nothing was said:\n%s", r.log)
			}
			if all, err := r.store.Tasks(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("tasks were begun: %+v, %v", all, err)
			}
			if _, err := os.Lstat(r.path("resync.taken")); err != nil {
				t.Errorf("the file is gone: %v", err)
			}
		})
	}
}

// More walks than one transaction may make are refused before any is made.
func TestResyncFileTooLarge(t *testing.T) {
	for _, c := range []struct {
		candidates, mailboxes int
		fits                  bool
	}{
		{store.MaxTaskWalks, 1, true},
		{1000, store.MaxTaskWalks / 1000, true},
		{1000, store.MaxTaskWalks/1000 + 1, false},
		{0, 20_000, true},
	} {
		err := checkWalks("/run/resync", c.candidates, c.mailboxes)
		if (err == nil) != c.fits {
			t.Errorf("%d candidates in %d mailboxes: %v", c.candidates, c.mailboxes, err)
		}
		if err != nil && !strings.Contains(err.Error(), "split /run/resync.taken") {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
}
