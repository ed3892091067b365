package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/internal/testutil"
	"mailsyncd/store"
)

// A disabled user's mailbox is suspended and goes on from its cursor when the
// user is enabled, without a second first walk.
func TestSuspendedMailboxGoesOnFromItsCursor(t *testing.T) {
	const enabled, disabled = `{"kind":"user","ref":"usr_rita","state":"enabled"}`, `{"kind":"user","ref":"usr_rita","state":"disabled"}`
	r := newRig(t, job9, nora, enabled)
	r.mail("rita", "INBOX", "before@test", "nora@example.net", time.Hour)
	r.run()
	r.wants("backfill before@test cand_nora")
	put := func(line, state string) {
		t.Helper()
		if _, err := (directoryDesk{r.daemon}).Put(t.Context(), strings.NewReader(line)); err != nil {
			t.Fatal(err)
		}
		r.until("rita is "+state, func() bool {
			row, err := r.store.Mailbox(t.Context(), "rita")
			_, scheduled := r.fleet.schedule.Status("rita")
			return err == nil && string(row.State) == state && scheduled == (state == "active")
		})
	}
	put(disabled, "suspended")
	walk, err := r.store.Walk(t.Context(), store.Walk{Mailbox: "rita"})
	if err != nil || walk.Version == 0 {
		t.Fatalf("the cursor is gone: %+v, %v", walk, err)
	}
	r.mail("rita", "INBOX", "meanwhile@test", "nora@example.net", time.Minute)
	r.synced()
	r.wants("backfill before@test cand_nora")
	starts := r.servers["rita"].Calls("start")
	put(enabled, "active")
	r.synced()
	r.wants("backfill before@test cand_nora", "poll meanwhile@test cand_nora")
	if got := r.servers["rita"].Calls("start"); got != starts {
		t.Error("the window was walked again")
	}
}

// A purge is told with a receipt, pending until the file is rewritten, and shown
// by status and metrics.
func TestPurgeUntilTheFileIsRewritten(t *testing.T) {
	r := newRig(t, job9, nora, ben)
	r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	r.run()
	r.wants("backfill a@test cand_nora")
	ctx := t.Context()
	if err := (directoryDesk{r.daemon}).Delete(ctx, "candidate", "cand_nora"); err != nil {
		t.Fatal(err)
	}
	r.until("the purge is told", func() bool {
		r.posts.mu.Lock()
		defer r.posts.mu.Unlock()
		for _, e := range r.posts.events {
			if e.Type == "candidate.purged" && e.Data.Candidate == "cand_nora" && e.Data.Receipt != "" {
				return true
			}
		}
		return false
	})
	if st, err := r.Status(ctx); err != nil || st.Erasure.Pending == 0 || st.Erasure.Oldest.IsZero() || st.Erasure.Done != 1 {
		t.Errorf("before the rewrite status says %+v, %v", st.Erasure, err)
	}
	if got := r.metric("mailsyncd_erasure_pending_seconds"); got < 0 || got > 60 {
		t.Errorf("pending for %v s", got)
	}
	if err := r.eraseOnce(ctx, true); err != nil {
		t.Fatal(err)
	}
	st, err := r.Status(ctx)
	if err != nil || st.Erasure.Pending != 0 || !st.Erasure.Oldest.IsZero() || st.Erasure.Rewritten.IsZero() {
		t.Errorf("after the rewrite status says %+v, %v", st.Erasure, err)
	}
	if got := r.metric("mailsyncd_erasure_pending_seconds"); got != 0 {
		t.Errorf("pending for %v s after the rewrite", got)
	}
	if !strings.Contains(r.log.String(), "event=store_rewritten") {
		t.Error("it was not logged")
	}
	// The store goes on in its new file.
	r.mail("rita", "INBOX", "b@test", "ben@example.net", 0)
	r.synced()
	r.wants("backfill a@test cand_nora", "poll b@test cand_ben")
}

// metric reads one gauge without labels.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.t.Fatalf("there is no metric %s", name)
	return 0
}

func TestRewriteDue(t *testing.T) {
	for _, c := range []struct {
		what    string
		erasure store.Erasure
		atStart bool
		want    bool
	}{
		{"nothing is pending", store.Erasure{}, false, false},
		{"nothing is pending at the start", store.Erasure{}, true, false},
		{"the first purge ever", store.Erasure{Pending: 1}, false, true},
		{"a purge an hour after a rewrite", store.Erasure{Pending: 1, LastRewrite: noon.Add(-time.Hour)}, false, false},
		{"the same at the start", store.Erasure{Pending: 1, LastRewrite: noon.Add(-time.Hour)}, true, true},
		{"a day after a rewrite", store.Erasure{Pending: 3, LastRewrite: noon.Add(-24 * time.Hour)}, false, true},
		{"nothing new a day after", store.Erasure{LastRewrite: noon.Add(-24 * time.Hour)}, false, false},
	} {
		if got := rewriteDue(c.erasure, c.atStart, noon); got != c.want {
			t.Errorf("%s: due is %v", c.what, got)
		}
	}
	// What comes right after a rewrite is gone within the day.
	if rewriteEvery+eraseEvery > 24*time.Hour {
		t.Error("a trace can stay for longer than a day")
	}
}

func TestUnaccountedIsTheSumOfWhatMailboxesMiss(t *testing.T) {
	r := newRig(t, job9, nora)
	r.run()
	for id, row := range map[string]store.Mailbox{
		"rita": {State: store.MailboxActive, Unaccounted: 2}, "tom": {State: store.MailboxPaused, Unaccounted: 3},
		"gone": {State: store.MailboxRemoved, Unaccounted: 100},
	} {
		row.ID = id
		if err := r.store.SetMailbox(t.Context(), row, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.metric("mailsyncd_unaccounted_messages"); got != 5 {
		t.Errorf("%v are unaccounted for, want 5", got)
	}
}

// A payload that retention erased comes back by a replay: a task reads the mail
// again, and the event is posted under its id.
func TestReplayOfAnErasedPayload(t *testing.T) {
	r := newRig(t, job9, nora)
	r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	r.run()
	r.wants("backfill a@test cand_nora")
	ctx := t.Context()
	r.delivered()
	if _, err := r.store.Expire(ctx, store.Expiry{Delivered: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	result, err := outboxDesk{r.daemon}.Replay(ctx, admin.Replay{Candidate: "cand_nora"})
	if err != nil || result.Rereading != 1 || len(result.Tasks) != 1 || result.Replayed != 0 {
		t.Fatalf("the replay: %+v, %v", result, err)
	}
	if done := r.ended(result.Tasks[0]); done.Kind != "reread" || done.State != admin.TaskDone {
		t.Errorf("its task ended as %+v", done)
	}
	r.wants("backfill a@test cand_nora", "backfill a@test cand_nora")
}

// SIGUSR1 takes the resync file of a running daemon.
func TestUserSignalTakesTheResyncFile(t *testing.T) {
	ears := listenSignals(func(int) { t.Error("the process was ended") })
	defer ears.close()
	r := newRig(t, job9, nora)
	r.mail("rita", "INBOX", "old@test", "nora@example.net", 3*month)
	r.write("resync", "cand_nora\n")
	hear(t, syscall.SIGUSR1, func() bool { return len(ears.resync) == 1 }) // during the start
	r.obeying(ears)
	r.until("the file is taken", func() bool { return r.read("resync") == "(none)" })
	r.wants("resync old@test cand_nora")
}

// hear sends this process a signal and waits until that was noticed. It listens
// itself: a signal that arrives when nobody does any more ends the process.
func hear(t *testing.T, s syscall.Signal, noticed func() bool) {
	t.Helper()
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, s)
	defer signal.Stop(arrived)
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
	<-arrived
	for end := time.Now().Add(20 * time.Second); !noticed(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%v was not heard", s)
		}
	}
}

// obeying runs the daemon under its signals until the test's end.
func (r *rig) obeying(ears *ears) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.runObedient(ctx, ears) }()
	r.t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, r.close()); err != nil {
			r.t.Error(err)
		}
	})
}

// A reload that was asked for during the start comes after it, and one that is
// under way when the daemon is told to stop is ended before the store is closed.
func TestHangUpSignalAroundStartAndEnd(t *testing.T) {
	ears := listenSignals(func(int) { t.Error("the process was ended") })
	defer ears.close()
	r := newRig(t, job9, nora)
	r.yaml("example.com")
	r.amend("sync: {", "sync: {interval: 7m, ")
	hear(t, syscall.SIGHUP, func() bool { return len(ears.reload) == 1 })
	r.obeying(ears)
	r.until("the reload is in force", func() bool {
		m := r.fleet.member("rita")
		return m != nil && m.cfg.Interval == 7*time.Minute && strings.Contains(r.log.String(), "event=reloaded")
	})
	hear(t, syscall.SIGHUP, func() bool { return len(ears.reload) == 0 })
}

// The second signal to stop is heard whatever the daemon is doing.
func TestSecondSignalToStopEndsTheProcess(t *testing.T) {
	main, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	exited := make(chan int, 1)
	ears := listenSignals(func(code int) { exited <- code })
	defer ears.close()
	hear(t, syscall.SIGTERM, func() bool { return main.Err() != nil })
	// The kernel hands the same signal over once: wait until the ears took it.
	hear(t, syscall.SIGTERM, func() bool { return len(exited) == 1 || len(ears.signals) == 0 })
	select {
	case code := <-exited:
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(20 * time.Second):
		t.Error("the second signal was not heard")
	}
}

// ---- dry run -------------------------------------------------------------

// A dry run prints what would be posted and the counts per guard, posts nothing,
// and leaves neither the store nor anything of its own behind.
func TestDryRun(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	real := newRig(t, job9, nora, ben)
	defer real.close()
	real.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	real.mail("tom", "INBOX", "b@test", "ben@example.net", time.Hour, "List-Id: <x>")
	real.mail("tom", "INBOX", "c@test", "mum@family.example", time.Hour)

	var out bytes.Buffer
	dry, err := newDryRun(&out)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(real.config(), real.log, dry) // the real store is open and locked
	if err != nil {
		t.Fatal(err)
	}
	d.fleet.dial = real.dial
	shown := &rig{daemon: d, t: t, servers: real.servers, posts: real.posts, log: real.log}
	t.Run("running", func(t *testing.T) {
		shown.t = t
		shown.run()
		shown.until("the summary is there", func() bool {
			dry.mu.Lock()
			defer dry.mu.Unlock()
			return strings.Contains(out.String(), "dry_run.summary")
		})
	})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"type":"thread.matched"`) || !strings.Contains(lines[0], `"message_id":"a@test"`) {
		t.Errorf("printed\n%s", out.String())
	}
	for _, part := range []string{`"mailboxes":2,"failed":{},"unpolled":0,"scanned":3,"events":1,`, `"bulk":1`, `"horizon":0`} {
		if !strings.Contains(lines[len(lines)-1], part) {
			t.Errorf("the summary lacks %s: %s", part, lines[len(lines)-1])
		}
	}
	if strings.Contains(out.String(), "family") {
		t.Error("mail that does not match was printed")
	}
	if got := real.posts.pairs(); len(got) != 0 {
		t.Errorf("posted %v", got)
	}
	if s, err := real.store.Stats(t.Context()); err != nil || s.Candidates != 0 || s.Messages != 0 {
		t.Errorf("the real store has %+v, %v", s, err)
	}
	if err := dry.remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := os.Stat(real.path("s")); err == nil {
		t.Error("the socket was opened")
	}
}

// The command from its configuration file to its end by a signal, over IMAP.
func TestServeDryRun(t *testing.T) {
	mails, err := parseDemoMails(demoMails, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	addr, stop, err := startDemoServer(mails)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"pw": demoPassword, "webhook.secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "directory.jsonl": string(demoDirectory),
		"config.yaml": fmt.Sprintf(`
company: {domains: [example.com], ignore_from: [noreply@ats.example.com]}
store: {path: %[1]s/store}
secrets: {key_file: %[1]s/no-key}
directory: {file: %[1]s/directory.jsonl}
defaults:
  ignore_folders: [Privat]
  imap: {host: %[2]s, port: %[3]d, tls: none, username: "{id}", password_file: "%[1]s/pw"}
mailboxes:
  - {id: rita, address: rita@example.com, aliases: [rita.keller@example.com], user: usr_7}
  - {id: tom, address: tom@example.com, user: usr_8}
webhook: {url: "https://ats.example.com/hook", secret_file: %[1]s/webhook.secret}
admin: {socket: %[1]s/s}
`, dir, addr.IP, addr.Port),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, sigterm := context.WithCancel(t.Context())
	out := &summaryReader{first: sigterm}
	env := &environment{stdout: out, stderr: &testutil.Log{}, getenv: func(string) string { return "" }, now: time.Now}
	if code := env.run(ctx, []string{"serve", "--dry-run", "--config", filepath.Join(dir, "config.yaml")}); code != exitDone {
		t.Fatalf("exit code %d: %s", code, env.stderr)
	}
	lines := strings.Split(strings.TrimSpace(out.text.String()), "\n")
	matches, messages := 0, 0
	for _, line := range lines {
		var e postedEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		if e.Type == "thread.matched" {
			matches, messages = matches+1, messages+len(e.Data.Messages)
		}
	}
	if matches == 0 || messages != 19 || len(lines) != matches+2 {
		t.Errorf("%d matches with %d messages in %d lines", matches, messages, len(lines))
	}
	for _, part := range []string{`"mailboxes":2`, `"scanned":39`, fmt.Sprintf(`"events":%d,`, matches), `"fan_out":1`, `"own_address":2`} {
		if !strings.Contains(lines[len(lines)-1], part) {
			t.Errorf("the summary at the end lacks %s: %s", part, lines[len(lines)-1])
		}
	}
	if left, err := filepath.Glob(dir + "/s*"); err != nil || len(left) != 0 {
		t.Errorf("it made %v", left)
	}
	// In earnest it needs the key, and starting again and again would not bring it.
	if code := env.run(t.Context(), []string{"serve", "--config", filepath.Join(dir, "config.yaml")}); code != exitUsage {
		t.Errorf("without its key file: exit code %d", code)
	}
}

// summaryReader keeps what is printed and tells when the first summary is there.
type summaryReader struct {
	text  strings.Builder
	first func()
}

func (r *summaryReader) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "dry_run.summary") {
		r.first()
	}
	return r.text.Write(p)
}
