package message

import (
	"bytes"
	"strings"
)

// The limits on what is read of a header. What lies beyond is named in
// Header.Problems.
const (
	// MaxBlock is how much of a header block is looked at, in bytes.
	MaxBlock = 4 << 20
	// MaxField is how much of one field is kept, in bytes: about 2,000
	// addresses. References keep their first 4 KiB and their last 60 KiB, the
	// thread's root and its nearest messages.
	MaxField = 64 << 10

	referencesHead = 4 << 10
)

// name is a field that Parse reads; the zero name is any other field.
type name uint8

const (
	other name = iota
	messageID
	inReplyTo
	references
	date
	from
	sender
	replyTo
	to
	cc
	bcc
	subject
	listID
	listPost
	listUnsubscribe
	precedence
	autoSubmitted
)

// String is the name as Problems spell it.
func (n name) String() string {
	if n == other {
		return "header"
	}
	return strings.ToLower(FieldNames[n-1])
}

// nameOf is case-insensitive (RFC 5322 §1.2.2).
func nameOf[T string | []byte](s T) name {
	var low [len("list-unsubscribe")]byte
	if len(s) > len(low) {
		return other
	}
	for i := range len(s) {
		low[i] = s[i]
		if 'A' <= s[i] && s[i] <= 'Z' {
			low[i] += 'a' - 'A'
		}
	}
	switch string(low[:len(s)]) {
	case "message-id":
		return messageID
	case "in-reply-to":
		return inReplyTo
	case "references":
		return references
	case "date":
		return date
	case "from":
		return from
	case "sender":
		return sender
	case "reply-to":
		return replyTo
	case "to":
		return to
	case "cc":
		return cc
	case "bcc":
		return bcc
	case "subject":
		return subject
	case "list-id":
		return listID
	case "list-post":
		return listPost
	case "list-unsubscribe":
		return listUnsubscribe
	case "precedence":
		return precedence
	case "auto-submitted":
		return autoSubmitted
	}
	return other
}

// field is one field that is read: where its unfolded value lies in the text
// of its splitter.
type field struct {
	name       name
	start, end int
	cut        bool // longer than MaxField, or cut by the end of the block
}

// splitter copies the values of the fields that are read, unfolded, into one
// text, of which all strings of the Header become parts: one allocation, and
// nothing of the caller's buffer or of other fields is kept alive.
//
// Its methods take and return it by value: through a pointer, the compiler
// would move the buffers that Parse has on its stack to the heap.
type splitter struct {
	text   []byte
	fields []field
	open   bool // the last field goes on, if the next line is folded
	begun  bool // a field was seen
	cut    bool // the block is longer than MaxBlock
}

// block splits a header block as it is found in real life. CRLF, LF and CR CR
// LF end a line; a line without a colon, an mbox "From " line and a folded
// first line are passed over; the first empty line behind a field ends the
// header.
func (s splitter) block(raw []byte) splitter {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if len(raw) > MaxBlock {
		raw, s.cut = raw[:MaxBlock], true
	}
	for len(raw) > 0 {
		var line []byte
		line, raw = cutLine(raw)
		if len(line) == 0 && s.begun {
			s.cut = false // the header ended before the limit
			break
		}
		s = s.line(line)
	}
	if s.open && s.cut {
		s.fields[len(s.fields)-1].cut = true
	}
	return s.close()
}

// cutLine takes the first line off raw, without what ends it.
func cutLine(raw []byte) (line, rest []byte) {
	end := bytes.IndexByte(raw, '\n')
	if end < 0 {
		end, rest = len(raw), nil
	} else {
		rest = raw[end+1:]
	}
	for end > 0 && raw[end-1] == '\r' {
		end--
	}
	return raw[:end], rest
}

// line takes one line in. A line that neither begins a field nor is folded is
// passed over; the field before it then stays open, because such lines are
// mostly pieces of it that lost their indentation.
func (s splitter) line(line []byte) splitter {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return s.add(line)
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return s
	}
	end := colon
	for end > 0 && (line[end-1] == ' ' || line[end-1] == '\t') {
		end-- // "From :" is obsolete (RFC 5322 §4.5) and found
	}
	n := nameOf(line[:end])
	if n == other && (end == 0 || bytes.ContainsAny(line[:end], " \t\"<>@")) {
		return s
	}
	return s.start(n).add(line[colon+1:])
}

// start begins a field. One that is not read is not opened, and what is added
// to it goes nowhere.
func (s splitter) start(n name) splitter {
	s = s.close()
	s.begun = true
	if n != other {
		s.open = true
		s.fields = append(s.fields, field{name: n, start: len(s.text)})
	}
	return s
}

// add appends one line to the open field, with one space for the fold.
func (s splitter) add(line []byte) splitter {
	line = trimSpace(line)
	if !s.open || len(line) == 0 {
		return s
	}
	f := &s.fields[len(s.fields)-1]
	if f.cut && f.name != references {
		return s
	}
	if len(s.text) > f.start {
		s.text = append(s.text, ' ')
	}
	if f.name != references && len(line) > MaxField {
		line, f.cut = line[:MaxField], true
	}
	s.text = appendLine(s.text, line)
	return s.limit(f, 2*MaxField)
}

// appendLine copies a line; a lone CR becomes white space and NUL goes, before
// anything else can trip over them.
func appendLine(text, line []byte) []byte {
	if bytes.IndexByte(line, 0) < 0 && bytes.IndexByte(line, '\r') < 0 {
		return append(text, line...)
	}
	for _, c := range line {
		switch c {
		case 0:
		case '\r':
			text = append(text, ' ')
		default:
			text = append(text, c)
		}
	}
	return text
}

// limit shortens a field to MaxField. References may grow to slack before they
// are moved together, so that a long field costs linear time.
func (s splitter) limit(f *field, slack int) splitter {
	length := len(s.text) - f.start
	switch {
	case length <= MaxField || f.name == references && length <= slack:
	case f.name == references:
		f.cut = true
		tail := s.text[len(s.text)-(MaxField-referencesHead):]
		// The space keeps the halves of two ids from becoming one.
		s.text = append(s.text[:f.start+referencesHead], ' ')
		s.text = append(s.text, tail[1:]...)
	default:
		f.cut = true
		s.text = s.text[:f.start+MaxField]
	}
	return s
}

// close ends the open field.
func (s splitter) close() splitter {
	if !s.open {
		return s
	}
	f := &s.fields[len(s.fields)-1]
	s = s.limit(f, MaxField)
	f.end = len(s.text)
	s.open = false
	return s
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
