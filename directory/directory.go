// Package directory holds what the ATS says about its candidates, jobs and
// users: the records, the rules by which a new record replaces an old one (the
// reducer), and the snapshot that answers "whose address is this?".
//
// It is pure: no clock, no file, no store. The loop that reads a source, runs
// the reducer and commits is sync/directory; rows are kept by store as bytes
// that only this package reads.
//
// The rules are those of the configuration reference, "Directory records".
package directory

import (
	"log/slog"
	"time"
)

// Kind is the kind of a record.
type Kind string

// The kinds. KindEnd closes a snapshot and carries its record count.
const (
	KindCandidate Kind = "candidate"
	KindJob       Kind = "job"
	KindUser      Kind = "user"
	KindEnd       Kind = "end"
)

// State is the state a record claims; which ones are legal depends on its kind.
type State string

// The states; the first of each kind is the default.
const (
	CandidateActive  State = "active"
	CandidateStopped State = "stopped" // consent refused, hired, legal hold: history stays, nothing new
	JobOpen          State = "open"
	JobArchived      State = "archived"
	UserEnabled      State = "enabled"
	UserDisabled     State = "disabled"
)

// MaxRef is the longest ref in bytes.
const MaxRef = 200

// Rev orders the updates of one record: an RFC 3339 time or an integer, one
// kind per record. The zero Rev means "none given".
type Rev struct {
	Time time.Time // set for the RFC 3339 form
	Int  int64     // set for the integer form
	Set  bool      // false: none given
}

// Record is one line of a directory file or one `directory put`, validated.
type Record struct {
	Kind    Kind
	Ref     string
	Deleted bool
	State   State // never empty for a live record
	Rev     Rev
	// Emails of a candidate or user as given; Keys are the same addresses
	// folded (message.Fold), without repeats, in the order given.
	Emails, Keys []string
	// Jobs of a candidate. HasJobs false: no job rule. HasJobs with no jobs: inactive.
	Jobs    []string
	HasJobs bool
	// Count is the record count of KindEnd.
	Count int
}

// String names the record without its content: refs are the ATS's own ids and
// may be shown; addresses may not.
func (r Record) String() string { return string(r.Kind) + " " + r.Ref }

// LogValue shows kind and ref only.
func (r Record) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Source tells who brought a record: a file snapshot sweeps only its own.
type Source string

// The sources.
const (
	SourceFile Source = "file"
	SourcePut  Source = "put" // the command or the admin socket
)

// Activation is one address that became matchable: mail with it that passed
// earlier is owed a look-back.
type Activation struct {
	Key string // folded address
	Ref string // the candidate
}

// Entry is one candidate behind an address in a Snapshot.
type Entry struct {
	Ref string
	// Inactive is empty for a matched candidate, else why it is not matched
	// now: "stopped", "jobs_archived", "no_jobs", "missing", "held".
	Inactive string
}
