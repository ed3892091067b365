package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// binary is the product as `make build` makes it, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mailsyncd-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "mailsyncd")
	build := exec.Command("go", "build", "-o", binary, "mailsyncd/cmd/mailsyncd")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building mailsyncd: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is one company: a mail server, an ATS, and mailsyncd between them.
type world struct {
	t        testing.TB
	dir      string
	dovecot  *testutil.Dovecot
	gmail    *gmailtest.Server // instead of Dovecot
	receiver *receiver
	users    []string
	server   string // host:port the mailboxes connect to; "": Dovecot itself
	hook     string // where events go; "": the receiver
	interval string
	log      *logFile
	daemon   *daemon // the running one, nil while there is none
}

func newWorld(t *testing.T, users ...string) *world {
	t.Helper()
	d := testutil.StartDovecot(t, testutil.DovecotOptions{Users: users})
	w := newCompany(t, users...)
	w.dovecot = d
	for _, u := range users {
		w.write(u+".pw", testutil.Password)
	}
	return w
}

// newCompany is a world without a mail server yet.
func newCompany(t *testing.T, users ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), users: users, receiver: newReceiver(t), interval: "1s", log: &logFile{}}
	w.write("webhook.secret", webhookSecret)
	if out, err := w.run("key", "new", w.path("key")); err != nil {
		t.Fatalf("key new: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("daemon's log:\n%s", w.log.tail(60))
		}
	})
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, content string) {
	w.t.Helper()
	temp := w.path(name + ".new")
	if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(temp, w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

// directory writes the directory file, with its end line.
func (w *world) directory(records ...string) {
	w.t.Helper()
	end := fmt.Sprintf(`{"kind":"end","records":%d}`, len(records))
	w.write("directory.jsonl", strings.Join(append(records, end), "\n")+"\n")
}

// configure writes the configuration.
func (w *world) configure() {
	w.t.Helper()
	google, server := "", w.server
	switch {
	case w.gmail != nil:
		google, server = fmt.Sprintf("google: {endpoint: %q, user_per_minute: 1000000}\n", w.gmail.URL), "127.0.0.1:9"
	case server == "":
		server = w.dovecot.Plain
	}
	host, port := testutil.HostPort(w.t, server)
	hook := w.hook
	if hook == "" {
		hook = w.receiver.srv.URL + "/hook"
	}
	var boxes strings.Builder
	for i, u := range w.users {
		fmt.Fprintf(&boxes, "  - {id: %s, address: %s@example.com, user: usr_%d, interval: %s%s}\n", u, u, i, w.interval, w.provider(i))
	}
	w.write("config.yaml", fmt.Sprintf(`
company:
  domains: [example.com]
  shared_addresses: [desk@partner.example]
  internal_applicants: [intern@example.com]
  ignore_from: [noreply@ats.example]
store: {path: %[1]s/state/mailsyncd.db}
secrets: {key_file: %[1]s/key}
directory: {file: %[1]s/directory.jsonl, missing_grace: 1h}
sync:
  per_host: {connections: 8, logins_per_minute: 6000}
  resync_file: ""
defaults:
  ignore_folders: [Privat]
  imap: {host: %[2]s, port: %[3]d, tls: none, username: "{id}", password_file: "%[1]s/{id}.pw"}
mailboxes:
%[4]swebhook:
  url: %[5]s
  secret_file: %[1]s/webhook.secret
  allow_networks: [127.0.0.0/8]
  timeout: 2s
admin: {socket: %[1]s/admin.sock}
metrics: {listen: ""}
%[6]s`, w.dir, host, port, boxes.String(), hook, google))
}

// provider is what the i-th mailbox says of its server: in Gmail, every second
// one is searched.
func (w *world) provider(i int) string {
	if w.gmail == nil {
		return ""
	}
	return fmt.Sprintf(", gmail: {service_account_file: %q, mode: %s}", w.path("account.json"), []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch}[i%2])
}

// daemon is a running mailsyncd.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// start starts the daemon, under a wrapper (strace) if one is given.
func (w *world) start(wrapper ...string) *daemon {
	w.t.Helper()
	args := append(wrapper, binary, "serve", "--config", w.path("config.yaml"))
	d := &daemon{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	d.cmd.Stderr = w.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	testutil.EndWithTest(d.cmd, syscall.SIGKILL)
	if err := d.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	w.daemon = d
	return d
}

// kill ends the daemon and its wrapper as a power cut would, as far as a process
// can tell.
func (d *daemon) kill() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

// stop ends the daemon the way an operator does, and wants exit 0.
func (w *world) stop() {
	w.t.Helper()
	d := w.daemon
	if d == nil {
		return
	}
	w.daemon = nil
	select {
	case <-d.ended:
		return // it was killed
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
		if d.err != nil {
			w.t.Errorf("the daemon ended with %v", d.err)
		}
	case <-time.After(40 * time.Second):
		d.kill()
		w.t.Error("the daemon did not stop within 40 s")
	}
}

// run runs a command against the daemon.
func (w *world) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "MAILSYNCD_SOCKET="+w.path("admin.sock"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("mailsyncd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// up waits until the daemon answers and its directory is there.
func (w *world) up() {
	w.t.Helper()
	w.await("the daemon to be ready", func() bool {
		return w.status().Directory.Ready
	})
}

// status is as much of `status` as the tests look at.
type status struct {
	Mailboxes struct {
		States map[string]int `json:"states"`
	} `json:"mailboxes"`
	Outbox struct {
		Pending, Dead, Delivered int
	} `json:"outbox"`
	Directory struct {
		Ready      bool
		Candidates int
		Revision   uint64
	} `json:"directory"`
}

func (w *world) status() (s status) {
	out, err := w.run("status", "--output", "json")
	if err == nil {
		_ = json.Unmarshal([]byte(out), &s)
	}
	return s
}

// await polls for a condition: the only way to see into another process.
func (w *world) await(what string, condition func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("waited a minute for %s; status %+v", what, w.status())
		case <-tick.C:
		}
	}
}

// settle polls every mailbox and waits until the outbox is empty.
func (w *world) settle() {
	w.t.Helper()
	w.up()
	w.await("every mailbox to be polled", func() bool {
		_, err := w.run("sync")
		return err == nil
	})
	w.await("the outbox to be empty", func() bool {
		s := w.status()
		if s.Outbox.Pending > 0 {
			w.hurry()
		}
		return s.Directory.Ready && s.Outbox.Pending == 0
	})
}

// hurry posts what waits for its next try now: an event that failed twice, or
// was killed in the middle of a post, waits for minutes by itself.
func (w *world) hurry() {
	out, err := w.run("deliveries", "list", "--state", "pending", "--output", "json", "--limit", "50")
	var list struct {
		Items []struct {
			ID  string    `json:"id"`
			Due time.Time `json:"due"`
		} `json:"items"`
	}
	if err != nil || json.Unmarshal([]byte(out), &list) != nil {
		return
	}
	args := []string{"deliveries", "replay"}
	for _, d := range list.Items {
		if time.Until(d.Due) > time.Second {
			args = append(args, d.ID)
		}
	}
	if len(args) > 2 {
		_, _ = w.run(args...) // it may be delivered meanwhile
	}
}

// logFile collects the daemon's log over all its lives.
type logFile struct{ testutil.Log }

func (l *logFile) tail(n int) string {
	lines := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
