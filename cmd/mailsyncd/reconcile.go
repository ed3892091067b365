package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newReconcileCommand(env *environment) *cobra.Command {
	var r admin.Reconcile
	var since string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "prove that nothing is missing: read the window again and compare",
		Long: `Polls each mailbox, reads the headers of its window again, decides each, and
compares with what was delivered. Every pair of message and candidate must be
delivered, waiting or refused; what is none of these, twice, is unaccounted for,
and --repair queues it. Waits for all mailboxes; exit 1 if anything is left
unaccounted for, or a mailbox could not be read.`,
		Args: wants(0, 0, ""),
	}
	cmd.Flags().StringVar(&r.Mailbox, "mailbox", "", "only this mailbox, by its `ID`")
	cmd.Flags().StringVar(&since, "since", "", "mail that arrived since this `TIME`, never before the horizon; without it, the window of sync.backfill")
	cmd.Flags().BoolVar(&r.Repair, "repair", false, "queue what is unaccounted for")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		var err error
		if r.Since, err = parseSince(since, env.now()); err != nil {
			return answer{}, err
		}
		sum, err := c.Reconcile(ctx, r)
		return answer{value: sum, text: func(p *page) { p.reconciliation(sum) }, failed: incomplete(sum)}, err
	})
}

// incomplete is the failure of a proof that does not hold, or not for all.
func incomplete(r admin.Reconciliation) error {
	switch left := r.Total.Left(); {
	case left > 0:
		return fmt.Errorf("%s unaccounted for; `mailsyncd reconcile --repair` queues what is missing", count(left, "message is", "messages are"))
	case len(r.Failed) > 0:
		return fmt.Errorf("%s not read", count(len(r.Failed), "mailbox was", "mailboxes were"))
	}
	return nil
}

func (p *page) reconciliation(r admin.Reconciliation) {
	rows := make([][]string, 0, len(r.Mailboxes)+1)
	for _, m := range r.Mailboxes {
		rows = append(rows, reconcileRow(m.Mailbox, p.when(m.Since), m.Counts))
	}
	if len(r.Mailboxes) != 1 {
		rows = append(rows, reconcileRow("total", "", r.Total))
	}
	p.table([]string{"MAILBOX", "SINCE", "HEADERS", "DELIVERED", "PENDING", "HELD", "DEAD", "REFUSED", "UNACCOUNTED", "REPAIRED"}, rows)
	var guards []string
	for _, guard := range slices.Sorted(maps.Keys(r.Total.Refused)) {
		guards = append(guards, fmt.Sprintf("%d %s", r.Total.Refused[guard], guard))
	}
	if len(guards) > 0 {
		p.line("")
		p.line("refused: %s", strings.Join(guards, ", "))
	}
	for i, f := range r.Failed {
		if i == 0 {
			p.line("")
		}
		p.failedMailbox(f)
	}
}

func reconcileRow(name, since string, c admin.ReconcileCounts) []string {
	refused := 0
	for _, n := range c.Refused {
		refused += n
	}
	row := []string{name, since}
	for _, n := range []int{c.Messages, c.Delivered, c.Pending, c.Held, c.Dead, refused, c.Unaccounted, c.Repaired} {
		row = append(row, fmt.Sprint(n))
	}
	return row
}

// failedMailbox says why a mailbox gave no answer.
func (p *page) failedMailbox(f admin.FailedMailbox) {
	if f.Action == "" {
		p.line("! %s: %s", f.Mailbox, f.Error)
		return
	}
	p.line("! %s: %s; %s", f.Mailbox, f.Error, f.Action)
}
