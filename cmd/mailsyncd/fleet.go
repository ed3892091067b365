package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
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

	// door is held by whoever changes members or their states, so that a mailbox
	// that is being paused is not scheduled by a reload, and that a mailbox is one
	// object at a time. Passes do not need it.
	door gate

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
	cfg    config.Mailbox
	shared settings
	box    *mailbox.Mailbox
	// afresh tells that it is reached in another way than before: what was
	// refused may pass now. It is for the holder of the door.
	afresh bool
	// unsettled tells that the store did not say how the mailbox stands: it is
	// scheduled, but polled only when the store does.
	unsettled bool
	last      pass // the newest pass of this process
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
	// dropSecrets: what logs in to a suspended mailbox is not kept at all.
	dropSecrets bool
	backfill    time.Duration
	reconcile   time.Duration
	privacy     mailbox.Privacy
	link        string
}

func sharedSettings(cfg *config.Config) settings {
	return settings{
		dropSecrets: cfg.Retention.SuspendedCredentials == 0,
		backfill:    cfg.Sync.Backfill, reconcile: cfg.Sync.Reconcile,
		privacy: mailbox.Privacy{
			OmitSubject: cfg.Privacy.Subject == config.PrivacyOmit,
			OmitOthers:  cfg.Privacy.OtherAddresses == config.PrivacyOmit,
		},
		link: cfg.Webhook.LinkTemplate,
	}
}

func newFleet(parts fleetParts, limits schedule.Limits) *fleet {
	f := &fleet{fleetParts: parts, door: newGate(), members: map[string]*member{}}
	f.schedule = schedule.New(schedule.Config{
		Run: f.pass, Limits: limits, ProbeEvery: probeEvery, Log: parts.log,
	})
	return f
}

// apply makes the members those of cfg. A mailbox that did not change keeps its
// pass in progress; one that changed ends it and begins anew from its cursor.
//
// Once begun it goes on to the end, whether or not somebody still waits for it:
// a mailbox that was taken out of the schedule must come back. What failed is
// found again by the next call, which may be with the same cfg.
func (f *fleet) apply(ctx context.Context, cfg *config.Config) error {
	if err := f.door.enter(ctx); err != nil {
		return err
	}
	defer f.door.leave()
	ctx = context.WithoutCancel(ctx)
	changes := config.Compare(&config.Config{Mailboxes: f.configs()}, cfg)
	changed := idSet(slices.Values(slices.Concat(changes.Added, changes.Changed)))
	shared := sharedSettings(cfg)
	errs := []error{f.dropOthers(ctx, cfg)}
	for _, c := range cfg.Mailboxes {
		m := f.member(c.ID)
		switch {
		case changed[c.ID] || m.shared != shared:
			errs = append(errs, f.replace(ctx, c, shared))
		case f.isUnsettled(m):
			errs = append(errs, f.arrange(ctx, m))
		}
	}
	return errors.Join(errs...)
}

// configs lists the members as they were configured.
func (f *fleet) configs() []config.Mailbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]config.Mailbox, 0, len(f.members))
	for _, m := range f.members {
		all = append(all, m.cfg)
	}
	return all
}

func idSet(ids iter.Seq[string]) map[string]bool {
	set := map[string]bool{}
	for id := range ids {
		set[id] = true
	}
	return set
}

// configured is the set of the ids of all mailboxes in a configuration.
func configured(cfg *config.Config) map[string]bool {
	return idSet(func(yield func(string) bool) {
		for i := range cfg.Mailboxes {
			if !yield(cfg.Mailboxes[i].ID) {
				return
			}
		}
	})
}

// replace adds a mailbox or puts a changed one in the place of the old.
func (f *fleet) replace(ctx context.Context, cfg config.Mailbox, shared settings) error {
	opener, err := f.dial(cfg)
	if err != nil {
		return fmt.Errorf("mailbox %s: %w", cfg.ID, err)
	}
	<-f.schedule.Remove(cfg.ID)
	m := &member{cfg: cfg, shared: shared, box: f.newBox(cfg, shared, opener)}
	if was := f.member(cfg.ID); was != nil {
		m.afresh = was.afresh || was.cfg.Provider != cfg.Provider || was.cfg.IMAP != cfg.IMAP || was.cfg.Gmail != cfg.Gmail
	}
	f.mu.Lock()
	f.members[cfg.ID] = m
	f.mu.Unlock()
	return f.arrange(ctx, m)
}

func (f *fleet) newBox(cfg config.Mailbox, shared settings, opener providers.Opener) *mailbox.Mailbox {
	return mailbox.New(mailbox.Config{
		ID: cfg.ID, User: cfg.User, Provider: cmp.Or(string(cfg.Provider), string(config.ProviderIMAP)), Opener: opener,
		Store: f.store, Matcher: f.matcher, Metrics: f.metrics, Log: f.log,
		Directory: func() mailbox.Snapshot {
			if snap := f.directory(); snap != nil {
				return snap
			}
			return nil // not a nil *Snapshot in a non-nil interface
		},
		Backfill: shared.backfill, Reconcile: shared.reconcile,
		WalkEvery: walkEvery(cfg, shared), Searches: searches(cfg),
		Privacy: shared.privacy, Link: shared.link,
	})
}

// walkEvery is how often old mail may be walked over: at once where that is
// cheap, and once a day where every header costs quota. In search mode that walk
// is the daily reconcile's; without one, look-backs only ask.
func walkEvery(cfg config.Mailbox, shared settings) time.Duration {
	if cfg.Provider == config.ProviderGmail && (cfg.Gmail.Mode == config.GmailMetadata || shared.reconcile > 0) {
		return 24 * time.Hour
	}
	return 0
}

// walksDaily tells that a mailbox's old mail is read in one walk a day.
func (f *fleet) walksDaily(id string) bool {
	m := f.member(id)
	return m != nil && walkEvery(m.cfg, m.shared) > 0
}

// searches tells that Google is asked for old mail first. Who switched the daily
// reconcile off takes its answer for the whole.
func searches(cfg config.Mailbox) bool {
	return cfg.Provider == config.ProviderGmail && cfg.Gmail.Mode == config.GmailSearch
}

// dropOthers stops the mailboxes that are not configured: members that were, and
// those that left the configuration while no daemon ran. Their cursors stay for a
// while, in case they come back; maintenance takes them.
func (f *fleet) dropOthers(ctx context.Context, cfg *config.Config) error {
	keep := configured(cfg)
	for _, id := range f.ids() {
		if !keep[id] {
			<-f.schedule.Remove(id)
			f.mu.Lock()
			delete(f.members, id)
			f.mu.Unlock()
		}
	}
	rows, err := f.store.Mailboxes(ctx)
	if err != nil {
		return fmt.Errorf("listing the mailboxes: %w", err)
	}
	var errs []error
	for _, row := range rows {
		if !keep[row.ID] && row.State != store.MailboxRemoved {
			box := f.newBox(config.Mailbox{ID: row.ID}, settings{}, nil)
			// Its credentials go now; its cursor stays, in case it comes back.
			errs = append(errs, box.Leave(ctx), f.store.DropSecrets(ctx, row.ID, time.Now()))
		}
	}
	return errors.Join(errs...)
}

// arrange schedules a mailbox, or not, as its state and its user's want it. If
// the store does not say, it is scheduled, and its passes ask again.
func (f *fleet) arrange(ctx context.Context, m *member) error {
	row, err := f.settled(ctx, m)
	f.mu.Lock()
	m.unsettled = err != nil
	f.mu.Unlock()
	if notPolled(row.State) {
		<-f.schedule.Remove(m.cfg.ID)
	} else {
		f.schedule.Set(m.cfg.ID, entry(m.cfg, row))
	}
	if err != nil {
		return fmt.Errorf("mailbox %s: %w", m.cfg.ID, err)
	}
	if m.afresh && row.Tries > 0 {
		_ = f.schedule.Unpark(m.cfg.ID) // unknown: it is not polled
	}
	m.afresh = false
	return nil
}

// settled brings a mailbox's row into line with its user and the configuration,
// which it is in. The row is right as far as it could be read.
func (f *fleet) settled(ctx context.Context, m *member) (store.Mailbox, error) {
	unsettled := f.settleUser(ctx, m)
	row, err := m.box.Row(ctx)
	if err == nil && row.State == store.MailboxRemoved { // it is back
		err = m.box.Resume(ctx)
	}
	return row, errors.Join(unsettled, err)
}

// notPolled tells that a mailbox in this state is not in the schedule.
func notPolled(s store.MailboxState) bool {
	return s == store.MailboxPaused || s == store.MailboxSuspended
}

// entry is what the schedule knows of a mailbox after a restart.
func entry(cfg config.Mailbox, row store.Mailbox) schedule.Entry {
	e := schedule.Entry{
		Host: pacedHost(cfg), Interval: cfg.Interval,
		LastSuccess: row.LastSuccess, NotBefore: row.RetryAt, Tries: row.Tries,
	}
	if cfg.Provider == config.ProviderGmail && row.Class == string(providers.ClassThrottled) {
		// The limiter knows how long, and with which budget, better than a row of an
		// earlier process.
		e.NotBefore, e.Tries = time.Time{}, 0
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
	if m.cfg.User == "" {
		return m.box.Unsuspend(ctx) // it may have had one
	}
	if snap == nil {
		return nil
	}
	if state, known := snap.User(m.cfg.User); known && state == directory.UserDisabled {
		err := m.box.Suspend(ctx)
		if err == nil && m.shared.dropSecrets {
			err = f.store.DropSecrets(ctx, m.cfg.ID, time.Now())
		}
		return err
	}
	return m.box.Unsuspend(ctx)
}

// usersChanged brings every mailbox into line with its user.
func (f *fleet) usersChanged(ctx context.Context) error {
	if err := f.door.enter(ctx); err != nil {
		return err
	}
	defer f.door.leave()
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, id := range f.ids() {
		m := f.member(id)
		if m.cfg.User == "" {
			continue
		}
		if err := f.userChanged(ctx, m); err != nil {
			f.doubt(m)
			errs = append(errs, err)
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
	if err := f.mayPoll(ctx, m); err != nil {
		f.serve(ctx, m, err)
		return schedule.Verdict{Err: err, RetryAfter: stoppedRetry}
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

// mayPoll asks the store about a mailbox that is scheduled although the store
// did not say whether it is paused.
func (f *fleet) mayPoll(ctx context.Context, m *member) error {
	if !f.isUnsettled(m) {
		return nil
	}
	row, err := f.settled(ctx, m)
	if err == nil && notPolled(row.State) {
		err = fmt.Errorf("the mailbox is %s", row.State)
	}
	return err
}

// verdict says what a pass's outcome means for when the next one is.
func verdict(report mailbox.Report, err error) schedule.Verdict {
	v := schedule.Verdict{Err: err, Again: err == nil && report.More}
	var throttled *providers.ThrottledError
	switch {
	case ours(err):
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
func (f *fleet) pause(ctx context.Context, id string) error {
	return f.change(ctx, id, func(m *member) error {
		if err := m.box.Pause(ctx); err != nil {
			return err
		}
		<-f.schedule.Remove(id)
		return nil
	})
}

func (f *fleet) resume(ctx context.Context, id string) error {
	return f.change(ctx, id, func(m *member) error {
		if err := m.box.Resume(ctx); err != nil {
			return err
		}
		if err := f.arrange(context.WithoutCancel(ctx), m); err != nil {
			return err
		}
		_ = f.schedule.Unpark(id) // unknown: its user is disabled
		return nil
	})
}

// errNoMember says that a mailbox is not in the fleet, or not any more.
var errNoMember = errors.New("the mailbox is not configured")

// change calls do with a member while nobody else changes any.
func (f *fleet) change(ctx context.Context, id string, do func(*member) error) error {
	if err := f.door.enter(ctx); err != nil {
		return err
	}
	defer f.door.leave()
	m := f.member(id)
	if m == nil {
		return errNoMember
	}
	err := do(m)
	if err != nil {
		f.doubt(m)
	}
	return err
}

// doubt notes that nobody knows how a mailbox stands: what failed may have
// happened.
func (f *fleet) doubt(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.unsettled = true
}

// nudge has a mailbox polled soon, or with "" every one that may be tried
// without being named, and does not wait for it.
func (f *fleet) nudge(id string) {
	ctx, gone := context.WithCancel(context.Background())
	gone() // nobody waits
	if id == "" {
		f.kickAll(ctx)
		return
	}
	_ = f.schedule.Kick(ctx, id) // what cannot be polled now is polled when it can
}

// kickAll kicks every mailbox that may be tried without being named. A pause that
// was ours, while the outbox was full say, is no server's wish: it is cut short.
func (f *fleet) kickAll(ctx context.Context) map[string]error {
	for _, id := range f.ids() {
		s, _ := f.schedule.Status(id)
		if s.Asked && s.State != schedule.Parked && f.stoppedByUs(id) {
			_ = f.schedule.Unpark(id) // unknown: it has just been removed
		}
	}
	return f.schedule.KickAll(ctx)
}

// stoppedByUs tells that the newest pass of a mailbox failed for a reason that
// has nothing to do with the mailbox.
func (f *fleet) stoppedByUs(id string) bool {
	m := f.member(id)
	return m != nil && (f.isUnsettled(m) || ours(f.lastPass(m).err))
}

// ours tells that an error is the daemon's own state and not the mailbox's.
func ours(err error) bool {
	return errors.Is(err, mailbox.ErrNotReady) || errors.Is(err, store.ErrFull)
}

// errNoPass says that a mailbox was kicked and nothing ran.
var errNoPass = errors.New("the mailbox was changed or removed meanwhile; sync it again")

// passSince returns the pass that a kick waited for, or, if none began since, one
// that failed as the kick did.
func (f *fleet) passSince(id string, asked time.Time, kicked error) pass {
	if m := f.member(id); m != nil {
		last := f.lastPass(m)
		if !last.began.Before(asked) && (last.err == nil) == (kicked == nil) {
			return last
		}
	}
	return pass{began: asked, ended: time.Now(), err: cmp.Or(kicked, errNoPass)}
}

// forget erases a mailbox's rows. One that is still configured begins again
// like a new one; it is polled again also if the erasing failed.
func (f *fleet) forget(ctx context.Context, id string) error {
	if err := f.door.enter(ctx); err != nil {
		return err
	}
	defer f.door.leave()
	<-f.schedule.Remove(id)
	err := f.store.ForgetMailbox(ctx, id, time.Now())
	if err != nil {
		err = fmt.Errorf("erasing mailbox %s: %w", id, err)
	}
	if m := f.member(id); m != nil {
		err = errors.Join(err, f.arrange(context.WithoutCancel(ctx), m))
	}
	return err
}

func (f *fleet) isUnsettled(m *member) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.unsettled
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
