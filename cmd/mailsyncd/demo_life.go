package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mailsyncd/admin"
)

// What the demo shows of a candidate's life after the first sync.

// lateCandidate comes when the mail is there already.
const lateCandidate = `{"kind":"candidate","ref":"cand_kofi","emails":["kofi@mensah.example"],"jobs":["job_9"]}`

// late adds a candidate whose mails named nobody so far.
func (d *demo) late(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\ncand_kofi is added now, days after his mails. The next pass looks back and delivers them:\n\n")
	if _, err := (directoryDesk{d.daemon}).Put(ctx, strings.NewReader(lateCandidate)); err != nil {
		return fmt.Errorf("adding a candidate: %w", err)
	}
	for id, err := range d.daemon.fleet.schedule.KickAll(ctx) {
		return fmt.Errorf("polling %s: %w", id, err)
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	r := d.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*demoMessage
	for _, m := range r.messages {
		if slices.Contains(m.refs, "cand_kofi") {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *demoMessage) int { return a.date.Compare(b.date) })
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, m := range found {
		fmt.Fprintf(w, "  %s\t%s\t%s\tfor %s\torigin %s\n", m.date.Local().Format("Jan _2 15:04"), m.direction,
			clean(m.subject), strings.Join(m.refs, ", "), m.origin)
	}
	return w.Flush()
}

// why asks about a mail of a candidate that was not delivered.
func (d *demo) why(ctx context.Context, out io.Writer) error {
	const id = "choir-1@mail.example.net"
	fmt.Fprintf(out, "\nWhy was Nora's mail about the choir not delivered? `mailsyncd explain --message-id %s`:\n\n", id)
	e, err := inquiryDesk{d.daemon}.Explain(ctx, admin.ExplainQuery{MessageID: id})
	if err != nil {
		return fmt.Errorf("explaining a mail: %w", err)
	}
	p := newPage(time.Now())
	p.explanation(e)
	for line := range strings.Lines(p.buf.String()) {
		fmt.Fprint(out, "  "+line)
	}
	return nil
}

// purge erases a candidate and shows what the receiver is told.
func (d *demo) purge(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\ncand_juan is deleted. His rows are erased, the receiver is told, the store's file is rewritten:\n\n")
	if err := (directoryDesk{d.daemon}).Delete(ctx, "candidate", "cand_juan"); err != nil {
		return fmt.Errorf("deleting a candidate: %w", err)
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.daemon.eraseOnce(ctx, true); err != nil {
		return err
	}
	d.receiver.mu.Lock()
	defer d.receiver.mu.Unlock()
	if len(d.receiver.purged) != 1 {
		return errors.New("the receiver was not told of the purge")
	}
	p := d.receiver.purged[0]
	fmt.Fprintf(out, "  candidate.purged  %s  %d messages in %d threads  receipt %s\n", p.Candidate, p.MessageCount, p.ThreadCount, p.Receipt)
	return nil
}
