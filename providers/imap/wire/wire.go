// Package wire is a net.Conn that stands between an IMAP client library and
// the network, above TLS. It answers one question: can this byte be trusted?
//
// A mail server may be broken, overloaded, or hostile, and a client library
// that reads its answers piece by piece then waits for ever, fills the memory,
// or takes half a header for a whole one. So nothing passes here but complete
// and checked responses:
//
//   - A response is gathered whole, with its literals, inside limits on line,
//     literal, nesting, number and bytes. A cut one never passes.
//   - What passes is written anew in the plainest form the grammar has (RFC
//     9051 §9); unknown, unasked and malformed data stays here.
//   - FETCH rows and SEARCH results do not pass at all: they go to the Sink,
//     cut into items. The library sees only how the command ended.
//   - Every wait has a deadline, and the first error ends the connection for
//     good.
//
// In the other direction it is the guard of a promise: a command that could
// read a body or change a mailbox is refused before a byte of it is sent (see
// Refused).
//
// It knows no mailbox, no cursor and no log. It keeps the texts in which a
// server says why it stops (Bye, Alerts), because the library drops them.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Row is what one FETCH response says of one message.
type Row struct {
	UID uint32
	// Arrival is INTERNALDATE in UTC; zero when absent, NIL or absurd.
	Arrival time.Time
	// Header is the header block or the part of it that was asked for. It is
	// valid only during the call of Sink.Row. Nil when there was none.
	Header []byte
	// HasHeader tells an empty block from a missing one.
	HasHeader bool
	// TooLong tells that the block was longer than Limits.Literal and was thrown
	// away unread.
	TooLong bool
	// Thread is the server's own thread id (X-GM-THRID, THREADID); "" when none.
	Thread string
}

// Sink takes the data that does not pass through the library. It is called
// from the goroutine that reads, before the command's completion passes, and
// must not block.
type Sink interface {
	Row(Row)
	// Found takes the UIDs of one SEARCH response, in the order of the server.
	// The slice is valid only during the call.
	Found(uids []uint32)
}

// Timeouts bounds every wait. A zero field means no bound and is meant for
// nobody.
type Timeouts struct {
	Greeting time.Duration // from connect to the greeting
	Login    time.Duration // a LOGIN or AUTHENTICATE as a whole
	Idle     time.Duration // the longest silence while a command is pending
	Search   time.Duration // the longest silence while a SEARCH is pending
	Command  time.Duration // any other command as a whole, however much it says
}

// Limits bounds what one server may make us hold or read. Responses and Bytes
// count from the last Renew.
type Limits struct {
	Line      int   // bytes of a response outside literals
	Literal   int   // bytes of the literals of a response; more is skipped, see Row.TooLong
	Nesting   int   // depth of parentheses
	Responses int   // responses of any kind
	Bytes     int64 // bytes
}

// DefaultLimits fit the largest honest answers: a SEARCH over 300,000 messages,
// a header block of 4 MiB, 500 large headers between two renewals.
func DefaultLimits() Limits {
	return Limits{Line: 4 << 20, Literal: 4 << 20, Nesting: 32, Responses: 100_000, Bytes: 128 << 20}
}

// DefaultTimeouts are the waits that real servers need: some take ten seconds
// and more for a login, and minutes for a search in a cold mailbox.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Greeting: 30 * time.Second, Login: time.Minute, Idle: time.Minute,
		Search: 5 * time.Minute, Command: 15 * time.Minute,
	}
}

// Options is what New needs.
type Options struct {
	Sink     Sink
	Limits   Limits
	Timeouts Timeouts
	// Greeted tells that the greeting was read before (STARTTLS): New then hands
	// the library one of its own making.
	Greeted bool
}

// ErrProtocol marks an answer that no honest server gives: a limit was passed
// or the data is no IMAP.
var ErrProtocol = errors.New("the server broke the IMAP protocol")

// ErrRefused marks a command that was not sent because it could read a body or
// change the mailbox.
var ErrRefused = errors.New("refused to send")

// Conn is the filtered connection. Read and Write may be called from two
// goroutines, everything else from any.
type Conn struct {
	raw    net.Conn
	socket io.Closer // what raw stands on; closing it never waits
	opt    Options

	reader
	writer

	octetsIn, octetsOut atomic.Int64

	mu      sync.Mutex
	err     error // the first one; final
	pending []pending
	bye     string
	alerts  []string
	left    int // LIST names left out, see LeftOut
	used    struct {
		responses int
		bytes     int64
	}
}

// pending is a command whose completion has not come yet. The greeting counts
// as the answer to a command without a tag.
type pending struct {
	tag, verb string
	idle      time.Duration
	until     time.Time // zero: no bound
}

var _ net.Conn = (*Conn)(nil)

// New wraps conn, which stands on socket: the TCP connection itself, closed
// without waiting for TLS when something went wrong.
func New(conn net.Conn, socket io.Closer, o Options) *Conn {
	c := &Conn{raw: conn, socket: socket, opt: o}
	c.reader.buf = make([]byte, firstBuffer)
	if o.Greeted {
		c.reader.out = []byte("* OK ready\r\n")
		return c
	}
	c.expect("", "greeting")
	return c
}

// Bind ends the connection when ctx ends. The returned function undoes the
// binding; it must be called.
func (c *Conn) Bind(ctx context.Context) (unbind func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.fail(ctx.Err()) })
	return func() { stop() }
}

// Renew grants the server a fresh measure of responses and bytes. Callers renew
// when what came so far was worth it: once a page.
func (c *Conn) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used.responses, c.used.bytes = 0, 0
}

// Err returns what ended the connection, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Bye returns the text of the server's BYE, "" when it sent none. It is foreign
// text: quote it.
func (c *Conn) Bye() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bye
}

// Alerts returns the texts that the server wants a person to see (RFC 9051
// §7.1 ALERT) and those of untagged NO and BAD, oldest first, at most 8.
func (c *Conn) Alerts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.alerts...)
}

// LeftOut counts the folders that LIST named in a way that cannot be decoded
// (RFC 3501 §5.1.3) and that were therefore left out.
func (c *Conn) LeftOut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// Octets counts what was read and written above TLS.
func (c *Conn) Octets() (in, out int64) { return c.octetsIn.Load(), c.octetsOut.Load() }

// goodbye is how long Close may try to say LOGOUT.
const goodbye = 500 * time.Millisecond

// Close says LOGOUT without waiting for the answer and closes the socket. After
// an error it only closes. It takes half a second at most.
func (c *Conn) Close() error {
	if c.Err() == nil {
		_ = c.raw.SetWriteDeadline(time.Now().Add(goodbye))
		if n, err := io.WriteString(c.raw, "Z LOGOUT\r\n"); err == nil {
			c.octetsOut.Add(int64(n))
		}
	}
	_ = c.fail(net.ErrClosed)
	return nil
}

// fail ends the connection with err unless it has ended, and returns why it
// ended.
func (c *Conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.explain(err)
		_ = c.socket.Close()
	}
	return c.err
}

// explain says in which wait a timeout or an end of the stream came. The caller
// holds mu.
func (c *Conn) explain(err error) error {
	waiting := "nothing"
	if len(c.pending) > 0 {
		waiting = c.pending[0].verb
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the server did not answer in time while we waited for %s: %w", waiting, os.ErrDeadlineExceeded)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server closed the connection while we waited for %s: %w", waiting, io.ErrUnexpectedEOF)
	}
	return err
}

// expect notes a command whose completion must come.
func (c *Conn) expect(tag, verb string) {
	p := pending{tag: tag, verb: verb, idle: c.opt.Timeouts.Idle}
	whole := c.opt.Timeouts.Command
	switch verb {
	case "greeting":
		p.idle, whole = c.opt.Timeouts.Greeting, c.opt.Timeouts.Greeting
	case "LOGIN", "AUTHENTICATE":
		p.idle, whole = c.opt.Timeouts.Login, c.opt.Timeouts.Login
	case "UID SEARCH":
		p.idle = c.opt.Timeouts.Search
	}
	if whole > 0 {
		p.until = time.Now().Add(whole)
	}
	c.mu.Lock()
	c.pending = append(c.pending, p)
	c.mu.Unlock()
	c.arm()
}

// answered removes a pending command; false when there is none with that tag.
func (c *Conn) answered(tag string) (verb string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.pending {
		if p.tag == tag {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return p.verb, true
		}
	}
	return "", false
}

// waitingFor tells whether a command of that verb is pending.
func (c *Conn) waitingFor(verb string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pending {
		if p.verb == verb {
			return true
		}
	}
	return false
}

// onlyPending returns the tag of the one pending command; "" when there are
// several or none.
func (c *Conn) onlyPending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) != 1 {
		return ""
	}
	return c.pending[0].tag
}

// arm sets the read deadline: the longest silence that a pending command
// allows, and never past the end of any. Without a pending command nothing is
// owed and there is none. It also reaches a Read that is already blocked.
func (c *Conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	now := time.Now()
	var deadline time.Time
	for _, p := range c.pending {
		if t := now.Add(p.idle); p.idle > 0 && t.After(deadline) {
			deadline = t
		}
	}
	for _, p := range c.pending {
		if !p.until.IsZero() && p.until.Before(deadline) {
			deadline = p.until
		}
	}
	_ = c.raw.SetReadDeadline(deadline)
}

// LocalAddr is the network's.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr is the network's.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline does nothing: the library's own deadlines leave whole states
// without one, and clear ours.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see SetDeadline.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see SetDeadline.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
