package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsyncd/config"
	"mailsyncd/matcher"
	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail/gmailtest"
	"mailsyncd/store/bolt"
)

func newDemoCommand(env *environment) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "the whole job with nothing to set up; ends by itself",
		Long: `Starts a mail server, a directory and a webhook receiver inside this process,
syncs two IMAP mailboxes and one of Gmail as the daemon does, and shows every
mail with its decision and the threads that were delivered; then a candidate who
comes after the mail, an explanation, and a purge. It writes to a temporary folder
only.`,
		Args: wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), env.stdout, env.stderr, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running, for status and the other commands, with --socket")
	return cmd
}

// demoDeadline bounds the demo's sync; it takes well under a second.
const demoDeadline = 30 * time.Second

// demo is everything the demo stands on.
type demo struct {
	mails    []demoMail
	cfg      *config.Config
	receiver *demoReceiver
	daemon   *daemon
}

// runDemo sets up, syncs, shows, and takes everything down again.
func runDemo(ctx context.Context, stdout, stderr io.Writer, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "mailsyncd-demo-")
	if err != nil {
		return fmt.Errorf("making the demo's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	mails, err := parseDemoMails(demoMails, time.Now())
	if err != nil {
		return fmt.Errorf("the demo's mails: %w", err)
	}
	addr, stopServer, err := startDemoServer(mails)
	if err != nil {
		return err
	}
	defer stopServer()
	google := startDemoGmail(mails)
	defer google.Close()
	d := &demo{mails: mails}
	if err := d.prepare(dir, addr, google); err != nil {
		return err
	}
	defer d.receiver.stop()
	if d.daemon, err = newDaemon(d.cfg, stderr, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.daemon.close()) }()
	return d.while(ctx, func(ctx context.Context) error {
		if err := d.show(ctx, stdout); err != nil || !keep {
			return err
		}
		fmt.Fprintf(stdout, "\nStill running. Try: mailsyncd --socket %s status\nCtrl-C ends it.\n", d.cfg.Admin.Socket)
		<-ctx.Done()
		return nil
	})
}

// prepare writes the files a configuration names and makes that configuration.
func (d *demo) prepare(dir string, addr *net.TCPAddr, google *gmailtest.Server) error {
	path := func(name string) string { return filepath.Join(dir, name) }
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	secret := "whsec_" + base64.StdEncoding.EncodeToString(raw)
	for name, content := range map[string][]byte{
		"webhook.secret": []byte(secret), "password": []byte(demoPassword), "directory.jsonl": demoDirectory,
	} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			return fmt.Errorf("writing the demo's files: %w", err)
		}
	}
	if err := bolt.NewKeyFile(path("key")); err != nil {
		return err
	}
	receiver, err := startDemoReceiver(secret)
	if err != nil {
		return err
	}
	d.receiver = receiver

	cfg := config.Default()
	cfg.File = path("config.yaml")
	cfg.Company.Domains = []string{"example.com"}
	cfg.Company.IgnoreFrom = []string{"noreply@ats.example.com"}
	cfg.Store.Path = path("mailsyncd.db")
	cfg.Secrets.KeyFile = path("key")
	cfg.Directory.File = path("directory.jsonl")
	cfg.Webhook.URL, cfg.Webhook.SecretFile = receiver.url, path("webhook.secret")
	cfg.Webhook.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Admin.Socket, cfg.Metrics.Listen = path("admin.sock"), ""
	cfg.Log.Level = config.LogWarn
	for i, id := range []string{"rita", "tom"} {
		cfg.Mailboxes = append(cfg.Mailboxes, config.Mailbox{
			ID: id, Address: id + "@example.com", User: fmt.Sprintf("usr_%d", 7+i),
			Interval: cfg.Sync.Interval, IgnoreFolders: []string{"Privat"},
			IMAP: config.IMAP{
				Host: addr.IP.String(), Port: addr.Port, TLS: config.TLSNone, Auth: config.AuthPassword,
				Username: id, PasswordFile: path("password"),
			},
		})
	}
	cfg.Mailboxes[0].Aliases = []string{"rita.keller@example.com"}
	d.cfg = &cfg
	return d.addGmail(&cfg, google, path("google.json"))
}

// while runs the daemon for as long as f takes.
func (d *demo) while(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- d.daemon.run(ctx)
		stop() // a daemon that fails ends f
	}()
	err := f(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// show waits for the sync and prints what came of it.
func (d *demo) show(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoDeadline, errors.New("the demo did not end in time"))
	defer cancel()
	if err := d.settle(ctx); err != nil {
		return err
	}
	seen, err := d.read(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d mails in three mailboxes, and what was decided about each (the sample's own text; the daemon logs none):\n\n", len(d.mails))
	if err := d.decisions(out, seen); err != nil {
		return err
	}
	if err := d.threads(out); err != nil {
		return err
	}
	for _, part := range []func(context.Context, io.Writer) error{d.late, d.why, d.purge} {
		if err := part(ctx, out); err != nil {
			return err
		}
	}
	d.receiver.mu.Lock()
	defer d.receiver.mu.Unlock()
	fmt.Fprintf(out, "\nNothing of the other %d mails left the mailboxes.\n", len(d.mails)-d.copies())
	return nil
}

// settle waits until every mailbox was polled and every event delivered.
func (d *demo) settle(ctx context.Context) error {
	select {
	case <-d.daemon.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		st, err := d.daemon.Status(ctx)
		if err != nil {
			return err
		}
		if d.polledAll() && st.Outbox.Pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// polledAll tells that every mailbox had a complete pass.
func (d *demo) polledAll() bool {
	for _, m := range d.cfg.Mailboxes {
		s, known := d.daemon.fleet.schedule.Status(m.ID)
		if !known || s.LastSuccess.IsZero() {
			return false
		}
	}
	return true
}

// read fetches every header again, those of ignored folders too: the daemon
// keeps nothing of a mail that did not match, so a decision is explained by
// taking it again.
func (d *demo) read(ctx context.Context) (map[string]providers.Message, error) {
	seen := map[string]providers.Message{}
	for _, m := range d.cfg.Mailboxes {
		opener, err := d.daemon.fleet.dial(m)
		if err != nil {
			return nil, err
		}
		session, err := opener.Open(ctx)
		if err != nil {
			return nil, err
		}
		err = d.readMailbox(ctx, m.ID, session, seen)
		if err = errors.Join(err, session.Close()); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

func (d *demo) readMailbox(ctx context.Context, id string, session providers.Mailbox, seen map[string]providers.Message) error {
	var cur providers.Cursor
	for more := true; more; {
		page, err := session.Search(ctx, providers.Query{Since: time.Now().AddDate(0, -6, 0)}, cur)
		if err != nil {
			return err
		}
		for _, msg := range page.Messages {
			seen[demoKey(id, msg.Folder, &msg.Header)] = msg
		}
		cur, more = page.Next, page.More
	}
	for _, m := range d.mails {
		h := message.Parse(m.Raw)
		if _, have := seen[demoKey(id, m.place(), &h)]; have || m.Mailbox != id {
			continue
		}
		found, err := session.Find(ctx, h.MessageID)
		if err != nil {
			return err
		}
		for _, msg := range found {
			seen[demoKey(id, msg.Folder, &msg.Header)] = msg
		}
	}
	return nil
}

// demoKey names one copy of a mail.
func demoKey(mailbox, folder string, h *message.Header) string {
	return mailbox + " " + folder + " " + h.ID()
}

// decisions prints the table: every mail, what was decided, and why.
func (d *demo) decisions(out io.Writer, seen map[string]providers.Message) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MAILBOX\tFOLDER\tSUBJECT\tDECISION\tREASON")
	guards, snap := d.daemon.guards.Load(), d.daemon.snapshot()
	for _, m := range d.mails {
		h := message.Parse(m.Raw)
		msg, found := seen[demoKey(m.Mailbox, m.place(), &h)]
		if !found {
			return fmt.Errorf("the mail %q in %s of %s was not read back", m.subject(), m.Folder, m.Mailbox)
		}
		decision := guards.Decide(matcher.Mail{
			Header: &msg.Header, Mailbox: m.Mailbox, Arrival: msg.Arrival,
			Horizon: time.Now().Add(-d.cfg.Sync.Backfill), Ignored: msg.Ignored,
		}, snap)
		what, why := explained(decision)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Mailbox, m.Folder, clean(cut(msg.Header.Subject, 44)), what, clean(why))
	}
	return w.Flush()
}

// explained puts a decision into words.
func explained(d matcher.Decision) (what, why string) {
	var reasons []string
	for _, m := range d.Matches {
		reasons = append(reasons, fmt.Sprintf("%s in %s", m.Ref, strings.Join(m.Fields, ", ")))
	}
	refusals := map[string]bool{}
	for _, r := range d.Refusals {
		text := fmt.Sprintf("%s: %s", r.Guard, r.Detail)
		if !refusals[text] {
			refusals[text] = true
			reasons = append(reasons, text)
		}
	}
	switch {
	case len(d.Matches) > 0:
		what = "MATCH " + string(d.Direction)
	case len(d.Refusals) > 0:
		what = "refused"
	default:
		what, reasons = "-", []string{"names no candidate"}
	}
	return what, strings.Join(reasons, "; ")
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// threads prints what the receiver has: threads, oldest message first.
func (d *demo) threads(out io.Writer) error {
	r := d.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused > 0 {
		return fmt.Errorf("the receiver refused %d of %d posts", r.refused, r.posts)
	}
	byThread := map[string][]*demoMessage{}
	for _, m := range r.messages {
		byThread[r.root(m.thread)] = append(byThread[r.root(m.thread)], m)
	}
	var ids []string
	for id, ms := range byThread {
		slices.SortFunc(ms, func(a, b *demoMessage) int { return cmp.Or(a.date.Compare(b.date), cmp.Compare(a.subject, b.subject)) })
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(byThread[a][0].date.Compare(byThread[b][0].date), cmp.Compare(a, b))
	})
	fmt.Fprintf(out, "\n%d threads with %d messages were delivered in %d signed posts, every signature verified:\n",
		len(ids), len(r.messages), r.posts)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, id := range ids {
		fmt.Fprintf(w, "\n%s\n", id)
		for _, m := range byThread[id] {
			fmt.Fprintf(w, "  %s\t%s\t%s\tfor %s\tseen in %s\n", m.date.Local().Format("Jan _2 15:04"), m.direction,
				clean(cut(m.subject, 50)), strings.Join(m.refs, ", "), strings.Join(m.mailboxes, ", "))
		}
	}
	return w.Flush()
}

// copies counts the mails of the sample that were delivered, each copy.
func (d *demo) copies() (n int) {
	for _, m := range d.receiver.messages {
		n += len(m.mailboxes)
	}
	return n
}
