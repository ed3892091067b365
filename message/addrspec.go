package message

import "strings"

// isPlain tells that s is one addr-spec without anything to take off.
func isPlain(s string) bool {
	at := strings.IndexByte(s, '@')
	if at <= 0 || at == len(s)-1 || s[at+1] == '.' {
		return false
	}
	for i := 0; i < at; i++ {
		if !isLocalByte(s[i]) {
			return false
		}
	}
	for i := at + 1; i < len(s); i++ {
		if !isDomainByte(s[i]) {
			return false
		}
	}
	return true
}

// compact rewrites an entry so that its addr-specs stand without white space:
// comments, display names in quotes and encoded-words become breaks; white
// space around "@" goes, and around "." where the obsolete syntax (RFC 5322
// §4.4) has it. A space only behind a dot ends a word ("Dr. ann@example.net"),
// but not inside angle brackets, where no name should stand.
func (r *listReader) compact(s string, inAngle bool) string {
	c := compactor{inAngle: inAngle}
	noQuote, noComment := false, r.noComment
	for i := 0; i < len(s); {
		switch {
		case s[i] == ' ':
			c.space = true
			i++
		case s[i] == '(' && !noComment:
			end := closeComment(s, i)
			noComment = end < 0
			i = max(i, end) + 1
		case s[i] == '"':
			end := -1
			if !noQuote {
				end = closeQuote(s, i)
				noQuote = end < 0
			}
			if end >= 0 && isLocalQuote(s, end) {
				c.quoted(s[i : end+1])
			} else {
				c.space = true
			}
			i = max(i, end) + 1
		case s[i] == '=' && !r.transparent && strings.HasPrefix(s[i:], "=?"):
			i = c.word(s, i)
		default:
			c.put(s[i])
			i++
		}
	}
	return c.b.String()
}

type compactor struct {
	b       strings.Builder
	inAngle bool
	space   bool // white space is due
	last    byte // the byte written last; 0: none
	loose   bool // last is a dot with white space before it
}

// put writes one byte, and the white space before it where it counts.
func (c *compactor) put(x byte) {
	loose := false
	if c.space {
		joined := x == '@' || c.last == '@' || c.last == 0 || c.last == '.' && (c.inAngle || c.loose)
		switch {
		case x == '.':
			loose = true
		case !joined:
			c.b.WriteByte(' ')
		}
	}
	c.b.WriteByte(x)
	c.space, c.last, c.loose = false, x, loose
}

// quoted writes a quoted local part; a word glued to its front is none of it.
func (c *compactor) quoted(q string) {
	if c.last != 0 && c.last != '.' {
		c.space = true
	}
	c.put('"')
	c.b.WriteString(q[1:])
}

// word passes over an encoded-word.
func (c *compactor) word(s string, i int) int {
	if w, ok := wordAt(s, i); ok {
		c.space = true
		return w.end
	}
	c.put('=')
	return i + 1
}

// findSpecs finds the addr-specs in a compact text. A word with two "@" is
// none: either half could be somebody else's address.
func findSpecs(s string) (specs []string) {
	start := 0 // of the word
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"':
			if i = closeQuote(s, i) + 1; i == 0 {
				return specs
			}
		case c == '@':
			end := endDomain(s, i+1)
			if end > i+1 && endsSpec(s, end) {
				if spec := trimSpec(s, start, end, i); spec != "" {
					specs = append(specs, spec)
				}
			}
			i = endWord(s, end)
			start = i
		case isLocalByte(c) || c == '\'' || c == '`':
			i++
		default:
			i++
			start = i
		}
	}
	return specs
}

// trimSpec returns the addr-spec s[start:end] without the single quote that
// people put around addresses; "" when it has no local part.
func trimSpec(s string, start, end, at int) string {
	if end < len(s) && strings.IndexByte("'`", s[end]) >= 0 {
		for start < at && strings.IndexByte("'`", s[start]) >= 0 {
			start++
		}
	}
	if start == at {
		return ""
	}
	return s[start:end]
}

// endDomain returns where the domain at s[i] ends.
func endDomain(s string, i int) int {
	if i < len(s) && s[i] == '[' {
		if end := endLiteral(s, i); end > i+1 {
			return end
		}
		return i
	}
	for i < len(s) && isDomainByte(s[i]) {
		i++
	}
	return i
}

// endsSpec tells that a domain may end before s[end]: not where a character
// follows that would make it a longer word.
func endsSpec(s string, end int) bool {
	return end == len(s) || !isLocalByte(s[end]) && s[end] != '@' || s[end] == '?'
}

// endWord returns where the word at s[i] ends.
func endWord(s string, i int) int {
	for i < len(s) && (isLocalByte(s[i]) || s[i] == '@') {
		i++
	}
	return i
}
