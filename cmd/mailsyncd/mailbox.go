package main

import (
	"context"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newMailboxCommand(env *environment) *cobra.Command {
	return group("mailbox", "pause, resume or forget one mailbox",
		newMailboxStateCommand(env, "pause ID", "stop polling a mailbox until it is resumed", (*admin.Client).PauseMailbox),
		newMailboxStateCommand(env, "resume ID", "poll a paused mailbox again, or one whose login was refused", (*admin.Client).ResumeMailbox),
		newMailboxForgetCommand(env))
}

func newMailboxStateCommand(env *environment, use, short string,
	set func(*admin.Client, context.Context, string) (admin.Mailbox, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: wants(1, 1, "ID")}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		m, err := set(c, ctx, args[0])
		return answer{value: m, text: func(p *page) { p.line("%s is %s", m.ID, m.State) }}, err
	})
}

func newMailboxForgetCommand(env *environment) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget ID --yes",
		Short: "erase a mailbox's credentials, cursor and ledger rows",
		Long: `Erases what the daemon knows of a mailbox: credentials, cursor and ledger rows.
What was delivered stays with the ATS. Remove the mailbox from the configuration
first, or it begins again like a new one.`,
		Args: wants(1, 1, "ID"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		if !yes {
			return answer{}, usagef("forget cannot be undone; add --yes if that is meant")
		}
		err := c.ForgetMailbox(ctx, args[0])
		return answer{value: map[string]string{"forgotten": args[0]}, text: func(p *page) { p.line("%s is forgotten", args[0]) }}, err
	})
}
