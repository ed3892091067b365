package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/store"
	"mailsyncd/store/bolt"
	"mailsyncd/sync/mailbox"
	"mailsyncd/sync/schedule"
	"mailsyncd/webhook"
)

// What the admin socket asks, answered from the parts. The outbox, the directory,
// tasks and the answers to "why" and "is it all there" are in files of their own.

const (
	// staleAfter is how many intervals without a success make a mailbox stale.
	staleAfter = 3
	maxTrouble = 100
)

// adminHandler is the socket's door to the daemon.
func (d *daemon) adminHandler() http.Handler {
	return admin.New(admin.Config{
		Daemon: d, Mailboxes: mailboxDesk{d}, Syncer: mailboxDesk{d},
		Deliveries: outboxDesk{d}, Directory: directoryDesk{d}, Tasks: taskDesk{d}, Inquiry: inquiryDesk{d},
		Webhook: webhookDesk{d}, Connector: mailboxDesk{d}, Log: d.log,
	})
}

// Version is the build.
func (d *daemon) Version() admin.Version { return buildVersion() }

// Status is the daemon at a glance.
func (d *daemon) Status(ctx context.Context) (admin.Status, error) {
	stats, err := d.store.Stats(ctx)
	if err != nil {
		return admin.Status{}, err
	}
	boxes, err := d.survey(ctx)
	if err != nil {
		return admin.Status{}, err
	}
	erasure, err := d.store.Erasure(ctx)
	if err != nil {
		return admin.Status{}, err
	}
	cfg := d.cfg.Load()
	st := admin.Status{
		Version: d.Version().Version, Started: d.started, UptimeSeconds: int64(time.Since(d.started).Seconds()),
		ConfigFile: cfg.File, PollingStopped: d.pollingStopped(ctx),
		Mailboxes: boxes,
		Outbox: admin.OutboxStatus{
			Pending: stats.Pending, Held: stats.Held, Dead: stats.Dead, Delivered: stats.Delivered,
			Oldest: stats.OldestAt, MaxEvents: d.atStart.Outbox.MaxEvents,
		},
		Webhook:   d.webhookStatus(),
		Directory: d.directoryStatus(),
		Erasure: admin.ErasureStatus{
			Pending: erasure.Pending, Oldest: erasure.Oldest, Done: stats.Purges, Rewritten: erasure.LastRewrite,
		},
		Store: admin.StoreStatus{
			Bytes: stats.Bytes, Epoch: stats.Epoch, Messages: stats.Messages, Threads: stats.Threads,
			RotationDue: stats.RotationDue,
		},
	}
	if text := d.reloadFailed.Load(); text != nil {
		st.ReloadError = *text
	}
	return st, nil
}

// pollingStopped says why no mailbox is polled: "" while polling goes on.
func (d *daemon) pollingStopped(ctx context.Context) string {
	err := d.store.Room(ctx)
	switch {
	case d.snapshot() == nil:
		return stoppedNoDirectory
	case errors.Is(err, store.ErrDiskLow):
		return stoppedDiskLow
	case errors.Is(err, store.ErrFull):
		return stoppedOutboxFull
	default:
		return ""
	}
}

// The reasons why polling stops.
const (
	stoppedNoDirectory = "no_directory"
	stoppedDiskLow     = "disk_low"
	stoppedOutboxFull  = "outbox_full"
)

// RotateKey reads the key file again and seals everything under its first line.
func (d *daemon) RotateKey(ctx context.Context) (admin.RotateResult, error) {
	keys, err := bolt.LoadKeys(d.atStart.Secrets.KeyFile) // another waits for a restart
	if err != nil {
		return admin.RotateResult{}, admin.Invalid("secrets.key_file: %v", err)
	}
	resealed, err := d.store.Rotate(ctx, keys)
	if err != nil {
		return admin.RotateResult{}, fmt.Errorf("sealing the store again: %w; run `mailsyncd key rotate` again", err)
	}
	stats, err := d.store.Stats(ctx)
	return admin.RotateResult{Resealed: resealed, Complete: err == nil && !stats.RotationDue}, err
}

// ---- webhook -----------------------------------------------------------

type webhookDesk struct{ *daemon }

func (d webhookDesk) SetPaused(ctx context.Context, paused bool) (admin.WebhookStatus, error) {
	do := d.courier.Resume
	if paused {
		do = d.courier.Pause
	}
	if err := do(ctx); err != nil {
		return admin.WebhookStatus{}, err
	}
	return d.webhookStatus(), nil
}

func (d *daemon) webhookStatus() admin.WebhookStatus {
	s := d.courier.Status()
	st := admin.WebhookStatus{
		State: string(s.State), Reason: s.Reason, NextAttempt: s.NextProbe,
		LastAccepted: s.LastAccepted, LastResult: s.LastError,
	}
	if s.State == webhook.StateDisabled {
		st.Action = "mend what made it stop, then run `mailsyncd webhook resume`"
	}
	return st
}

// ---- mailboxes ---------------------------------------------------------

// mailboxDesk answers for the fleet.
type mailboxDesk struct{ *daemon }

// survey counts the configured mailboxes and names the ones in trouble.
func (d *daemon) survey(ctx context.Context) (admin.MailboxSummary, error) {
	all, err := mailboxDesk{d}.all(ctx)
	if err != nil {
		return admin.MailboxSummary{}, err
	}
	sum := admin.MailboxSummary{States: map[string]int{}, Trouble: []admin.Mailbox{}}
	now, listed := time.Now(), configured(d.cfg.Load())
	for _, m := range all {
		if !listed[m.ID] { // its row is kept for a while, in case it comes back
			continue
		}
		sum.Total++
		sum.Unaccounted += m.Unaccounted
		sum.States[m.State]++
		if polled(m) && stale(m, d.started, now) {
			sum.Stale++
		}
		if polled(m) && !m.LastSuccess.IsZero() && (sum.OldestSuccess.IsZero() || m.LastSuccess.Before(sum.OldestSuccess)) {
			sum.OldestSuccess = m.LastSuccess
		}
		if m.Class != "" && polled(m) {
			sum.Trouble = append(sum.Trouble, m)
		}
	}
	slices.SortFunc(sum.Trouble, func(a, b admin.Mailbox) int { return a.Since.Compare(b.Since) })
	if len(sum.Trouble) > maxTrouble {
		sum.TroubleLeftOut = len(sum.Trouble) - maxTrouble
		sum.Trouble = sum.Trouble[:maxTrouble]
	}
	return sum, nil
}

// polled tells that a mailbox is meant to be polled now.
func polled(m admin.Mailbox) bool {
	switch store.MailboxState(m.State) {
	case store.MailboxPaused, store.MailboxSuspended, store.MailboxRemoved:
		return false
	}
	return true
}

// stale tells that a mailbox had no complete poll for three intervals; one that
// never had any counts from our start.
func stale(m admin.Mailbox, started, now time.Time) bool {
	last := m.LastSuccess
	if last.Before(started) {
		last = started // what happened before a restart is not held against anybody
	}
	return now.Sub(last) > staleAfter*time.Duration(m.IntervalSeconds)*time.Second
}

// all lists every mailbox: the configured ones, and those whose rows are still
// kept, in order of their ids.
func (d mailboxDesk) all(ctx context.Context) ([]admin.Mailbox, error) {
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]store.Mailbox, len(rows))
	for _, row := range rows {
		byID[row.ID] = row
	}
	cfg := d.cfg.Load()
	all := make([]admin.Mailbox, 0, len(cfg.Mailboxes))
	for _, m := range cfg.Mailboxes {
		all = append(all, d.describe(m, byID[m.ID]))
		delete(byID, m.ID)
	}
	for id, row := range byID {
		all = append(all, d.describe(config.Mailbox{ID: id}, row))
	}
	slices.SortFunc(all, func(a, b admin.Mailbox) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// describe joins what the configuration, the store and the schedule know.
func (d mailboxDesk) describe(cfg config.Mailbox, row store.Mailbox) admin.Mailbox {
	m := admin.Mailbox{
		ID: cfg.ID, Address: cfg.Address, User: cfg.User, Provider: string(cfg.Provider), Host: cfg.IMAP.Host,
		State: string(cmp.Or(row.State, store.MailboxActive)), Class: row.Class, Error: row.Err, Action: row.Action,
		Since: row.Since, Tries: row.Tries, RetryAt: row.RetryAt, LastSuccess: row.LastSuccess,
		Horizon: row.Horizon, Unaccounted: row.Unaccounted, IntervalSeconds: int64(cfg.Interval.Seconds()),
	}
	s, known := d.fleet.schedule.Status(cfg.ID)
	if !known {
		return m
	}
	m.Running = s.State == schedule.Running
	m.NextPoll = s.Due
	if s.LastSuccess.After(m.LastSuccess) {
		m.LastSuccess = s.LastSuccess
	}
	return m
}

func (d mailboxDesk) Mailboxes(ctx context.Context, q admin.MailboxQuery) (admin.MailboxList, error) {
	all, err := d.all(ctx)
	if err != nil {
		return admin.MailboxList{}, err
	}
	list := admin.MailboxList{Items: []admin.Mailbox{}}
	for _, m := range all {
		switch {
		case m.ID <= q.After && q.After != "", q.State != "" && m.State != q.State:
		case len(list.Items) == q.Limit:
			list.Next = list.Items[q.Limit-1].ID
			return list, nil
		default:
			list.Items = append(list.Items, m)
		}
	}
	return list, nil
}

// find returns a configured mailbox.
func (d mailboxDesk) find(id string) (*member, error) {
	if m := d.fleet.member(id); m != nil {
		return m, nil
	}
	if _, ok := d.cfg.Load().Mailbox(id); ok {
		return nil, admin.Conflict("mailbox %q waits for the first complete directory; nothing is polled before", id)
	}
	return nil, admin.NotFound("no mailbox %q in the configuration; `mailsyncd mailbox list` shows them", id)
}

func (d mailboxDesk) Mailbox(ctx context.Context, id string) (admin.Mailbox, error) {
	cfg, ok := d.cfg.Load().Mailbox(id)
	if !ok {
		return admin.Mailbox{}, admin.NotFound("no mailbox %q in the configuration; `mailsyncd mailbox list` shows them", id)
	}
	row, err := d.store.Mailbox(ctx, id)
	if err != nil {
		return admin.Mailbox{}, err
	}
	out := d.describe(cfg, row)
	m := d.fleet.member(id)
	if m == nil {
		return out, nil
	}
	tasks, err := m.box.Tasks(ctx)
	for _, t := range tasks {
		out.Walks = append(out.Walks, d.walk(cfg, t.Name, t.State))
	}
	if err != nil {
		return out, err
	}
	owed, err := d.store.Owed(ctx, id)
	for _, o := range owed {
		out.Walks = append(out.Walks, d.walk(cfg, o.Task.ID, o.State))
	}
	return out, err
}

// walk describes a walk; where it costs quota, also how far it is and how long
// it will take.
func (d mailboxDesk) walk(cfg config.Mailbox, name string, state store.WalkState) admin.Walk {
	w := admin.Walk{Task: name, Started: state.Started, Scanned: state.Scanned, Matched: state.Matched}
	if cfg.Provider != config.ProviderGmail {
		return w
	}
	if p, under := gmail.ProgressOf(providers.Cursor(state.Cursor)); under {
		left := d.google.quota.Time(p.Left * d.google.quota.Prices.Get)
		w.Progress = &admin.Progress{Read: p.Read, Done: p.Done, Left: p.Left, LeftSeconds: int64(left.Seconds())}
	}
	return w
}

func (d mailboxDesk) SetPaused(ctx context.Context, id string, paused bool) (admin.Mailbox, error) {
	do := d.fleet.resume
	if paused {
		do = d.fleet.pause
	}
	err := do(ctx, id)
	if errors.Is(err, errNoMember) {
		_, err = d.find(id)
	}
	if err != nil {
		return admin.Mailbox{}, err
	}
	return d.Mailbox(ctx, id)
}

func (d mailboxDesk) Forget(ctx context.Context, id string) error {
	if _, ok := d.cfg.Load().Mailbox(id); !ok {
		rows, err := d.store.Mailboxes(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(rows, func(r store.Mailbox) bool { return r.ID == id }) {
			return admin.NotFound("nothing is known of a mailbox %q", id)
		}
	}
	return d.fleet.forget(ctx, id)
}

// ---- sync --------------------------------------------------------------

func (d mailboxDesk) Sync(ctx context.Context, id string) (admin.SyncResult, error) {
	m, err := d.find(id)
	if err != nil {
		return admin.SyncResult{}, err
	}
	asked := time.Now()
	err = d.fleet.schedule.Kick(ctx, id)
	switch {
	case errors.Is(err, schedule.ErrUnknown), errors.Is(err, schedule.ErrParked), errors.Is(err, schedule.ErrRemoved):
		row, _ := m.box.Row(ctx)
		return admin.SyncResult{}, admin.Conflict("mailbox %q is %s; `mailsyncd mailbox resume` lets a paused one go on", id, row.State)
	case errors.Is(err, schedule.ErrStopped), ctx.Err() != nil:
		return admin.SyncResult{}, admin.Unavailable("the daemon is stopping, or the call ended before the pass; the mailbox is polled at its time")
	}
	return syncResult(id, string(m.cfg.Provider), d.fleet.passSince(id, asked, err)), nil
}

// syncResult describes the newest pass of a mailbox.
func syncResult(id, provider string, p pass) admin.SyncResult {
	r := admin.SyncResult{
		Mailbox: id, OK: p.err == nil, Began: p.began, Ended: p.ended,
		Scanned: p.report.Scanned, Matched: p.report.Matched,
	}
	if p.err != nil {
		class := providers.Classify(p.err)
		r.Class, r.Error, r.Action = string(class), p.err.Error(), mailbox.ActionFor(provider, class)
	}
	return r
}

func (d mailboxDesk) SyncAll(ctx context.Context) (admin.SyncAllResult, error) {
	asked := time.Now()
	failed := d.fleet.kickAll(ctx)
	if ctx.Err() != nil {
		return admin.SyncAllResult{}, admin.Unavailable("the call ended before all passes; the rest goes on")
	}
	result := admin.SyncAllResult{Failed: []admin.SyncResult{}}
	for _, m := range d.cfg.Load().Mailboxes {
		_, scheduled := d.fleet.schedule.Status(m.ID)
		err := failed[m.ID]
		if !scheduled || errors.Is(err, schedule.ErrParked) || errors.Is(err, schedule.ErrAsked) {
			result.Skipped++
			continue
		}
		result.Mailboxes++
		r := syncResult(m.ID, string(m.Provider), d.fleet.passSince(m.ID, asked, err))
		result.Scanned += r.Scanned
		result.Matched += r.Matched
		switch {
		case r.OK:
			result.OK++
		case len(result.Failed) < maxTrouble:
			result.Failed = append(result.Failed, r)
		default:
			result.FailedLeftOut++
		}
	}
	return result, nil
}
