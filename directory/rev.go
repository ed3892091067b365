package directory

import (
	"cmp"
	"errors"
	"strconv"
	"time"
)

// Rev orders the updates of one record: an RFC 3339 time or an integer, one
// kind per record. The zero Rev means "none given".
type Rev struct {
	Time time.Time // set for the RFC 3339 form, UTC
	Int  int64     // set for the integer form
	Set  bool      // false: none given
}

// Compare orders two revs that are both set; ok is false when one is missing
// or one is a time and the other an integer: then neither is older.
func (r Rev) Compare(o Rev) (order int, ok bool) {
	if !r.Set || !o.Set || r.isTime() != o.isTime() {
		return 0, false
	}
	if r.isTime() {
		return r.Time.Compare(o.Time), true
	}
	return cmp.Compare(r.Int, o.Int), true
}

// mixed tells that the two can never be ordered: one is a time, one an integer.
func (r Rev) mixed(o Rev) bool {
	return r.Set && o.Set && r.isTime() != o.isTime()
}

// isTime tells the forms apart. No directory was written in the year 1, so the
// zero time stands for "not a time".
func (r Rev) isTime() bool { return !r.Time.IsZero() }

// String is the rev as a record writes it; "" when none was given.
func (r Rev) String() string {
	switch {
	case !r.Set:
		return ""
	case r.isTime():
		return r.Time.UTC().Format(time.RFC3339Nano)
	default:
		return strconv.FormatInt(r.Int, 10)
	}
}

// equal tells that both say the same, whatever the time zone.
func (r Rev) equal(o Rev) bool {
	return r.Set == o.Set && r.Int == o.Int && r.Time.Equal(o.Time)
}

var errRev = errors.New(`must be an RFC 3339 time with a zone, like "2026-11-20T10:00:00Z", or an integer of at most 64 bits`)

// ParseRev reads what Rev.String wrote.
func ParseRev(s string) (Rev, error) {
	if s == "" {
		return Rev{}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Rev{Int: n, Set: true}, nil
	}
	return parseTimeRev(s)
}

// parseTimeRev reads the RFC 3339 form.
func parseTimeRev(s string) (Rev, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return Rev{}, errRev
	}
	return Rev{Time: t.UTC(), Set: true}, nil
}
