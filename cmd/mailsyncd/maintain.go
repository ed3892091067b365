package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
)

const (
	// maintainEvery is how often retention is applied.
	maintainEvery = 10 * time.Minute
	// removedKeep is how long the cursor of a mailbox stays that left the
	// configuration.
	removedKeep = 7 * 24 * time.Hour
	// endedTaskKeep is how long an ended task is still listed.
	endedTaskKeep = 7 * 24 * time.Hour
	// expirePause lets other writers in between two pieces of a long expiry.
	expirePause = 50 * time.Millisecond
)

// maintain applies retention: payloads of delivered events, dead letters, cursors
// of removed mailboxes and credentials of suspended ones go when their time is
// over.
func (d *daemon) maintain(ctx context.Context) error {
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := errors.Join(d.expire(ctx), d.dropRemoved(ctx), d.dropCredentials(ctx))
		if errors.Is(err, store.ErrUnusable) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			d.log.Error("retention could not be applied; it is tried again", "event", "retention_failed", "err", err)
		}
		timer.Reset(maintainEvery)
	}
}

// noteEvery bounds what a crash forgets of the spending of Google's daily quota.
const noteEvery = time.Minute

// noteQuota notes what was spent of Google's quota, while something is.
func (d *daemon) noteQuota(ctx context.Context) error {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch err := d.google.remember(ctx, d.store); {
		case errors.Is(err, store.ErrUnusable):
			return err
		case err != nil && ctx.Err() == nil:
			d.log.Warn("what was spent of Google's daily quota could not be noted; after a crash it would count as unspent", "event", "quota_unnoted", "err", err)
		}
	}
}

// checkStore opens every row of the store once after the start, beside the work:
// damage that nobody reads by chance is found while backups from before it are
// still kept. It ends the daemon, as any damage does.
func (d *daemon) checkStore(ctx context.Context) error {
	err := d.store.Check(ctx)
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.Is(err, store.ErrUnusable):
		return fmt.Errorf("checking the store: %w", err)
	}
	d.log.Error("the store could not be checked; it is checked at the next start", "event", "store_unchecked", "err", err)
	return nil
}

// expire erases what retention allows to go, piece by piece.
func (d *daemon) expire(ctx context.Context) error {
	for {
		keep, now := d.cfg.Load().Retention, time.Now()
		more, err := d.store.Expire(ctx, store.Expiry{
			Delivered: now.Add(-keep.DeliveredPayload), Dead: now.Add(-keep.DeadLetter), Tasks: now.Add(-endedTaskKeep),
		})
		if err != nil {
			return fmt.Errorf("erasing what retention lets go: %w", err)
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(expirePause):
		}
	}
}

// dropRemoved ends the walks of mailboxes that left the configuration.
func (d *daemon) dropRemoved(ctx context.Context) error {
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return fmt.Errorf("listing the mailboxes: %w", err)
	}
	now := time.Now()
	var errs []error
	for _, row := range rows {
		if row.State == store.MailboxRemoved && now.Sub(row.Since) > removedKeep {
			errs = append(errs, mailbox.DropCursor(ctx, d.store, row.ID, now))
		}
	}
	return errors.Join(errs...)
}

// dropCredentials erases what logs in to mailboxes that have been suspended for
// too long, and what a crash has left of removed ones.
func (d *daemon) dropCredentials(ctx context.Context) error {
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return fmt.Errorf("listing the mailboxes: %w", err)
	}
	now, keep := time.Now(), d.cfg.Load().Retention.SuspendedCredentials
	var errs []error
	for _, row := range rows {
		suspended := row.State == store.MailboxSuspended && now.Sub(row.Since) >= keep
		if suspended || row.State == store.MailboxRemoved {
			errs = append(errs, d.store.DropSecrets(ctx, row.ID, now))
		}
	}
	return errors.Join(errs...)
}
