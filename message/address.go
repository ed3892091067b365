package message

import (
	"strings"
	"unicode/utf8"
)

// addressList appends the addresses of one cleaned address field to out (RFC
// 5322 §3.4, §4.4). bad tells that something in it that should be an address
// is none. cut tells that the field ends in the middle: then its last entry is
// not taken, as half an address may be somebody else's.
//
// The rule of the reading: text that follows the grammar is read exactly, so
// an address inside a display name, a comment or an encoded-word is never one;
// text that does not is guessed at, entry by entry, so that a broken entry
// hides nothing beside it. Where a guess can go both ways it finds an address
// rather than losing it: a sender who wants to name somebody can simply do so.
//
// One pass from left to right; what looks ahead for a closing character looks
// over the field once at most (see listReader), so time grows with length.
func addressList(out []Address, s string, cut bool) (list []Address, bad bool) {
	r := listReader{s: s, cut: cut, out: out}
	r.run()
	if len(r.out) == len(out) && strings.TrimSpace(s) != "" && !cut {
		r.unwrap()
	}
	return r.out, r.bad
}

// listReader reads one field.
type listReader struct {
	s   string
	i   int
	cut bool
	out []Address
	bad bool

	// transparent makes encoded-words ordinary text: the second try.
	transparent bool

	// noQuote and noComment tell that the quotes or parentheses from here on do
	// not pair up: they are read as ordinary characters. They also keep a field
	// of ten thousand opening parentheses from being searched as often.
	noQuote, noComment bool
	quotes             int // number of quotes in s; -1: not counted yet

	// The entry being read.
	start   int    // where its display name begins
	at      bool   // an "@" stands outside of quotes, comments, angle brackets
	angle   bool   // an angle bracket was read
	comment string // the last comment
}

func (r *listReader) run() {
	r.quotes = -1
	for r.i < len(r.s) {
		r.start, r.at, r.angle, r.comment = r.i, false, false, ""
		r.entry()
	}
}

// entry reads up to and with the next separator. A semicolon separates too:
// it ends groups, and Outlook users write lists with it.
func (r *listReader) entry() {
	for r.i < len(r.s) {
		c := r.s[r.i]
		switch {
		case !isDelimiter(c):
			r.i++
		case c == ',' || c == ';':
			r.endEntry()
			r.i++
			return
		default:
			r.delimiter(c)
		}
	}
	if !r.cut {
		r.endEntry()
	}
}

// isDelimiter finds the bytes that mean something in an address list.
func isDelimiter(c byte) bool {
	const low = 1<<'"' | 1<<'(' | 1<<',' | 1<<':' | 1<<';' | 1<<'<' | 1<<'='
	const high = 1<<('@'-64) | 1<<('\\'-64)
	switch {
	case c < 64:
		return uint64(low)>>c&1 != 0
	case c < 128:
		return uint64(high)>>(c-64)&1 != 0
	}
	return false
}

// delimiter handles one of them and moves on.
func (r *listReader) delimiter(c byte) {
	switch c {
	case '<':
		r.readAngle()
	case '"':
		r.i = r.skipQuoted()
	case '(':
		r.skipComment()
	case '=':
		r.i = r.skipWord(r.i)
	case '@':
		r.at = true
		r.i++
		if r.i < len(r.s) && r.s[r.i] == '[' {
			r.i = endLiteral(r.s, r.i) // its colons are no groups
		}
	case ':':
		r.group()
	case '\\':
		r.i++
		if r.i < len(r.s) && strings.IndexByte(`,;:"\(`, r.s[r.i]) >= 0 {
			r.i++
		}
	}
}

// group drops what stands before a colon: the name of a group (RFC 5322 §3.4),
// "mailto:" or "Re:".
func (r *listReader) group() {
	r.i++
	if !r.angle {
		r.start, r.at = r.i, false
	}
}

// endEntry takes the address of an entry without angle brackets.
func (r *listReader) endEntry() {
	entry := strings.Trim(r.s[r.start:r.i], " ")
	switch {
	case r.angle || entry == "":
	case !r.at:
		r.bad = true
	case isPlain(entry):
		r.add("", entry)
	default:
		r.bare(entry)
	}
}

// bare finds the addresses in an entry without angle brackets; more than one
// where the comma between them was forgotten. The comment of a single one is
// its display name: so it was before RFC 822 had angle brackets.
func (r *listReader) bare(entry string) {
	specs := findSpecs(r.compact(entry, false))
	name := ""
	if len(specs) == 1 && r.comment != "" {
		name = displayName(r.comment)
	}
	for _, s := range specs {
		r.add(name, s)
	}
	r.bad = r.bad || len(specs) == 0
}

// readAngle reads <addr-spec> and takes it, with the text before it as name.
func (r *listReader) readAngle() {
	name := r.s[r.start:r.i]
	r.angle = true
	open := r.i
	for r.i++; r.i < len(r.s); {
		switch r.s[r.i] {
		case '>':
			r.addAngle(name, r.s[open+1:r.i])
			r.i++
			r.start = r.i
			return
		case '<': // "<<ann@example.net>>"
			open = r.i
			r.i++
		case '"':
			r.i = r.skipLocal()
		case '(':
			r.skipComment()
		case ',', ';':
			if !isRoute(r.s[open+1 : r.i]) {
				r.addAngle(name, r.s[open+1:r.i]) // ">" was forgotten
				r.start = r.i
				return
			}
			r.i++
		default:
			r.i++
		}
	}
	if !r.cut {
		r.addAngle(name, r.s[open+1:])
	}
}

// isRoute tells an obsolete route (RFC 5322 §4.4), <@relay1,@relay2:ann@x>.
func isRoute(inner string) bool {
	inner = strings.TrimLeft(inner, " ")
	return inner != "" && inner[0] == '@'
}

// addAngle takes what stands between angle brackets.
func (r *listReader) addAngle(name, inner string) {
	spec := inner
	if !isPlain(inner) {
		specs := findSpecs(r.compact(inner, true))
		if len(specs) == 0 {
			r.bad = true
			return
		}
		spec = specs[len(specs)-1] // the name stands before the address, inside too
	}
	r.add(displayName(name), spec)
}

// add takes one addr-spec.
func (r *listReader) add(name, spec string) {
	spec = strings.TrimRight(spec, ".")
	key := Fold(spec)
	if key == "" {
		r.bad = true
		return
	}
	r.out = append(r.out, Address{Name: name, Addr: spec, Key: key})
}

// ---- quotes, comments, encoded-words -----------------------------------

// skipQuoted returns the position behind the quoted string at r.i, or behind
// its quote alone where that has no partner.
func (r *listReader) skipQuoted() int {
	if r.noQuote {
		return r.i + 1
	}
	end := closeQuote(r.s, r.i)
	switch {
	case end < 0 && r.cut:
		return len(r.s)
	case end < 0:
		r.noQuote = true
		return r.i + 1
	case r.isStray(end):
		return r.i + 1
	}
	return end + 1
}

// isStray tells that the quote at r.i opens nothing although one follows at
// end. `"Ann <ann@example.net>, "Bob" <bob@example.net>` has an odd number of
// quotes, and the string that it seems to begin holds an address and runs into
// a word.
func (r *listReader) isStray(end int) bool {
	if end+1 >= len(r.s) || !isLocalByte(r.s[end+1]) || r.s[end+1] == '.' {
		return false
	}
	if r.quotes < 0 {
		r.quotes = strings.Count(r.s, `"`) - strings.Count(r.s, `\"`)
	}
	inside := r.s[r.i:end]
	return r.quotes%2 == 1 && strings.Contains(inside, "<") && strings.Contains(inside, "@")
}

// skipLocal is skipQuoted inside angle brackets, where a quoted string can only
// be a local part.
func (r *listReader) skipLocal() int {
	if r.noQuote {
		return r.i + 1
	}
	end := closeQuote(r.s, r.i)
	if end < 0 {
		r.noQuote = true
		return r.i + 1
	}
	if !isLocalQuote(r.s, end) {
		return r.i + 1
	}
	return end + 1
}

// isLocalQuote tells that the quoted string ending at end is (part of) a local
// part: "@" or "." follows.
func isLocalQuote(s string, end int) bool {
	for end++; end < len(s) && s[end] == ' '; end++ {
	}
	return end < len(s) && (s[end] == '@' || s[end] == '.')
}

// closeQuote returns the position of the quote that closes the one at s[i], or
// -1.
func closeQuote(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// skipComment moves behind the comment at r.i.
func (r *listReader) skipComment() {
	if !r.noComment {
		if end := closeComment(r.s, r.i); end >= 0 {
			r.comment = r.s[r.i+1 : end]
			r.i = end + 1
			return
		}
		if r.cut {
			r.i = len(r.s)
			return
		}
		r.noComment = true
	}
	r.i++
}

// closeComment returns the position of the parenthesis that closes the one at
// s[i], or -1. Comments nest (RFC 5322 §3.2.2), to any depth: counted.
func closeComment(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// skipWord returns the position behind the encoded-word at i, or i+1.
func (r *listReader) skipWord(i int) int {
	if !r.transparent && strings.HasPrefix(r.s[i:], "=?") {
		if w, ok := wordAt(r.s, i); ok {
			return w.end
		}
	}
	return i + 1
}

// endLiteral returns the position behind the address literal (RFC 5322 §3.4.1)
// at s[i], or i+1 when none of a sensible length stands there.
func endLiteral(s string, i int) int {
	const longest = 64 // "[IPv6:" and 39 digits, and room
	end := strings.IndexByte(s[i:min(len(s), i+longest)], ']')
	if end < 0 {
		return i + 1
	}
	return i + end + 1
}

// ---- display names -----------------------------------------------------

// displayName decodes the text before an angle bracket or in a comment.
func displayName(s string) string {
	s = strings.Trim(s, " ")
	if strings.IndexByte(s, '"') >= 0 || strings.IndexByte(s, '\\') >= 0 {
		s = unquote(clip(s, 4*maxName))
	}
	if strings.Contains(s, "=?") {
		s = decodeText(clip(s, 8*maxName))
	} else {
		s = clean(s)
	}
	if n := len(s); n > 2 && s[0] == '\'' && s[n-1] == '\'' {
		s = s[1 : n-1]
	}
	return clip(s, maxName)
}

// unquote drops quotes and resolves quoted pairs (RFC 5322 §3.2.1).
func unquote(s string) string {
	if n := len(s) - 1; n > 0 && s[0] == '"' && s[n] == '"' && !strings.ContainsAny(s[1:n], `"\`) {
		return s[1:n]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"', s[i] == '\\' && i+1 == len(s):
			continue
		case s[i] == '\\' && i+1 < len(s) && s[i+1] < utf8.RuneSelf:
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// ---- the second try ----------------------------------------------------

// unwrap reads a field that names no address in its proper place once more.
// Some mailers encode or quote a whole field, address included; what comes out
// counts when it is exactly one address, so nothing can be smuggled in beside
// another. Failing that, encoded-words are read as the text they are written
// in, where an address may stand in plain sight.
func (r *listReader) unwrap() {
	if inner, ok := r.wrapped(); ok {
		try := listReader{s: clean(inner), transparent: true}
		try.run()
		if len(try.out) == 1 {
			r.out, r.bad = append(r.out, try.out...), false
			return
		}
	}
	if strings.Contains(r.s, "=?") {
		try := listReader{s: r.s, transparent: true, out: r.out}
		try.run()
		r.out, r.bad = try.out, try.bad
	}
}

// wrapped returns what is inside a field that is one quoted string or nothing
// but encoded-words.
func (r *listReader) wrapped() (inner string, ok bool) {
	s := strings.Trim(r.s, " ,;")
	if strings.HasPrefix(s, `"`) {
		return strings.Trim(s, `"`), closeQuote(s, 0) == len(s)-1 && isPlain(strings.Trim(s, `"`))
	}
	for rest := s; rest != ""; rest = strings.TrimLeft(rest, " ") {
		if !strings.HasPrefix(rest, "=?") {
			return "", false
		}
		w, ok := wordAt(rest, 0)
		if !ok {
			return "", false
		}
		rest = rest[w.end:]
	}
	return decodeText(s), s != ""
}
