package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// scanner reads JSON (RFC 8259) of the few shapes a record has. It exists
// because a reload reads a million lines twice: encoding/json takes 4 µs for
// what this does in a fraction of one, and it neither reports duplicate keys
// nor says where a line is broken.
//
// Every string it returns is a part of s where possible, so a record costs one
// allocation for its whole line.
type scanner struct {
	s string
	i int
}

// space skips white space (RFC 8259 §2).
func (p *scanner) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		default:
			return
		}
	}
}

// next skips white space and takes c if it comes next.
func (p *scanner) next(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// broken says where the line stops being JSON. Columns count bytes from 1.
func (p *scanner) broken(want string) error {
	if p.i >= len(p.s) {
		return fmt.Errorf("broken JSON: the line ends where %s is expected; write one whole object on one line", want)
	}
	return fmt.Errorf("broken JSON: column %d should hold %s", p.i+1, want)
}

// text reads a string.
func (p *scanner) text() (string, error) {
	if !p.next('"') {
		return "", p.broken("a string in double quotes")
	}
	start := p.i
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start : p.i-1], nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.broken("no raw control character (RFC 8259 section 7)")
		}
	}
	return "", p.broken(`a closing '"'`)
}

// escaped reads the rest of a string that holds an escape: rare, so the
// standard library decodes it.
func (p *scanner) escaped(start int) (string, error) {
	for ; p.i < len(p.s) && p.s[p.i] != '"'; p.i++ {
		if p.s[p.i] == '\\' {
			p.i++
		}
	}
	if p.i >= len(p.s) {
		return "", p.broken(`a closing '"'`)
	}
	p.i++
	var out string
	if err := json.Unmarshal([]byte(p.s[start-1:p.i]), &out); err != nil {
		return "", fmt.Errorf("broken JSON: the string that begins at column %d holds a bad escape", start)
	}
	return out, nil
}

// list reads an array of strings; never nil.
func (p *scanner) list() ([]string, error) {
	if !p.next('[') {
		return nil, errors.New("must be a list of strings")
	}
	out := []string{}
	if p.next(']') {
		return out, nil
	}
	for {
		if p.space(); p.i < len(p.s) && p.s[p.i] != '"' {
			return nil, errors.New("must be a list of strings")
		}
		s, err := p.text()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		if p.next(']') {
			return out, nil
		}
		if !p.next(',') {
			return nil, p.broken("',' or ']'")
		}
	}
}

// integer reads a whole number; ok is false for anything else, and then
// nothing is taken.
func (p *scanner) integer() (n int64, ok bool) {
	p.space()
	end := p.i
	for end < len(p.s) && strings.IndexByte("+-.0123456789eE", p.s[end]) >= 0 {
		end++
	}
	digits := p.s[p.i:end]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !canonical(digits) {
		return 0, false
	}
	p.i = end
	return n, true
}

// canonical refuses what ParseInt takes and JSON does not: +1, 01.
func canonical(digits string) bool {
	d := strings.TrimPrefix(digits, "-")
	return d == "0" || d[0] >= '1' && d[0] <= '9'
}

// boolean reads true or false; ok is false for anything else.
func (p *scanner) boolean() (v, ok bool) {
	p.space()
	switch rest := p.s[p.i:]; {
	case strings.HasPrefix(rest, "true"):
		p.i += len("true")
		return true, true
	case strings.HasPrefix(rest, "false"):
		p.i += len("false")
		return false, true
	}
	return false, false
}
