package wire

import (
	"bytes"
	"strconv"
)

// word cuts the next run of bytes up to a space or the end of the line off b.
func word(b []byte) (w, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	i := bytes.IndexAny(b, " \r\n")
	if i < 0 {
		return b, nil
	}
	return b[:i], b[i:]
}

// token cuts one value off b: a string, literal, list, or an atom which may
// hold a section in brackets (RFC 9051 §4). ok is false when b does not begin
// with a well-formed value or lists nest deeper than depth.
func token(b []byte, depth int) (tok, rest []byte, ok bool) {
	b = bytes.TrimLeft(b, " ")
	if len(b) == 0 {
		return nil, nil, false
	}
	var n int
	switch b[0] {
	case '"':
		n = quotedLen(b)
	case '(':
		n = listLen(b, depth)
	case '{':
		n = literalLen(b)
	default:
		n = atomLen(b)
	}
	if n <= 0 || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// quotedLen is the length of the quoted string at b; 0 when it does not end on
// this line.
func quotedLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		case '\r', '\n':
			return 0
		}
	}
	return 0
}

func listLen(b []byte, depth int) int {
	if depth <= 0 {
		return 0
	}
	for i := 1; i < len(b); {
		switch b[i] {
		case ')':
			return i + 1
		case ' ':
			i++
			continue
		}
		_, rest, ok := token(b[i:], depth-1)
		if !ok {
			return 0
		}
		i = len(b) - len(rest)
	}
	return 0
}

func literalLen(b []byte) int {
	nl := bytes.IndexByte(b, '\n')
	if nl < 0 {
		return 0
	}
	size, mark := bytes.TrimRight(b[1:nl], "\r"), 0
	if mark = len(size) - 1; mark < 1 || size[mark] != '}' {
		return 0
	}
	n, err := strconv.ParseUint(string(bytes.TrimSuffix(size[:mark], []byte("+"))), 10, 31)
	if err != nil {
		return 0
	}
	return nl + 1 + int(n)
}

// atomLen is lenient: any byte but the ones that structure a response. What
// stands in brackets belongs to the atom whole: BODY[HEADER.FIELDS (TO)]<0>.
func atomLen(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case ' ', '(', ')', '"', '\r', '\n':
			return i
		case '[':
			end := bytes.IndexByte(b[i:], ']')
			if end < 0 || bytes.IndexByte(b[i:i+end], '\n') >= 0 {
				return i
			}
			i += end
		}
	}
	return len(b)
}

// text returns the value of a string token, quoted or literal; ok is false for
// anything else. It is a part of tok unless something had to be unescaped.
func text(tok []byte) (value []byte, ok bool) {
	switch {
	case len(tok) >= 2 && tok[0] == '"':
		return unescape(tok[1 : len(tok)-1]), true
	case len(tok) > 0 && tok[0] == '{':
		return tok[bytes.IndexByte(tok, '\n')+1:], true
	}
	return nil, false
}

func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// number reads a 32-bit number that stands alone in tok.
func number(tok []byte) (uint32, bool) {
	if len(tok) == 0 || len(tok) > 10 {
		return 0, false
	}
	var n uint64
	for _, d := range tok {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + uint64(d-'0')
	}
	return uint32(n), n <= 1<<32-1
}

// isAtom tells whether b is an atom in the strict sense of the grammar: safe to
// hand to a strict parser.
func isAtom(b []byte) bool {
	for _, ch := range b {
		if ch <= ' ' || ch >= 0x7f || bytes.IndexByte([]byte(`(){%*"\]`), ch) >= 0 {
			return false
		}
	}
	return len(b) > 0
}
