package main

import (
	"context"
	"errors"
	"fmt"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/matcher"
)

// Reload reads the configuration and the directory file again: what SIGHUP and
// `mailsyncd reload` do. A configuration that cannot be used changes nothing.
func (d *daemon) Reload(ctx context.Context) (admin.ReloadResult, error) {
	d.reload.Lock()
	defer d.reload.Unlock()
	result, err := d.reconfigure(ctx)
	if err == nil {
		err = d.keeper.Reload(ctx)
		if err != nil {
			err = fmt.Errorf("directory.file: %w", err)
		}
	}
	d.noteReload(err)
	return result, reloadFault(err)
}

// noteReload remembers and logs what became of a reload.
func (d *daemon) noteReload(err error) {
	if err == nil {
		d.reloadFailed.Store(nil)
		d.log.Info("configuration and directory read again", "event", "reloaded")
		return
	}
	text := err.Error()
	d.reloadFailed.Store(&text)
	d.log.Error("reload refused, the configuration before stays in force", "event", "reload_refused", "err", err)
}

// reconfigure puts a new configuration into force, part by part, after all of it
// was checked.
func (d *daemon) reconfigure(ctx context.Context) (admin.ReloadResult, error) {
	before := d.cfg.Load()
	cfg, err := config.Load(before.File)
	if err != nil {
		return admin.ReloadResult{}, err
	}
	if cfg, err = d.withUsers(ctx, cfg); err != nil {
		return admin.ReloadResult{}, err
	}
	guards, err := matcher.New(guardConfig(cfg))
	if err != nil {
		return admin.ReloadResult{}, err
	}
	poster, err := d.poster(cfg)
	if err != nil {
		return admin.ReloadResult{}, err
	}
	changes := config.Compare(before, cfg)
	setLevel(d.level, cfg.Log.Level)
	d.guards.Store(guards)
	d.courier.Use(poster)
	d.fleet.schedule.Limit(limits(cfg))
	if err := d.keeper.Configure(ctx, directorySettings(cfg)); err != nil {
		return admin.ReloadResult{}, err
	}
	d.walkAgain = d.walkAgain || loosened(before, cfg)
	d.cfg.Store(cfg)
	d.watcher.Watch(cfg.WatchedFiles())
	if d.snapshot() != nil { // else poll applies it when the directory is there
		err = errors.Join(d.fleet.apply(ctx, cfg), d.walkWindows(ctx))
	}
	return admin.ReloadResult{
		Added: list(changes.Added), Removed: list(changes.Removed), Changed: list(changes.Changed),
		Settings: list(changes.Settings), Restart: list(changes.Restart),
	}, err
}

// walkWindows has every mailbox walk its window again if guards were loosened. It
// comes after the mailboxes took the configuration up: a walk under the old one
// would count. If it fails, the next reload tries it again.
func (d *daemon) walkWindows(ctx context.Context) error {
	if !d.walkAgain {
		return nil
	}
	if err := d.keeper.ActivateAll(ctx); err != nil {
		return fmt.Errorf("having old mail walked again for the loosened guards: %w; reload once more", err)
	}
	d.walkAgain = false
	d.log.Info("guards were loosened: every mailbox walks its window again", "event", "guards_loosened")
	return nil
}

// list is never nil: it travels as [].
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// reloadFault is the error of a reload as it travels over the socket.
func reloadFault(err error) error {
	var invalid *config.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		p := admin.Invalid("the configuration was refused and the one before stays in force; mend this and reload:")
		for _, fault := range invalid.Problems {
			p = p.With(fault.String())
		}
		return p
	default:
		return admin.Invalid("reload refused, what was in force stays: %v", err)
	}
}
