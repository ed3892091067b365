package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/store"
	dirsync "mailsyncd/sync/directory"
)

// How polling begins, and how the mailboxes follow the directory afterwards. A
// store that fails and may recover, on a full disk say, ends neither.

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
	err := d.fleet.apply(ctx, d.cfg.Load())
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

// followUsers suspends and resumes mailboxes as users come and go, and ends what
// the store interrupted: every storeRetry, until it is done.
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
	return errors.Join(err, d.fleet.usersChanged(ctx))
}
