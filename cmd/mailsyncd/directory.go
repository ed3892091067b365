package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newDirectoryCommand(env *environment) *cobra.Command {
	return group("directory", "candidates, jobs and users as the daemon knows them",
		newDirectoryListCommand(env), newDirectoryShowCommand(env), newDirectoryPutCommand(env),
		newDirectoryDeleteCommand(env), newDirectoryApproveCommand(env))
}

func newDirectoryListCommand(env *environment) *cobra.Command {
	var kind choice
	var most int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list records, without addresses",
		Args:  wants(0, 0, ""),
	}
	kind.legal = []string{"candidate", "job", "user"}
	cmd.Flags().Var(&kind, "kind", strings.Join(kind.legal, ", "))
	cmd.Flags().IntVar(&most, "limit", 100, "at most this many; 0 for all")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		list := admin.RecordList{Items: []admin.Record{}}
		err := collect(most, func(n int) (int, bool, error) {
			l, err := c.Records(ctx, admin.RecordQuery{Kind: kind.value, After: list.Next, Limit: n})
			list.Items, list.Next = append(list.Items, l.Items...), l.Next
			return len(l.Items), l.Next != "", err
		})
		return answer{value: list, text: func(p *page) { p.records(list) }}, err
	})
}

func (p *page) records(list admin.RecordList) {
	rows := make([][]string, len(list.Items))
	for i, r := range list.Items {
		rows[i] = []string{r.Kind, r.Ref, r.State, matchedText(r), r.Source}
	}
	p.table([]string{"KIND", "REF", "STATE", "MATCHED", "SOURCE"}, rows)
	if list.Next != "" {
		p.line("… there are more; --limit 0 lists all")
	}
}

// matchedText tells whether mail is matched with a candidate, and why not.
func matchedText(r admin.Record) string {
	switch {
	case r.Kind != "candidate":
		return ""
	case r.Matched:
		return "yes"
	case r.Inactive == "":
		return "no"
	default:
		return "no: " + r.Inactive
	}
}

func newDirectoryShowCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show REF",
		Short: "show the records with this ref, addresses included",
		Args:  wants(1, 1, "REF"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		list, err := c.Records(ctx, admin.RecordQuery{Ref: args[0]})
		if err == nil && len(list.Items) == 0 {
			err = admin.NotFound("there is no record with this ref; check its spelling, or whether it was purged")
		}
		return answer{value: list.Items, text: func(p *page) {
			for i, r := range list.Items {
				if i > 0 {
					p.line("")
				}
				p.record(r)
			}
		}}, err
	})
}

func (p *page) record(r admin.Record) {
	jobs := ""
	if r.Jobs != nil {
		jobs = orDash(strings.Join(*r.Jobs, ", "))
	}
	p.facts(
		"kind", r.Kind, "ref", r.Ref, "state", r.State, "matched", matchedText(r),
		"emails", strings.Join(r.Emails, ", "), "jobs", jobs, "rev", r.Rev, "source", r.Source,
		"missing since", p.exactly(r.MissingSince),
	)
}

func newDirectoryPutCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put FILE",
		Short: "add or change the records of a JSON-lines file; - reads standard input",
		Long: `Adds or changes each record of the file. What the file does not name stays as
it is: this is never a snapshot. One bad line refuses the whole file.`,
		Args: wants(1, 1, "FILE"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		file, err := env.open(args[0])
		if err != nil {
			return answer{}, err
		}
		defer func() { _ = file.Close() }() // it was read
		r, err := c.PutRecords(ctx, file)
		return answer{value: r, text: func(p *page) {
			p.line("%s: %d changed, %d unchanged, %d stale",
				count(r.Records, "record", "records"), r.Changed, r.Unchanged, r.Stale)
		}}, err
	})
}

// open opens a file to read; "-" is standard input.
func (env *environment) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(env.stdin), nil
	}
	return os.Open(name)
}

func newDirectoryDeleteCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KIND REF",
		Short: "delete a record; a candidate is purged at once",
		Long: `Deletes a record of the kind candidate, job or user. A candidate is purged at
once, from the ledger and from every event, and the ATS is told. A record that
still stands in directory.file comes back when the file is next read: delete it in
the ATS first.`,
		Args: wants(2, 2, "KIND REF"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		kind := choice{legal: []string{"candidate", "job", "user"}}
		if err := kind.Set(args[0]); err != nil {
			return answer{}, usagef("unknown kind %q; %v", args[0], err)
		}
		err := c.DeleteRecord(ctx, args[0], args[1])
		deleted := map[string]string{"deleted": args[0] + " " + args[1]}
		return answer{value: deleted, text: func(p *page) {
			p.line("%s %s deleted; if it still stands in the directory file, the next reading brings it back", args[0], args[1])
		}}, err
	})
}

func newDirectoryApproveCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve [ADDRESS]",
		Short: "release a held sweep, or what is held for one address",
		Args:  wants(0, 1, "[ADDRESS]"),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		r, err := c.Approve(ctx, strings.Join(args, ""))
		return answer{value: r, text: func(p *page) { p.line("%s", approved(r)) }}, err
	})
}

func approved(r admin.ApproveResult) string {
	if r.Sweeps+r.Addresses == 0 {
		return "nothing was held"
	}
	return fmt.Sprintf("released: %s, %s", count(r.Sweeps, "sweep", "sweeps"), count(r.Addresses, "address", "addresses"))
}
