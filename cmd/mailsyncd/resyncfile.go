package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mailsyncd/admin"
	"mailsyncd/store"
)

// The resync file lets a program that may not open the socket ask for resyncs:
// it writes one candidate ref or address a line and sends SIGUSR1.
//
// The file is taken by a rename, so that the program may write the next one at
// once, and removed when its tasks are recorded. A crash in between leaves the
// taken file, which the next start takes; what it repeats are tasks that find
// nothing new.
const (
	takenSuffix    = ".taken"
	rejectedSuffix = ".rejected"
	// maxResyncLine is more than a ref or an address can have.
	maxResyncLine = 4 << 10
	// maxNamedLines is how many bad lines the log names.
	maxNamedLines = 20
)

// followResyncs takes what a crash left behind, then a file for every SIGUSR1,
// which also polls every mailbox.
func (d *daemon) followResyncs(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.ready: // nobody is known before
	}
	d.resyncs(ctx, d.takeLeftover)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.asked:
		}
		d.resyncs(ctx, d.takeResyncFile)
		d.fleet.nudge("")
	}
}

// resyncs takes a file and logs why it could not.
func (d *daemon) resyncs(ctx context.Context, take func(context.Context, string) error) {
	path := d.cfg.Load().Sync.ResyncFile
	if path == "" {
		return
	}
	if err := take(ctx, path); err != nil && ctx.Err() == nil {
		d.log.Error("the resync file could not be taken; it is tried again with the next SIGUSR1 or start",
			"event", "resync_file_failed", "file", path, "err", err)
	}
}

// takeResyncFile takes a leftover, then the file itself. There may be none.
func (d *daemon) takeResyncFile(ctx context.Context, path string) error {
	if err := d.takeLeftover(ctx, path); err != nil {
		return err
	}
	if err := os.Rename(path, path+takenSuffix); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return d.takeLeftover(ctx, path)
}

// takeLeftover records the tasks of the taken file and removes it.
func (d *daemon) takeLeftover(ctx context.Context, path string) error {
	lines, err := readResyncFile(path + takenSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	tasks, rejected, err := d.resyncTasks(ctx, lines)
	if err != nil {
		return err
	}
	if err := checkWalks(path, len(tasks), len(d.cfg.Load().Mailboxes)); err != nil {
		return err
	}
	if _, err := d.store.AddTasks(ctx, tasks, time.Now()); err != nil {
		return fmt.Errorf("recording the tasks: %w", err)
	}
	if err := keepRejected(path+rejectedSuffix, rejected); err != nil {
		return err
	}
	d.logResync(path, len(tasks), rejected)
	d.fleet.nudge("")
	return os.Remove(path + takenSuffix)
}

// checkWalks refuses more than one transaction may record.
func checkWalks(path string, candidates, mailboxes int) error {
	if candidates*mailboxes <= store.MaxTaskWalks {
		return nil
	}
	return fmt.Errorf("%d candidates in %d mailboxes are more than the %d walks that are recorded at once; split %s and rename the parts to %s one by one",
		candidates, mailboxes, store.MaxTaskWalks, path+takenSuffix, path)
}

// resyncLine is one line that names somebody.
type resyncLine struct {
	no     int
	text   string
	reason string // why it is rejected; no address in it
}

// readResyncFile reads a regular file; a link is not followed, since the folder
// may be open to others.
func readResyncFile(name string) ([]resyncLine, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	var lines []resyncLine
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, maxResyncLine)
	for no := 1; scan.Scan(); no++ {
		if text := strings.TrimSpace(scan.Text()); text != "" && !strings.HasPrefix(text, "#") {
			lines = append(lines, resyncLine{no: no, text: text})
		}
	}
	if errors.Is(scan.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("a line is longer than %d bytes; write one ref or address a line", maxResyncLine)
	}
	return lines, scan.Err()
}

// resyncTasks makes one task for each candidate that the lines name, and returns
// the lines that name none.
func (d *daemon) resyncTasks(ctx context.Context, lines []resyncLine) (tasks []store.Task, rejected []resyncLine, err error) {
	desk, cfg, known := taskDesk{d}, d.cfg.Load(), map[string]bool{}
	boxes, err := desk.boxes(cfg, "")
	if err != nil {
		return nil, nil, err
	}
	since := time.Now().Add(-cfg.Sync.ResyncLimit)
	for _, line := range lines {
		found, err := desk.resolve(ctx, line.text)
		var refused *admin.Problem
		switch {
		case errors.As(err, &refused):
			line.reason = refused.Detail
			rejected = append(rejected, line)
			continue
		case err != nil:
			return nil, nil, err
		}
		for _, c := range found {
			if !known[c.Ref] {
				tasks = append(tasks, store.Task{
					Kind: store.TaskResync, Candidate: c.Ref, Addresses: c.Keys, Since: since, Mailboxes: boxes,
				})
			}
			known[c.Ref] = true
		}
	}
	return tasks, rejected, nil
}

// keepRejected adds the lines that could not be used to a file beside, each
// under a comment that says why, so that a person can mend them.
func keepRejected(name string, rejected []resyncLine) (err error) {
	if len(rejected) == 0 {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the lines that were rejected: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, line := range rejected {
		if _, err := fmt.Fprintf(f, "# line %d: %s\n%s\n", line.no, line.reason, line.text); err != nil {
			return fmt.Errorf("keeping the lines that were rejected: %w", err)
		}
	}
	return nil
}

// logResync names bad lines by their numbers only: they may hold addresses.
func (d *daemon) logResync(path string, tasks int, rejected []resyncLine) {
	d.log.Info("resyncs were begun", "event", "resync_file_taken", "file", path, "tasks", tasks)
	if len(rejected) == 0 {
		return
	}
	numbers := make([]int, 0, maxNamedLines)
	for _, line := range rejected[:min(len(rejected), maxNamedLines)] {
		numbers = append(numbers, line.no)
	}
	d.log.Warn("lines of the resync file name nobody who is matched; they are kept beside it",
		"event", "resync_lines_rejected", "file", path+rejectedSuffix, "count", len(rejected), "lines", numbers)
}
