package wire

import (
	"bytes"
	"fmt"
	"strconv"
)

// The read buffer begins small, since most sessions find nothing new; it grows
// to readBuffer when more comes, and further for one large response only.
const (
	firstBuffer = 4 << 10
	readBuffer  = 32 << 10
)

// reader is the state of Read; only the goroutine in Read touches it.
type reader struct {
	buf      []byte // buf[r:w] is read and not yet consumed
	r, w     int
	out      []byte   // filtered and not yet handed on
	outBuf   []byte   // what out is cut from, kept for the next response
	literals int      // bytes in literals of the current response
	tooLong  bool     // a literal of the current response was skipped
	uids     []uint32 // scratch for SEARCH
}

// Read hands on filtered responses. After the first error it returns that error
// for ever.
func (c *Conn) Read(b []byte) (int, error) {
	for len(c.out) == 0 {
		if err := c.Err(); err != nil {
			return 0, err
		}
		r, err := c.response()
		if err != nil {
			return 0, c.fail(err)
		}
		c.outBuf = c.filter(c.outBuf[:0], r)
		c.out = c.outBuf
	}
	n := copy(b, c.out)
	c.out = c.out[n:]
	return n, nil
}

// response gathers one whole response: its line and every literal in it. The
// result is valid until the next call.
func (c *Conn) response() ([]byte, error) {
	if err := c.countResponse(); err != nil {
		return nil, err
	}
	c.tooLong, c.literals = false, 0
	if c.r == c.w && len(c.buf) > 8*readBuffer { // one response was large: let its room go
		c.r, c.w, c.buf = 0, 0, make([]byte, readBuffer)
	}
	off, text := 0, 0
	for {
		end, err := c.lineEnd(off, c.opt.Limits.Line-text)
		if err != nil {
			return nil, err
		}
		text += end - off
		n, mark := literal(c.buf[c.r:c.r+end], off)
		if mark < 0 {
			c.r += end
			return c.buf[c.r-end : c.r], nil
		}
		if off, err = c.takeLiteral(mark, end, n); err != nil {
			return nil, err
		}
	}
}

// takeLiteral makes the n bytes after off part of the response and returns the
// offset after them. What passes the limit is read and dropped, and an empty
// literal stands for it.
func (c *Conn) takeLiteral(mark, off int, n uint64) (int, error) {
	if n <= uint64(c.opt.Limits.Literal-c.literals) {
		c.literals += int(n)
		end := off + int(n)
		return end, c.need(end)
	}
	c.mu.Lock()
	left := c.opt.Limits.Bytes - c.used.bytes
	c.mu.Unlock()
	if n > uint64(max(0, left)) {
		return 0, fmt.Errorf("%w: it announced a literal of %d bytes", ErrProtocol, n)
	}
	c.tooLong = true
	if err := c.skip(off, int(n)); err != nil {
		return 0, err
	}
	return c.emptyLiteral(mark, off), nil
}

// emptyLiteral replaces the announcement {n} at mark by {0} and returns the
// offset after it.
func (c *Conn) emptyLiteral(mark, off int) int {
	const empty = "{0}\r\n"
	tail := append([]byte(nil), c.buf[c.r+off:c.w]...)
	c.w = c.r + mark
	c.w += copy(c.buf[c.w:], empty)
	c.w += copy(c.buf[c.w:], tail)
	return mark + len(empty)
}

// skip drops the n bytes after off.
func (c *Conn) skip(off, n int) error {
	at := c.r + off
	for n > 0 {
		have := min(n, c.w-at)
		copy(c.buf[at:], c.buf[at+have:c.w])
		c.w -= have
		if n -= have; n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
		at = c.r + off
	}
	return nil
}

// lineEnd returns the offset after the next LF at or after off, which must come
// within limit bytes.
func (c *Conn) lineEnd(off, limit int) (int, error) {
	seen := off
	for {
		if i := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n'); i >= 0 {
			return seen + i + 1, nil
		}
		if seen = c.w - c.r; seen-off > limit {
			return 0, fmt.Errorf("%w: a response is longer than %d bytes", ErrProtocol, c.opt.Limits.Line)
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// need reads until the response has n bytes.
func (c *Conn) need(n int) error {
	for c.w-c.r < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once, making room first.
func (c *Conn) fill() error {
	if c.w == len(c.buf) {
		c.makeRoom()
	}
	c.arm()
	n, err := c.raw.Read(c.buf[c.w:])
	c.w += n
	c.octetsIn.Add(int64(n))
	if n > 0 {
		return c.countBytes(n)
	}
	return err
}

// makeRoom moves what is unread to the front, into a larger buffer when this one
// is small or full of one response.
func (c *Conn) makeRoom() {
	to := c.buf
	if len(c.buf) < readBuffer || c.r == 0 {
		to = make([]byte, 2*len(c.buf))
	}
	c.w = copy(to, c.buf[c.r:c.w])
	c.r, c.buf = 0, to
}

func (c *Conn) countBytes(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used.bytes += int64(n); c.used.bytes > c.opt.Limits.Bytes {
		return fmt.Errorf("%w: it sent more than %d bytes for one request", ErrProtocol, c.opt.Limits.Bytes)
	}
	return nil
}

func (c *Conn) countResponse() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used.responses++; c.used.responses > c.opt.Limits.Responses {
		return fmt.Errorf("%w: it sent more than %d responses to one request", ErrProtocol, c.opt.Limits.Responses)
	}
	return nil
}

// literal looks for the announcement of a literal, {n} or {n+}, at the end of
// the line that begins at off (RFC 9051 §4.3). It returns its size and the
// offset of the brace, or mark -1. Only untagged data has literals: the text of
// an OK may end in braces and mean nothing by it.
func literal(r []byte, off int) (n uint64, mark int) {
	line := bytes.TrimRight(r[off:], "\r\n")
	if len(line) < 3 || line[len(line)-1] != '}' || !hasData(r) {
		return 0, -1
	}
	open := bytes.LastIndexByte(line, '{')
	if open < 0 {
		return 0, -1
	}
	digits := bytes.TrimSuffix(line[open+1:len(line)-1], []byte("+"))
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil && len(digits) < 19 {
		return 0, -1
	}
	return n, off + open
}

// hasData tells whether a response is untagged data, not a status response.
func hasData(r []byte) bool {
	if r = bytes.TrimLeft(r, "\x00 "); len(r) == 0 || r[0] != '*' {
		return false
	}
	switch typ, _ := word(r[1:]); string(bytes.ToUpper(typ)) {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return false
	}
	return true
}
