package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/message"
	"mailsyncd/store"
	dirsync "mailsyncd/sync/directory"
)

// taskDesk answers for work over old mail.
type taskDesk struct{ *daemon }

func (d taskDesk) Tasks(ctx context.Context) (admin.TaskList, error) {
	all, err := d.store.Tasks(ctx)
	if err != nil {
		return admin.TaskList{}, err
	}
	return taskList(all), nil
}

func taskList(tasks []store.Task) admin.TaskList {
	list := admin.TaskList{Items: make([]admin.Task, len(tasks))}
	for i, t := range tasks {
		list.Items[i] = task(t)
	}
	return list
}

// task is a task as the socket shows it.
func task(t store.Task) admin.Task {
	return admin.Task{
		ID: t.ID, Kind: string(t.Kind), Candidate: t.Candidate, Since: t.Since, DryRun: t.DryRun,
		State: string(t.State), Purged: t.Purged, Created: t.Created, Ended: t.Ended,
		Mailboxes: len(t.Mailboxes), Left: t.Left, Scanned: t.Scanned, Matched: t.Matched, New: t.New,
	}
}

func (d taskDesk) Task(ctx context.Context, id string) (admin.Task, error) {
	t, err := d.store.Task(ctx, id)
	if err != nil {
		return admin.Task{}, taskFault(id, err)
	}
	out := task(t)
	if t.State == store.TaskRunning {
		out.Waiting, err = d.waiting(ctx, t)
	}
	return out, err
}

func taskFault(id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return admin.NotFound("no task %q; `mailsyncd tasks list` shows them, ended ones for 7 days", id)
	}
	return err
}

// waiting lists the mailboxes that a task has not walked and that nobody polls
// now: it cannot end before somebody changes that.
func (d taskDesk) waiting(ctx context.Context, t store.Task) ([]admin.WaitingMailbox, error) {
	rows, err := d.store.Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	member := make(map[string]bool, len(t.Mailboxes))
	for _, id := range t.Mailboxes {
		member[id] = true
	}
	var waiting []admin.WaitingMailbox
	for _, row := range rows {
		if !member[row.ID] || tried(row.State) || len(waiting) == maxTrouble {
			continue
		}
		owed, err := d.owes(ctx, row.ID, t.ID)
		if err != nil {
			return nil, err
		}
		if owed {
			waiting = append(waiting, admin.WaitingMailbox{Mailbox: row.ID, State: string(row.State)})
		}
	}
	return waiting, nil
}

// tried tells that a mailbox in this state is polled without anybody doing
// something.
func tried(state store.MailboxState) bool {
	switch state {
	case store.MailboxPaused, store.MailboxSuspended, store.MailboxUnauthorized, store.MailboxRemoved:
		return false
	}
	return true
}

func (d taskDesk) owes(ctx context.Context, mailbox, task string) (bool, error) {
	owed, err := d.store.Owed(ctx, mailbox)
	for _, o := range owed {
		if o.Task.ID == task {
			return true, err
		}
	}
	return false, err
}

func (d taskDesk) CancelTask(ctx context.Context, id string) (admin.Task, error) {
	t, err := d.store.CancelTask(ctx, id, time.Now())
	if err != nil {
		return admin.Task{}, taskFault(id, err)
	}
	return task(t), nil
}

// ---- resync ------------------------------------------------------------

// sinceSlack forgives the moments between "365d ago" as a command counts it and
// as the daemon does.
const sinceSlack = time.Minute

func (d taskDesk) Resync(ctx context.Context, r admin.Resync) (admin.TaskList, error) {
	if d.snapshot() == nil {
		return admin.TaskList{}, admin.Conflict("no complete directory has been read yet, so nobody is known; check directory.file")
	}
	cfg, now := d.cfg.Load(), time.Now()
	since, err := resyncSince(r.Since, cfg.Sync.ResyncLimit, now)
	if err != nil {
		return admin.TaskList{}, err
	}
	boxes, err := d.boxes(cfg, r.Mailbox)
	if err != nil {
		return admin.TaskList{}, err
	}
	whose, err := d.whose(ctx, r)
	if err != nil {
		return admin.TaskList{}, err
	}
	kind := store.TaskResync
	if r.Redeliver {
		kind = store.TaskRedeliver
	}
	tasks := make([]store.Task, len(whose))
	for i, c := range whose {
		tasks[i] = store.Task{
			Kind: kind, Candidate: c.Ref, Addresses: c.Keys, Since: since, DryRun: r.DryRun, Mailboxes: boxes,
		}
	}
	return d.begin(ctx, tasks, r.Mailbox, now)
}

// begin records tasks and has their mailboxes polled. Mailbox is the one that
// was named, "" when none was.
func (d taskDesk) begin(ctx context.Context, tasks []store.Task, mailbox string, now time.Time) (admin.TaskList, error) {
	added, err := d.store.AddTasks(ctx, tasks, now)
	if errors.Is(err, store.ErrNotFound) {
		return admin.TaskList{}, admin.Conflict("the candidate was purged meanwhile")
	}
	if err != nil {
		return admin.TaskList{}, fmt.Errorf("recording the tasks: %w", err)
	}
	d.fleet.nudge(mailbox)
	return taskList(added), nil
}

// resyncSince bounds how far back a task reads.
func resyncSince(since time.Time, limit time.Duration, now time.Time) (time.Time, error) {
	earliest := now.Add(-limit)
	switch {
	case since.IsZero():
		return earliest, nil
	case since.After(now):
		return since, admin.Invalid("since lies in the future; choose an earlier time")
	case since.Before(earliest.Add(-sinceSlack)):
		return since, admin.Invalid("since is further back than sync.resync_limit, %s, lets: choose %s or later, or raise the limit",
			config.FormatDuration(limit), earliest.UTC().Format(time.RFC3339))
	}
	return since, nil
}

// boxes are the ids a task walks over. A mailbox that is not polled now is
// walked when it is again.
func (d taskDesk) boxes(cfg *config.Config, id string) ([]string, error) {
	if id != "" {
		_, err := mailboxDesk(d).find(id)
		return []string{id}, err
	}
	ids := make([]string, len(cfg.Mailboxes))
	for i := range cfg.Mailboxes {
		ids[i] = cfg.Mailboxes[i].ID
	}
	return ids, nil
}

// whose returns the candidates meant; the zero one stands for all.
func (d taskDesk) whose(ctx context.Context, r admin.Resync) ([]dirsync.Shown, error) {
	switch {
	case r.All:
		return []dirsync.Shown{{}}, nil
	case r.Candidate != "":
		c, err := d.matchable(ctx, r.Candidate)
		return []dirsync.Shown{c}, err
	}
	return d.resolve(ctx, r.Who)
}

// resolve finds the candidates that a person means by a ref or an address.
func (d taskDesk) resolve(ctx context.Context, who string) ([]dirsync.Shown, error) {
	c, err := d.matchable(ctx, who)
	if !isNotFound(err) || !strings.Contains(who, "@") {
		return []dirsync.Shown{c}, err
	}
	entries := d.snapshot().Lookup(message.Fold(who))
	if len(entries) == 0 {
		return nil, admin.NotFound("no candidate has this ref or address; check its spelling")
	}
	return d.matchableOf(ctx, entries)
}

// matchableOf leaves out the candidates that are not matched, unless none is.
func (d taskDesk) matchableOf(ctx context.Context, entries []directory.Entry) (found []dirsync.Shown, err error) {
	for _, e := range entries {
		c, cause := d.matchable(ctx, e.Ref)
		if cause != nil {
			err = cause
			continue
		}
		found = append(found, c)
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, err
}

// matchable returns a candidate whose mail is matched now.
func (d taskDesk) matchable(ctx context.Context, ref string) (dirsync.Shown, error) {
	c, err := d.candidate(ctx, ref)
	switch {
	case err != nil:
		return c, err
	case !c.Live():
		return c, admin.Conflict("the candidate is erased: %s", mendDeleted)
	case c.Inactive != "":
		return c, admin.Conflict("the candidate is not matched now (%s), so nothing would be delivered: %s", c.Inactive, mendInactive(c.Inactive))
	}
	return c, nil
}

// candidate returns what the directory knows of a candidate, also of a purged
// one.
func (d *daemon) candidate(ctx context.Context, ref string) (dirsync.Shown, error) {
	found, err := d.keeper.Show(ctx, directory.KindCandidate, ref)
	if errors.Is(err, dirsync.ErrNotFound) {
		return dirsync.Shown{}, admin.NotFound("there is no candidate with this ref; check its spelling")
	}
	if err != nil {
		return dirsync.Shown{}, err
	}
	return found[0], nil
}

const mendDeleted = "let the ATS send its record again with a higher rev, or put it without one"

// mendInactive says what would make a candidate matched.
func mendInactive(reason string) string {
	switch reason {
	case directory.InactiveStopped:
		return "let the ATS set its state to active"
	case directory.InactiveNoJobs:
		return "its list of jobs is empty: add an open job, or leave jobs out of the record"
	case directory.InactiveJobsArchived:
		return "reopen one of its jobs, or add an open one"
	case directory.InactiveMissing:
		return "the directory file lacks it: write it there again, it is purged when directory.missing_grace is over"
	}
	return ""
}
