package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/imap"
	"mailsyncd/store/bolt"
	"mailsyncd/sync/mailbox"
	"mailsyncd/webhook"
)

// errCheck ends a check that found something; what it found is printed already.
var errCheck = errors.New("not everything is ok; mend the lines marked with !! and check again")

func newCheckCommand(env *environment) *cobra.Command {
	var file string
	var connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "validate the configuration; --connect also tries every mailbox and the webhook",
		Long: `Validates the configuration and the files it names. With --connect it also logs
in to every mailbox, counts what the window holds and what of it matches, and
posts one webhook.test. It changes nothing, and never opens the store.

One line each: ok, or what to do. Exit 2 if the configuration is invalid, 1 if
something else is not ok.`,
		Args: wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return check(cmd.Context(), env.stdout, file, connect)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&connect, "connect", false, "log in to every mailbox and post webhook.test")
	return cmd
}

// checker prints one line per thing and remembers whether all were ok.
type checker struct {
	out io.Writer
	bad bool
}

// say prints the verdict on one thing.
func (c *checker) say(what string, err error, ok string, args ...any) {
	if err != nil {
		c.bad = true
		fmt.Fprintf(c.out, "!!  %s: %s\n", clean(what), cleanLine(err.Error()))
		return
	}
	fmt.Fprintf(c.out, "ok  %s: %s\n", clean(what), cleanLine(fmt.Sprintf(ok, args...)))
}

func check(ctx context.Context, out io.Writer, file string, connect bool) error {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	c := &checker{out: out}
	c.say("configuration", nil, "%s, %d mailboxes", cfg.File, len(cfg.Mailboxes))
	guards, err := matcher.New(guardConfig(cfg))
	c.say("guards", err, "%d staff domains", len(cfg.Company.Domains))
	_, err = bolt.LoadKeys(cfg.Secrets.KeyFile)
	c.say("secrets.key_file", err, "%s", cfg.Secrets.KeyFile)
	c.files(cfg)
	c.gmail(cfg)
	snap := c.directory(cfg.Directory.File)
	poster, err := newPoster(cfg)
	c.say("webhook", err, "signed with %s", cfg.Webhook.SecretFile)
	if snap != nil {
		cfg, _ = cfg.WithUsers(users(snap, func(string) bool { return false }))
	}
	c.googleFiles(cfg)
	switch {
	case connect && guards != nil && snap != nil && poster != nil:
		c.mailboxes(ctx, cfg, guards, snap)
		c.webhook(ctx, poster)
	case connect:
		c.say("--connect", errors.New("not tried: mend the lines above that concern guards, directory.file or webhook first"), "")
	}
	if c.bad {
		return errCheck
	}
	return nil
}

// files names every secret and certificate that cannot be used.
func (c *checker) files(cfg *config.Config) {
	err := cfg.CheckFiles()
	var invalid *config.Error
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			c.say("file", errors.New(p.String()), "")
		}
		return
	}
	c.say("files", err, "every secret and certificate can be read")
}

// directory names every bad line, and returns a snapshot of the good ones.
func (c *checker) directory(file string) *directory.Snapshot {
	f, err := os.Open(file)
	if err != nil {
		c.say("directory.file", fmt.Errorf("%w; let the ATS write it, or create it with one end line", err), "")
		return nil
	}
	defer f.Close()
	sum, bad, err := directory.Check(f, maxLineFaults)
	for _, line := range bad {
		c.say("directory.file", fmt.Errorf("%s:%w", file, line), "")
	}
	if more := sum.Bad - len(bad); more > 0 {
		c.say("directory.file", fmt.Errorf("%d more bad lines", more), "")
	}
	if err == nil && sum.Bad == 0 && sum.Records() == 0 && !sum.Complete {
		err = fmt.Errorf("%s is empty; an empty directory is the line {\"kind\":\"end\",\"records\":0}", file)
	}
	if err != nil || sum.Bad > 0 {
		if err != nil {
			c.say("directory.file", err, "")
		}
		return nil
	}
	note := ""
	if !sum.Complete {
		note = "; without an end line nothing is purged by absence"
	}
	c.say("directory.file", nil, "%s: %d candidates, %d jobs, %d users%s", file, sum.Candidates, sum.Jobs, sum.Users, note)
	snap, err := readSnapshot(file)
	if err != nil {
		c.say("directory.file", err, "")
	}
	return snap
}

// readSnapshot reads a directory file into memory, for a look without a store.
// Jobs first: a candidate is judged by them.
func readSnapshot(file string) (*directory.Snapshot, error) {
	b := directory.NewBuilder(0)
	for _, candidates := range []bool{false, true} {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		for line, lineErr := range directory.Lines(f) {
			rec := line.Record
			if lineErr == nil && rec.Kind != directory.KindEnd && (rec.Kind == directory.KindCandidate) == candidates {
				b.Replace(directory.Stored{}, directory.Stored{Record: rec, Source: directory.SourceFile})
			}
			err = errors.Join(err, lineErr)
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return b.Build(1), nil
}

// windowCount is what one mailbox's window holds.
type windowCount struct {
	messages, matching int
	partial            bool // the quota of the moment ended first
	err                error
}

// mailboxes logs in to each and counts its window, a few at a time.
func (c *checker) mailboxes(ctx context.Context, cfg *config.Config, guards *matcher.Matcher, snap *directory.Snapshot) {
	counts := make([]windowCount, len(cfg.Mailboxes))
	gmails := newGoogle(cfg.Google, slog.New(slog.DiscardHandler))
	g := errgroup.Group{}
	g.SetLimit(max(1, min(cfg.Sync.Concurrency, cfg.Sync.PerHost.Connections)))
	for i, m := range cfg.Mailboxes {
		g.Go(func() error {
			opener, err := openerFor(m, gmails)
			if counts[i].err = err; err == nil && !keptByDaemon(m) {
				counts[i] = countWindow(ctx, opener, m.ID, cfg.Sync.Backfill, guards, snap)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions above never fail
	for i, m := range cfg.Mailboxes {
		c.mailbox(m, counts[i], cfg.Sync.Backfill)
	}
}

// openerFor opens a mailbox without a daemon.
func openerFor(m config.Mailbox, gmails *google) (providers.Opener, error) {
	if m.Provider == config.ProviderGmail {
		return gmails.opener(m)
	}
	return imap.New(imapConfig(m)), nil
}

// keptByDaemon tells that what opens the mailbox lies in the store, which a check
// never opens.
func keptByDaemon(m config.Mailbox) bool {
	return m.Provider == config.ProviderGmail && m.Gmail.ServiceAccountFile == ""
}

// mailbox says what became of one.
func (c *checker) mailbox(m config.Mailbox, n windowCount, backfill time.Duration) {
	what := "mailbox " + m.ID
	switch {
	case n.err != nil:
		c.say(what, fmt.Errorf("%w; %s", n.err, mailbox.ActionFor(string(m.Provider), providers.Classify(n.err))), "")
	case keptByDaemon(m):
		c.say(what, nil, "not tried, its user's consent lies with the daemon: `mailsyncd sync %s` tries it, `mailsyncd connect %s` asks for one", m.ID, m.ID)
	case n.partial:
		c.say(what, nil, "%d messages read, %d match; the quota of this minute is spent, so the rest of the last %s was not counted", n.messages, n.matching,
			config.FormatDuration(backfill))
	default:
		c.say(what, nil, "%d messages in the last %s, %d match", n.messages, config.FormatDuration(backfill), n.matching)
	}
}

// gmail explains what the modes in use mean, one line each.
func (c *checker) gmail(cfg *config.Config) {
	modes := map[config.GmailMode]int{}
	for i := range cfg.Mailboxes {
		if m := &cfg.Mailboxes[i]; m.Provider == config.ProviderGmail {
			modes[m.Gmail.Mode]++
		}
	}
	if f := cfg.MailboxesFromUsers; f.Domain != "" {
		modes[f.Gmail.Mode] += max(0, 1-modes[f.Gmail.Mode])
		c.say("mailboxes_from_users", nil, "users with an address in %s become mailboxes in mode %s", f.Domain, f.Gmail.Mode)
	}
	for _, mode := range []config.GmailMode{config.GmailMetadata, config.GmailSearch} {
		if modes[mode] > 0 {
			c.say("gmail mode "+string(mode), nil, "%s", trade(mode))
		}
	}
}

// googleFiles looks into every key and client file, each once, of users' mailboxes
// too. Those that cannot be read are named with the other files.
func (c *checker) googleFiles(cfg *config.Config) {
	seen := map[string]bool{}
	for i := range cfg.Mailboxes {
		m := &cfg.Mailboxes[i]
		secret, err := config.ReadSecret(m.SecretFile())
		if m.Provider != config.ProviderGmail || seen[m.SecretFile()] || err != nil {
			continue
		}
		seen[m.SecretFile()] = true
		if m.Gmail.ServiceAccountFile != "" {
			err = gmail.CheckServiceAccountKey([]byte(secret.Reveal()))
		} else {
			_, err = gmail.ParseClient([]byte(secret.Reveal()))
		}
		c.say("gmail file "+m.SecretFile(), err, "has what it needs")
	}
}

// trade is what a mode gives and takes.
func trade(mode config.GmailMode) string {
	if mode == config.GmailSearch {
		return "scope gmail.readonly, which could read bodies (mailsyncd never does); old mail of a new candidate comes with the next poll; metadata asks for less and takes up to a day"
	}
	return "scope gmail.metadata, which shows no body; old mail of a new candidate comes within a day, for 20 units of quota a header; search finds it at once, but its scope could read bodies"
}

// countWindow reads the window's headers as a first sync would, and keeps none.
func countWindow(ctx context.Context, opener providers.Opener, id string, backfill time.Duration, guards *matcher.Matcher, snap *directory.Snapshot) (n windowCount) {
	session, err := opener.Open(ctx)
	if err != nil {
		return windowCount{err: err}
	}
	defer session.Close()
	since := time.Now().Add(-backfill)
	var cur providers.Cursor
	for more := true; more; {
		page, err := session.Search(ctx, providers.Query{Since: since}, cur)
		var throttled *providers.ThrottledError
		if errors.As(err, &throttled) && n.messages > 0 {
			n.partial = true
			return n
		}
		if err != nil {
			return windowCount{err: err}
		}
		for i := range page.Messages {
			msg := &page.Messages[i]
			d := guards.Decide(matcher.Mail{
				Header: &msg.Header, Mailbox: id, Arrival: msg.Arrival, Horizon: since, Ignored: msg.Ignored,
			}, snap)
			n.messages++
			if len(d.Matches) > 0 {
				n.matching++
			}
		}
		cur, more = page.Next, page.More
	}
	return n
}

func (c *checker) webhook(ctx context.Context, poster *webhook.HTTPPoster) {
	defer poster.Close()
	c.say("webhook.test", webhook.Test(ctx, poster), "accepted by the receiver")
}
