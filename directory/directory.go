// Package directory holds what the ATS says about its candidates, jobs and
// users: the records, the rules by which a new record replaces an old one (the
// reducer), and the snapshot that answers "whose address is this?".
//
// A record's way: Lines reads it from a file and ParseRecord checks it; Reduce
// compares it with what is Stored and says what becomes of it; a Builder puts
// the result into the next Snapshot.
//
// It is pure: no clock, no file, no store. The loop that reads a source, runs
// the reducer and commits is sync/directory; rows are kept by store as bytes
// that only this package reads (Stored.Encode, Decode).
//
// No error of this package shows an address: errors name the key, the index
// and the mend. Refs are the ATS's own ids and may be shown.
package directory

import "log/slog"

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

// MaxEmails is the largest number of addresses in one record.
const MaxEmails = 200

// Record is one line of a directory file or one `directory put`, validated.
type Record struct {
	Kind    Kind
	Ref     string
	Deleted bool
	State   State // never empty for a live record
	Rev     Rev
	// Emails of a candidate or user as given; Keys are the same addresses
	// folded (message.Fold), without repeats, in the order given. The two may
	// share memory: neither may be changed.
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

// GoString hides the content from %#v.
func (r Record) GoString() string { return r.String() }

// LogValue shows kind and ref only.
func (r Record) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Source tells who brought a record: a file snapshot sweeps only its own.
type Source string

// The sources.
const (
	SourceFile Source = "file"
	SourcePut  Source = "put" // the command or the admin socket
)

// Why a candidate is not matched now: the values of Entry.Inactive.
const (
	InactiveMissing      = "missing"       // left the file that brought it; purged after the grace
	InactiveStopped      = "stopped"       // the ATS says so
	InactiveNoJobs       = "no_jobs"       // its list of jobs is empty
	InactiveJobsArchived = "jobs_archived" // every one of its jobs is archived
)

// Entry is one candidate behind an address in a Snapshot.
type Entry struct {
	Ref string
	// Inactive is empty for a matched candidate, else why it is not matched now.
	Inactive string
}
