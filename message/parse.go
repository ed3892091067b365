package message

import (
	"slices"
	"strings"
)

// Bounds of what one header may become. They lie far above what people send.
const (
	maxAddresses = 20_000  // of one name
	maxIDs       = 20_000  // of one name
	maxName      = 1 << 10 // bytes of a display name
	maxSubject   = 4 << 10 // bytes
	maxRawDate   = 200     // bytes
)

// The kinds of Problems. A problem is the lower-case name of the field
// ("header" for the block), ": " and one of these: a closed set, and never a
// value of the mail.
const (
	problemCut        = "cut"             // longer than MaxField or MaxBlock
	problemNoAddress  = "no address"      // not empty, but nothing in it is an address
	problemPartly     = "part unreadable" // some entries of the list are no address
	problemTooMany    = "too many"        // over 20,000 addresses or ids
	problemUnreadable = "unreadable"      // an id or a date that is none
	problemAbsurd     = "absurd"          // a date before 1990
)

// Parse reads a header block: up to the first empty line, or all of raw. It
// never fails and keeps nothing of raw. See Header for what it makes of fields
// that come twice and Header.Problems for what it could not read.
func Parse(raw []byte) Header {
	var textRoom [2 << 10]byte
	var fieldRoom [24]field
	text, fields, cut := split(raw, textRoom[:0], fieldRoom[:0])
	return build(string(text), fields, cut)
}

// FromFields reads fields that came apart, in the order of the header. Names
// are compared without case, values may still be folded.
func FromFields(fields []Field) Header {
	var text []byte
	var read []field
	for _, f := range fields {
		n := nameOf(f.Name)
		if n == other {
			continue
		}
		read = append(read, field{name: n, start: len(text), end: len(text)})
		for line := range strings.Lines(f.Value) {
			text = appendValue(text, &read[len(read)-1], []byte(strings.TrimRight(line, "\r\n")))
		}
	}
	return build(string(text), read, false)
}

// builder makes a Header of split fields. The fields and their text are not
// part of it, so that Parse can keep them on its stack.
type builder struct{ h Header }

func build(text string, fields []field, cut bool) Header {
	var b builder
	if cut {
		b.problem(other, problemCut)
	}
	b.addresses(text, fields)
	for i := range fields {
		f := &fields[i]
		if f.cut {
			b.problem(f.name, problemCut)
		}
		b.field(f.name, text[f.start:f.end])
	}
	b.dropAddresses()
	return b.h
}

// problem notes each code once.
func (b *builder) problem(n name, kind string) {
	code := n.String() + ": " + kind
	if !slices.Contains(b.h.Problems, code) {
		b.h.Problems = append(b.h.Problems, code)
	}
}

// addresses fills the six address fields from one piece of memory.
func (b *builder) addresses(text string, fields []field) {
	n := 0
	for _, f := range fields {
		if f.isAddresses() {
			n += strings.Count(text[f.start:f.end], "@")
		}
	}
	all := make([]Address, 0, min(n, 256))
	for name := from; name <= bcc; name++ {
		start := len(all)
		all = b.addressesOf(name, text, fields, all)
		if len(all) > start {
			*b.listOf(name) = all[start:len(all):len(all)]
		}
	}
}

func (f *field) isAddresses() bool { return from <= f.name && f.name <= bcc }

func (b *builder) listOf(n name) *[]Address {
	switch n {
	case from:
		return &b.h.From
	case sender:
		return &b.h.Sender
	case replyTo:
		return &b.h.ReplyTo
	case to:
		return &b.h.To
	case cc:
		return &b.h.Cc
	default:
		return &b.h.Bcc
	}
}

// addressesOf appends the addresses of all fields of one name.
func (b *builder) addressesOf(n name, text string, fields []field, all []Address) []Address {
	start, bad := len(all), false
	for i := range fields {
		f := &fields[i]
		if f.name != n || f.start == f.end || len(all)-start > maxAddresses {
			continue
		}
		var broken bool
		all, broken = addressList(all, clean(text[f.start:f.end]), f.cut)
		bad = bad || broken
	}
	switch {
	case len(all)-start > maxAddresses:
		b.problem(n, problemTooMany)
		all = all[:start+maxAddresses]
	case bad && len(all) == start:
		b.problem(n, problemNoAddress)
	case bad:
		b.problem(n, problemPartly)
	}
	return all
}

// field reads what is not an address. Of Message-ID, Date, Subject and
// Precedence the first field that says something counts, of the others all.
func (b *builder) field(n name, raw string) {
	h := &b.h
	switch n {
	case messageID:
		if h.MessageID == "" {
			h.MessageID = b.firstID(clean(raw))
		}
	case inReplyTo:
		h.InReplyTo = b.ids(n, clean(raw), h.InReplyTo)
	case references:
		h.References = b.ids(n, clean(headAndTail(raw)), h.References)
	case date:
		b.date(clean(raw))
	case subject:
		if h.Subject == "" {
			h.Subject = clip(decodeText(raw), maxSubject)
		}
	case listID:
		h.ListID = true
	case listPost:
		h.ListPost = true
	case listUnsubscribe:
		h.ListUnsubscribe = true
	case precedence:
		if h.Precedence == "" {
			h.Precedence = token(clean(raw))
		}
	case autoSubmitted:
		t := token(clean(raw))
		h.AutoSubmitted = h.AutoSubmitted || t != "" && t != "no"
	}
}

// date keeps the first Date field as it came and the first that can be read.
func (b *builder) date(raw string) {
	raw = clip(raw, maxRawDate)
	if b.h.RawDate == "" {
		b.h.RawDate = raw
	}
	if raw == "" || !b.h.Date.IsZero() {
		return
	}
	t, ok := readDate(raw)
	switch {
	case !ok:
		b.problem(date, problemUnreadable)
	case t.Year() < 1990 || t.Year() > 9999:
		b.problem(date, problemAbsurd)
	default:
		b.h.Date = t
	}
}

// token is the first word of a structured value, lower-cased: what stands in
// front of a comment or a parameter (RFC 3834 §5).
func token(s string) string {
	if i := strings.IndexAny(s, " (;,"); i >= 0 {
		s = s[:i]
	}
	return strings.ToLower(clip(s, 40))
}
