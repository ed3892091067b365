package main

import (
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/matcher"
)

func TestReconcileCommand(t *testing.T) {
	rita := admin.ReconcileCounts{Messages: 500, Delivered: 40, Pending: 1, Held: 2, Dead: 3, Refused: map[string]int{"bulk": 7, "horizon": 1}}
	d := &oddDaemon{proof: admin.Reconciliation{
		Total: rita, Mailboxes: []admin.ReconciledMailbox{{Mailbox: "rita", Since: noon.Add(-14 * 24 * time.Hour), Counts: rita}},
	}}
	c := startDaemon(t, d)
	c.run(t, "reconcile", "--mailbox", "rita", "--since", "14d").want(t, "all is there", exitDone, `
MAILBOX  SINCE    HEADERS  DELIVERED  PENDING  HELD  DEAD  REFUSED  UNACCOUNTED  REPAIRED
rita     14d ago  500      40         1        2     3     8        0            0

refused: 7 bulk, 1 horizon
`, "")
	if want := (admin.Reconcile{Mailbox: "rita", Since: noon.Add(-14 * 24 * time.Hour)}); d.proved != want {
		t.Errorf("asked for %+v, want %+v", d.proved, want)
	}
	tom := admin.ReconcileCounts{Messages: 10, Unaccounted: 2}
	d.proof.Mailboxes = append(d.proof.Mailboxes, admin.ReconciledMailbox{Mailbox: "tom", Counts: tom})
	d.proof.Total.Messages, d.proof.Total.Unaccounted = 510, 2
	d.proof.Failed = []admin.FailedMailbox{{Mailbox: "uwe", Error: "it is paused and not polled", Action: "resume it"}, {Mailbox: "vic", Error: "gone"}}
	c.run(t, "reconcile").want(t, "something is missing", exitFailed, `
MAILBOX  SINCE    HEADERS  DELIVERED  PENDING  HELD  DEAD  REFUSED  UNACCOUNTED  REPAIRED
rita     14d ago  500      40         1        2     3     8        0            0
tom      -        10       0          0        0     0     0        2            0
total    -        510      40         1        2     3     8        2            0

refused: 7 bulk, 1 horizon

! uwe: it is paused and not polled; resume it
! vic: gone
`, "mailsyncd: 2 messages are unaccounted for; `mailsyncd reconcile --repair` queues what is missing\n")
	d.proof.Total.Repaired = 2
	if got := c.run(t, "reconcile", "--repair", "--output", "json"); got.code != exitFailed || got.stderr != "mailsyncd: 2 mailboxes were not read\n" {
		t.Errorf("repaired, but not all read: %d %s", got.code, got.stderr)
	}
	if !d.proved.Repair {
		t.Error("the daemon was not asked to repair")
	}
	d.proof.Failed = nil
	if got := c.run(t, "reconcile", "--repair"); got.code != exitDone || got.stderr != "" {
		t.Errorf("repaired: %d %s", got.code, got.stderr)
	}
}

func refusedBy(guard matcher.Guard, detail string) admin.Refusal {
	return admin.Refusal{Candidate: "cand_2", Guard: string(guard), Detail: detail, Fields: []string{"to"}, Mend: guard.Mend()}
}

func TestExplainAMail(t *testing.T) {
	day := 24 * time.Hour
	d := &oddDaemon{explanation: admin.Explanation{Mail: &admin.ExplainedMail{
		Asked: 5,
		Copies: []admin.ExplainedCopy{{
			Mailbox: "rita", Folder: "INBOX", Verdict: admin.VerdictMatched, Arrival: noon.Add(-day), Horizon: noon.Add(-14 * day),
			Matches: []admin.Match{
				{Candidate: "cand_1", Address: "Nora@example.net", Fields: []string{"from", "reply_to"}, Jobs: []admin.Job{{Ref: "job_9", State: "open"}}, State: "delivered", Event: "evt_1", Since: noon.Add(-time.Hour)},
				{Candidate: "cand_3", Address: "ben@example.net", Fields: []string{"cc"}, Note: "the next pass delivers it"},
				{Candidate: "cand_4", Address: "al@example.net", Fields: []string{"cc"}, State: "dead", Event: "evt_4"},
				{Candidate: "cand_5", Address: "bo@example.net", Fields: []string{"cc"}, State: "held"},
				{Candidate: "cand_6", Address: "cy@example.net", Fields: []string{"cc"}, State: "pending", Event: "evt_6"},
			},
			Refusals: []admin.Refusal{refusedBy(matcher.GuardStaffDomain, "example.com")},
		}, {
			Mailbox: "tom", Folder: "Privat", Verdict: admin.VerdictRefused, Arrival: noon.Add(-20 * day), Horizon: noon.Add(-14 * day),
			Refusals: []admin.Refusal{refusedBy(matcher.GuardIgnoredFolder, "folder"), refusedBy(matcher.GuardHorizon, "arrival and date")},
			Kept:     []admin.KeptPair{{Candidate: "cand_2", State: "delivered", Event: "evt_9"}},
		}, {Mailbox: "uwe", Verdict: admin.VerdictNoCandidate}},
		Unpolled: []admin.WaitingMailbox{{Mailbox: "uwe", State: "paused"}},
		Failed:   []admin.FailedMailbox{{Mailbox: "vic", Error: "dial: timeout", Action: "check the network"}},
	}}}
	c := startDaemon(t, d)
	c.run(t, "explain", "--message-id", "<a@b>", "--mailbox", "rita").want(t, "a mail", exitDone, `
rita, INBOX: matched
  cand_1: Nora@example.net in from, reply_to; job_9 open
    delivered (evt_1), queued 1h ago
  cand_3: ben@example.net in cc
    not delivered yet: the next pass delivers it
  cand_4: al@example.net in cc
    dead (evt_4): the receiver refused it until its tries were used up
  cand_5: bo@example.net in cc
    held: `+"`mailsyncd directory approve`"+` releases it
  cand_6: cy@example.net in cc
    pending (evt_6): it waits to be posted
  cand_2 in to: staff_domain (example.com)
    to change it: addresses in company.domains are staff: for an internal applicant, list this exact address in company.internal_applicants
  arrived  2026-11-20T12:00:00Z (1d ago)
  horizon  2026-11-07T12:00:00Z (14d ago)

tom, Privat: refused
  cand_2 in to: ignored_folder (folder)
    to change it: the mail lies in a folder or under a label that is left out: move it, or change ignore_folders (Junk, Trash and Drafts are always left out)
  cand_2 in to: horizon (arrival and date)
    to change it: the mail is older than the mailbox's first sync minus sync.backfill: mailsyncd resync brings older mail of one candidate
  cand_2: delivered (evt_9), from when it matched
  arrived  2026-11-01T12:00:00Z (20d ago)
  horizon  2026-11-07T12:00:00Z (14d ago)

uwe: no address in it belongs to a candidate
! uwe is paused: new mail in it is not seen until it is polled again
! vic: dial: timeout; check the network
`, "")
	if want := (admin.ExplainQuery{MessageID: "<a@b>", Mailbox: "rita"}); d.explain != want {
		t.Errorf("asked %+v, want %+v", d.explain, want)
	}
	d.explanation.Mail = &admin.ExplainedMail{Asked: 5, Failed: []admin.FailedMailbox{{Mailbox: "vic", Error: "dial: timeout"}}}
	c.run(t, "explain", "--message-id", "a@b").want(t, "a mail that is nowhere", exitDone, `
not seen: none of 4 mailboxes that answered holds this mail, in any folder
! vic: dial: timeout
`, "")
}

func TestExplainACandidate(t *testing.T) {
	d := &oddDaemon{explanation: admin.Explanation{Candidate: &admin.ExplainedCandidate{
		Ref: "cand_2", State: "active", Matched: true, Jobs: []admin.Job{{Ref: "job_9", State: "open"}, {Ref: "job_4", State: "archived"}},
		Addresses: []admin.ExplainedAddress{
			{Address: "nora@example.net", Shared: []string{"cand_7"}},
			{Address: "rita@example.com", Refusals: []admin.Refusal{refusedBy(matcher.GuardStaffDomain, "example.com")}},
		},
		Mails:    admin.MailCounts{Delivered: 12, Pending: 1},
		LookBack: []string{"rita", "tom"}, LookBackLeftOut: 4,
		Tasks: []admin.Task{{ID: "task_a", Kind: "resync", Candidate: "cand_2", State: "running", Created: noon, Mailboxes: 2, Left: 1}},
	}}}
	c := startDaemon(t, d)
	c.run(t, "explain", "--candidate", "cand_2").want(t, "a candidate", exitDone, `
candidate  cand_2
state      active
matched    yes
jobs       job_9 open, job_4 archived
mails      12 delivered, 1 pending, 0 held, 0 dead
look-back  old mail is not walked yet in rita, tom and 4 more; the next pass of each does it, in Gmail the walk of the day

nora@example.net: mail from it matches; also an address of cand_7

rita@example.com: mail from it is refused
  staff_domain (example.com)
    to change it: addresses in company.domains are staff: for an internal applicant, list this exact address in company.internal_applicants

ID      KIND    CANDIDATE  STATE    BEGAN   MAILBOXES  SCANNED  MATCHED  DELIVERED
task_a  resync  cand_2     running  0s ago  1 of 2     0        0        0
`, "")
	d.explanation.Candidate = &admin.ExplainedCandidate{Ref: "cand_2", State: "active", Inactive: "jobs_archived", Mend: mendInactive("jobs_archived")}
	c.run(t, "explain", "--candidate", "cand_2").want(t, "an inactive candidate", exitDone, `
candidate     cand_2
state         active
matched       no: jobs_archived
to change it  reopen one of its jobs, or add an open one
mails         0 delivered, 0 pending, 0 held, 0 dead
`, "")
	d.explanation.Candidate = &admin.ExplainedCandidate{Ref: "cand_2", State: "deleted", Purged: noon.Add(-time.Hour), Mend: mendDeleted}
	c.run(t, "explain", "--candidate", "cand_2").want(t, "a purged candidate", exitDone, `
candidate     cand_2
state         deleted
matched       no
to change it  let the ATS send its record again with a higher rev, or put it without one
purged        2026-11-21T11:00:00Z (1h ago)
`, "")
}
