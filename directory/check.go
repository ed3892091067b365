package directory

import (
	"fmt"
	"io"
)

// Summary counts what a file holds.
type Summary struct {
	Candidates, Jobs, Users int // live records
	Deleted                 int // records that say deleted, of all kinds
	// Complete tells that there is an end line: only then is anything purged
	// because it is missing.
	Complete bool
	// Bad counts the lines that are wrong; Check returns at most its limit.
	Bad int
}

// Records is the number of records, as an end line counts them.
func (s Summary) Records() int { return s.Candidates + s.Jobs + s.Users + s.Deleted }

// Add counts a record.
func (s *Summary) Add(r Record) {
	switch {
	case r.Kind == KindEnd:
		s.Complete = true
	case r.Deleted:
		s.Deleted++
	case r.Kind == KindCandidate:
		s.Candidates++
	case r.Kind == KindJob:
		s.Jobs++
	case r.Kind == KindUser:
		s.Users++
	}
}

// Check reads a whole file and reports every bad line, the first limit of them
// each as a *LineError, and refs that stand twice. err is the reader's failure.
func Check(r io.Reader, limit int) (sum Summary, bad []*LineError, err error) {
	first := map[name]int{}
	for l, lineErr := range Lines(r) {
		wrong, isLine := lineErr.(*LineError)
		switch {
		case lineErr == nil:
			sum.Add(l.Record)
			wrong = repeated(first, l)
		case !isLine:
			return sum, bad, lineErr
		}
		if wrong == nil {
			continue
		}
		if sum.Bad++; len(bad) < limit {
			bad = append(bad, wrong)
		}
	}
	return sum, bad, nil
}

// name is what makes a record one.
type name struct {
	kind Kind
	ref  string
}

// repeated notes a record's line and complains about its second.
func repeated(first map[name]int, l Line) *LineError {
	if l.Record.Kind == KindEnd {
		return nil
	}
	n := name{l.Record.Kind, l.Record.Ref}
	if line, ok := first[n]; ok {
		return &LineError{Line: l.Number, Offset: l.Offset, Err: Repeated(l.Record, line)}
	}
	first[n] = l.Number
	return nil
}

// Repeated is the error of a record whose first line was another.
func Repeated(r Record, firstLine int) error {
	return fmt.Errorf("%s %q stands on line %d already; keep one of the two", r.Kind, r.Ref, firstLine)
}
