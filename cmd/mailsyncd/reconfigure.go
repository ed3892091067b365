package main

import (
	"context"
	"errors"
	"fmt"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/matcher"
)

// A reload has two verdicts, one on the configuration and one on the directory
// file: a good configuration comes into force whatever the file says. All that
// can be refused of a configuration is made before anything of it is in force;
// what is done afterwards can fail only by the store, and is then tried again
// until it is done.

// Reload reads the configuration and the directory file again: what SIGHUP and
// `mailsyncd reload` do. A configuration that cannot be used changes nothing.
// ctx ends the wait for another reload; once its turn has come a reload is
// carried out, whether or not somebody still waits for it.
func (d *daemon) Reload(ctx context.Context) (admin.ReloadResult, error) {
	if err := d.change.enter(ctx); err != nil {
		return admin.ReloadResult{}, admin.Unavailable("not reloaded: the call ended or the daemon is stopping (%v)", err)
	}
	defer d.change.leave()
	ctx = context.WithoutCancel(ctx)
	next, err := d.draft(ctx)
	if err != nil {
		d.noteReload(reloadVerdicts{refused: err})
		return admin.ReloadResult{}, refusedReload(err)
	}
	changes := config.Compare(d.cfg.Load(), next.cfg)
	d.force(next)
	v := reloadVerdicts{unfinished: d.settle(ctx), directory: d.keeper.Reload(ctx)}
	if v.unfinished != nil {
		d.settleLater()
	}
	d.noteReload(v)
	return admin.ReloadResult{
		Added: list(changes.Added), Removed: list(changes.Removed), Changed: list(changes.Changed),
		Settings: list(changes.Settings), Restart: list(changes.Restart),
	}, v.fault()
}

// draft is a configuration that nothing speaks against any more, with what is
// made of it.
type draft struct {
	cfg     *config.Config
	guards  *matcher.Matcher
	posting posting
}

// draft reads the configuration's file and makes everything that can be refused.
func (d *daemon) draft(ctx context.Context) (draft, error) {
	cfg, err := config.Load(d.cfg.Load().File)
	if err != nil {
		return draft{}, err
	}
	if cfg, err = d.withUsers(ctx, cfg); err != nil {
		return draft{}, err
	}
	guards, err := matcher.New(guardConfig(cfg))
	if err != nil {
		return draft{}, fmt.Errorf("the guards: %w", err)
	}
	posting, err := d.draftPosting(cfg)
	return draft{cfg, guards, posting}, err
}

// force puts a draft into force; it cannot fail. The caller holds d.change.
func (d *daemon) force(next draft) {
	d.walkAgain = d.walkAgain || loosened(d.cfg.Load(), next.cfg)
	d.cfg.Store(next.cfg)
	d.guards.Store(next.guards)
	d.use(next.posting)
	setLevel(d.level, next.cfg.Log.Level)
	d.fleet.schedule.Limit(limits(next.cfg))
	d.watcher.Watch(next.cfg.WatchedFiles())
}

// settle has the directory and the mailboxes take up the configuration in force.
// It may be called again: what was done is not done twice. The caller holds
// d.change.
func (d *daemon) settle(ctx context.Context) error {
	cfg := d.cfg.Load()
	err := d.keeper.Configure(ctx, directorySettings(cfg))
	if d.snapshot() == nil { // poll does the rest when the directory is there
		return err
	}
	return errors.Join(err, d.fleet.apply(ctx, cfg), d.walkWindows(ctx))
}

// walkWindows has every mailbox walk its window again if guards were loosened. It
// comes after the mailboxes took the configuration up: a walk under the old one
// would count.
func (d *daemon) walkWindows(ctx context.Context) error {
	if !d.walkAgain {
		return nil
	}
	if err := d.keeper.ActivateAll(ctx); err != nil {
		return fmt.Errorf("having old mail walked again for the loosened guards: %w", err)
	}
	d.walkAgain = false
	d.log.Info("guards were loosened: every mailbox walks its window again", "event", "guards_loosened")
	return nil
}

// reloadVerdicts are what became of a reload; nil is good.
type reloadVerdicts struct {
	refused    error // the configuration; then nothing else was done
	unfinished error // what the store kept from being done
	directory  error // the directory file
}

// noteReload remembers and logs what became of a reload.
func (d *daemon) noteReload(v reloadVerdicts) {
	switch {
	case v.refused != nil:
		d.log.Error("configuration refused, the one before stays in force", "event", "reload_refused", "err", v.refused)
	case v.unfinished != nil:
		d.log.Error("the new configuration is in force but not yet carried out; it is tried again by itself",
			"event", "reload_unfinished", "err", v.unfinished)
	default:
		d.log.Info("configuration read again and in force", "event", "reloaded")
	}
	if v.directory != nil {
		d.log.Error("directory file refused, the directory before stays", "event", "reload_directory_refused", "err", v.directory)
	}
	d.reloadFailed.Store(v.text())
}

// text is what status shows, nil for a reload without a fault.
func (v reloadVerdicts) text() *string {
	err := errors.Join(v.refused, v.unfinished)
	if v.directory != nil {
		err = errors.Join(err, fmt.Errorf("directory.file: %w", v.directory))
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	return &text
}

// fault is the error of a reload whose configuration is in force, as it travels
// over the socket.
func (v reloadVerdicts) fault() error {
	switch {
	case v.unfinished != nil && v.directory != nil:
		return fmt.Errorf("the new configuration is in force but not yet carried out, which is tried again by itself: %w; the directory file was refused, the directory before stays: %w", v.unfinished, v.directory)
	case v.unfinished != nil:
		return fmt.Errorf("the new configuration is in force but not yet carried out, which is tried again by itself: %w", v.unfinished)
	case v.directory != nil:
		return admin.Invalid("the new configuration is in force; the directory file was refused, the directory before stays: %v", v.directory)
	default:
		return nil
	}
}

// list is never nil: it travels as [].
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// refusedReload is the error of a refused configuration as it travels over the
// socket.
func refusedReload(err error) error {
	var invalid *config.Error
	if !errors.As(err, &invalid) {
		return admin.Invalid("the configuration was refused and the one before stays in force: %v", err)
	}
	p := admin.Invalid("the configuration was refused and the one before stays in force; mend this and reload:")
	for _, fault := range invalid.Problems {
		p = p.With(fault.String())
	}
	return p
}
