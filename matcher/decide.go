package matcher

import (
	"cmp"
	"slices"

	"mailsyncd/message"
)

// Decide gives the verdict on one mail against one directory snapshot. The
// common answer, no candidate's address in the mail, costs one Lookup for each
// address and allocates nothing.
func (m *Matcher) Decide(mail Mail, dir Directory) Decision {
	seen := sight(mail.Header, dir)
	if len(seen) == 0 {
		return Decision{}
	}
	seen = merge(seen)
	q := m.inquire(mail, dir, seen)
	d := Decision{Asked: slices.Clone(Guards[:])}
	for rest := seen; len(rest) > 0; {
		n := sameCandidate(rest)
		q.judge(&d, rest[:n])
		rest = rest[n:]
	}
	if len(d.Matches) > 0 {
		d.Direction = q.direction(d.Matches)
	}
	return d
}

// fields is a set of address fields, one bit each, in the order of names.
type fields uint8

// names lists the fields of the set as events spell them.
func (f fields) names() []string {
	var out []string
	for i, name := range [...]string{"from", "sender", "reply_to", "to", "cc", "bcc"} {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// first returns the first field of the set alone.
func (f fields) first() fields { return f & -f }

// sighting is one address of one candidate in the mail.
type sighting struct {
	ref      string
	key      string
	address  string // as the first field spells it
	fields   fields
	inactive string // directory.Entry.Inactive
}

// sight finds the candidates of a header, one sighting for every time an
// address is named.
func sight(h *message.Header, dir Directory) []sighting {
	var seen []sighting
	for i, field := range [...][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		for j := range field {
			a := &field[j]
			for _, e := range dir.Lookup(a.Key) {
				seen = append(seen, sighting{
					ref: e.Ref, key: a.Key, address: a.Addr, fields: 1 << i, inactive: e.Inactive,
				})
			}
		}
	}
	return seen
}

// merge brings sightings of one address of one candidate together and orders
// what is left by candidate, first field and key, so that nothing after it
// depends on the order of addresses in the header.
func merge(seen []sighting) []sighting {
	slices.SortFunc(seen, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.ref, b.ref), cmp.Compare(a.key, b.key),
			cmp.Compare(a.fields, b.fields), cmp.Compare(a.address, b.address))
	})
	out := seen[:1]
	for _, s := range seen[1:] {
		last := &out[len(out)-1]
		if s.ref == last.ref && s.key == last.key {
			last.fields |= s.fields
			continue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.ref, b.ref),
			cmp.Compare(a.fields.first(), b.fields.first()), cmp.Compare(a.key, b.key))
	})
	return out
}

// sameCandidate counts the sightings at the front that are of one candidate.
func sameCandidate(seen []sighting) int {
	for n := range seen {
		if seen[n].ref != seen[0].ref {
			return n
		}
	}
	return len(seen)
}

// judge asks every guard about every address of one candidate and adds the
// match, if an address passed, and the refusals.
func (q *inquiry) judge(d *Decision, candidate []sighting) {
	var first *sighting
	var passed fields
	var also []string
	for i := range candidate {
		s := &candidate[i]
		refusals := q.ask(s)
		d.Refusals = append(d.Refusals, refusals...)
		if len(refusals) > 0 {
			continue
		}
		if first == nil {
			first = s
		} else {
			also = append(also, s.key)
		}
		passed |= s.fields
	}
	if first != nil {
		d.Matches = append(d.Matches, Match{
			Ref: first.ref, Key: first.key, Also: also, Address: first.address, Fields: passed.names(),
		})
	}
}

// ask asks all guards about one address and returns those that refuse.
func (q *inquiry) ask(s *sighting) []Refusal {
	var out []Refusal
	for _, g := range Guards {
		if detail := q.refuses(g, s); detail != "" {
			out = append(out, Refusal{Guard: g, Ref: s.ref, Key: s.key, Fields: s.fields.names(), Detail: detail})
		}
	}
	return out
}

// direction tells who wrote to whom. A candidate who was refused does not make
// a mail inbound: for the ATS that person is not in it.
func (q *inquiry) direction(matches []Match) Direction {
	for i := range matches {
		if slices.Contains(matches[i].Fields, "from") {
			return Inbound
		}
	}
	for i := range q.mail.Header.From {
		key := q.mail.Header.From[i].Key
		if q.Company(key) || q.dir.OwnAddress(message.FoldGuard(key)) {
			return Outbound
		}
	}
	return Other
}
