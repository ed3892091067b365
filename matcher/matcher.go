// Package matcher decides whether a mail belongs to a candidate. It is pure:
// header + directory snapshot + guards → decision with its reason. It knows no
// clock, no network, no store and no log, and deciding the same mail again
// gives the same answer, which is what explain and reconcile rest on.
//
// A mail matches when the address of a matched candidate stands in From,
// Sender, Reply-To, To, Cc or Bcc and no guard refuses. Being in a thread with
// a match is never enough.
//
// The guards exist because a directory is written by people: an address that
// does not belong to one candidate alone (the recruiter's own, a colleague's,
// jobs@) would pull everybody's mail into the ATS. Every guard would rather
// refuse than leak, and every refusal says what would change it (Guard.Mend).
//
// The answer does not depend on whose mailbox held the mail, but for the two
// guards that are about that mailbox: ignored_folder and horizon. Two mailboxes
// with one mail therefore deliver the same candidates and the same direction,
// whoever is polled first.
//
//	matcher.go  the vocabulary: guard, mail, match, refusal, decision
//	company.go  the configuration, folded once
//	decide.go   finding candidates, grouping, direction
//	guards.go   one function for each guard
//	roles.go    local parts that several people read
//	mend.go     what would change a refusal
package matcher

import (
	"time"

	"mailsyncd/directory"
	"mailsyncd/message"
)

// Guard names a rule that refuses. The values are the label values of
// mailsyncd_refused_total and the reasons of explain.
type Guard string

// The guards.
const (
	GuardOwnAddress    Guard = "own_address"    // the address is one of a mailbox or user
	GuardStaffDomain   Guard = "staff_domain"   // the address is in company.domains
	GuardSharedAlias   Guard = "shared_alias"   // several people read the address
	GuardBulk          Guard = "bulk"           // list or bulk mail
	GuardFanOut        Guard = "fan_out"        // too many recipients
	GuardIgnoredSender Guard = "ignored_sender" // From is in company.ignore_from
	GuardInactive      Guard = "inactive"       // the candidate is stopped or its jobs are archived
	GuardIgnoredFolder Guard = "ignored_folder" // folder or label is left out
	GuardHorizon       Guard = "horizon"        // arrival and Date both before the horizon
)

// Guards lists all guards in the order in which they are asked.
var Guards = [...]Guard{
	GuardOwnAddress, GuardStaffDomain, GuardSharedAlias, GuardBulk, GuardFanOut,
	GuardIgnoredSender, GuardInactive, GuardIgnoredFolder, GuardHorizon,
}

// Directory is what deciding needs of a directory snapshot.
type Directory interface {
	// Lookup returns the candidates behind a folded address; nil for most. The
	// slice must not be changed.
	Lookup(key string) []directory.Entry
	// OwnAddress tells whether an address, folded for guards
	// (message.FoldGuard), belongs to a user of the ATS.
	OwnAddress(guardKey string) bool
}

// Config is what the guards need to know of the company. Addresses are as the
// configuration spells them; New folds them.
type Config struct {
	Domains            []string // staff domains
	SharedAddresses    []string
	InternalApplicants []string // exact addresses excepted from Domains
	IgnoreFrom         []string
	MaxRecipients      int // guard fan_out: more than this many addresses in To and Cc refuse; 0 switches it off
	Mailboxes          []Owner
}

// Owner is one mailbox with the addresses it receives under.
type Owner struct {
	ID        string
	Addresses []string // address first, then aliases
}

// Mail is one header with what decides beside it.
type Mail struct {
	Header  *message.Header
	Mailbox string    // id of the mailbox that holds it; no guard asks for it
	Arrival time.Time // zero: unknown
	Horizon time.Time // zero: no horizon
	Ignored bool      // the provider says: a folder or label that is left out
}

// Direction tells who wrote to whom, whoever polled it.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"  // From is a matched candidate
	Outbound Direction = "outbound" // From is a mailbox, alias, user or company address
	Other    Direction = "other"
)

// Match is one candidate the mail belongs to. There is one for each candidate:
// when several of its addresses stand in the mail and pass, Key and Address are
// the one in the first field (within a field, the first by Key), and Fields are
// those of all of them.
type Match struct {
	Ref     string
	Key     string   // folded address, the rule that matched
	Also    []string // other addresses of the candidate in the mail that passed, folded
	Address string   // as the header spells it
	Fields  []string // "from", "sender", "reply_to", "to", "cc", "bcc", in this order
}

// Refusal is one candidate address that stands in the mail and was refused.
type Refusal struct {
	Guard  Guard
	Ref    string
	Key    string
	Fields []string
	// Detail says what in the guard refused, for explain: a configured value or
	// a rule's name, never text of the mail. ("jobs_archived", "list_id", "25 of 20")
	Detail string
}

// Decision is the verdict on one mail and all that led to it. The zero
// Decision is the common one: no candidate's address stands in the mail.
//
// Its order is fixed, whatever the order of addresses in the header: by Ref,
// then by the first field and Key of the address, then as Guards are asked.
type Decision struct {
	Matches []Match
	// Refusals are every guard that refused, for every address of every
	// candidate in the mail; empty when none did. A candidate may have a match
	// by one address and refusals of another.
	Refusals []Refusal
	// Asked are the guards that were asked: all of them once a candidate's
	// address was found, none before.
	Asked     []Guard
	Direction Direction // "" without a match
}
