package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mailsyncd/admin"
)

func newResyncCommand(env *environment) *cobra.Command {
	var r admin.Resync
	var since string
	wait := true
	cmd := &cobra.Command{
		Use:   "resync CANDIDATE|ADDRESS | --all --redeliver --since TIME",
		Short: "read older mail of one candidate, or deliver again",
		Long: `Reads a candidate's mail again, also from before the window of the first sync,
and delivers what was not delivered yet. Name the candidate by its ref or by an
address; an address stands for every candidate who has it.

It goes back to --since, at most as far as sync.resync_limit, which is also what
it does without. With --redeliver it posts again what was delivered, under the
same message ids, for an ATS that was restored from a backup; --all does that for
every candidate.

The work is a task of the daemon: it survives a restart. The command waits for it
and shows its progress; interrupting the command leaves the task running.`,
		Args: wants(0, 1, "CANDIDATE or ADDRESS"),
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "mail that arrived since this `TIME`: 2026-01-31, 2026-01-31T10:00:00Z, or 90d ago as 90d")
	f.StringVar(&r.Mailbox, "mailbox", "", "only this mailbox, by its `ID`")
	f.BoolVar(&r.All, "all", false, "every candidate")
	f.BoolVar(&r.Redeliver, "redeliver", false, "post again what was delivered")
	f.BoolVar(&r.DryRun, "dry-run", false, "count what matches, and record nothing")
	f.BoolVar(&wait, "wait", true, "wait for the end")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		r.Who = strings.Join(args, "")
		if err := checkResync(r, since); err != nil {
			return answer{}, err
		}
		var err error
		if r.Since, err = parseSince(since, env.now()); err != nil {
			return answer{}, err
		}
		list, err := c.Resync(ctx, r)
		if err != nil || !wait {
			return answer{value: list, text: func(p *page) { p.begun(list.Items) }}, err
		}
		w := &watch{client: c, every: env.every, out: env.stderr, rewrite: isTerminal(env.stderr)}
		list.Items, err = w.tasks(ctx, list.Items)
		return answer{value: list, text: func(p *page) { p.ended(list.Items) }, failed: unfinished(list.Items)}, err
	})
}

// checkResync wants a candidate, or all, and all only for what it is good for.
func checkResync(r admin.Resync, since string) error {
	switch {
	case r.All && r.Who != "":
		return usagef("name a candidate, or pass --all, not both")
	case !r.All && r.Who == "":
		return usagef("CANDIDATE or ADDRESS is missing")
	case r.All && (!r.Redeliver || since == ""):
		return usagef("--all goes with --redeliver and --since; what was missed is found by `mailsyncd reconcile`")
	}
	return nil
}

func (p *page) begun(tasks []admin.Task) {
	for _, t := range tasks {
		p.line("%s begun over %s; `mailsyncd tasks list` shows it", t.ID, count(t.Mailboxes, "mailbox", "mailboxes"))
	}
}

// ended says what came of tasks.
func (p *page) ended(tasks []admin.Task) {
	for _, t := range tasks {
		result := fmt.Sprintf("%d delivered", t.New)
		if t.DryRun {
			result = "nothing recorded (dry run)"
		}
		p.line("%s of %s %s: %s, %s read, %d matched, %s", t.Kind, orAll(t.Candidate), taskState(t),
			count(t.Mailboxes-t.Left, "mailbox", "mailboxes"), count(int(t.Scanned), "header", "headers"), t.Matched, result)
		if left := stillWaiting(t); left != "" {
			p.line("! %s goes on when these are polled again: %s", t.ID, left)
		}
	}
}

// stillWaiting names the mailboxes that keep a task from its end.
func stillWaiting(t admin.Task) string {
	const most = 10
	var names []string
	for _, w := range t.Waiting[:min(most, len(t.Waiting))] {
		names = append(names, w.Mailbox+" ("+w.State+")")
	}
	if more := len(t.Waiting) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// unfinished is the failure of tasks that did not get to their end.
func unfinished(tasks []admin.Task) error {
	for _, t := range tasks {
		if t.State != admin.TaskDone {
			return errors.New("not every mailbox was read")
		}
	}
	return nil
}

// watch follows tasks and shows their progress: on a terminal one line that is
// rewritten, else a line when a mailbox is done.
type watch struct {
	client  *admin.Client
	every   time.Duration
	out     io.Writer
	rewrite bool
	shown   string
}

// tasks returns the tasks as they are at their end. A task that only waits for
// mailboxes nobody polls counts as ended here.
func (w *watch) tasks(ctx context.Context, tasks []admin.Task) ([]admin.Task, error) {
	defer w.clear()
	for wait := w.every / 16; ; wait = min(2*wait, w.every) { // most are short
		running := false
		for i, t := range tasks {
			if over(t) {
				continue
			}
			now, err := w.client.Task(ctx, t.ID)
			if err != nil {
				return tasks, w.left(ctx, tasks, err)
			}
			tasks[i] = now
			running = running || !over(now)
		}
		if !running {
			return tasks, nil
		}
		w.show(tasks)
		select {
		case <-ctx.Done():
			return tasks, w.left(ctx, tasks, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// over tells that nothing more will happen by itself.
func over(t admin.Task) bool {
	return t.State != admin.TaskRunning || t.Left > 0 && t.Left == len(t.Waiting)
}

// left says, when the person or the daemon goes, how to come back to the tasks.
func (w *watch) left(ctx context.Context, tasks []admin.Task, err error) error {
	var ids []string
	for _, t := range tasks {
		if !over(t) {
			ids = append(ids, t.ID)
		}
	}
	var gone *admin.UnreachableError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; the daemon goes on with %s: `mailsyncd tasks list` shows it, `mailsyncd tasks cancel ID` ends it",
			strings.Join(ids, ", "))
	case errors.As(err, &gone):
		return fmt.Errorf("%w; it goes on with %s when it runs again", err, strings.Join(ids, ", "))
	}
	return err
}

// show writes the progress if it is new.
func (w *watch) show(tasks []admin.Task) {
	var sum admin.Task
	for _, t := range tasks {
		sum.Mailboxes += t.Mailboxes
		sum.Left += t.Left
		sum.Scanned += t.Scanned
		sum.Matched += t.Matched
	}
	text := fmt.Sprintf("%d of %s read", sum.Mailboxes-sum.Left, count(sum.Mailboxes, "mailbox", "mailboxes"))
	if w.rewrite {
		text += fmt.Sprintf(", %s, %d matched", count(int(sum.Scanned), "header", "headers"), sum.Matched)
	}
	if text == w.shown {
		return
	}
	w.shown = text
	if w.rewrite {
		fmt.Fprintf(w.out, "\r\x1b[K%s", text) // erase the line: ECMA-48 §8.3.41
		return
	}
	fmt.Fprintln(w.out, text)
}

// clear takes the rewritten line away: the answer follows.
func (w *watch) clear() {
	if w.rewrite && w.shown != "" {
		fmt.Fprint(w.out, "\r\x1b[K")
	}
}

// isTerminal tells that a person sees what is written, as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
