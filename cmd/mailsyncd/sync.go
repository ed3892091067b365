package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newSyncCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync [MAILBOX]",
		Short: "poll one mailbox or all of them now, and wait for it",
		Long: `Polls now and waits until a pass that began after the call has ended, so that
mail which was there before the call has been seen after it. Interrupting the
command leaves the pass running.`,
		Args: wants(0, 1, "[MAILBOX]"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		if len(args) == 1 {
			r, err := c.Sync(ctx, args[0])
			return syncAnswer(r), err
		}
		r, err := c.SyncAll(ctx)
		return syncAllAnswer(r), err
	})
}

func syncAnswer(r admin.SyncResult) answer {
	a := answer{value: r, text: func(p *page) { p.syncResult(r) }}
	if !r.OK {
		a.failed = fmt.Errorf("%s was not synced", clean(r.Mailbox))
	}
	return a
}

func (p *page) syncResult(r admin.SyncResult) {
	if !r.OK {
		p.line("%s: %s: %s; %s", r.Mailbox, r.Class, r.Error, r.Action)
		return
	}
	p.line("%s: %d scanned, %d matched, in %s", r.Mailbox, r.Scanned, r.Matched, r.Ended.Sub(r.Began).String())
}

func syncAllAnswer(r admin.SyncAllResult) answer {
	a := answer{value: r, text: func(p *page) {
		p.line("%s polled: %d ok, %d skipped; %d scanned, %d matched",
			count(r.Mailboxes, "mailbox", "mailboxes"), r.OK, r.Skipped, r.Scanned, r.Matched)
		for _, f := range r.Failed {
			p.syncResult(f)
		}
		if r.FailedLeftOut > 0 {
			p.line("… and %d more", r.FailedLeftOut)
		}
	}}
	if n := len(r.Failed) + r.FailedLeftOut; n > 0 {
		a.failed = fmt.Errorf("%s not synced", count(n, "mailbox was", "mailboxes were"))
	}
	return a
}
