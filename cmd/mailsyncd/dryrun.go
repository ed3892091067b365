package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/webhook"
)

// dryRun takes the place of what a daemon leaves behind: a folder that is thrown
// away for the store, and a printer for the webhook. The key of that store never
// leaves the process.
type dryRun struct {
	dir string

	mu      sync.Mutex
	out     io.Writer
	failed  error // of out: then nobody reads any more
	matches int
}

// dryLook is how often it is looked whether every mailbox was polled.
const dryLook = 100 * time.Millisecond

func newDryRun(out io.Writer) (*dryRun, error) {
	dir, err := os.MkdirTemp("", "mailsyncd-dry-run-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the dry run: %w", err)
	}
	return &dryRun{dir: dir, out: out}, nil
}

func (r *dryRun) path() string { return filepath.Join(r.dir, "store") }

func (r *dryRun) remove() error { return os.RemoveAll(r.dir) }

// Post prints the body of a match, on one line. Other events are not about mail.
func (r *dryRun) Post(_ context.Context, _ string, body []byte) webhook.Result {
	var event struct {
		Type string `json:"type"`
	}
	accepted := webhook.Result{Kind: webhook.Accepted, Code: "dry-run"}
	if err := json.Unmarshal(body, &event); err != nil || event.Type != string(store.ThreadMatched) {
		return accepted
	}
	var line bytes.Buffer
	if err := json.Compact(&line, body); err != nil {
		return accepted // it was JSON a moment ago
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.matches++
	r.print(line.Bytes())
	return accepted
}

// print writes one line; the caller holds mu.
func (r *dryRun) print(line []byte) {
	if r.failed == nil {
		_, r.failed = r.out.Write(append(line, '\n'))
	}
}

// drySummary is the line with the counts.
type drySummary struct {
	Type string `json:"type"` // "dry_run.summary"
	// Mailboxes were polled to the end; Failed say the class of their last
	// failure; Unpolled are suspended or have not had their turn.
	Mailboxes int               `json:"mailboxes"`
	Failed    map[string]string `json:"failed"`
	Unpolled  int               `json:"unpolled"`
	Scanned   int               `json:"scanned"` // headers
	Events    int               `json:"events"`  // lines printed
	// Refused counts decisions by the guard that refused them.
	Refused map[string]int `json:"refused"`
}

// follow prints the summary once every mailbox was polled and every match was
// printed. It ends the daemon when nobody reads what is printed.
func (r *dryRun) follow(ctx context.Context, d *daemon) error {
	tick := time.NewTicker(dryLook)
	defer tick.Stop()
	for summed := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !summed && d.polledOnce() && d.nothingPending(ctx) {
			summed = true
			r.sum(d)
		}
		if err := r.broken(); err != nil {
			return fmt.Errorf("printing a match: %w", err)
		}
	}
}

func (r *dryRun) broken() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// polledOnce tells that every mailbox that is polled had a pass to its end.
func (d *daemon) polledOnce() bool {
	select {
	case <-d.ready:
	default:
		return false
	}
	for _, m := range d.cfg.Load().Mailboxes {
		member := d.fleet.member(m.ID)
		if member == nil {
			return false
		}
		_, scheduled := d.fleet.schedule.Status(m.ID)
		last := d.fleet.lastPass(member)
		if scheduled && (last.ended.IsZero() || last.report.More && last.err == nil) {
			return false
		}
	}
	return true
}

func (d *daemon) nothingPending(ctx context.Context) bool {
	stats, err := d.store.Stats(ctx)
	return err == nil && stats.Pending == 0
}

// sum prints the counts so far.
func (r *dryRun) sum(d *daemon) {
	s := drySummary{Type: "dry_run.summary", Failed: map[string]string{}, Refused: map[string]int{}}
	for _, m := range d.cfg.Load().Mailboxes {
		member := d.fleet.member(m.ID)
		if member == nil {
			s.Unpolled++
			continue
		}
		switch last := d.fleet.lastPass(member); {
		case last.err != nil && !errors.Is(last.err, context.Canceled):
			s.Failed[m.ID] = string(providers.Classify(last.err))
		case d.fleet.polledWhole(member):
			s.Mailboxes++
		default:
			s.Unpolled++
		}
	}
	s.count(d)
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Events = r.matches
	if line, err := json.Marshal(s); err == nil { // a struct of plain values
		r.print(line)
	}
}

// count reads off the metrics what was decided.
func (s *drySummary) count(d *daemon) {
	families, err := d.reg.Gather()
	if err != nil {
		return // the matches are what counts
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := int(m.GetCounter().GetValue())
			switch f.GetName() {
			case "mailsyncd_messages_scanned_total":
				s.Scanned += n
			case "mailsyncd_refused_total":
				s.Refused[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
}
