package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newTasksCommand(env *environment) *cobra.Command {
	return group("tasks", "work over old mail: resyncs, and what replays read again",
		newTasksListCommand(env), newTasksCancelCommand(env))
}

func newTasksListCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list running tasks and those that ended within 7 days, oldest first",
		Args:  wants(0, 0, ""),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		list, err := c.Tasks(ctx)
		return answer{value: list, text: func(p *page) { p.tasks(list.Items) }}, err
	})
}

func (p *page) tasks(tasks []admin.Task) {
	rows := make([][]string, len(tasks))
	for i, t := range tasks {
		rows[i] = []string{
			t.ID, taskKind(t), orAll(t.Candidate), taskState(t), p.when(t.Created),
			fmt.Sprintf("%d of %d", t.Mailboxes-t.Left, t.Mailboxes),
			fmt.Sprint(t.Scanned), fmt.Sprint(t.Matched), fmt.Sprint(t.New),
		}
	}
	p.table([]string{"ID", "KIND", "CANDIDATE", "STATE", "BEGAN", "MAILBOXES", "SCANNED", "MATCHED", "DELIVERED"}, rows)
}

func taskKind(t admin.Task) string {
	if t.DryRun {
		return t.Kind + " (dry run)"
	}
	return t.Kind
}

func orAll(ref string) string {
	if ref == "" {
		return "all"
	}
	return ref
}

func taskState(t admin.Task) string {
	if t.Purged {
		return t.State + " (purged)"
	}
	return t.State
}

func newTasksCancelCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "end a task; what it delivered stays",
		Args:  wants(1, 1, "ID"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		t, err := c.CancelTask(ctx, args[0])
		return answer{value: t, text: func(p *page) { p.line("%s is %s", t.ID, t.State) }}, err
	})
}
