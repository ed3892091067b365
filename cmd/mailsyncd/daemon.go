package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/imap"
	"mailsyncd/store"
	"mailsyncd/store/bolt"
	dirsync "mailsyncd/sync/directory"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
	"mailsyncd/webhook"
)

const (
	// Polling stops when less of the disk is free: the store must always have
	// room to record deliveries.
	minFreeBytes = 256 << 20
	// Secret files are looked at this often.
	watchEvery = 3 * time.Second
	// What failed by a store that may recover is tried again after this.
	retryStoreAfter = 15 * time.Second
)

// daemon is all parts of a running mailsyncd. newDaemon builds them top to
// bottom; run starts them, and ends them in the reverse of the order in which
// mail flows: no new passes, then no new posts, the store last.
type daemon struct {
	log     *slog.Logger
	level   *slog.LevelVar
	started time.Time
	reg     *prometheus.Registry
	store   *bolt.Store
	keeper  *dirsync.Keeper
	guards  atomic.Pointer[matcher.Matcher]
	google  *google
	fleet   *fleet
	courier *webhook.Courier
	watcher *config.Watcher

	users chan struct{} // capacity 1: the directory's users changed
	asked chan struct{} // capacity 1: SIGUSR1 came
	ready chan struct{} // closed once a complete directory is there

	dry *dryRun // nil: this is none

	// atStart is the configuration of the start: what a reload does not change is
	// in force as it stands there.
	atStart *config.Config
	// cfg is what is in force. Whoever changes it, or carries it out, holds
	// change, and so do the three below it.
	change    gate
	cfg       atomic.Pointer[config.Config]
	posting   posting
	walkAgain bool // guards were loosened: the windows have to be walked for it

	unsettled    atomic.Bool   // what is in force is not yet carried out
	storeRetry   time.Duration // retryStoreAfter, but for tests
	reloadFailed atomic.Pointer[string]
}

// newDaemon opens the store and builds every part, for real or, with a dryRun,
// for show. Nothing runs yet; close undoes it.
func newDaemon(cfg *config.Config, stderr io.Writer, dry *dryRun) (*daemon, error) {
	d := &daemon{
		dry: dry, atStart: cfg,
		started: time.Now(), level: &slog.LevelVar{}, reg: prometheus.NewRegistry(),
		watcher: config.NewWatcher(watchEvery), change: newGate(), storeRetry: retryStoreAfter,
		users: make(chan struct{}, 1), asked: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	d.log = newLogger(cfg.Log, d.level, stderr)
	d.cfg.Store(cfg)
	guards, err := matcher.New(guardConfig(cfg))
	if err != nil {
		return nil, &usageError{fmt.Errorf("the guards in %s: %w", cfg.File, err)}
	}
	d.guards.Store(guards)
	if err := d.openStore(cfg); err != nil {
		return nil, err
	}
	if err := d.buildParts(cfg); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	return d, nil
}

// openStore opens the store under the key file, or a dry run's own.
func (d *daemon) openStore(cfg *config.Config) error {
	if d.dry != nil {
		return d.openFile(cfg, d.dry.path(), bolt.Keys{Current: bolt.NewKey()}, 0)
	}
	keys, err := bolt.LoadKeys(cfg.Secrets.KeyFile)
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("secrets.key_file: %w", err)) // starting again would not help
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Store.Path), 0o700); err != nil {
		return fmt.Errorf("store.path: %w", err)
	}
	return d.openFile(cfg, cfg.Store.Path, keys, minFreeBytes)
}

func (d *daemon) openFile(cfg *config.Config, path string, keys bolt.Keys, minFree uint64) (err error) {
	d.store, err = bolt.Open(bolt.Options{
		Path: path, Keys: keys, MaxEvents: cfg.Outbox.MaxEvents, MinFreeBytes: minFree,
		Notify: func() {
			if d.courier != nil {
				d.courier.Notify()
			}
		},
		Logger: d.log,
	})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	return nil
}

// buildParts makes everything that stands on the store.
func (d *daemon) buildParts(cfg *config.Config) error {
	posting, err := d.draftPosting(cfg)
	if err != nil {
		return &usageError{err}
	}
	d.posting = posting
	d.courier, err = webhook.New(webhook.Config{
		Outbox: d.store, Stats: d.store, Poster: posting.poster, Log: d.log, Registerer: d.reg,
		Concurrency: cfg.Webhook.Concurrency,
	})
	if err != nil {
		return err
	}
	d.keeper = dirsync.New(dirsync.Config{
		Settings: directorySettings(cfg), Store: d.store, Logger: d.log,
		Metrics: dirsync.NewMetrics(d.reg), Changed: d.directoryChanged,
	})
	d.google = newGoogle(cfg.Google, d.log)
	d.google.tokens, d.google.directory = storedTokens{d.store}, d.keeper.Snapshot
	if err := d.google.recall(context.Background(), d.store); err != nil { // the store has just been opened
		return err
	}
	asked := providers.NewMetrics(d.reg)
	d.google.meter = asked.For(gmail.Name)
	d.fleet = newFleet(fleetParts{
		store: d.store, directory: d.keeper.Snapshot, matcher: d.guards.Load,
		dial: d.dialer(asked.For(imap.Name)), metrics: mailbox.NewMetrics(d.reg), log: d.log,
	}, limits(cfg))
	d.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newCollector(d),
	)
	return nil
}

// close lets go of the store: the last thing to end. A reload that was asked for
// over the socket may still be at work in it, and no other begins afterwards.
func (d *daemon) close() error {
	_ = d.change.enter(context.Background()) // never given up
	if err := d.store.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// run works until ctx ends. The parts are stopped in order: passes and the
// directory with ctx, then the courier, which lets posts in flight finish, then
// the socket and the metrics page, which answer until the end.
func (d *daemon) run(ctx context.Context) error {
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	servers, serving := errgroup.WithContext(serving)
	for _, l := range listeners {
		servers.Go(func() error { return l.serve(serving) })
	}
	// A server that dies takes the daemon with it.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	context.AfterFunc(serving, func() { stop(context.Cause(serving)) })

	err = d.work(ctx)
	stopServing()
	return errors.Join(err, servers.Wait())
}

// work runs the loops that move mail. A loop that fails ends the others.
func (d *daemon) work(ctx context.Context) error {
	posting, stopPosting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPosting()
	posts := make(chan error, 1)
	go func() { posts <- d.courier.Run(posting) }()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.keeper.Run(ctx) })
	g.Go(func() error { return d.poll(ctx) })
	g.Go(func() error { return d.followUsers(ctx) })
	g.Go(func() error { return d.watchFiles(ctx) })
	g.Go(func() error { return d.maintain(ctx) })
	g.Go(func() error { return d.noteQuota(ctx) })
	if d.dry == nil {
		g.Go(func() error { return d.checkStore(ctx) })
		g.Go(func() error { return d.eraseLeftovers(ctx) })
		g.Go(func() error { return d.followResyncs(ctx) })
	} else {
		g.Go(func() error { return d.dry.follow(ctx, d) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-posts: // never before it was told to stop
			posts <- err
			return fmt.Errorf("the courier ended: %w", err)
		}
	})
	err := g.Wait()
	stopPosting()
	return errors.Join(err, <-posts, d.google.remember(context.WithoutCancel(ctx), d.store))
}

// poll runs the schedule once a complete directory is there: at once where the
// store has one, whatever the file says.
func (d *daemon) poll(ctx context.Context) error {
	if err := d.loadDirectory(ctx); err != nil {
		return err
	}
	if d.keeper.Snapshot() == nil {
		d.log.Info("no complete directory yet: nothing is polled before it has been read",
			"event", "directory_awaited", "file", d.cfg.Load().Directory.File)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.ready:
	}
	if err := d.scheduleAll(ctx); err != nil {
		return err
	}
	d.log.Info("polling", "event", "polling", "mailboxes", len(d.cfg.Load().Mailboxes))
	return d.fleet.schedule.Run(ctx)
}

// loadDirectory reads the store's directory. A store that cannot be read now, on
// a full disk say, is tried again; one that never can ends the daemon.
func (d *daemon) loadDirectory(ctx context.Context) error {
	for {
		err := d.keeper.Load(ctx)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrUnusable):
			return fmt.Errorf("loading the directory from the store: %w", err)
		}
		select { // the keeper has logged it
		case <-ctx.Done():
			return nil
		case <-time.After(d.storeRetry):
		}
	}
}

// scheduleAll is the first apply of the process. What fails of it is tried again
// beside the polling.
func (d *daemon) scheduleAll(ctx context.Context) error {
	if err := d.change.enter(ctx); err != nil {
		return nil // stopping
	}
	defer d.change.leave()
	err := d.adopt(ctx)
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.Is(err, store.ErrUnusable):
		return fmt.Errorf("scheduling the mailboxes: %w", err)
	}
	d.settleLater()
	return nil
}

// settleLater has followUsers carry out what is in force.
func (d *daemon) settleLater() {
	d.unsettled.Store(true)
	d.wakeFollower()
}

// directoryChanged is called by the keeper, which must not be kept waiting.
func (d *daemon) directoryChanged(c dirsync.Change) {
	select {
	case <-d.ready:
	default:
		close(d.ready)
	}
	if c.Users {
		d.wakeFollower()
	}
}

func (d *daemon) wakeFollower() { wake(d.users) }

// followUsers makes, suspends and resumes mailboxes as users come and go, and ends
// what the store interrupted: every storeRetry, until it is done.
func (d *daemon) followUsers(ctx context.Context) error {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.users:
		case <-retry.C:
		}
		err := d.catchUp(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
			continue
		case errors.Is(err, store.ErrUnusable):
			return fmt.Errorf("following the directory's users: %w", err)
		}
		if text := err.Error(); text != told {
			told = text
			d.log.Error("mailboxes could not be brought into line with the configuration and the directory's users; it is tried again",
				"event", "mailboxes_unsettled", "err", err)
		}
		retry.Reset(d.storeRetry)
	}
}

// catchUp brings the mailboxes into line with their users, and, if that is owed,
// everything with the configuration in force.
func (d *daemon) catchUp(ctx context.Context) error {
	if err := d.change.enter(ctx); err != nil {
		return err
	}
	defer d.change.leave()
	var err error
	if d.unsettled.Swap(false) {
		err = d.settle(context.WithoutCancel(ctx))
		d.unsettled.Store(err != nil)
	}
	return errors.Join(err, d.adopt(ctx), d.fleet.usersChanged(ctx))
}

// watchFiles takes changed secrets up: parked mailboxes try at once, and so
// does a webhook that was refused.
func (d *daemon) watchFiles(ctx context.Context) error {
	d.watcher.Watch(d.cfg.Load().WatchedFiles())
	err := d.watcher.Run(ctx, func(changed []string) {
		cfg := d.cfg.Load()
		boxes := cfg.MailboxesUsing(changed)
		// Not their paths: {address} may stand in them.
		d.log.Info("files changed and were read again", "event", "files_changed", "files", len(changed), "mailboxes", boxes[:min(len(boxes), maxTrouble)])
		d.fleet.filesChanged(boxes)
		if usesWebhookFile(cfg, changed) {
			d.renewPoster(ctx)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// limits are the schedule's.
func limits(cfg *config.Config) schedule.Limits {
	return schedule.Limits{
		Concurrency: cfg.Sync.Concurrency,
		PerHost:     schedule.PerHost{Connections: cfg.Sync.PerHost.Connections, PerMinute: cfg.Sync.PerHost.LoginsPerMinute},
	}
}

func directorySettings(cfg *config.Config) dirsync.Settings {
	return dirsync.Settings{
		File: cfg.Directory.File, MissingGrace: cfg.Directory.MissingGrace, Backfill: cfg.Sync.Backfill,
	}
}

func guardConfig(cfg *config.Config) matcher.Config {
	c := matcher.Config{
		Domains: cfg.Company.Domains, SharedAddresses: cfg.Company.SharedAddresses,
		InternalApplicants: cfg.Company.InternalApplicants, IgnoreFrom: cfg.Company.IgnoreFrom,
		MaxRecipients: cfg.Sync.MaxRecipients,
	}
	for i := range cfg.Mailboxes {
		m := &cfg.Mailboxes[i]
		c.Mailboxes = append(c.Mailboxes, matcher.Owner{ID: m.ID, Addresses: m.Addresses()})
	}
	return c
}

func newLogger(cfg config.Log, level *slog.LevelVar, w io.Writer) *slog.Logger {
	setLevel(level, cfg.Level)
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func setLevel(level *slog.LevelVar, l config.LogLevel) {
	switch l {
	case config.LogDebug:
		level.Set(slog.LevelDebug)
	case config.LogWarn:
		level.Set(slog.LevelWarn)
	case config.LogError:
		level.Set(slog.LevelError)
	default:
		level.Set(slog.LevelInfo)
	}
}

// server is one listener and what answers on it.
type server struct {
	serve func(ctx context.Context) error
}

// listen opens the admin socket and the metrics page before anything runs, so
// that an address in use ends the start and not the work. A dry run runs beside
// a daemon and leaves both to it.
func (d *daemon) listen() ([]server, error) {
	if d.dry != nil {
		return nil, nil
	}
	cfg := d.cfg.Load()
	socket, err := admin.Listen(cfg.Admin.Socket)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	servers := []server{{func(ctx context.Context) error {
		return admin.Serve(ctx, socket, d.adminHandler(), d.log)
	}}}
	if cfg.Metrics.Listen == "" {
		return servers, nil
	}
	page, err := net.Listen("tcp", cfg.Metrics.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("metrics.listen: %w; choose another address or \"\"", err), socket.Close())
	}
	return append(servers, server{func(ctx context.Context) error { return serveMonitor(ctx, page, d.monitor()) }}), nil
}

// snapshot returns the newest directory, nil before the first.
func (d *daemon) snapshot() *directory.Snapshot { return d.keeper.Snapshot() }
