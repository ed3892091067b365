package matcher

import (
	"fmt"
	"strings"
	"time"

	"mailsyncd/message"
)

// inquiry is one mail under question. What does not depend on the candidate is
// worked out once: a mail may name thousands of candidates.
type inquiry struct {
	*Matcher
	mail Mail
	dir  Directory

	// What the guards on the mail itself found, "" when they let it pass.
	bulk, fanOut, ignoredSender, ignoredFolder, horizon string
	// unsubscribe tells that List-Unsubscribe refuses all but wroteIt.
	unsubscribe bool
	wroteIt     map[string]bool // refs of the candidates who wrote the mail
}

func (m *Matcher) inquire(mail Mail, dir Directory, seen []sighting) *inquiry {
	q := &inquiry{Matcher: m, mail: mail, dir: dir}
	q.bulk = bulkMarks(mail.Header)
	q.unsubscribe, q.wroteIt = q.askUnsubscribe(seen)
	q.fanOut = q.askFanOut()
	q.ignoredSender = q.askIgnoredSender()
	q.ignoredFolder = q.askIgnoredFolder()
	q.horizon = q.askHorizon()
	return q
}

// refuses asks one guard about one address of one candidate and returns what in
// the guard refuses it, "" when it passes.
func (q *inquiry) refuses(g Guard, s *sighting) string {
	switch g {
	case GuardOwnAddress:
		return q.own(message.FoldGuard(s.key), q.dir)
	case GuardStaffDomain:
		return q.staffDomain(s.key)
	case GuardSharedAlias:
		return q.sharedBy(message.FoldGuard(s.key))
	case GuardBulk:
		return q.bulkFor(s)
	case GuardFanOut:
		return q.fanOut
	case GuardIgnoredSender:
		return q.ignoredSender
	case GuardInactive:
		return s.inactive
	case GuardIgnoredFolder:
		return q.ignoredFolder
	case GuardHorizon:
		return q.horizon
	}
	return "unknown guard" // never reached; a guard without an answer must not let anything pass
}

// ---- own_address -------------------------------------------------------
//
// A recruiter's own address on a candidate record (a test candidate, a referral
// typed into the wrong field) would match every mail of that recruiter. The
// addresses of all mailboxes and users count, not only of the one that is
// polled, and a +tag does not get around it.

// own says whose own address a guard key is: "" when it is nobody's.
func (m *Matcher) own(guardKey string, dir Directory) string {
	if o, ok := m.owners[guardKey]; ok {
		return "mailbox " + o.mailbox
	}
	if dir.OwnAddress(guardKey) {
		return "user"
	}
	return ""
}

// ---- staff_domain ------------------------------------------------------
//
// Colleagues write about candidates, and many were candidates once. The domain
// is compared whole: sub.example.com is not example.com, because a university
// lists its staff domain and its students, at a subdomain, are its candidates.
// An exception is an exact address; its +tags are staff.

func (q *inquiry) staffDomain(key string) string {
	domain, staff := q.domains[message.Domain(key)]
	if _, excepted := q.applicants[key]; !staff || excepted {
		return ""
	}
	return domain
}

// ---- shared_alias ------------------------------------------------------
//
// An address that several people read stands for none of them. Role names count
// at company domains only: jobs@ of somebody's own small firm may be the one
// address that a candidate has.

// sharedBy says by which rule several people read an address: "" when none
// says so.
func (m *Matcher) sharedBy(guardKey string) string {
	if _, ok := m.shared[guardKey]; ok {
		return "configured"
	}
	if _, ok := m.domains[message.Domain(guardKey)]; ok {
		if role := roleName(guardKey); role != "" {
			return "role name " + role
		}
	}
	if m.owners[guardKey].several {
		return "two mailboxes"
	}
	return ""
}

// ---- bulk --------------------------------------------------------------
//
// A candidate on a mailing list must not bring the list into the ATS.
// List-Unsubscribe alone is no proof of a list: recruiters' outreach tools and
// some clients add it to personal mail. So it refuses only when the mail is
// neither from the candidate nor from one of our own people. "Our own" is any
// mailbox or user, not the mailbox that is polled: a colleague's copy must be
// decided as the sender's is. When From names several, each must be one of
// them; From without an address proves nothing.

// provesOwner tells that a mail from this address was written by one person of
// ours: its own address, and nobody else's too.
func (m *Matcher) provesOwner(guardKey string, dir Directory) bool {
	return m.own(guardKey, dir) != "" && m.sharedBy(guardKey) == ""
}

// bulkMarks lists what marks list mail by itself.
func bulkMarks(h *message.Header) string {
	var marks []string
	if h.ListID { // RFC 2919
		marks = append(marks, "list_id")
	}
	if h.ListPost { // RFC 2369 §3.4
		marks = append(marks, "list_post")
	}
	switch h.Precedence { // RFC 2076 §3.9: not standard, and everywhere
	case "bulk", "list", "junk":
		marks = append(marks, "precedence_"+h.Precedence)
	}
	return strings.Join(marks, ", ")
}

// askUnsubscribe tells whether List-Unsubscribe refuses, and which candidates
// are excepted because they wrote the mail.
func (q *inquiry) askUnsubscribe(seen []sighting) (refuses bool, wroteIt map[string]bool) {
	if !q.mail.Header.ListUnsubscribe { // RFC 2369 §3.2
		return false, nil
	}
	strangers := make(map[string]bool)
	for i := range q.mail.Header.From {
		if key := q.mail.Header.From[i].Key; !q.provesOwner(message.FoldGuard(key), q.dir) {
			strangers[key] = true
		}
	}
	if len(strangers) == 0 {
		return len(q.mail.Header.From) == 0, nil
	}
	return true, authors(seen, strangers)
}

// authors returns the candidates that all of the addresses belong to.
func authors(seen []sighting, from map[string]bool) map[string]bool {
	count := make(map[string]int)
	out := make(map[string]bool)
	for i := range seen {
		if s := &seen[i]; from[s.key] {
			count[s.ref]++
			out[s.ref] = count[s.ref] == len(from)
		}
	}
	return out
}

func (q *inquiry) bulkFor(s *sighting) string {
	if q.bulk == "" && q.unsubscribe && !q.wroteIt[s.ref] {
		return "list_unsubscribe"
	}
	return q.bulk
}

// ---- fan_out -----------------------------------------------------------
//
// A mail to many is an announcement, and shows each of them all the others.
// Distinct addresses count; a +tag makes another one, which refuses sooner.

func (q *inquiry) askFanOut() string {
	to, cc := q.mail.Header.To, q.mail.Header.Cc
	if q.maxRecipients <= 0 || len(to)+len(cc) <= q.maxRecipients {
		return ""
	}
	distinct := make(map[string]struct{}, len(to)+len(cc))
	for _, field := range [...][]message.Address{to, cc} {
		for i := range field {
			distinct[field[i].Key] = struct{}{}
		}
	}
	if len(distinct) <= q.maxRecipients {
		return ""
	}
	return fmt.Sprintf("%d of %d", len(distinct), q.maxRecipients)
}

// ---- ignored_sender ----------------------------------------------------
//
// The ATS's own notifications name candidates and are in the ATS already. One
// such address in From is enough.

func (q *inquiry) askIgnoredSender() string {
	for i := range q.mail.Header.From {
		if spelled, ok := q.ignoreFrom[message.FoldGuard(q.mail.Header.From[i].Key)]; ok {
			return spelled
		}
	}
	return ""
}

// ---- inactive ----------------------------------------------------------
//
// The directory keeps addresses of candidates who are not matched now, so that
// explain can say why; the reason is directory.Entry.Inactive itself.

// ---- ignored_folder ----------------------------------------------------
//
// The provider knows which folders and labels are left out and says so with the
// mail; only a search for one message id returns such a mail at all.

func (q *inquiry) askIgnoredFolder() string {
	if q.mail.Ignored {
		return "folder or label left out"
	}
	return ""
}

// ---- horizon -----------------------------------------------------------
//
// Old mail that was imported or moved has an old Date and a new arrival, and a
// forged Date must not hide new mail: only when both lie before the horizon is
// the mail old. A time that is unknown says nothing, so the other one decides;
// when both are unknown the mail is in scope, because losing it would be for
// ever and the horizon protects nobody's privacy by itself.

func (q *inquiry) askHorizon() string {
	arrival, date, h := q.mail.Arrival, q.mail.Header.Date, q.mail.Horizon
	if h.IsZero() || arrival.IsZero() && date.IsZero() {
		return ""
	}
	if !arrival.Before(h) || !date.Before(h) { // an unknown time, being zero, lies before
		return ""
	}
	return "before " + h.UTC().Format(time.RFC3339)
}
