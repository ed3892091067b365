package main

import (
	"context"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newMailboxCommand(env *environment) *cobra.Command {
	return group("mailbox", "list mailboxes; pause, resume or forget one",
		newMailboxListCommand(env),
		newMailboxStateCommand(env, "pause ID", "stop polling a mailbox until it is resumed", (*admin.Client).PauseMailbox),
		newMailboxStateCommand(env, "resume ID", "poll a paused mailbox again, or one whose login was refused", (*admin.Client).ResumeMailbox),
		newMailboxForgetCommand(env))
}

func newMailboxListCommand(env *environment) *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "list", Short: "all mailboxes in order of their ids, without addresses", Args: wants(0, 0, "")}
	cmd.Flags().StringVar(&state, "state", "", "only those in this `STATE`: active, backing_off, unauthorized, suspended, paused, removed")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		all := admin.MailboxList{Items: []admin.Mailbox{}}
		for q := (admin.MailboxQuery{State: state, Limit: 1000}); ; {
			list, err := c.Mailboxes(ctx, q)
			if err != nil {
				return answer{}, err
			}
			all.Items = append(all.Items, list.Items...)
			if q.After = list.Next; q.After == "" {
				break
			}
		}
		return answer{value: all, text: func(p *page) { p.mailboxList(all.Items) }}, nil
	})
}

func (p *page) mailboxList(all []admin.Mailbox) {
	rows := make([][]string, 0, len(all))
	for _, m := range all {
		rows = append(rows, []string{m.ID, m.State, m.Class, p.when(m.LastSuccess), p.when(m.NextPoll)})
	}
	p.table([]string{"MAILBOX", "STATE", "TROUBLE", "LAST SUCCESS", "NEXT POLL"}, rows)
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
