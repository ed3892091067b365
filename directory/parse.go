package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailsyncd/message"
)

// The keys of a record, by the number of their bit in a fields.seen.
const (
	keyKind = iota
	keyRef
	keyEmails
	keyJobs
	keyState
	keyRev
	keyDeleted
	keyRecords
)

// keyNames are the legal keys in the order of the bits above.
var keyNames = [...]string{"kind", "ref", "emails", "jobs", "state", "rev", "deleted", "records"}

// kindNames are the legal kinds.
var kindNames = [...]string{string(KindCandidate), string(KindJob), string(KindUser), string(KindEnd)}

// fields is a record as it was written, before its rules are applied.
type fields struct {
	seen             uint // bit per key
	kind, ref, state string
	emails, jobs     []string
	rev              Rev
	deleted          bool
	records          int64
}

func (f *fields) has(key int) bool { return f.seen&(1<<key) != 0 }

// ParseRecord reads one line, strictly: a key nobody knows, a key twice, a
// state of another kind or an address that is none are errors that say what to
// write instead. They show keys and refs, never an address.
func ParseRecord(line []byte) (Record, error) {
	if !utf8.Valid(line) {
		return Record{}, errors.New("not UTF-8; save the file as UTF-8")
	}
	p := scanner{s: string(line)}
	f, err := p.fields()
	if err != nil {
		return Record{}, err
	}
	return f.record()
}

// fields reads the object.
func (p *scanner) fields() (fields, error) {
	var f fields
	if !p.next('{') {
		return f, p.broken("'{'")
	}
	if p.next('}') {
		return f, p.end()
	}
	for {
		if err := p.member(&f); err != nil {
			return f, err
		}
		if p.next('}') {
			return f, p.end()
		}
		if !p.next(',') {
			return f, p.broken("',' or '}'")
		}
	}
}

// end refuses anything behind the object.
func (p *scanner) end() error {
	if p.space(); p.i < len(p.s) {
		return fmt.Errorf("column %d holds more text behind the object; write one object a line", p.i+1)
	}
	return nil
}

// member reads one "key": value.
func (p *scanner) member(f *fields) error {
	name, err := p.text()
	if err != nil {
		return err
	}
	key := keyNumber(name)
	if key < 0 {
		return unknown("key", name, keyNames[:])
	}
	if f.has(key) {
		return fmt.Errorf("key %q stands twice; keep one", name)
	}
	f.seen |= 1 << key
	if !p.next(':') {
		return p.broken("':'")
	}
	if p.space(); strings.HasPrefix(p.s[p.i:], "null") {
		return fmt.Errorf("%q is null; leave the key out instead", name)
	}
	return p.value(f, key)
}

// value reads the value of a key into f.
func (p *scanner) value(f *fields, key int) (err error) {
	switch key {
	case keyKind:
		f.kind, err = p.text()
	case keyRef:
		f.ref, err = p.text()
	case keyState:
		f.state, err = p.text()
	case keyEmails:
		f.emails, err = p.list()
	case keyJobs:
		f.jobs, err = p.list()
	case keyRev:
		f.rev, err = p.rev()
	default:
		return p.scalar(f, key)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", keyNames[key], err)
	}
	return nil
}

// scalar reads the values that are neither text nor list.
func (p *scanner) scalar(f *fields, key int) error {
	var ok bool
	if key == keyDeleted {
		if f.deleted, ok = p.boolean(); !ok {
			return errors.New(`"deleted" must be true or false`)
		}
		return nil
	}
	if f.records, ok = p.integer(); !ok || f.records < 0 {
		return errors.New(`"records" must be the number of records above this line`)
	}
	return nil
}

// rev reads an RFC 3339 string or an integer.
func (p *scanner) rev() (Rev, error) {
	if p.space(); p.i < len(p.s) && p.s[p.i] == '"' {
		s, err := p.text()
		if err != nil {
			return Rev{}, err
		}
		return parseTimeRev(s)
	}
	n, ok := p.integer()
	if !ok {
		return Rev{}, errRev
	}
	return Rev{Int: n, Set: true}, nil
}

// keyNumber finds a key; -1 for none. A switch compiles to a search by length,
// which is what makes a million lines cheap.
func keyNumber(name string) int {
	switch name {
	case "kind":
		return keyKind
	case "ref":
		return keyRef
	case "emails":
		return keyEmails
	case "jobs":
		return keyJobs
	case "state":
		return keyState
	case "rev":
		return keyRev
	case "deleted":
		return keyDeleted
	case "records":
		return keyRecords
	}
	return -1
}

// record applies the rules of the kind.
func (f *fields) record() (Record, error) {
	kind := Kind(f.kind)
	switch {
	case !f.has(keyKind):
		return Record{}, fmt.Errorf(`no "kind"; write one of %s`, strings.Join(kindNames[:], ", "))
	case kind == KindEnd:
		return f.end()
	case kind != KindCandidate && kind != KindJob && kind != KindUser:
		return Record{}, unknown("kind", f.kind, kindNames[:])
	}
	if err := checkRef("ref", f.ref); err != nil {
		return Record{}, err
	}
	if err := f.checkKeys(kind); err != nil {
		return Record{}, err
	}
	if f.deleted {
		// What else a deleted record says must not be kept.
		return Record{Kind: kind, Ref: f.ref, Deleted: true, Rev: f.rev}, nil
	}
	return f.live(kind)
}

// end makes the record that closes a snapshot.
func (f *fields) end() (Record, error) {
	if f.seen != 1<<keyKind|1<<keyRecords {
		return Record{}, errors.New(`an end line is {"kind":"end","records":N} and nothing else`)
	}
	return Record{Kind: KindEnd, Count: int(f.records)}, nil
}

// checkKeys refuses keys that mean nothing for a kind: most likely the kind is
// the wrong one.
func (f *fields) checkKeys(kind Kind) error {
	foreign := 1 << keyRecords
	switch kind {
	case KindJob:
		foreign |= 1<<keyEmails | 1<<keyJobs
	case KindUser:
		foreign |= 1 << keyJobs
	}
	for key, name := range keyNames {
		if f.seen&uint(foreign)&(1<<key) != 0 {
			return fmt.Errorf("a %s has no %q; remove the key or correct the kind", kind, name)
		}
	}
	return nil
}

// live makes the record of something that exists.
func (f *fields) live(kind Kind) (Record, error) {
	r := Record{Kind: kind, Ref: f.ref, Rev: f.rev, Emails: f.emails, Jobs: f.jobs, HasJobs: f.has(keyJobs)}
	var err error
	if r.State, err = f.checkState(kind); err != nil {
		return Record{}, err
	}
	for i, job := range f.jobs {
		if err := checkRef(fmt.Sprintf("jobs[%d]", i), job); err != nil {
			return Record{}, err
		}
	}
	if len(f.emails) > MaxEmails {
		return Record{}, fmt.Errorf(`"emails" has %d entries; at most %d are allowed`, len(f.emails), MaxEmails)
	}
	if r.Keys, err = foldAll(f.emails); err != nil {
		return Record{}, err
	}
	return r, nil
}

// states returns the legal states of a kind, the default first.
func states(kind Kind) [2]State {
	switch kind {
	case KindJob:
		return [2]State{JobOpen, JobArchived}
	case KindUser:
		return [2]State{UserEnabled, UserDisabled}
	default:
		return [2]State{CandidateActive, CandidateStopped}
	}
}

// checkState returns the state, or the kind's default when none is given. The
// wrong value is not shown: nobody knows what an export put there.
func (f *fields) checkState(kind Kind) (State, error) {
	legal := states(kind)
	switch given := State(f.state); {
	case !f.has(keyState):
		return legal[0], nil
	case given == legal[0] || given == legal[1]:
		return given, nil
	}
	return "", fmt.Errorf(`the "state" of a %s must be %q or %q`, kind, legal[0], legal[1])
}

// checkRef holds refs to what keys, logs and URLs can carry.
func checkRef(name, ref string) error {
	switch {
	case ref == "":
		return fmt.Errorf("%q must not be empty; write the ATS's own id", name)
	case ref == "." || ref == "..":
		return fmt.Errorf("%q is %q, which no path can carry; give the record another ref", name, ref)
	case len(ref) > MaxRef:
		return fmt.Errorf("%q has %d bytes; at most %d are allowed", name, len(ref), MaxRef)
	}
	for _, c := range ref {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return fmt.Errorf("%q holds a control or broken character; remove it", name)
		}
	}
	return nil
}

// foldAll returns the keys of addresses without repeats. Most addresses are
// their own keys: then the keys are the same slice and cost nothing.
func foldAll(emails []string) ([]string, error) {
	keys := emails[:len(emails):len(emails)]
	for i, email := range emails {
		key := message.Fold(email)
		if key == "" {
			return nil, fmt.Errorf("emails[%d] is not an address; write local@domain without a name", i)
		}
		if same(keys, i, key) {
			continue
		}
		return foldRest(emails, i)
	}
	return keys, nil
}

// same tells that key is what stands at i already, and for the first time.
func same(keys []string, i int, key string) bool {
	return keys[i] == key && !slices.Contains(keys[:i], key)
}

// foldRest is foldAll once the keys differ from the addresses at i.
func foldRest(emails []string, i int) ([]string, error) {
	keys := append(make([]string, 0, len(emails)), emails[:i]...)
	for ; i < len(emails); i++ {
		key := message.Fold(emails[i])
		if key == "" {
			return nil, fmt.Errorf("emails[%d] is not an address; write local@domain without a name", i)
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
