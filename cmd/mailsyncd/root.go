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

	"mailsyncd/admin"
	"mailsyncd/config"
)

// environment is what commands know of the world: where they write, what time
// it is, and which daemon they talk to. Tests pass another one.
type environment struct {
	stdout, stderr io.Writer
	stdin          io.Reader
	getenv         func(string) string
	now            func() time.Time
	every          time.Duration // how often a command that waits looks
	browse         func(url string) error
}

// lookEvery is how often a command looks how far its task is.
const lookEvery = 500 * time.Millisecond

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	env := &environment{stdout, stderr, os.Stdin, os.Getenv, time.Now, lookEvery, openBrowser}
	return env.run(ctx, args)
}

func (env *environment) run(ctx context.Context, args []string) int {
	root := newRootCommand(env)
	begun := false
	eachRun(root, func() { begun = true })
	root.SetArgs(args)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if !begun { // cobra refused the flags or arguments
		err = &usageError{err}
	}
	env.report(cmd, err)
	return exitCode(err)
}

// report prints an error for a person: one line per problem, and after wrong
// usage where to read on.
func (env *environment) report(cmd *cobra.Command, err error) {
	var invalid *config.Error
	var usage *usageError
	var refused *admin.Problem
	switch {
	case errors.As(err, &invalid):
		fmt.Fprintln(env.stderr, err) // begins with file and line
	case errors.As(err, &refused):
		fmt.Fprintln(env.stderr, "mailsyncd: "+strings.Join(append([]string{refused.Detail}, refused.Errors...), "\n"))
	case errors.As(err, &usage):
		fmt.Fprintf(env.stderr, "mailsyncd: %v\nSee `%s --help`.\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(env.stderr, "mailsyncd: %v\n", err)
	}
}

// commands lists what `mailsyncd --help` shows, in that order.
func commands(env *environment) []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(env),
		newCheckCommand(env),
		newDemoCommand(env),
		newStatusCommand(env),
		newSyncCommand(env),
		newResyncCommand(env),
		newTasksCommand(env),
		newExplainCommand(env),
		newReconcileCommand(env),
		newDeliveriesCommand(env),
		newDirectoryCommand(env),
		newMailboxCommand(env),
		newConnectCommand(env),
		newWebhookCommand(env),
		newReloadCommand(env),
		newKeyCommand(env),
		newSchemaCommand(env),
		newVersionCommand(env),
	}
}

func newRootCommand(env *environment) *cobra.Command {
	root := group("mailsyncd", "syncs candidate mail from recruiters' mailboxes to an ATS", commands(env)...)
	root.Long = strings.TrimSpace(`
mailsyncd polls recruiters' mailboxes, reads headers only, matches them against
the candidates of an applicant tracking system (ATS), and posts matching threads
to the ATS's webhook.

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid configuration,
3 the daemon cannot be reached, 4 the store cannot be used.`)
	root.SilenceUsage, root.SilenceErrors = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	cobra.EnableCommandSorting = false
	return root
}

// eachRun calls begin before a command's own work begins: whatever failed
// earlier is wrong usage, in whichever way cobra puts it.
func eachRun(cmd *cobra.Command, begin func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			begin()
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		eachRun(sub, begin)
	}
}

// group is a command that only holds others. Without one of them, or with one
// that it does not know, it is wrong usage; cobra would print help and succeed.
func group(use, short string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " COMMAND", Short: short, DisableFlagsInUseLine: true,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("a command is missing")
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usagef("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))
			}
			return usagef("unknown command %q", args[0])
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(members...)
	return cmd
}
