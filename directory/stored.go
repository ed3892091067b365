package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Stored is what is kept of a record: the record itself, who brought it, and
// whether it went missing. The zero Stored means that the record is unknown.
//
// A deleted job or user stays as a Stored with nothing but kind, ref and rev:
// a job that was known counts as archived for ever, and a rev must go on to
// refuse what is older. Of a deleted candidate the store keeps a tombstone.
type Stored struct {
	Record
	Source Source
	// Missing tells that the last snapshot of its kind did not hold the record.
	Missing bool
	// MissingSince is when a snapshot with an end line first did not hold it,
	// UTC in milliseconds: the purge comes a grace later. Zero while only
	// snapshots without an end line lacked it.
	MissingSince time.Time
}

// Known tells whether there is anything.
func (s Stored) Known() bool { return s.Kind != "" }

// Live tells whether the record is there and not deleted.
func (s Stored) Live() bool { return s.Known() && !s.Deleted }

// Equal tells whether writing o over s would change nothing.
func (s Stored) Equal(o Stored) bool {
	return s.Kind == o.Kind && s.Ref == o.Ref && s.Deleted == o.Deleted && s.State == o.State &&
		s.Source == o.Source && s.Missing == o.Missing && s.MissingSince.Equal(o.MissingSince) &&
		s.HasJobs == o.HasJobs && s.Rev.equal(o.Rev) &&
		slices.Equal(s.Emails, o.Emails) && slices.Equal(s.Jobs, o.Jobs)
}

// JobState is the state a job counts as: archived once it is deleted or
// missing, whatever it said.
func (s Stored) JobState() State {
	if s.Deleted || s.Missing {
		return JobArchived
	}
	return s.State
}

// Active returns the addresses by which a candidate is matched now, given the
// state of jobs; none together with the reason when it is not matched.
func (s Stored) Active(job func(ref string) State) (keys []string, inactive string) {
	if !s.Live() || s.Kind != KindCandidate {
		return nil, ""
	}
	if inactive = s.inactive(job); inactive != "" {
		return nil, inactive
	}
	return s.Keys, ""
}

// inactive says why a live candidate is not matched; "" when it is.
func (s Stored) inactive(job func(ref string) State) string {
	switch {
	case s.Missing:
		return InactiveMissing
	case s.State == CandidateStopped:
		return InactiveStopped
	case !s.HasJobs:
		return ""
	case len(s.Jobs) == 0:
		return InactiveNoJobs
	}
	for _, ref := range s.Jobs {
		if job(ref) == JobOpen {
			return ""
		}
	}
	return InactiveJobsArchived
}

// The encoding of a Stored, all that is not in the row's own key:
//
//	version   1 byte, encodingV1
//	flags     1 byte, below
//	state     1 byte, the place in states(kind)
//	rev       time: varint seconds since 1970, uvarint nanoseconds; integer: varint; else nothing
//	missing   varint milliseconds since 1970, with flagMissingSince only
//	emails    list
//	keys      list, with flagKeys only: else each address is its own key
//	jobs      list, with flagJobs only
//
// A list is a uvarint count, then for each text a uvarint length and its bytes.
const encodingV1 = 1

const (
	flagDeleted = 1 << iota
	flagJobs
	flagPut
	flagMissing
	flagMissingSince
	flagRevTime
	flagRevInt
	flagKeys
)

// Encode returns the bytes that a store keeps; Decode reads them.
func (s Stored) Encode() []byte {
	b := append(make([]byte, 0, 96), encodingV1, s.flags(), s.stateCode())
	switch {
	case s.Rev.Set && s.Rev.isTime():
		b = binary.AppendVarint(b, s.Rev.Time.Unix())
		b = binary.AppendUvarint(b, uint64(s.Rev.Time.Nanosecond()))
	case s.Rev.Set:
		b = binary.AppendVarint(b, s.Rev.Int)
	}
	if !s.MissingSince.IsZero() {
		b = binary.AppendVarint(b, s.MissingSince.UnixMilli())
	}
	b = appendList(b, s.Emails)
	if s.ownKeys() {
		b = appendList(b, s.Keys)
	}
	if s.HasJobs {
		b = appendList(b, s.Jobs)
	}
	return b
}

// ownKeys tells whether the keys differ from the addresses.
func (s Stored) ownKeys() bool { return !slices.Equal(s.Emails, s.Keys) }

func (s Stored) flags() (f byte) {
	for bit, set := range [...]bool{
		s.Deleted, s.HasJobs, s.Source == SourcePut, s.Missing, !s.MissingSince.IsZero(),
		s.Rev.Set && s.Rev.isTime(), s.Rev.Set && !s.Rev.isTime(), s.ownKeys(),
	} {
		if set {
			f |= 1 << bit
		}
	}
	return f
}

func (s Stored) stateCode() byte {
	if s.State == states(s.Kind)[1] {
		return 1
	}
	return 0
}

func appendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, text := range list {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// errDamaged says that a row does not decode: the store's seal should have
// found that first, so it is most likely a newer version's row.
var errDamaged = errors.New("the row does not decode")

// Decode reads what Encode wrote for the record kind/ref. The result shares no
// memory with value. It fails on anything Encode cannot have written.
func Decode(kind Kind, ref string, value []byte) (Stored, error) {
	if len(value) < 3 || value[0] != encodingV1 {
		return Stored{}, fmt.Errorf("%s %q: %w: unknown version; start the release that wrote it", kind, ref, errDamaged)
	}
	s := Stored{Record: Record{Kind: kind, Ref: ref}, Source: SourceFile}
	d := decoder{rest: string(value[3:])}
	d.body(&s, value[1], value[2])
	if d.bad || d.rest != "" {
		return Stored{}, fmt.Errorf("%s %q: %w", kind, ref, errDamaged)
	}
	return s, nil
}

// decoder takes values off the front; bad is set by the first that is not there.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) body(s *Stored, flags, state byte) {
	s.Deleted, s.HasJobs = flags&flagDeleted != 0, flags&flagJobs != 0
	s.Missing = flags&flagMissing != 0
	if flags&flagPut != 0 {
		s.Source = SourcePut
	}
	d.state(s, state)
	d.rev(s, flags)
	if flags&flagMissingSince != 0 {
		s.MissingSince = time.UnixMilli(d.varint()).UTC()
	}
	s.Emails = d.list()
	if s.Keys = s.Emails; flags&flagKeys != 0 {
		s.Keys = d.list()
	}
	if s.HasJobs {
		s.Jobs = d.list()
	}
}

func (d *decoder) state(s *Stored, code byte) {
	switch {
	case code > 1 || s.Deleted && code != 0:
		d.bad = true
	case !s.Deleted:
		s.State = states(s.Kind)[code]
	}
}

func (d *decoder) rev(s *Stored, flags byte) {
	switch flags & (flagRevTime | flagRevInt) {
	case flagRevTime:
		sec, nano := d.varint(), d.uvarint()
		if nano >= uint64(time.Second) {
			d.bad = true
			return
		}
		s.Rev = Rev{Time: time.Unix(sec, int64(nano)).UTC(), Set: true}
	case flagRevInt:
		s.Rev = Rev{Int: d.varint(), Set: true}
	case flagRevTime | flagRevInt:
		d.bad = true
	}
}

func (d *decoder) uvarint() (v uint64) {
	for shift := 0; shift < 64 && len(d.rest) > 0; shift += 7 {
		c := d.rest[0]
		d.rest = d.rest[1:]
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	d.bad = true
	return 0
}

// varint undoes the zigzag of binary.AppendVarint.
func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// list reads a list; nil for an empty one.
func (d *decoder) list() []string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) { // each text takes a byte at least
		d.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.text()
	}
	return list
}
