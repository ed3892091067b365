package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/config"
)

func newDeliveriesCommand(env *environment) *cobra.Command {
	return group("deliveries", "the outbox: what was posted, what waits, what is dead",
		newDeliveriesListCommand(env), newDeliveriesShowCommand(env), newDeliveriesReplayCommand(env))
}

func newDeliveriesListCommand(env *environment) *cobra.Command {
	var state choice
	var candidate string
	var most int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list events, oldest first",
		Args:  wants(0, 0, ""),
	}
	state.legal = []string{"pending", "held", "dead", "delivered"}
	cmd.Flags().Var(&state, "state", strings.Join(state.legal, ", "))
	cmd.Flags().StringVar(&candidate, "candidate", "", "only events that name this candidate, by its `REF`")
	cmd.Flags().IntVar(&most, "limit", 100, "at most this many; 0 for all")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		list := admin.DeliveryList{Items: []admin.Delivery{}}
		err := collect(most, func(n int) (int, bool, error) {
			l, err := c.Deliveries(ctx, admin.DeliveryQuery{State: state.value, Candidate: candidate, After: list.Next, Limit: n})
			list.Items, list.Next = append(list.Items, l.Items...), l.Next
			return len(l.Items), l.Next != 0, err
		})
		return answer{value: list, text: func(p *page) { p.deliveries(list) }}, err
	})
}

// collect calls next, which reads a page of up to n, until there are no more
// or most have been read; 0 reads all.
func collect(most int, next func(n int) (got int, more bool, err error)) error {
	if most < 0 {
		return usagef("--limit cannot be negative; 0 lists all")
	}
	for total, more := 0, true; more && (most == 0 || total < most); {
		size := 1000
		if most > 0 {
			size = min(size, most-total)
		}
		got, m, err := next(size)
		if err != nil {
			return err
		}
		total, more = total+got, m && got > 0
	}
	return nil
}

func (p *page) deliveries(list admin.DeliveryList) {
	rows := make([][]string, len(list.Items))
	for i, d := range list.Items {
		rows[i] = []string{d.ID, d.Type, d.State, p.when(d.Created), fmt.Sprint(d.Attempts), d.LastResult, d.Stream}
	}
	p.table([]string{"ID", "TYPE", "STATE", "CREATED", "ATTEMPTS", "LAST", "STREAM"}, rows)
	if list.Next != 0 {
		p.line("… there are more; --limit 0 lists all")
	}
}

func newDeliveriesShowCommand(env *environment) *cobra.Command {
	var payload bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "show one event",
		Args:  wants(1, 1, "ID"),
	}
	cmd.Flags().BoolVar(&payload, "payload", false, "also the body, which holds names, addresses and subjects")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		d, err := c.Delivery(ctx, args[0], payload)
		return answer{value: d, text: func(p *page) { p.delivery(d, payload) }}, err
	})
}

func (p *page) delivery(d admin.Delivery, payload bool) {
	p.facts(
		"id", d.ID, "type", d.Type, "state", d.State,
		"stream", fmt.Sprintf("%s, epoch %d, seq %d", d.Stream, d.Epoch, d.Seq),
		"candidates", strings.Join(d.Candidates, ", "),
		"created", p.exactly(d.Created), "due", p.exactly(d.Due),
		"attempts", fmt.Sprintf("%d, of which %d count against the schedule", d.Attempts, d.Tries),
		"first failure", p.exactly(d.FirstFailure), "last attempt", p.exactly(d.LastAttempt),
		"last answer", d.LastResult, "delivered", p.exactly(d.Delivered),
	)
	if payload {
		p.line("")
		p.json(d.Payload)
	}
}

// json writes a payload indented. Its strings are escaped by JSON already.
func (p *page) json(raw json.RawMessage) {
	if len(raw) == 0 || string(raw) == "null" {
		p.line("the payload is no longer kept (retention.delivered_payload)")
		return
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		p.line("the payload is not JSON")
		return
	}
	for line := range strings.Lines(out.String()) {
		p.buf.WriteString(strings.Map(dropControl, strings.TrimSuffix(line, "\n")) + "\n")
	}
}

// dropControl replaces the control characters that JSON lets stand (U+007F to
// U+009F); terminals take some of them for commands.
func dropControl(r rune) rune {
	if r < ' ' || r >= 0x7f && r <= 0x9f {
		return '?'
	}
	return r
}

func newDeliveriesReplayCommand(env *environment) *cobra.Command {
	var since, candidate string
	var dead bool
	cmd := &cobra.Command{
		Use:   "replay ID... | --since TIME | --candidate REF | --dead",
		Short: "post events again, under their ids",
		Long: `Makes events pending again, under the ids they had, with fresh tries. Choose
them by id, or by one of the flags. Of an event whose payload retention erased,
a task reads the headers again first; if the mail is gone, it is left out.`,
		Args: cobra.ArbitraryArgs,
	}
	cmd.Flags().StringVar(&since, "since", "", "events created since this `TIME`: 2026-11-20, 2026-11-20T10:00:00Z, or 3d ago as 3d")
	cmd.Flags().StringVar(&candidate, "candidate", "", "events that name this candidate, by its `REF`")
	cmd.Flags().BoolVar(&dead, "dead", false, "every dead letter")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		sel := admin.Replay{IDs: args, Candidate: candidate, Dead: dead}
		if err := oneWay(len(args) > 0, since != "", candidate != "", dead); err != nil {
			return answer{}, err
		}
		var err error
		if sel.Since, err = parseSince(since, env.now()); err != nil {
			return answer{}, err
		}
		r, err := c.Replay(ctx, sel)
		return answer{value: r, text: func(p *page) {
			p.line("%s pending again", count(r.Replayed, "event is", "events are"))
			if r.Rereading > 0 {
				p.line("%d more once their mails are read again: their payload is no longer kept; `mailsyncd tasks list` shows how far that is", r.Rereading)
			}
			if r.Erased > 0 {
				p.line("%d left out: their payload is no longer kept and no mailbox holds the mail", r.Erased)
			}
		}}, err
	})
}

func oneWay(ways ...bool) error {
	n := 0
	for _, way := range ways {
		if way {
			n++
		}
	}
	if n != 1 {
		return usagef("choose the events in one way: IDs, --since, --candidate or --dead")
	}
	return nil
}

// parseSince reads a point in time: a date, a time, or how long ago. "" is none.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if ago, err := config.ParseDuration(s); err == nil {
		return now.Add(-ago).UTC(), nil
	}
	return time.Time{}, usagef("%q is not a time; write 2026-11-20, 2026-11-20T10:00:00Z, or 3d for three days ago", s)
}

// choice is a flag with a few legal values; empty means none was chosen.
type choice struct {
	value string
	legal []string
}

// Set is part of pflag.Value.
func (c *choice) Set(s string) error {
	for _, l := range c.legal {
		if s == l {
			c.value = s
			return nil
		}
	}
	return fmt.Errorf("write one of %s", strings.Join(c.legal, ", "))
}

// String is part of pflag.Value.
func (c *choice) String() string { return c.value }

// Type is part of pflag.Value.
func (c *choice) Type() string { return "VALUE" }
