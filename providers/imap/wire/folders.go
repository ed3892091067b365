package wire

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// list passes a LIST response: attributes, delimiter, name, without extended
// data. A name that is no valid modified UTF-7 ends the whole session in the
// library, so such a folder is left out and counted.
func (c *Conn) list(dst, rest []byte) []byte {
	if !c.waitingFor("LIST") {
		return dst
	}
	attrs, rest, ok := token(rest, c.opt.Limits.Nesting)
	if !ok || attrs[0] != '(' {
		return dst
	}
	delim, rest, ok := token(rest, 1)
	if !ok {
		return dst
	}
	name, _, ok := token(rest, 1)
	if !ok || !c.nameOK(name) {
		c.leaveOut()
		return dst
	}
	dst = appendAttrs(append(dst, "* LIST "...), attrs)
	dst = appendDelim(append(dst, ' '), delim)
	dst = append(append(dst, ' '), name...)
	return append(dst, "\r\n"...)
}

func (c *Conn) leaveOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left++
}

// appendAttrs writes the attributes that are well-formed: a backslash and an
// atom (RFC 9051 §9 mbx-list-flags).
func appendAttrs(dst, attrs []byte) []byte {
	dst = append(dst, '(')
	sep := false
	for _, a := range bytes.Fields(bytes.Trim(attrs, "()")) {
		if a[0] != '\\' || !isAtom(a[1:]) {
			continue
		}
		if sep {
			dst = append(dst, ' ')
		}
		dst, sep = append(dst, a...), true
	}
	return append(dst, ')')
}

// appendDelim writes a delimiter of one ASCII character, else NIL: a hierarchy
// that cannot be read is none.
func appendDelim(dst, delim []byte) []byte {
	v, ok := text(delim)
	if !ok || len(v) != 1 || v[0] < ' ' || v[0] >= 0x7f {
		return append(dst, "NIL"...)
	}
	if v[0] == '"' || v[0] == '\\' {
		return append(dst, '"', '\\', v[0], '"')
	}
	return append(dst, '"', v[0], '"')
}

// nameOK tells whether the library can decode a folder name.
func (c *Conn) nameOK(tok []byte) bool {
	if c.tooLong {
		return false
	}
	if tok[0] == '(' {
		return false
	}
	name, ok := text(tok)
	if !ok {
		if !isAtomName(tok) {
			return false
		}
		name = tok
	}
	return len(name) > 0 && utf8.Valid(name) && mutf7OK(string(name))
}

// isAtomName tells whether tok can stand unquoted as a folder name. ']' may
// (RFC 9051 §9 ASTRING-CHAR).
func isAtomName(tok []byte) bool {
	return isAtom(bytes.ReplaceAll(tok, []byte("]"), []byte("x")))
}

// folderStatus passes the numbers of a STATUS response that are in range. What
// is missing then counts as unknown, not as zero messages.
func (c *Conn) folderStatus(dst, rest []byte) []byte {
	name, rest, ok := token(rest, 1)
	if !ok || !c.nameOK(name) || !(c.waitingFor("LIST") || c.waitingFor("STATUS")) {
		return dst
	}
	items, _, ok := token(rest, c.opt.Limits.Nesting)
	if !ok || items[0] != '(' {
		return dst
	}
	dst = append(append(append(dst, "* STATUS "...), name...), " ("...)
	dst = appendItems(dst, items[1:len(items)-1])
	return append(dst, ")\r\n"...)
}

func appendItems(dst, items []byte) []byte {
	sep := false
	for {
		var key, val []byte
		key, items = word(items)
		val, items = word(items)
		if len(val) == 0 {
			return dst
		}
		n, ok := number(val)
		key = bytes.ToUpper(key)
		switch string(key) {
		case "MESSAGES", "UIDNEXT", "UIDVALIDITY":
		default:
			continue
		}
		if !ok || n == 0 && string(key) != "MESSAGES" {
			continue
		}
		if sep {
			dst = append(dst, ' ')
		}
		dst, sep = append(append(dst, key...), ' '), true
		dst = strconv.AppendUint(dst, uint64(n), 10)
	}
}

// namespace passes a NAMESPACE response (RFC 2342 §5) of three lists or NILs,
// each list of (prefix delimiter …) groups; anything else stays here, and every
// folder counts as personal.
func (c *Conn) namespace(dst, rest []byte) []byte {
	out := append([]byte(nil), "* NAMESPACE"...)
	for range 3 {
		tok, r, ok := token(rest, c.opt.Limits.Nesting)
		if !ok {
			return dst
		}
		rest = r
		if out, ok = c.appendNamespace(append(out, ' '), tok); !ok {
			return dst
		}
	}
	return append(append(dst, out...), "\r\n"...)
}

func (c *Conn) appendNamespace(dst, tok []byte) ([]byte, bool) {
	if bytes.EqualFold(tok, []byte("NIL")) {
		return append(dst, "NIL"...), true
	}
	if tok[0] != '(' {
		return dst, false
	}
	dst = append(dst, '(')
	groups := 0
	for rest := tok[1 : len(tok)-1]; ; groups++ {
		group, r, ok := token(rest, c.opt.Limits.Nesting)
		if !ok {
			break
		}
		if rest = r; group[0] != '(' {
			return dst, false
		}
		prefix, r, ok := token(group[1:len(group)-1], 1)
		delim, _, ok2 := token(r, 1)
		v, isText := text(prefix)
		if !ok || !ok2 || !isText || !utf8.Valid(v) {
			return dst, false
		}
		dst = append(append(append(dst, '('), prefix...), ' ')
		dst = append(appendDelim(dst, delim), ')')
	}
	return append(dst, ')'), groups > 0
}

// mutf7OK is true for names that are valid modified UTF-7 (RFC 3501 §5.1.3), by
// the same strictness as the library's decoder.
func mutf7OK(s string) bool {
	shifted := false // the character before was the end of a base64 part
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
		if s[i] != '&' {
			shifted = false
			continue
		}
		part, _, ok := strings.Cut(s[i+1:], "-")
		if !ok {
			return false
		}
		i += len(part) + 1
		if part == "" { // "&-" is an ampersand
			shifted = false
			continue
		}
		if shifted || !mutf7PartOK(part) {
			return false
		}
		shifted = true
	}
	return true
}

func mutf7PartOK(part string) bool {
	enc := base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,")
	b, err := enc.WithPadding(base64.NoPadding).DecodeString(part)
	if err != nil || len(b) == 0 || len(b)%2 != 0 {
		return false
	}
	for k := 0; k < len(b); k += 2 {
		r := rune(b[k])<<8 | rune(b[k+1])
		if !utf16.IsSurrogate(r) {
			if r >= 0x20 && r <= 0x7e { // printable ASCII stands for itself
				return false
			}
			continue
		}
		if k += 2; k >= len(b) || utf16.DecodeRune(r, rune(b[k])<<8|rune(b[k+1])) == utf8.RuneError {
			return false
		}
	}
	return true
}
