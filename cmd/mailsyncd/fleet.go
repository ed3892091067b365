package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
)

const (
	// A refused credential is tried this often by itself; a changed file or
	// `mailbox resume` tries it at once.
	probeEvery = time.Hour
	// Polling that stopped for a reason of ours (no directory yet, outbox full)
	// is tried again after this: it costs one look at the store.
	stoppedRetry = time.Minute
)

// fleet keeps the scheduled mailboxes equal to what the configuration lists,
// what operators paused, and which users are enabled.
type fleet struct {
	fleetParts
	schedule *schedule.Scheduler

	// cfg is the configuration in force; only apply, which runs alone, touches it.
	cfg *config.Config

	mu      sync.Mutex
	members map[string]*member
}

// fleetParts is what a fleet is made of.
type fleetParts struct {
	store     store.Store
	directory func() *directory.Snapshot
	matcher   func() *matcher.Matcher
	// dial makes the opener of a mailbox's sessions.
	dial    func(config.Mailbox) (providers.Opener, error)
	metrics *mailbox.Metrics
	log     *slog.Logger
}

// member is one configured mailbox.
type member struct {
	cfg  config.Mailbox
	box  *mailbox.Mailbox
	last pass // the newest pass of this process
	// whole tells that a pass of this process got to its end.
	whole bool
	// calls wait for a reconcile, which the next pass serves.
	calls []*reconcileCall
}

// pass is how a pass ended.
type pass struct {
	began, ended time.Time
	report       mailbox.Report
	err          error
}

// settings are what all mailboxes share; a change makes them anew.
type settings struct {
	backfill  time.Duration
	reconcile time.Duration
	privacy   mailbox.Privacy
	link      string
}

func sharedSettings(cfg *config.Config) settings {
	return settings{
		backfill: cfg.Sync.Backfill, reconcile: cfg.Sync.Reconcile,
		privacy: mailbox.Privacy{
			OmitSubject: cfg.Privacy.Subject == config.PrivacyOmit,
			OmitOthers:  cfg.Privacy.OtherAddresses == config.PrivacyOmit,
		},
		link: cfg.Webhook.LinkTemplate,
	}
}

func newFleet(parts fleetParts, limits schedule.Limits) *fleet {
	f := &fleet{fleetParts: parts, cfg: &config.Config{}, members: map[string]*member{}}
	f.schedule = schedule.New(schedule.Config{
		Run: f.pass, Limits: limits, ProbeEvery: probeEvery, Log: parts.log,
	})
	return f
}

// apply makes the members those of cfg. A mailbox that did not change keeps its
// pass in progress; one that changed ends it and begins anew from its cursor.
func (f *fleet) apply(ctx context.Context, cfg *config.Config) error {
	changes := config.Compare(f.cfg, cfg)
	anew := map[string]bool{}
	for _, id := range slices.Concat(changes.Added, changes.Changed) {
		anew[id] = true
	}
	all := sharedSettings(cfg) != sharedSettings(f.cfg)
	f.cfg = cfg
	var errs []error
	for _, id := range changes.Removed {
		errs = append(errs, f.drop(ctx, id))
	}
	for _, m := range cfg.Mailboxes {
		if all || anew[m.ID] {
			errs = append(errs, f.replace(ctx, m))
		}
	}
	return errors.Join(errs...)
}

// replace adds a mailbox or puts a changed one in the place of the old.
func (f *fleet) replace(ctx context.Context, cfg config.Mailbox) error {
	opener, err := f.dial(cfg)
	if err != nil {
		return fmt.Errorf("mailbox %s: %w", cfg.ID, err)
	}
	<-f.schedule.Remove(cfg.ID)
	f.mu.Lock()
	m := &member{cfg: cfg, box: f.newBox(cfg, opener)}
	f.members[cfg.ID] = m
	f.mu.Unlock()
	return f.arrange(ctx, m)
}

func (f *fleet) newBox(cfg config.Mailbox, opener providers.Opener) *mailbox.Mailbox {
	shared := sharedSettings(f.cfg)
	return mailbox.New(mailbox.Config{
		ID: cfg.ID, User: cfg.User, Provider: cmp.Or(string(cfg.Provider), string(config.ProviderIMAP)), Opener: opener,
		Store: f.store, Matcher: f.matcher, Metrics: f.metrics, Log: f.log,
		Directory: func() mailbox.Snapshot {
			if snap := f.directory(); snap != nil {
				return snap
			}
			return nil // not a nil *Snapshot in a non-nil interface
		},
		Backfill: shared.backfill, Reconcile: shared.reconcile, WalkEvery: walkEvery(cfg),
		Privacy: shared.privacy, Link: shared.link,
	})
}

// walkEvery is how often old mail may be walked over: at once where that is
// cheap, and once a day where every header costs quota.
func walkEvery(cfg config.Mailbox) time.Duration {
	if cfg.Provider == config.ProviderGmail && cfg.Gmail.Mode == config.GmailMetadata {
		return 24 * time.Hour
	}
	return 0
}

// drop stops a mailbox that left the configuration. Maintenance takes its cursor
// later.
func (f *fleet) drop(ctx context.Context, id string) error {
	<-f.schedule.Remove(id)
	m := f.member(id)
	f.mu.Lock()
	delete(f.members, id)
	f.mu.Unlock()
	if m == nil {
		return nil
	}
	// Its credentials go now; its cursor stays, in case it comes back.
	return errors.Join(m.box.Leave(ctx), f.store.DropSecrets(ctx, id, time.Now()))
}

// arrange schedules a mailbox, or not, as its state and its user's want it.
func (f *fleet) arrange(ctx context.Context, m *member) error {
	if err := f.settleUser(ctx, m); err != nil {
		return err
	}
	row, err := m.box.Row(ctx)
	if err != nil {
		return err
	}
	switch row.State {
	case store.MailboxPaused, store.MailboxSuspended:
		<-f.schedule.Remove(m.cfg.ID)
		return nil
	case store.MailboxRemoved: // it is back in the configuration
		if err := m.box.Resume(ctx); err != nil {
			return err
		}
	}
	f.schedule.Set(m.cfg.ID, entry(m.cfg, row))
	return nil
}

// entry is what the schedule knows of a mailbox after a restart.
func entry(cfg config.Mailbox, row store.Mailbox) schedule.Entry {
	e := schedule.Entry{
		Host: pacedHost(cfg), Interval: cfg.Interval,
		LastSuccess: row.LastSuccess, NotBefore: row.RetryAt, Tries: row.Tries,
	}
	if row.State == store.MailboxUnauthorized && !changedSince(cfg.SecretFile(), row.Since) {
		e.Parked, e.ProbeAfter = true, probeEvery
	}
	return e
}

// pacedHost is what sync.per_host counts for. Gmail mailboxes are paced by
// Google's quota instead: each is a host of its own, with a name that no host
// can have.
func pacedHost(cfg config.Mailbox) string {
	if cfg.Provider == config.ProviderGmail {
		return "gmail/" + cfg.ID
	}
	return cfg.IMAP.Host
}

// changedSince tells that a file was written after a time: a credential that
// was mended while the daemon was down is tried at its start.
func changedSince(file string, t time.Time) bool {
	info, err := os.Stat(file)
	return err == nil && info.ModTime().After(t)
}

// settleUser suspends the mailbox of a disabled user and lets it go on again. A
// user without a record, and a mailbox without a user, count as enabled; so
// does everybody until the directory is there.
func (f *fleet) settleUser(ctx context.Context, m *member) error {
	snap := f.directory()
	if m.cfg.User == "" || snap == nil {
		return nil
	}
	if state, known := snap.User(m.cfg.User); known && state == directory.UserDisabled {
		err := m.box.Suspend(ctx)
		if err == nil && f.cfg.Retention.SuspendedCredentials == 0 {
			err = f.store.DropSecrets(ctx, m.cfg.ID, time.Now())
		}
		return err
	}
	return m.box.Unsuspend(ctx)
}

// usersChanged brings every mailbox into line with its user.
func (f *fleet) usersChanged(ctx context.Context) error {
	var errs []error
	for _, id := range f.ids() {
		if m := f.member(id); m != nil && m.cfg.User != "" {
			errs = append(errs, f.userChanged(ctx, m))
		}
	}
	return errors.Join(errs...)
}

func (f *fleet) userChanged(ctx context.Context, m *member) error {
	before, err := m.box.Row(ctx)
	if err != nil {
		return err
	}
	if err := f.settleUser(ctx, m); err != nil {
		return err
	}
	after, err := m.box.Row(ctx)
	if err != nil || before.State == after.State {
		return err
	}
	return f.arrange(ctx, m)
}

// pass is what the schedule runs for a key.
func (f *fleet) pass(ctx context.Context, id string) schedule.Verdict {
	m := f.member(id)
	if m == nil {
		return schedule.Verdict{}
	}
	began := time.Now()
	report, err := m.box.Pass(ctx)
	f.mu.Lock()
	m.last = pass{began: began, ended: time.Now(), report: report, err: err}
	m.whole = m.whole || err == nil && !report.More
	f.mu.Unlock()
	f.serve(ctx, m, err)
	return verdict(report, err)
}

// verdict says what a pass's outcome means for when the next one is.
func verdict(report mailbox.Report, err error) schedule.Verdict {
	v := schedule.Verdict{Err: err, Again: err == nil && report.More}
	var throttled *providers.ThrottledError
	switch {
	case errors.Is(err, mailbox.ErrNotReady), errors.Is(err, store.ErrFull):
		v.RetryAfter = stoppedRetry
	case errors.As(err, &throttled):
		v.RetryAfter = throttled.After
	case providers.Classify(err) == providers.ClassUnauthorized:
		v.Park, v.ProbeAfter = true, probeEvery
	case providers.Classify(err) == providers.ClassNetwork:
		v.HostDown = true
	}
	return v
}

// filesChanged tries the mailboxes at once whose credential or CA changed.
func (f *fleet) filesChanged(ids []string) {
	for _, id := range ids {
		// Unknown: it is paused or suspended, and reads the file when it is not.
		_ = f.schedule.Unpark(id)
	}
}

// pause and resume are an operator's words. Resuming tries at once.
func (f *fleet) pause(ctx context.Context, m *member) error {
	if err := m.box.Pause(ctx); err != nil {
		return err
	}
	<-f.schedule.Remove(m.cfg.ID)
	return nil
}

func (f *fleet) resume(ctx context.Context, m *member) error {
	if err := m.box.Resume(ctx); err != nil {
		return err
	}
	if err := f.arrange(ctx, m); err != nil {
		return err
	}
	_ = f.schedule.Unpark(m.cfg.ID) // unknown: its user is disabled
	return nil
}

// nudge has a mailbox polled soon, or with "" every one that may be tried
// without being named, and does not wait for it.
func (f *fleet) nudge(id string) {
	ctx, gone := context.WithCancel(context.Background())
	gone() // nobody waits
	if id == "" {
		f.schedule.KickAll(ctx)
		return
	}
	_ = f.schedule.Kick(ctx, id) // what cannot be polled now is polled when it can
}

// forget erases a mailbox's rows. One that is still configured begins again
// like a new one.
func (f *fleet) forget(ctx context.Context, id string) error {
	<-f.schedule.Remove(id)
	if err := f.store.ForgetMailbox(ctx, id, time.Now()); err != nil {
		return fmt.Errorf("erasing mailbox %s: %w", id, err)
	}
	if m := f.member(id); m != nil {
		return f.arrange(ctx, m)
	}
	return nil
}

func (f *fleet) member(id string) *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[id]
}

// lastPass returns the newest pass of this process over a mailbox.
func (f *fleet) lastPass(m *member) pass {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.last
}

// polledWhole tells that a pass of this process over a mailbox got to its end.
func (f *fleet) polledWhole(m *member) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.whole
}

func (f *fleet) ids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]string, 0, len(f.members))
	for id := range f.members {
		ids = append(ids, id)
	}
	return ids
}
