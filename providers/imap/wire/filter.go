package wire

import (
	"bytes"
	"strconv"
)

// filter appends to dst what the library may see of one whole response.
//
// Everything is written anew from what was understood, never copied whole, so
// that no oddity of a server meets a strict parser.
func (c *Conn) filter(dst, r []byte) []byte {
	r = bytes.TrimLeft(r, "\x00 ")
	line := bytes.TrimRight(r, "\r\n")
	if len(line) == 0 {
		return dst
	}
	switch line[0] {
	case '+':
		return c.continuation(dst, line)
	case '*':
		return c.untagged(dst, line[1:])
	}
	return c.tagged(dst, line)
}

// continuation passes a request to go on only to somebody who waits for one.
func (c *Conn) continuation(dst, line []byte) []byte {
	if !c.mayContinue() {
		return dst
	}
	dst = append(dst, "+ "...)
	dst = appendPrintable(dst, bytes.TrimLeft(line[1:], " ")) // empty is the rule
	return append(dst, "\r\n"...)
}

// tagged passes the completion of a pending command; any other tag is a lie.
func (c *Conn) tagged(dst, line []byte) []byte {
	tag, rest := word(line)
	typ, rest := word(rest)
	typ = bytes.ToUpper(typ)
	switch string(typ) {
	case "OK", "NO", "BAD":
	default:
		return dst
	}
	if _, ok := c.answered(string(tag)); !ok {
		return dst
	}
	return appendStatus(append(dst, tag...), typ, rest)
}

// untagged dispatches server data (RFC 9051 §7). b begins after the star.
func (c *Conn) untagged(dst, b []byte) []byte {
	typ, rest := word(b)
	if n, ok := number(typ); ok {
		return c.numbered(dst, n, bytes.TrimLeft(rest, " "))
	}
	switch string(bytes.ToUpper(typ)) {
	case "OK", "PREAUTH", "NO", "BAD", "BYE":
		return c.status(dst, string(bytes.ToUpper(typ)), rest)
	case "CAPABILITY":
		return appendCapabilities(append(dst, "* "...), rest, "\r\n")
	case "NAMESPACE":
		return c.namespace(dst, rest)
	case "LIST":
		return c.list(dst, rest)
	case "STATUS":
		return c.folderStatus(dst, rest)
	case "SEARCH":
		c.search(rest)
	}
	return dst // ID, FLAGS, ENABLED, ESEARCH, VANISHED …: nobody asked or needs it
}

// numbered handles responses that begin with a message number. Numbers are of
// no use here, since everything is asked for by UID; only EXISTS passes.
func (c *Conn) numbered(dst []byte, n uint32, b []byte) []byte {
	// Some servers write "FETCH(" without the space, so the letters count.
	i := bytes.IndexFunc(b, func(r rune) bool { return r < 'A' || r > 'z' })
	if i < 0 {
		i = len(b)
	}
	switch {
	case fold(b[:i], "EXISTS"):
		dst = append(dst, "* "...)
		dst = strconv.AppendUint(dst, uint64(n), 10)
		return append(dst, " EXISTS\r\n"...)
	case fold(b[:i], "FETCH"):
		c.fetch(b[i:])
	}
	return dst
}

// status handles untagged status responses. The greeting is the first of them.
func (c *Conn) status(dst []byte, typ string, rest []byte) []byte {
	if _, ok := c.answered(""); ok {
		if typ == "BYE" || typ == "NO" || typ == "BAD" {
			c.noteBye(rest)
			typ = "BYE"
		}
		return appendStatus(append(dst, '*'), []byte(typ), rest)
	}
	switch typ {
	case "BYE":
		c.noteBye(rest)
	case "NO":
		c.noteText(rest)
	case "BAD":
		return c.untaggedBad(dst, rest)
	case "OK":
		c.noteAlert(rest)
		return c.untaggedOK(dst, rest)
	}
	return dst
}

// untaggedBad answers the only pending command: a server that cannot read a
// command may not know its tag (RFC 9051 §7.1.3), and no other answer will
// come. With several pending it could be anybody's; the deadline ends those.
func (c *Conn) untaggedBad(dst, rest []byte) []byte {
	c.noteText(rest)
	tag := c.onlyPending()
	if tag == "" {
		return dst
	}
	c.answered(tag)
	return appendStatus(append(dst, tag...), []byte("BAD"), rest)
}

// untaggedOK passes the response codes of a SELECT that somebody needs, with
// numbers in range only; a folder without them counts as having none.
func (c *Conn) untaggedOK(dst, rest []byte) []byte {
	code, args, _ := respCode(rest)
	switch string(code) {
	case "CAPABILITY":
		return appendStatus(append(dst, '*'), []byte("OK"), rest)
	case "UIDNEXT", "UIDVALIDITY":
		v, _ := word(args)
		n, ok := number(v)
		if !ok || n == 0 {
			return dst
		}
		dst = append(dst, "* OK ["...)
		dst = append(dst, code...)
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, uint64(n), 10)
		return append(dst, "] ok\r\n"...)
	}
	return dst
}

// respCode splits "[CODE args] text" (RFC 9051 §7.1). code is upper case and
// nil when there is none that can be understood.
func respCode(b []byte) (code, args, text []byte) {
	b = bytes.TrimLeft(b, " ")
	if len(b) == 0 || b[0] != '[' {
		return nil, nil, b
	}
	end := bytes.IndexByte(b, ']')
	if end < 0 {
		return nil, nil, b[1:]
	}
	code, args = word(b[1:end])
	code = bytes.ToUpper(code)
	if !isAtom(code) {
		return nil, nil, b[end+1:]
	}
	return code, args, b[end+1:]
}

// appendStatus completes "TAG" or "*" to a status response: type, the code
// without arguments (but CAPABILITY), and the text in plain characters.
func appendStatus(dst, typ, rest []byte) []byte {
	code, args, text := respCode(rest)
	dst = append(append(dst, ' '), typ...)
	switch string(code) {
	case "":
	case "CAPABILITY":
		dst = append(dst, " ["...)
		dst = appendCapabilities(dst, args, "]")
	case "APPENDUID", "COPYUID", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ", "PERMANENTFLAGS":
		// Codes whose arguments a parser insists on; nobody needs them here.
	default:
		dst = append(append(append(dst, " ["...), code...), ']')
	}
	dst = append(dst, ' ')
	dst = appendText(dst, bytes.TrimLeft(text, " "))
	return append(dst, "\r\n"...)
}

// textLimit cuts what a server says: an operator reads it, and a parser copies it.
const textLimit = 4 << 10

// appendText writes foreign text as printable characters, at least one of them
// and none that could be taken for a response code.
func appendText(dst, text []byte) []byte {
	if len(text) > textLimit {
		text = text[:textLimit]
	}
	n := len(dst)
	dst = appendPrintable(dst, text)
	if len(dst) == n {
		return append(dst, '.')
	}
	if dst[n] == '[' {
		dst[n] = '('
	}
	return dst
}

func appendPrintable(dst, text []byte) []byte {
	for _, ch := range text {
		if ch < ' ' || ch == 0x7f {
			ch = ' '
		}
		dst = append(dst, ch)
	}
	return dst
}

// maxCapabilities is several times what the most talkative server offers.
const maxCapabilities = 256

// appendCapabilities writes CAPABILITY and its atoms. IMAP4rev2 is left out: by
// merely seeing it the library would write folder names in another encoding
// than the session, in which it was never enabled, speaks (RFC 9051 Appendix A).
func appendCapabilities(dst, args []byte, end string) []byte {
	dst = append(dst, "CAPABILITY"...)
	for n := 0; n < maxCapabilities; n++ {
		var name []byte
		if name, args = word(args); len(name) == 0 {
			break
		}
		if isAtom(name) && !bytes.EqualFold(name, []byte("IMAP4rev2")) {
			dst = append(append(dst, ' '), name...)
		}
	}
	return append(dst, end...)
}

func (c *Conn) noteBye(rest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye == "" {
		c.bye = noteText(rest)
	}
}

// noteAlert keeps the text of an untagged [ALERT]; that of a tagged one reaches
// the caller with the completion.
func (c *Conn) noteAlert(rest []byte) {
	if code, _, _ := respCode(rest); string(code) == "ALERT" {
		c.noteText(rest)
	}
}

func (c *Conn) noteText(rest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.alerts) < 8 {
		c.alerts = append(c.alerts, noteText(rest))
	}
}

// noteText cuts a text to what an error message can hold.
func noteText(rest []byte) string {
	rest = bytes.TrimLeft(rest, " ")
	return string(appendPrintable(nil, rest[:min(len(rest), 200)]))
}

// search hands the numbers of a SEARCH response to the sink. What is no number
// ends the list: MODSEQ (RFC 7162 §3.1.5) comes last.
func (c *Conn) search(rest []byte) {
	c.uids = c.uids[:0]
	for {
		var w []byte
		w, rest = word(rest)
		n, ok := number(w)
		if !ok || n == 0 {
			break
		}
		c.uids = append(c.uids, n)
	}
	c.opt.Sink.Found(c.uids)
	if cap(c.uids) > 1<<16 {
		c.uids = nil
	}
}
