package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
)

// blind is a server whose polls show nothing while it is switched on: what comes
// meanwhile is missed.
type blind struct {
	providers.Opener
	on atomic.Bool
}

func (b *blind) Open(ctx context.Context) (providers.Mailbox, error) {
	session, err := b.Opener.Open(ctx)
	return blindSession{session, b}, err
}

type blindSession struct {
	providers.Mailbox
	b *blind
}

func (s blindSession) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	page, err := s.Mailbox.Next(ctx, cur, w)
	if s.b.on.Load() {
		page.Messages = nil
	}
	return page, err
}

// blindRig is a rig whose tom misses a mail of nora and one of nobody.
func blindRig(t *testing.T) *rig {
	r := newRig(t, job9, nora, ben)
	server := &blind{Opener: r.servers["tom"]}
	r.fleet.dial = func(m config.Mailbox) (providers.Opener, error) {
		if m.ID == "tom" {
			return server, nil
		}
		return r.dial(m)
	}
	r.mail("rita", "INBOX", "seen@test", "nora@example.net", time.Hour)
	r.mail("tom", "INBOX", "list@test", "nora@example.net", time.Hour, "List-Id: <x.example>")
	r.run()
	r.wants("backfill seen@test cand_nora")
	server.on.Store(true)
	r.mail("tom", "INBOX", "missed@test", "nora@example.net, ben@example.net", time.Minute)
	r.mail("tom", "INBOX", "private@test", "mum@family.example", time.Minute)
	r.synced()
	server.on.Store(false)
	r.synced()
	r.wants("backfill seen@test cand_nora")
	return r
}

func (r *rig) prove(ask admin.Reconcile) admin.Reconciliation {
	r.t.Helper()
	sum, err := inquiryDesk{r.daemon}.Reconcile(r.t.Context(), ask)
	if err != nil {
		r.t.Fatal(err)
	}
	return sum
}

func TestReconcileFindsWhatIsMissingAndRepairsIt(t *testing.T) {
	r := blindRig(t)
	r.delivered()
	sum := r.prove(admin.Reconcile{})
	if c := sum.Total; c.Messages != 4 || c.Delivered != 1 || c.Unaccounted != 2 || c.Repaired != 0 || c.Refused["bulk"] != 1 {
		t.Errorf("before the repair: %+v", c)
	}
	if len(sum.Failed) != 0 || len(sum.Mailboxes) != 2 || sum.Mailboxes[1].Counts.Unaccounted != 2 {
		t.Errorf("mailboxes: %+v, failed: %+v", sum.Mailboxes, sum.Failed)
	}
	r.wants("backfill seen@test cand_nora")

	if c := r.prove(admin.Reconcile{Mailbox: "rita", Repair: true}).Total; c.Unaccounted != 0 || c.Messages != 1 {
		t.Errorf("rita alone: %+v", c)
	}
	if c := r.prove(admin.Reconcile{Repair: true}).Total; c.Unaccounted != 2 || c.Left() != 0 {
		t.Errorf("the repair: %+v", c)
	}
	r.wants("backfill seen@test cand_nora", "repair missed@test cand_nora", "repair missed@test cand_ben")
	r.delivered()
	if c := r.prove(admin.Reconcile{}).Total; c.Unaccounted != 0 || c.Delivered != 3 {
		t.Errorf("after the repair: %+v", c)
	}
}

// A reconcile never runs beside a pass over the same mailbox.
func TestReconcileRunsInTheSlotOfItsMailbox(t *testing.T) {
	r := newRig(t, job9, nora)
	var open, most atomic.Int32
	r.servers["rita"].SetFault(func(op providertest.Op) error {
		switch op {
		case providertest.OpOpen:
			most.Store(max(most.Load(), open.Add(1)))
		case providertest.OpClose:
			open.Add(-1)
		}
		return nil
	})
	for i := range 50 {
		r.mail("rita", "INBOX", fmt.Sprintf("m%d@test", i), "nora@example.net", time.Hour)
	}
	r.run()
	done := make(chan error)
	for i := range 6 {
		go func() {
			var err error
			if i%2 == 0 {
				_, err = mailboxDesk{r.daemon}.Sync(t.Context(), "rita")
			} else {
				_, err = inquiryDesk{r.daemon}.Reconcile(t.Context(), admin.Reconcile{Mailbox: "rita"})
			}
			done <- err
		}()
	}
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d sessions were open at once", most.Load())
	}
}

func TestReconcileSaysWhatItCouldNotAsk(t *testing.T) {
	r := newRig(t, job9, nora)
	r.run()
	ctx := t.Context()
	if _, err := (mailboxDesk{r.daemon}).SetPaused(ctx, "rita", true); err != nil {
		t.Fatal(err)
	}
	r.servers["tom"].SetFault(func(op providertest.Op) error {
		if op == providertest.OpSearch {
			return providertest.ErrCut
		}
		return nil
	})
	got := map[string]admin.FailedMailbox{}
	for _, f := range r.prove(admin.Reconcile{}).Failed {
		got[f.Mailbox] = f
	}
	if f := got["rita"]; f.Error != "it is paused and not polled" || f.Action != "`mailsyncd mailbox resume` polls it again" {
		t.Errorf("rita: %+v", f)
	}
	if f := got["tom"]; f.Class != "network" || f.Action == "" {
		t.Errorf("tom: %+v", f)
	}
	for _, bad := range []admin.Reconcile{{Mailbox: "uwe"}, {Since: time.Now().Add(time.Hour)}} {
		var p *admin.Problem
		if _, err := (inquiryDesk{r.daemon}).Reconcile(ctx, bad); !errors.As(err, &p) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := (inquiryDesk{r.daemon}).Reconcile(gone, admin.Reconcile{}); err == nil {
		t.Error("a call that ended was answered as a proof")
	}
}

// ---- explain -------------------------------------------------------------

func (r *rig) explain(q admin.ExplainQuery) admin.Explanation {
	r.t.Helper()
	e, err := inquiryDesk{r.daemon}.Explain(r.t.Context(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// said is an explanation as a person reads it.
func said(e admin.Explanation) string {
	p := newPage(time.Now())
	p.explanation(e)
	return p.buf.String()
}

// Every state of a mail is told, and of a mail that does not match nothing that
// stands in its header.
func TestExplainEveryStateOfAMail(t *testing.T) {
	r := newRig(t, job9, nora, ben,
		`{"kind":"candidate","ref":"cand_staff","emails":["uwe@example.com"]}`,
		`{"kind":"candidate","ref":"cand_stopped","emails":["s@example.net"],"state":"stopped"}`)
	r.mail("rita", "INBOX", "match@test", "Nora <Nora@Example.net>", time.Hour, "Reply-To: nora@example.net")
	r.mail("rita", "INBOX", "private@test", "mum@family.example", time.Hour, "X-Secret: tango")
	r.mail("rita", "INBOX", "bulk@test", "ben@example.net", time.Hour, "List-Id: <tango.example>")
	r.mail("rita", "INBOX", "staff@test", "uwe@example.com", time.Hour)
	r.mail("rita", "INBOX", "stopped@test", "s@example.net", time.Hour)
	r.mail("rita", "Junk", "junk@test", "nora@example.net", time.Hour)
	r.mail("tom", "INBOX", "old@test", "nora@example.net", month)
	r.run()
	r.wants("backfill match@test cand_nora")
	r.delivered()
	for id, want := range map[string][]string{
		"<match@test>": {"rita, INBOX: matched\n  cand_nora: Nora@Example.net in from, reply_to; job_9 open\n    delivered (evt_"},
		"private@test": {"rita: no address in it belongs to a candidate\n"},
		"bulk@test":    {"rita, INBOX: refused\n  cand_ben in from: bulk (list_id)\n    to change it: list and bulk mail is never matched"},
		"staff@test":   {"cand_staff in from: staff_domain (example.com)\n    to change it: addresses in company.domains are staff"},
		"stopped@test": {"cand_stopped in from: inactive (stopped)\n    to change it: the candidate is not matched now"},
		"junk@test":    {"rita, Junk: refused\n  cand_nora in from: ignored_folder ("},
		"old@test":     {"tom, INBOX: refused\n  cand_nora in from: horizon (", "mailsyncd resync brings older mail", "  horizon  20"},
		"nowhere@test": {"not seen: none of 2 mailboxes that answered holds this mail, in any folder\n"},
	} {
		text := said(r.explain(admin.ExplainQuery{MessageID: id}))
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: said\n%s\nwant in it\n%s", id, text, part)
			}
		}
		for _, private := range []string{"mum@", "family.example", "tango", "subject", "uwe@", "s@example", "ben@"} {
			if strings.Contains(text, private) {
				t.Errorf("%s: %q of a mail that does not match is said:\n%s", id, private, text)
			}
		}
	}
	for _, bad := range []string{"<>", "a b@test", "a\r\nb"} {
		var p *admin.Problem
		if _, err := (inquiryDesk{r.daemon}).Explain(t.Context(), admin.ExplainQuery{MessageID: bad}); !errors.As(err, &p) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What is not delivered yet says why, and what was delivered before a candidate
// stopped is still known.
func TestExplainWhatIsNotDeliveredYet(t *testing.T) {
	r := newRig(t, job9, nora, ben)
	r.mail("rita", "INBOX", "both@test", "nora@example.net, late@example.net", time.Hour)
	r.run()
	r.wants("backfill both@test cand_nora")
	r.delivered()
	ctx := t.Context()
	if _, err := (mailboxDesk{r.daemon}).SetPaused(ctx, "rita", true); err != nil {
		t.Fatal(err)
	}
	r.mail("rita", "INBOX", "new@test", "nora@example.net", 0)
	put := func(line string) {
		t.Helper()
		if _, err := (directoryDesk{r.daemon}).Put(ctx, strings.NewReader(line)); err != nil {
			t.Fatal(err)
		}
	}
	put(`{"kind":"candidate","ref":"cand_late","emails":["late@example.net"]}`)
	put(`{"kind":"candidate","ref":"cand_nora","emails":["nora@example.net"],"state":"stopped"}`)

	text := said(r.explain(admin.ExplainQuery{MessageID: "both@test", Mailbox: "rita"}))
	for _, part := range []string{
		"  cand_late: late@example.net in from\n    not delivered yet: the mailbox is paused, the mail is delivered when it is polled again\n",
		"  cand_nora in from: inactive (stopped)\n",
		"  cand_nora: delivered (evt_", "from when it matched\n",
		"! rita is paused: new mail in it is not seen until it is polled again\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("said\n%s\nwant in it\n%s", text, part)
		}
	}
	late := r.explain(admin.ExplainQuery{Candidate: "cand_late"}).Candidate
	if !slices.Equal(late.LookBack, []string{"rita"}) && !slices.Equal(late.LookBack, []string{"rita", "tom"}) {
		t.Errorf("look-backs owed for the late one: %v", late.LookBack)
	}
}

// A mailbox that cannot be reached is said, one whose user is disabled is not
// opened, and the others answer all the same.
func TestExplainWithoutAllMailboxes(t *testing.T) {
	r := newRig(t, job9, nora, `{"kind":"user","ref":"usr_tom","state":"disabled"}`)
	r.mail("rita", "INBOX", "a@test", "nora@example.net", time.Hour)
	r.run()
	opened := r.servers["tom"].Calls(providertest.OpOpen)
	e := r.explain(admin.ExplainQuery{MessageID: "a@test"}).Mail
	if len(e.Copies) != 1 || e.Copies[0].Verdict != admin.VerdictMatched {
		t.Errorf("rita did not answer: %+v", e.Copies)
	}
	if len(e.Failed) != 1 || e.Failed[0].Error != "it is suspended and not opened" || !strings.Contains(e.Failed[0].Action, "resumes when the user is enabled") {
		t.Errorf("tom: %+v", e.Failed)
	}
	if r.servers["tom"].Calls(providertest.OpOpen) != opened {
		t.Error("the mailbox of a disabled user was opened")
	}
	r.servers["rita"].SetFault(providertest.FailNth(providertest.OpOpen, 1, providertest.ErrCut))
	e = r.explain(admin.ExplainQuery{MessageID: "a@test", Mailbox: "rita"}).Mail
	if len(e.Copies) != 0 || len(e.Failed) != 1 || e.Failed[0].Class != "network" || e.Failed[0].Action == "" {
		t.Errorf("an unreachable mailbox: %+v", e)
	}
}

func TestExplainCandidates(t *testing.T) {
	r := newRig(t, job9, `{"kind":"job","ref":"job_4","state":"archived"}`, nora,
		`{"kind":"candidate","ref":"cand_twin","emails":["nora@example.net","rita@example.com","jobs@example.com"]}`,
		`{"kind":"candidate","ref":"cand_maja","emails":["maja@example.net"],"jobs":["job_4"]}`,
		`{"kind":"candidate","ref":"cand_gone","emails":["gone@example.net"]}`)
	for i := range 3 {
		r.mail("rita", "INBOX", fmt.Sprintf("m%d@test", i), "nora@example.net", time.Hour)
	}
	r.run()
	if err := (directoryDesk{r.daemon}).Delete(t.Context(), "candidate", "cand_gone"); err != nil {
		t.Fatal(err)
	}
	of := func(ref string) *admin.ExplainedCandidate {
		return r.explain(admin.ExplainQuery{Candidate: ref}).Candidate
	}
	r.delivered()
	got := of("cand_nora")
	if want := (admin.MailCounts{Delivered: 3}); got.Mails != want {
		t.Errorf("nora's mails: %+v, want %+v", got.Mails, want)
	}
	if !got.Matched || got.Inactive != "" || len(got.LookBack) != 0 || len(got.Tasks) != 0 {
		t.Errorf("nora: %+v", got)
	}
	if want := []admin.Job{{Ref: "job_9", State: "open"}}; !slices.Equal(got.Jobs, want) {
		t.Errorf("nora's jobs: %+v", got.Jobs)
	}
	guards := map[string][]string{}
	for _, a := range of("cand_twin").Addresses {
		for _, refusal := range a.Refusals {
			guards[a.Address] = append(guards[a.Address], refusal.Guard)
		}
		if a.Address == "nora@example.net" && !slices.Equal(a.Shared, []string{"cand_nora"}) {
			t.Errorf("the shared address is also of %v", a.Shared)
		}
	}
	if want := map[string][]string{"rita@example.com": {"own_address", "staff_domain"}, "jobs@example.com": {"staff_domain", "shared_alias"}}; !maps.EqualFunc(guards, want, slices.Equal) {
		t.Errorf("guards of the twin's addresses are %v, want %v", guards, want)
	}
	if got := of("cand_maja"); got.Matched || got.Inactive != "jobs_archived" || !strings.Contains(got.Mend, "reopen") || got.Jobs[0].State != "archived" {
		t.Errorf("maja: %+v", got)
	}
	if got := of("cand_gone"); got.State != "deleted" || got.Purged.IsZero() || got.Matched || len(got.Addresses) != 0 {
		t.Errorf("a purged candidate: %+v", got)
	}
	if got := of("cand_x"); got.State != admin.StateUnknown || got.Mend == "" {
		t.Errorf("nobody: %+v", got)
	}
}

func TestCandidateMessages(t *testing.T) {
	r := newRig(t, job9, nora, ben)
	want := map[string]bool{}
	for i := range 5 {
		r.mail("rita", "INBOX", fmt.Sprintf("m%d@test", i), "nora@example.net, ben@example.net", time.Hour)
	}
	r.mail("rita", "INBOX", "ben@test", "ben@example.net", time.Hour)
	r.run()
	r.until("everything is posted", func() bool { return len(r.posts.pairs()) == 11 })
	desk, after := inquiryDesk{r.daemon}, ""
	for pages := 0; pages == 0 || after != ""; pages++ {
		list, err := desk.CandidateMessages(t.Context(), admin.CandidateMessageQuery{Candidate: "cand_nora", After: after, Limit: 2})
		if err != nil || len(list.Items) == 0 || len(list.Items) > 2 {
			t.Fatalf("page %d: %+v, %v", pages, list, err)
		}
		for _, m := range list.Items {
			want[m.ID] = true
			if m.Address != "nora@example.net" || !slices.Equal(m.Fields, []string{"from"}) || m.State == "" || m.Thread == "" ||
				len(m.Mailboxes) != 1 || m.Mailboxes[0].ID != "rita" || m.Since.IsZero() {
				t.Errorf("a message of nora: %+v", m)
			}
		}
		after = list.Next
	}
	if len(want) != 5 {
		t.Errorf("%d messages, want 5", len(want))
	}
	var p *admin.Problem
	if _, err := desk.CandidateMessages(t.Context(), admin.CandidateMessageQuery{Candidate: "x", Limit: 2}); !errors.As(err, &p) {
		t.Errorf("nobody's messages: %v", err)
	}
}
