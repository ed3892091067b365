package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/config"
)

func newStatusCommand(env *environment) *cobra.Command {
	var mailbox string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "mailboxes, outbox, webhook, directory and store at a glance",
		Args:  wants(0, 0, ""),
	}
	cmd.Flags().StringVar(&mailbox, "mailbox", "", "one mailbox in full, by its `ID`")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		if mailbox != "" {
			m, err := c.Mailbox(ctx, mailbox)
			return answer{value: m, text: func(p *page) { p.mailbox(m) }}, err
		}
		s, err := c.Status(ctx)
		return answer{value: s, text: func(p *page) { p.status(s) }}, err
	})
}

// status writes what is wrong first, then the parts from mail to store.
func (p *page) status(s admin.Status) {
	p.line("mailsyncd %s, up %s, %s", s.Version, about(time.Duration(s.UptimeSeconds)*time.Second), s.ConfigFile)
	if s.PollingStopped != "" {
		p.line("! no mailbox is polled: %s", stoppedReason(s.PollingStopped))
	}
	if s.ReloadError != "" {
		p.line("! the last reload was refused, the configuration before it is in force: %s", s.ReloadError)
	}
	p.line("")
	p.mailboxes(s.Mailboxes)
	p.line("")
	p.facts(
		"OUTBOX", p.outbox(s.Outbox),
		"WEBHOOK", p.webhook(s.Webhook),
		"DIRECTORY", p.directory(s.Directory),
		"ERASURE", p.erasure(s.Erasure),
		"STORE", storeLine(s.Store),
	)
	p.advice(s)
}

// stoppedReason explains the codes of Status.PollingStopped.
func stoppedReason(code string) string {
	switch code {
	case "no_directory":
		return "no complete directory has been read yet; check directory.file"
	case "outbox_full":
		return "the outbox is at outbox.max_events; it goes on when the webhook takes events again"
	case "disk_low":
		return "the disk is low; make room where store.path lies"
	}
	return code
}

func (p *page) mailboxes(m admin.MailboxSummary) {
	states := make([]string, 0, len(m.States))
	for _, state := range slices.Sorted(maps.Keys(m.States)) {
		if n := m.States[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := count(m.Total, "mailbox", "mailboxes")
	if len(states) > 0 {
		text += ": " + strings.Join(states, ", ")
	}
	stale := ""
	if m.Stale > 0 {
		stale = fmt.Sprintf("%d without a success for three intervals", m.Stale)
	}
	p.facts("MAILBOXES", text, "STALE", stale, "OLDEST SUCCESS", p.when(m.OldestSuccess))
	if len(m.Trouble) == 0 {
		return
	}
	rows := make([][]string, len(m.Trouble))
	for i, t := range m.Trouble {
		rows[i] = []string{t.ID, t.State, p.when(t.Since), t.Class, p.when(t.RetryAt), t.Action}
	}
	p.line("")
	p.table([]string{"IN TROUBLE", "STATE", "SINCE", "CLASS", "RETRY", "WHAT TO DO"}, rows)
	if m.TroubleLeftOut > 0 {
		p.line("… and %d more", m.TroubleLeftOut)
	}
}

func (p *page) outbox(o admin.OutboxStatus) string {
	pending := fmt.Sprintf("%d pending", o.Pending)
	if !o.Oldest.IsZero() {
		pending += ", the oldest from " + p.when(o.Oldest)
	}
	return fmt.Sprintf("%s; %d held, %d dead, %d delivered; room for %d", pending, o.Held, o.Dead, o.Delivered, o.MaxEvents)
}

func (p *page) webhook(w admin.WebhookStatus) string {
	text := w.State
	if w.Reason != "" {
		text += " (" + w.Reason + ")"
	}
	for _, part := range []struct{ before, value string }{
		{"since ", p.when(w.Since)}, {"next attempt ", p.when(w.NextAttempt)},
		{"last accepted ", p.when(w.LastAccepted)}, {"last answer ", w.LastResult},
	} {
		if part.value != "" {
			text += ", " + part.before + part.value
		}
	}
	return text
}

func (p *page) directory(d admin.DirectoryStatus) string {
	text := fmt.Sprintf("%s, %s, %s", count(d.Candidates, "candidate", "candidates"),
		count(d.Jobs, "job", "jobs"), count(d.Users, "user", "users"))
	if when := p.when(d.Checked); when != "" {
		text += "; checked " + when
	}
	return text
}

func (p *page) erasure(e admin.ErasureStatus) string {
	text := "nothing pending"
	if e.Pending > 0 {
		text = fmt.Sprintf("%d pending, the oldest from %s", e.Pending, p.when(e.Oldest))
	}
	return fmt.Sprintf("%s; %d done", text, e.Done)
}

func storeLine(s admin.StoreStatus) string {
	text := fmt.Sprintf("%s, %s in %s", bytesText(s.Bytes),
		count(s.Messages, "message", "messages"), count(s.Threads, "thread", "threads"))
	if s.RotationDue {
		text += "; a key rotation is not finished"
	}
	return text
}

// advice lists what an operator should do, below the facts.
func (p *page) advice(s admin.Status) {
	var lines []string
	for _, h := range s.Directory.Held {
		lines = append(lines, fmt.Sprintf("the directory would lose %d of %d %s records and is held; check the source, then `mailsyncd directory approve`", h.Missing, h.Total, h.Kind))
	}
	if n := s.Mailboxes.Unaccounted; n > 0 {
		lines = append(lines, fmt.Sprintf("%s neither delivered nor refused, though they match: `mailsyncd reconcile` names the mailboxes, `--repair` queues what is missing", count(n, "message is", "messages are")))
	}
	if s.Directory.LastError != "" {
		lines = append(lines, "directory: "+s.Directory.LastError)
	}
	if s.Webhook.Action != "" {
		lines = append(lines, "webhook: "+s.Webhook.Action)
	}
	if s.Outbox.Dead > 0 {
		lines = append(lines, fmt.Sprintf("%s: `mailsyncd deliveries list --state dead`, mend the receiver, then `mailsyncd deliveries replay --dead`", count(s.Outbox.Dead, "dead letter", "dead letters")))
	}
	for i, line := range lines {
		if i == 0 {
			p.line("")
		}
		p.line("! %s", line)
	}
}

func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	size, prefix := float64(n)/unit, 0
	for size >= unit && prefix < 3 {
		size, prefix = size/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGT"[prefix])
}

// mailbox writes one mailbox in full.
func (p *page) mailbox(m admin.Mailbox) {
	running := ""
	if m.Running {
		running = "a pass is under way"
	}
	tries := ""
	if m.Tries > 0 {
		tries = count(m.Tries, "failure in a row", "failures in a row")
	}
	missing := ""
	if m.Unaccounted > 0 {
		missing = count(m.Unaccounted, "message", "messages")
	}
	p.facts(
		"mailbox", m.ID, "address", m.Address, "user", m.User, "provider", m.Provider, "host", m.Host,
		"state", m.State, "since", p.exactly(m.Since), "now", running,
		"class", m.Class, "error", m.Error, "tries", tries, "retry", p.exactly(m.RetryAt), "what to do", m.Action,
		"last success", p.exactly(m.LastSuccess), "next poll", p.exactly(m.NextPoll),
		"interval", config.FormatDuration(time.Duration(m.IntervalSeconds)*time.Second), "horizon", p.exactly(m.Horizon), "unaccounted", missing,
	)
	if len(m.Walks) == 0 {
		return
	}
	rows := make([][]string, len(m.Walks))
	for i, w := range m.Walks {
		rows[i] = []string{w.Task, p.when(w.Started), fmt.Sprint(w.Scanned), fmt.Sprint(w.Matched)}
	}
	p.line("")
	p.table([]string{"WALK", "BEGAN", "SCANNED", "MATCHED"}, rows)
	for _, w := range m.Walks {
		if w.Progress != nil {
			p.line("%s walks over old mail: %s", w.Task, progress(*w.Progress))
		}
	}
}

// progress says how far a walk over old mail has come.
func progress(w admin.Progress) string {
	if w.Done == 0 {
		return count(w.Read, "header", "headers") + " read"
	}
	return fmt.Sprintf("%d %% of the window read, about %s left, %s at the quota's pace", int(100*w.Done),
		count(w.Left, "header", "headers"), about(time.Duration(w.LeftSeconds)*time.Second))
}
