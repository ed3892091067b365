package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/internal/testutil"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// googleWorld is a running daemon with everything real: an IMAP server, a Google
// for tests with its consent page, a receiver, a configuration file.
type googleWorld struct {
	t        *testing.T
	dir      string
	google   *gmailtest.Server
	imap     int // port
	receiver *demoReceiver
	daemon   *daemon
	console  console
	log      *testutil.Log
	stop     func() // ends the daemon
}

const (
	googleNora = `{"kind":"candidate","ref":"cand_nora","emails":["nora@example.net"]}`
	samsOwn    = `{"kind":"user","ref":"usr_9","emails":["sam@example.com"]}`
	viaOAuth   = `  - {id: sam, address: sam@example.com, user: usr_9, gmail: {client_file: client.json}}`
)

// startGoogle starts a daemon with these lines of configuration and directory
// records. rita's IMAP mailbox and sam's of either kind hold a mail from Nora
// each, and one that both have.
func startGoogle(t *testing.T, settings string, records ...string) *googleWorld {
	t.Helper()
	w := &googleWorld{t: t, dir: t.TempDir(), google: gmailtest.Start(gmailtest.Options{}), log: &testutil.Log{}}
	t.Cleanup(w.google.Close)
	mails := []demoMail{
		fromNora("rita", "rita-only", time.Hour), fromNora("rita", "both", 2*time.Hour),
		fromNora("sam", "sam-only", time.Hour), fromNora("sam", "both", 2*time.Hour),
	}
	w.serve(mails)
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	receiver, err := startDemoReceiver(secret)
	w.must(err)
	t.Cleanup(receiver.stop)
	w.receiver = receiver
	w.write("webhook.secret", secret)
	w.write("pw", demoPassword)
	w.write("account.json", string(w.google.ServiceAccountKey()))
	w.google.AddClient("client", "no secret")
	w.write("client.json", fmt.Sprintf(`{"installed":{"client_id":"client","client_secret":"no secret","auth_uri":%q,"token_uri":%q}}`,
		w.google.AuthURL, w.google.TokenURL))
	w.must(bolt.NewKeyFile(w.path("key")))
	w.directory(records...)
	w.configure(settings)
	w.start()
	return w
}

// serve fills both servers; sam has the same mails in each.
func (w *googleWorld) serve(mails []demoMail) {
	w.t.Helper()
	w.google.Delegate(gmail.ModeMetadata.Scope())
	account := w.google.Account("sam@example.com")
	w.google.Account("tim@example.com")
	imap := slices.Clone(mails)
	for i, m := range mails {
		if m.Mailbox == demoGmail {
			mail := gmailtest.ParseMail(string(m.Raw))
			mail.Labels, mail.Arrival = []string{"INBOX"}, m.Arrival
			account.Deliver(mail)
			imap[i].Mailbox = "sam-imap"
		}
	}
	addr, stop, err := startDemoServer(imap)
	w.must(err)
	w.t.Cleanup(stop)
	w.imap = addr.Port
}

func fromNora(mailbox, id string, age time.Duration) demoMail {
	return newDemoMail(mailbox, "INBOX", time.Now().Add(-age).Truncate(time.Second),
		"From: Nora <nora@example.net>\nTo: rita@example.com, sam@example.com\nSubject: "+id+"\nMessage-ID: <"+id+"@example.net>\nDate: DATE")
}

func (w *googleWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *googleWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *googleWorld) write(name, content string) {
	w.t.Helper()
	w.must(os.WriteFile(w.path(name), []byte(content), 0o600))
}

func (w *googleWorld) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	w.must(err)
	return string(text)
}

func (w *googleWorld) directory(records ...string) {
	w.t.Helper()
	w.write("directory.jsonl", strings.Join(records, "\n")+fmt.Sprintf("\n{\"kind\":\"end\",\"records\":%d}\n", len(records)))
}

func (w *googleWorld) configure(settings string) {
	w.t.Helper()
	w.write("config.yaml", fmt.Sprintf(`secrets: {key_file: key}
store: {path: mailsyncd.db}
directory: {file: directory.jsonl}
company: {domains: [example.com]}
admin: {socket: admin.sock}
metrics: {listen: ""}
webhook: {url: %q, secret_file: webhook.secret, allow_networks: [127.0.0.0/8]}
google: {endpoint: %q}
defaults: {imap: {host: 127.0.0.1, port: %d, tls: none, username: "{id}", password_file: pw}}
%s
`, w.receiver.url, w.google.URL, w.imap, settings))
}

// start runs the daemon until the test ends or stop is called.
func (w *googleWorld) start() {
	w.t.Helper()
	cfg, err := config.Load(w.path("config.yaml"))
	w.must(err)
	w.daemon, err = newDaemon(cfg, io.MultiWriter(w.log, w.t.Output()), nil)
	w.must(err)
	w.console = console{socket: w.path("admin.sock")}
	ctx, stop := context.WithCancel(context.Background())
	ended, daemon := make(chan error, 1), w.daemon
	go func() { ended <- daemon.run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("the daemon ended: %v", err)
		}
		if err := daemon.close(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(w.stop)
	w.await("the socket is there", func() bool { _, err := os.Stat(w.console.socket); return err == nil })
}

// await waits until something holds, and fails after a time that no test needs.
func (w *googleWorld) await(what string, holds func() bool) {
	w.t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("never: %s", what)
		}
	}
}

func (w *googleWorld) state(id string) store.MailboxState {
	row, err := w.daemon.store.Mailbox(context.Background(), id)
	if err != nil {
		w.t.Error(err)
	}
	return row.State
}

// received lists "subject: mailboxes" of the receiver's messages.
func (w *googleWorld) received() (list []string) {
	w.receiver.mu.Lock()
	defer w.receiver.mu.Unlock()
	for _, m := range w.receiver.messages {
		boxes := slices.Sorted(slices.Values(m.mailboxes))
		list = append(list, m.subject+": "+strings.Join(boxes, " "))
	}
	slices.Sort(list)
	return list
}

func (w *googleWorld) awaitReceived(want ...string) {
	w.t.Helper()
	var got []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("received %q, want %q", got, want)
		}
	}()
	w.await("the mails are delivered", func() bool { got = w.received(); return slices.Equal(got, want) })
}

// events counts what was posted, by type.
func (w *googleWorld) events(kind string) int {
	w.receiver.mu.Lock()
	defer w.receiver.mu.Unlock()
	return w.receiver.events[kind]
}

func (w *googleWorld) reload(settings string) {
	w.t.Helper()
	w.configure(settings)
	if got := w.console.run(w.t, "reload"); got.code != exitDone {
		w.t.Fatalf("reload: %s", got.stderr)
	}
}

// leaksNothing fails if the log holds a secret or an address.
func (w *googleWorld) leaksNothing() {
	w.t.Helper()
	for _, secret := range []string{"1//refresh", "ya29.", "no secret", "nora@", "sam@", "late@", "-only@", "late-"} {
		if strings.Contains(w.log.String(), secret) {
			w.t.Errorf("the log holds %q", secret)
		}
	}
}

// browse plays the user and their browser: it follows every redirect.
func browse(url string) error {
	go func() {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
		}
		http.DefaultClient.CloseIdleConnections()
	}()
	return nil
}

// connect runs `mailsyncd connect` with a user who allows what is asked.
func (w *googleWorld) connect(id string, args ...string) ran {
	w.t.Helper()
	return w.connectAs(browse, strings.NewReader(""), nil, append([]string{id}, args...)...)
}

// connectAs runs it with a browser and a keyboard; screen also sees stderr.
func (w *googleWorld) connectAs(browse func(string) error, keyboard io.Reader, screen io.Writer, args ...string) ran {
	w.t.Helper()
	var out, errs testutil.Log
	stderr := io.Writer(&errs)
	if screen != nil {
		stderr = io.MultiWriter(&errs, screen)
	}
	env := &environment{
		stdout: &out, stderr: stderr, stdin: keyboard, now: time.Now, browse: browse,
		getenv: func(name string) string { return map[string]string{"MAILSYNCD_SOCKET": w.console.socket}[name] },
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	code := env.run(ctx, append([]string{"connect"}, args...))
	return ran{code, out.String(), errs.String()}
}

// elsewhere is a user who opens the printed address on another machine, and pastes
// the address where their browser ends.
type elsewhere struct {
	t     *testing.T
	paste func(redirect string) string
	keys  io.Writer
}

func (e elsewhere) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "http") {
			go e.open(line)
		}
	}
	return len(p), nil
}

func (e elsewhere) open(url string) {
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	resp, err := browser.Get(url)
	if err != nil {
		e.t.Error(err)
		return
	}
	_ = resp.Body.Close()
	fmt.Fprintln(e.keys, e.paste(resp.Header.Get("Location")))
}

const ritaAndSam = "mailboxes:\n  - {id: rita, address: rita@example.com}\n"

// A mail that a colleague's IMAP mailbox has brought is the same message in Gmail:
// one event, and then an observation.
func TestOneMailInGmailAndIMAPIsOneMessage(t *testing.T) {
	w := startGoogle(t, ritaAndSam, googleNora)
	w.awaitReceived("both: rita", "rita-only: rita")
	matched := w.events("thread.matched")
	w.reload(ritaAndSam + `  - {id: sam, address: sam@example.com, gmail: {service_account_file: account.json}}`)
	w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
	if m, o := w.events("thread.matched")-matched, w.events("message.observed"); m != 1 || o != 1 {
		t.Errorf("%d new events of matches and %d observations, want 1 of each", m, o)
	}
	w.leaksNothing()
}

// A candidate who comes after the mail: in metadata mode the walk of the day brings
// it, which explain says and an operator's reconcile does not wait for; in search
// mode the next poll does, but for what Google cannot be asked for.
func TestALateCandidateInBothModes(t *testing.T) {
	const late = `{"kind":"candidate","ref":"cand_late","emails":["late@example.net"]}`
	for _, c := range []struct {
		mode gmail.Mode
		next []string // what the next poll brings
	}{
		{gmail.ModeMetadata, []string{"both: rita sam", "rita-only: rita", "sam-only: sam"}},
		{gmail.ModeSearch, []string{"both: rita sam", "late-from: sam", "rita-only: rita", "sam-only: sam"}},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			settings := "  - {id: sam, address: sam@example.com, gmail: {service_account_file: account.json, mode: " + string(c.mode) + "}}"
			w := startGoogle(t, ritaAndSam, googleNora)
			w.google.Delegate(c.mode.Scope())
			for name, header := range map[string]string{
				"late-from": "From: late@example.net", "late-sender": "From: relay@board.example\nSender: late@example.net",
			} {
				w.google.Account("sam@example.com").Deliver(gmailtest.ParseMail(fmt.Sprintf(
					"%s\nTo: sam@example.com\nSubject: %s\nMessage-ID: <%s@example.net>\nDate: %s\n\n", header, name, name, time.Now().Format(time.RFC1123Z))))
			}
			w.reload(ritaAndSam + settings)
			w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
			w.directory(googleNora, late)
			w.console.run(t, "reload")
			if got := w.console.run(t, "sync", "sam"); got.code != exitDone {
				t.Fatalf("sync: %s%s", got.stdout, got.stderr)
			}
			w.awaitReceived(c.next...)
			got := w.console.run(t, "explain", "--message-id", "<late-sender@example.net>", "--mailbox", "sam")
			if !strings.Contains(got.stdout, "the walk of the day does; `mailsyncd reconcile` does not wait for it") {
				t.Errorf("explain does not say when the mail comes:\n%s%s", got.stdout, got.stderr)
			}
			if got := w.console.run(t, "reconcile", "--mailbox", "sam"); got.code != exitDone {
				t.Errorf("reconcile: %s%s", got.stdout, got.stderr)
			}
			w.awaitReceived("both: rita sam", "late-from: sam", "late-sender: sam", "rita-only: rita", "sam-only: sam")
			w.google.SetFault(func(gmailtest.Request) gmailtest.Fault {
				return gmailtest.Fault{Status: http.StatusTooManyRequests, Reason: "rateLimitExceeded"}
			})
			if got := w.console.run(t, "reconcile", "--mailbox", "sam"); got.code == exitDone || !strings.Contains(got.stdout+got.stderr, "Google's quota is spent for now") {
				t.Errorf("it does not advise what counts for Gmail: exit code %d, %s%s", got.code, got.stdout, got.stderr)
			}
			w.leaksNothing()
		})
	}
}

// What a Cloud project spent today counts after a restart: the daily budget is
// where Google begins to charge.
func TestTheDaysQuotaSurvivesARestart(t *testing.T) {
	const settings = "  - {id: sam, address: sam@example.com, gmail: {service_account_file: account.json}}"
	w := startGoogle(t, ritaAndSam+settings, googleNora)
	w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
	w.stop()
	spent := w.google.Usage().Units
	if spent < 40 {
		t.Fatalf("two mails cost %d units", spent)
	}
	w.google.Account("sam@example.com").Deliver(gmailtest.ParseMail(string(fromNora("sam", "late", 0).Raw)))
	w.write("config.yaml", strings.Replace(w.read("config.yaml"), "google: {", fmt.Sprintf("google: {project_per_day: %d, ", spent+40), 1))
	w.start()
	w.console.run(t, "sync", "sam")
	w.google.Account("sam@example.com").Deliver(gmailtest.ParseMail(string(fromNora("sam", "later", 0).Raw)))
	w.console.run(t, "sync", "sam")
	if now := w.google.Usage().Units; now > spent+40 {
		t.Errorf("%d units were spent, and then %d more: the budget of a day is %d", spent, now-spent, spent+40)
	}
	if got := w.console.run(t, "status", "--mailbox", "sam"); !strings.Contains(got.stdout, "quota of Gmail units is spent for now (google.project_per_day)") {
		t.Errorf("status does not say that the quota is spent:\n%s", got.stdout)
	}

	w.stop() // with a larger one nobody has to resume the mailbox
	w.write("config.yaml", strings.Replace(w.read("config.yaml"), fmt.Sprintf("project_per_day: %d", spent+40), "project_per_day: 100000", 1))
	w.start()
	w.await("its pause ended with the old budget", func() bool { return w.console.run(t, "sync", "sam").code == exitDone })
	w.awaitReceived("both: rita sam", "late: sam", "later: sam", "rita-only: rita", "sam-only: sam")
	w.leaksNothing()
}

func TestConnect(t *testing.T) {
	w := startGoogle(t, ritaAndSam+viaOAuth, googleNora, samsOwn)
	w.google.SetConsent(gmailtest.Consent{Account: "sam@example.com"})
	w.await("the mailbox is parked until it is connected", func() bool { return w.state("sam") == store.MailboxUnauthorized })
	if m := w.console.run(t, "status", "--mailbox", "sam"); !strings.Contains(m.stdout, "mailsyncd connect") {
		t.Errorf("status does not say what to do: %s", m.stdout)
	}

	got := w.connect("sam")
	if want := "sam is connected; `mailsyncd status --mailbox sam` shows its first sync\n"; got.code != exitDone || got.stdout != want {
		t.Fatalf("connect: exit code %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
	if w.state("sam") != store.MailboxActive {
		t.Errorf("sam is %s", w.state("sam"))
	}
	if again := w.connect("sam"); again.code != exitFailed || !strings.Contains(again.stderr, "is connected already") {
		t.Errorf("again: exit code %d, %q", again.code, again.stderr)
	}

	w.google.Revoke("sam@example.com", "")
	w.console.run(t, "sync", "sam")
	w.await("a withdrawn consent parks the mailbox", func() bool { return w.state("sam") == store.MailboxUnauthorized })
	before := w.events("mailbox.state")
	if got := w.connect("sam", "--output", "json"); got.code != exitDone || !strings.Contains(got.stdout, `"connected": "sam"`) {
		t.Fatalf("connecting anew: exit code %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	w.await("it is active again, and the ATS is told once", func() bool {
		return w.state("sam") == store.MailboxActive && w.events("mailbox.state") > before
	})
	if got := w.console.run(t, "sync", "sam"); got.code != exitDone {
		t.Errorf("a poll afterwards: %s%s", got.stdout, got.stderr)
	}

	w.google.ResetUsage()
	if got := w.console.run(t, "mailbox", "forget", "sam", "--yes"); got.code != exitDone {
		t.Fatalf("forget: %s%s", got.stdout, got.stderr)
	}
	w.console.run(t, "sync", "sam")
	w.await("a forgotten consent opens nothing more", func() bool { return w.state("sam") == store.MailboxUnauthorized })
	if n := w.google.Usage().Total(); n != 0 {
		t.Errorf("Google was asked %d times with a consent that was erased", n)
	}
	w.leaksNothing()
}

// On a server nobody has a browser: the address is opened elsewhere, and the one
// that comes back is pasted.
func TestConnectWithoutABrowser(t *testing.T) {
	w := startGoogle(t, ritaAndSam+viaOAuth, googleNora, samsOwn)
	w.google.SetConsent(gmailtest.Consent{Account: "sam@example.com"})
	noBrowser := func(string) error {
		t.Error("a browser was opened")
		return nil
	}
	for _, c := range []struct {
		what, want string
		paste      func(redirect string) string
	}{
		{"a word is pasted", "is not the answer to this attempt", func(string) string { return "yes" }},
		{"nothing is pasted", "no address was pasted", func(string) string { return "" }},
		{"another attempt's address is pasted", "is not the answer to this attempt", func(redirect string) string { return strings.Replace(redirect, "state=", "state=x", 1) }},
		{"the address is pasted", "", func(redirect string) string { return redirect }},
	} {
		keyboard, keys := io.Pipe()
		got := w.connectAs(noBrowser, keyboard, elsewhere{t, c.paste, keys}, "sam", "--no-browser")
		_ = keyboard.Close()
		if c.want != "" && (got.code != exitFailed || !strings.Contains(got.stderr, c.want) || got.stdout != "") {
			t.Errorf("%s: exit code %d, %q, %q; want %q", c.what, got.code, got.stdout, got.stderr, c.want)
		}
		if c.want == "" && (got.code != exitDone || !strings.Contains(got.stdout, "sam is connected")) {
			t.Errorf("%s: exit code %d, %q, %q", c.what, got.code, got.stdout, got.stderr)
		}
	}
	w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
	w.leaksNothing()
}

func TestConnectIsRefused(t *testing.T) {
	w := startGoogle(t, ritaAndSam+viaOAuth+"\n  - {id: tim, address: tim@example.com, gmail: {service_account_file: account.json}}"+
		"\n  - {id: uma, address: uma@example.com, gmail: {client_file: none.json}}", googleNora)
	for _, c := range []struct {
		what, mailbox string
		consent       gmailtest.Consent
		want          string
	}{
		{"of an unknown mailbox", "nobody", gmailtest.Consent{}, `no mailbox "nobody" in the configuration`},
		{"of an IMAP mailbox", "rita", gmailtest.Consent{}, `mailbox "rita" is read over IMAP and needs no consent`},
		{"of a service account's mailbox", "tim", gmailtest.Consent{}, `mailbox "tim" is opened by a service account and needs no consent`},
		{"without the client's file", "uma", gmailtest.Consent{}, "gmail.client_file: secret file"},
		{"by another account", "sam", gmailtest.Consent{Account: "tim@example.com"}, "another account"},
		{"by a user who says no", "sam", gmailtest.Consent{Account: "sam@example.com", Deny: "access_denied"}, "access_denied"},
		{"of another scope", "sam", gmailtest.Consent{Account: "sam@example.com", Scopes: []string{gmail.ModeSearch.Scope()}}, "was not granted"},
	} {
		w.google.SetConsent(c.consent)
		if got := w.connect(c.mailbox); got.code != exitFailed || !strings.Contains(got.stderr, c.want) || got.stdout != "" {
			t.Errorf("%s: exit code %d, %q, %q; want %q", c.what, got.code, got.stdout, got.stderr, c.want)
		}
		if token, err := w.daemon.store.Secret(t.Context(), c.mailbox, refreshToken); err != nil || token != nil {
			t.Errorf("%s: a token was kept, or %v", c.what, err)
		}
	}
	client := admin.NewClient(w.console.socket)
	defer client.Close()
	for mailbox, want := range map[string]string{"rita": "over IMAP", "tim": "service account", "nobody": "no mailbox"} {
		if err := client.SetToken(t.Context(), mailbox, "1//stolen"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a token for %s: %v", mailbox, err)
		}
	}
	if err := client.SetToken(t.Context(), "sam", ""); err == nil {
		t.Error("no token was taken for one")
	}
	w.leaksNothing()
}

// A mailbox keeps its id when it moves: nothing is delivered twice, and what
// comes later is delivered from where it lives then.
func TestAMailboxMovesBetweenIMAPAndGmail(t *testing.T) {
	const viaIMAP = `  - {id: sam, address: sam@example.com, imap: {username: sam-imap}}`
	const viaGmail = `  - {id: sam, address: sam@example.com, gmail: {service_account_file: account.json}}`
	for _, c := range []struct{ what, first, then string }{{"to Gmail", viaIMAP, viaGmail}, {"to IMAP", viaGmail, viaIMAP}} {
		t.Run(c.what, func(t *testing.T) {
			w := startGoogle(t, ritaAndSam+c.first, googleNora)
			w.awaitReceived("both: rita sam", "rita-only: rita", "sam-only: sam")
			matched, observed := w.events("thread.matched"), w.events("message.observed")
			w.reload(ritaAndSam + c.then)
			for range 2 {
				if got := w.console.run(t, "sync", "sam"); got.code != exitDone {
					t.Fatalf("polling at the new place: %s%s", got.stdout, got.stderr)
				}
			}
			if m := w.events("thread.matched"); m != matched || w.events("message.observed") != observed {
				t.Errorf("the move was delivered: %d events of matches, before %d", m, matched)
			}
			if c.what == "to Gmail" {
				if strings.Count(w.log.String(), "event=cursor_reset") != 1 {
					t.Error("the log does not say once that the window was walked again")
				}
				late := fromNora("sam", "late", 0)
				w.google.Account("sam@example.com").Deliver(gmailtest.ParseMail(string(late.Raw)))
				w.console.run(t, "sync", "sam")
				w.awaitReceived("both: rita sam", "late: sam", "rita-only: rita", "sam-only: sam")
			}
			w.leaksNothing()
		})
	}
}

func TestMailboxesFollowTheUsers(t *testing.T) {
	const rule = "mailboxes_from_users: {domain: example.com, gmail: {service_account_file: account.json}}\n"
	const ritasOwn = `{"kind":"user","ref":"usr_7","emails":["rita@example.com"]}`
	const away = `{"kind":"user","ref":"usr_5","emails":["away@example.com"],"state":"disabled"}`
	w := startGoogle(t, rule+ritaAndSam, googleNora, samsOwn, ritasOwn, away)
	w.awaitReceived("both: rita usr_9", "rita-only: rita", "sam-only: usr_9")
	if ids := w.mailboxes(); !slices.Equal(ids, []string{"rita", "usr_9"}) {
		t.Errorf("mailboxes %q: want no second one of rita, and none of a user who never was enabled", ids)
	}

	w.directory(googleNora, strings.Replace(samsOwn, `"emails"`, `"state":"disabled","emails"`, 1), ritasOwn, away)
	w.console.run(t, "reload")
	w.await("a disabled user's mailbox is suspended", func() bool { return w.state("usr_9") == store.MailboxSuspended })
	w.directory(googleNora, samsOwn, ritasOwn, away)
	w.console.run(t, "reload")
	w.await("an enabled user's mailbox goes on", func() bool { return w.state("usr_9") == store.MailboxActive })

	w.must(w.daemon.store.SetSecret(t.Context(), "usr_9", refreshToken, []byte("1//kept")))
	w.console.run(t, "directory", "delete", "user", "usr_9")
	w.await("a deleted user's mailbox is removed", func() bool { return w.state("usr_9") == store.MailboxRemoved })
	w.await("and its credentials go", func() bool {
		token, err := w.daemon.store.Secret(t.Context(), "usr_9", refreshToken)
		return err == nil && token == nil
	})
	if ids := w.mailboxes(); !slices.Equal(ids, []string{"rita"}) {
		t.Errorf("mailboxes %q", ids)
	}
	w.leaksNothing()
}

func (w *googleWorld) mailboxes() (ids []string) {
	for _, m := range w.daemon.cfg.Load().Mailboxes {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestCredentialsOfSuspendedMailboxesGo(t *testing.T) {
	for _, c := range []struct {
		what, retention string
		kept            bool
	}{
		{"after their time, which has not come", "", true},
		{"at once, if that is the time", "retention: {suspended_credentials: 0s}\n", false},
	} {
		w := startGoogle(t, c.retention+ritaAndSam+viaOAuth, googleNora, samsOwn)
		w.await("it asks to be connected", func() bool { return w.state("sam") == store.MailboxUnauthorized })
		w.must(w.daemon.store.SetSecret(t.Context(), "sam", refreshToken, []byte("1//kept")))
		w.directory(googleNora, strings.Replace(samsOwn, `"emails"`, `"state":"disabled","emails"`, 1))
		w.console.run(t, "reload")
		w.await("it is suspended", func() bool { return w.state("sam") == store.MailboxSuspended })
		w.must(w.daemon.dropCredentials(t.Context()))
		token, err := w.daemon.store.Secret(t.Context(), "sam", refreshToken)
		if err != nil || (token != nil) != c.kept {
			t.Errorf("%s: kept is %v, %v", c.what, token != nil, err)
		}
	}
}

func TestCheckOfGmailMailboxes(t *testing.T) {
	w := startGoogle(t, ritaAndSam+viaOAuth+"\n  - {id: tim, address: tim@example.com, gmail: {service_account_file: account.json}}", googleNora)
	w.google.Account("tim@example.com").Deliver(gmailtest.ParseMail(string(fromNora("tim", "tims", time.Hour).Raw)))
	got := w.console.run(t, "check", "--connect", "--config", w.path("config.yaml"))
	for _, line := range []string{
		"ok  gmail mode metadata: scope gmail.metadata, which shows no body;",
		"ok  mailbox sam: not tried, its user's consent lies with the daemon: `mailsyncd sync sam` tries it",
		"ok  mailbox tim: 1 messages in the last 14d, 1 match\n",
	} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("check does not say %q:\n%s", line, got.stdout)
		}
	}
	if got.code != exitDone {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	w.write("client.json", `{"web":{"client_id":"x"}}`)
	if got := w.console.run(t, "check", "--config", w.path("config.yaml")); got.code != exitFailed || !strings.Contains(got.stdout, "client.json: this is not the file of an OAuth client of the type \"Desktop app\"") {
		t.Errorf("with a client of another type: exit code %d:\n%s", got.code, got.stdout)
	}
	w.write("users.json", `{"type":"service_account"}`)
	w.directory(googleNora, samsOwn)
	w.configure("mailboxes_from_users: {domain: example.com, gmail: {service_account_file: users.json}}\n" + ritaAndSam)
	if got := w.console.run(t, "check", "--config", w.path("config.yaml")); got.code != exitFailed || !strings.Contains(got.stdout, "users.json: the key of the service account is not a JSON key file") {
		t.Errorf("with a broken key for users' mailboxes: exit code %d:\n%s", got.code, got.stdout)
	}
	w.configure(ritaAndSam + "  - {id: tim, address: tim@example.com, gmail: {service_account_file: account.json}}")
	w.google.Delegate()
	if got := w.console.run(t, "check", "--connect", "--config", w.path("config.yaml")); got.code != exitFailed || !strings.Contains(got.stdout, "!!  mailbox tim: ") {
		t.Errorf("without delegation: exit code %d:\n%s", got.code, got.stdout)
	}
}
