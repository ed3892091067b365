package main

import (
	"context"
	"fmt"

	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/matcher"
)

// Users of the directory become mailboxes where mailboxes_from_users says so, and
// their mailboxes come and go with them.

// adopt puts the mailboxes of users into force, and schedules all. The caller
// holds d.change. Guards need no second look at old mail for them: a user's
// addresses are staff's whether or not they have a mailbox.
func (d *daemon) adopt(ctx context.Context) error {
	before := d.cfg.Load()
	cfg, err := d.withUsers(ctx, before)
	if err != nil {
		return err
	}
	if changes := config.Compare(before, cfg); !changes.Empty() {
		guards, err := matcher.New(guardConfig(cfg))
		if err != nil {
			return fmt.Errorf("the guards with the users' mailboxes: %w", err)
		}
		d.guards.Store(guards)
		d.cfg.Store(cfg)
		d.watcher.Watch(cfg.WatchedFiles())
		d.log.Info("mailboxes follow the directory's users", "event", "users_mailboxes",
			"added", len(changes.Added), "removed", len(changes.Removed), "changed", len(changes.Changed))
	}
	return d.fleet.apply(ctx, cfg)
}

// withUsers returns the configuration with the mailboxes of the users as they
// are now: cfg itself where nothing asks for them. A disabled user has a mailbox
// only if there was one before: it waits for the user, suspended.
func (d *daemon) withUsers(ctx context.Context, cfg *config.Config) (*config.Config, error) {
	snap := d.snapshot()
	if cfg.MailboxesFromUsers.Domain == "" || snap == nil {
		return cfg, nil
	}
	all, _ := cfg.WithUsers(users(snap, func(string) bool { return true }))
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the mailboxes: %w", err)
	}
	known := map[string]bool{} // refs of users whose mailbox has a row
	for _, row := range rows {
		if m, ok := all.Mailbox(row.ID); ok {
			known[m.User] = true
		}
	}
	with, skipped := cfg.WithUsers(users(snap, func(ref string) bool { return known[ref] }))
	if skipped > 0 {
		d.log.Warn("users share an address with another user and get no mailbox; give each one its own",
			"event", "users_share_address", "users", skipped)
	}
	return with, nil
}

// users lists the enabled users, and the disabled ones that are kept.
func users(snap *directory.Snapshot, kept func(ref string) bool) (list []config.User) {
	snap.UserAddresses(func(ref string, addresses []string) {
		if state, _ := snap.User(ref); state != directory.UserDisabled || kept(ref) {
			list = append(list, config.User{Ref: ref, Addresses: addresses})
		}
	})
	return list
}
