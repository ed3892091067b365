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

// field is one field that is read. Its unfolded value lies in a text that it
// shares with the other fields of the header, of which all strings of the
// Header become parts: one allocation, and nothing of the caller's buffer or of
// fields that nobody reads is kept alive.
type field struct {
	name       name
	start, end int
	cut        bool // longer than MaxField, or cut by the end of the block
}

// split appends the values of the fields that are read to text and where they
// are to fields; cut tells that the block is longer than MaxBlock.
//
// It reads a block as it is found in real life. CRLF, LF and CR CR LF end a
// line; a line without a colon, an mbox "From " line and a folded first line
// are passed over; the first empty line behind a field ends the header. A line
// passed over does not end the field before it: mostly it is a piece of it that
// lost its indentation.
//
// Slices come in and go out by value so that Parse can keep them on its stack.
func split(raw, text []byte, fields []field) (_ []byte, _ []field, cut bool) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if len(raw) > MaxBlock {
		raw, cut = raw[:MaxBlock], true
	}
	begun, open := false, false
	for len(raw) > 0 {
		var line []byte
		line, raw = cutLine(raw)
		switch {
		case len(line) == 0 && begun:
			return text, fields, false
		case len(line) == 0:
			continue
		case line[0] == ' ' || line[0] == '\t':
			if open {
				text = appendValue(text, &fields[len(fields)-1], line)
			}
			continue
		}
		n, value, ok := cutName(line)
		if !ok {
			continue
		}
		begun, open = true, n != other
		if open {
			fields = append(fields, field{name: n, start: len(text), end: len(text)})
			text = appendValue(text, &fields[len(fields)-1], value)
		}
	}
	if open && cut {
		fields[len(fields)-1].cut = true
	}
	return text, fields, cut
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

// cutName takes the name of a field off its first line; ok is false for a line
// that begins none.
func cutName(line []byte) (n name, value []byte, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return other, nil, false
	}
	end := colon
	for end > 0 && (line[end-1] == ' ' || line[end-1] == '\t') {
		end-- // "From :" is obsolete (RFC 5322 §4.5) and found
	}
	n = nameOf(line[:end])
	if n == other && (end == 0 || bytes.ContainsAny(line[:end], " \t\"<>@")) {
		return other, nil, false
	}
	return n, line[colon+1:], true
}

// appendValue appends one line to the field whose value ends the text, with one
// space for the fold, within the limits.
func appendValue(text []byte, f *field, line []byte) []byte {
	line = trimSpace(line)
	if len(line) == 0 || f.cut && f.name != references {
		return text
	}
	if len(text) > f.start {
		text = append(text, ' ')
	}
	if f.name != references && len(line) > MaxField {
		line, f.cut = line[:MaxField], true
	}
	text = appendLine(text, line)
	if len(text)-f.start > MaxField {
		text = limit(text, f)
	}
	f.end = len(text)
	return text
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

// limit shortens the field that ends the text and is longer than MaxField. Of
// References it keeps head and tail; they may grow to twice the limit before
// they are moved together, so that a long field costs linear time.
func limit(text []byte, f *field) []byte {
	f.cut = true
	if f.name != references {
		return text[:f.start+MaxField]
	}
	if len(text)-f.start <= 2*MaxField {
		return text
	}
	tail := text[len(text)-(MaxField-referencesHead):]
	// The space keeps the halves of two ids from becoming one.
	text = append(text[:f.start+referencesHead], ' ')
	return append(text, tail[1:]...)
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
