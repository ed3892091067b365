package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newExplainCommand(env *environment) *cobra.Command {
	var q admin.ExplainQuery
	cmd := &cobra.Command{
		Use:   "explain --message-id ID [--mailbox M] | --candidate REF",
		Short: "why a mail, or a candidate's mail, is delivered or not",
		Long: `For a mail: reads its header again in every mailbox, or in one, decides it, and
says which rule matched or which guard refused, what would change it, and what
became of it. Nothing is said of what stands in a header that does not match.

For a candidate: whether its mail is matched, which guard would refuse each of
its addresses, what was delivered, and what is still under way.`,
		Args: wants(0, 0, ""),
	}
	cmd.Flags().StringVar(&q.MessageID, "message-id", "", "the mail's Message-ID, its `ID`, with or without angle brackets")
	cmd.Flags().StringVar(&q.Mailbox, "mailbox", "", "look in this mailbox only, by its `ID`")
	cmd.Flags().StringVar(&q.Candidate, "candidate", "", "the candidate, by its `REF`")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		switch {
		case (q.MessageID == "") == (q.Candidate == ""):
			return answer{}, usagef("pass --message-id or --candidate, one of them")
		case q.Candidate != "" && q.Mailbox != "":
			return answer{}, usagef("--mailbox goes with --message-id")
		}
		e, err := c.Explain(ctx, q)
		return answer{value: e, text: func(p *page) { p.explanation(e) }}, err
	})
}

func (p *page) explanation(e admin.Explanation) {
	if e.Mail != nil {
		p.explainedMail(*e.Mail)
	}
	if e.Candidate != nil {
		p.explainedCandidate(*e.Candidate)
	}
}

// ---- a mail --------------------------------------------------------------

func (p *page) explainedMail(m admin.ExplainedMail) {
	if len(m.Copies) == 0 {
		p.line("not seen: none of %s holds this mail, in any folder", count(m.Asked-len(m.Failed), "mailbox that answered", "mailboxes that answered"))
	}
	for i, c := range m.Copies {
		if i > 0 {
			p.line("")
		}
		p.explainedCopy(c)
	}
	for _, u := range m.Unpolled {
		p.line("! %s is %s: new mail in it is not seen until it is polled again", u.Mailbox, u.State)
	}
	for _, f := range m.Failed {
		p.failedMailbox(f)
	}
}

func (p *page) explainedCopy(c admin.ExplainedCopy) {
	where := c.Mailbox
	if c.Folder != "" {
		where += ", " + c.Folder
	}
	switch c.Verdict {
	case admin.VerdictMatched:
		p.line("%s: matched", where)
	case admin.VerdictRefused:
		p.line("%s: refused", where)
	default:
		p.line("%s: no address in it belongs to a candidate", where)
	}
	for _, m := range c.Matches {
		p.match(m)
	}
	for _, r := range c.Refusals {
		p.refusal(r, "  "+r.Candidate+" in "+strings.Join(r.Fields, ", ")+": ")
	}
	for _, k := range c.Kept {
		p.line("  %s: %s, from when it matched", k.Candidate, outcome(k.State, k.Event))
	}
	if len(c.Refusals) > 0 {
		p.facts("  arrived", p.exactly(c.Arrival), "  horizon", p.exactly(c.Horizon))
	}
}

// match says by which rule a candidate matched and what became of it.
func (p *page) match(m admin.Match) {
	p.line("  %s: %s in %s%s", m.Candidate, m.Address, strings.Join(m.Fields, ", "), jobsText(m.Jobs))
	if m.State == "" {
		p.line("    not delivered yet: %s", m.Note)
		return
	}
	text := outcome(m.State, m.Event)
	if !m.Since.IsZero() {
		text += ", queued " + p.when(m.Since)
	}
	p.line("    %s", text)
}

// outcome says what the state of a pair means, and names its event.
func outcome(state, event string) string {
	named := state
	if event != "" {
		named += " (" + event + ")"
	}
	switch state {
	case "pending":
		return named + ": it waits to be posted"
	case "held":
		return named + ": `mailsyncd directory approve` releases it"
	case "dead":
		return named + ": the receiver refused it until its tries were used up"
	}
	return named
}

func jobsText(jobs []admin.Job) string {
	var texts []string
	for _, j := range jobs {
		texts = append(texts, j.Ref+" "+j.State)
	}
	if len(texts) == 0 {
		return ""
	}
	return "; " + strings.Join(texts, ", ")
}

// refusal says which guard refused and what would change that.
func (p *page) refusal(r admin.Refusal, before string) {
	p.line("%s", before+r.Guard+" ("+r.Detail+")")
	if r.Mend != "" {
		p.buf.WriteString("    to change it: " + r.Mend + "\n") // our own text, longer than a foreign one may be
	}
}

// ---- a candidate -----------------------------------------------------------

func (p *page) explainedCandidate(c admin.ExplainedCandidate) {
	p.facts(
		"candidate", c.Ref, "state", c.State, "matched", candidateMatched(c), "to change it", c.Mend,
		"missing since", p.exactly(c.MissingSince), "purged", p.exactly(c.Purged),
		"jobs", strings.TrimPrefix(jobsText(c.Jobs), "; "),
		"mails", mailsText(c), "look-back", lookBackText(c),
	)
	for _, a := range c.Addresses {
		p.explainedAddress(a)
	}
	if len(c.Tasks) > 0 {
		p.line("")
		p.tasks(c.Tasks)
	}
}

func candidateMatched(c admin.ExplainedCandidate) string {
	switch {
	case c.Matched:
		return "yes"
	case c.Inactive != "":
		return "no: " + c.Inactive
	}
	return "no"
}

// mailsText counts what was delivered; a candidate of whom nothing is kept has
// no count.
func mailsText(c admin.ExplainedCandidate) string {
	if c.State == "deleted" || c.State == admin.StateUnknown {
		return ""
	}
	n := c.Mails
	return fmt.Sprintf("%d delivered, %d pending, %d held, %d dead", n.Delivered, n.Pending, n.Held, n.Dead)
}

func lookBackText(c admin.ExplainedCandidate) string {
	if len(c.LookBack) == 0 {
		return ""
	}
	text := "old mail is not walked yet in " + strings.Join(c.LookBack, ", ")
	if c.LookBackLeftOut > 0 {
		text += fmt.Sprintf(" and %d more", c.LookBackLeftOut)
	}
	return text + "; the next pass of each does it, in Gmail the walk of the day"
}

func (p *page) explainedAddress(a admin.ExplainedAddress) {
	p.line("")
	verdict := "mail from it matches"
	if len(a.Refusals) > 0 {
		verdict = "mail from it is refused"
	}
	if len(a.Shared) > 0 {
		verdict += "; also an address of " + strings.Join(a.Shared, ", ")
	}
	p.line("%s: %s", a.Address, verdict)
	for _, r := range a.Refusals {
		p.refusal(r, "  ")
	}
}
