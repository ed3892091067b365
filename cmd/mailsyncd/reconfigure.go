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
	guards, err := matcher.New(guardConfig(cfg))
	if err != nil {
		return admin.ReloadResult{}, err
	}
	poster, err := newPoster(cfg)
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
	d.cfg.Store(cfg)
	d.watcher.Watch(cfg.WatchedFiles())
	if d.snapshot() != nil { // else poll applies it when the directory is there
		err = d.fleet.apply(ctx, cfg)
	}
	return admin.ReloadResult{
		Added: list(changes.Added), Removed: list(changes.Removed), Changed: list(changes.Changed),
		Settings: list(changes.Settings), Restart: list(changes.Restart),
	}, err
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
