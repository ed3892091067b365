package directory

import "time"

// Verdict says what a record did to what was known.
type Verdict string

// The verdicts.
const (
	Unchanged Verdict = "unchanged"
	Added     Verdict = "added"
	Changed   Verdict = "changed"
	Deleted   Verdict = "deleted"
	// Stale is a record older than what is known, or than the delete.
	Stale Verdict = "stale"
	// Mixed is a record whose rev is a time where the known one is an integer,
	// or the other way round: nobody can say which is older.
	Mixed Verdict = "mixed"
)

// Reduce holds a record against what is known of it (the zero Stored: nothing;
// a deleted one: its tombstone) and returns what is known afterwards. Whether
// that has to be written is next.Equal(old), not the verdict: a stale record
// in a file changes nothing of the content and still proves that the record is
// not missing.
func Reduce(old Stored, in Record, src Source) (next Stored, v Verdict) {
	switch {
	case old.Rev.mixed(in.Rev):
		return present(old, in, src), Mixed
	case older(old, in):
		return present(old, in, src), Stale
	case in.Deleted:
		return remove(old, in)
	}
	next = Stored{Record: in, Source: sourceOf(old, src)}
	if !in.Rev.Set && old.Live() {
		next.Rev = old.Rev // an update without a rev must not let older ones in again
	}
	switch {
	case !old.Live():
		return next, Added
	case next.Equal(old):
		return old, Unchanged
	}
	return next, Changed
}

// older tells whether a record must be dropped. Behind a delete it needs a
// higher rev; the record it names otherwise may repeat its own.
func older(old Stored, in Record) bool {
	order, ok := in.Rev.Compare(old.Rev)
	if old.Deleted && !in.Deleted {
		return ok && order <= 0
	}
	return ok && order < 0
}

// remove makes the marker of a deleted record. A delete of something unknown
// is kept where it will decide something: for a rev, and for a job.
func remove(old Stored, in Record) (Stored, Verdict) {
	if !in.Rev.Set {
		in.Rev = old.Rev
	}
	gone := Stored{Record: Record{Kind: in.Kind, Ref: in.Ref, Deleted: true, Rev: in.Rev}, Source: SourceFile}
	switch {
	case old.Deleted && old.Rev.equal(in.Rev):
		return old, Unchanged
	case !old.Known() && !in.Rev.Set && in.Kind != KindJob:
		return old, Unchanged
	}
	return gone, Deleted
}

// present is what a dropped record leaves behind: its content counts for
// nothing, but the file that holds it shows that it is not missing.
func present(old Stored, in Record, src Source) Stored {
	if src != SourceFile || !old.Live() || in.Deleted {
		return old
	}
	old.Source, old.Missing, old.MissingSince = SourceFile, false, time.Time{}
	return old
}

// sourceOf says who answers for a record now. What a file brought once, it may
// sweep, whoever touches it in between: else one `put` would keep a candidate
// past its deletion in the ATS. Only a record that the file has already lost
// belongs to the put that brings it back.
func sourceOf(old Stored, src Source) Source {
	if src == SourcePut && old.Live() && old.Source == SourceFile && !old.Missing {
		return SourceFile
	}
	return src
}

// Swept tells whether a snapshot that lacks a record may sweep it: it is there,
// a file brought it, and it is not missing already.
func (s Stored) Swept() bool { return s.Live() && s.Source == SourceFile && !s.Missing }

// Absent is a record after a snapshot that lacks it. complete tells whether the
// snapshot had an end line: only then does the time until the purge begin.
func (s Stored) Absent(complete bool, now time.Time) Stored {
	s.Missing = true
	if complete && s.MissingSince.IsZero() {
		s.MissingSince = now.UTC().Truncate(time.Millisecond)
	}
	return s
}

// The limits of a sweep: what takes more is more likely a broken export than
// the truth, and waits for an operator.
const (
	sweepFree    = 5    // records that may always go
	sweepPercent = 5    // of the records of the kind
	sweepMost    = 1000 // records
)

// SweepHeld tells whether a sweep that takes missing of total records is held:
// more than 5 records and more than 5 %, or more than 1,000, or everything.
func SweepHeld(missing, total int) bool {
	return missing > sweepMost ||
		missing > sweepFree && missing*100 > total*sweepPercent ||
		missing > 0 && missing >= total
}
