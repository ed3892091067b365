package wire

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// writer is the state of Write.
type writer struct {
	writing sync.Mutex
	corked  bool
	held    []byte // written while corked

	line    []byte // a command line that is not complete yet
	literal int64  // bytes of an outgoing literal still to come
	tag     string // of a command that goes on after a literal; "" when none
	thread  string // FETCH item to add, see AskThread

	awaiting atomic.Bool // a literal waits for the server's permission
}

// AskThread makes every FETCH of headers also ask for the server's thread id
// under that name (X-GM-THRID or THREADID), which the library cannot ask for.
func (c *Conn) AskThread(item string) { c.thread = item }

// Write sends whole commands. A command outside the allowed set ends the
// connection with ErrRefused before any byte of it is sent.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.Err(); err != nil {
		return 0, err
	}
	send := c.held
	c.held = nil
	for rest := b; len(rest) > 0; {
		if c.literal > 0 {
			n := min(int64(len(rest)), c.literal)
			send = append(send, rest[:n]...)
			rest, c.literal = rest[n:], c.literal-n
			continue
		}
		nl := bytes.IndexByte(rest, '\n')
		if nl < 0 {
			c.line = append(c.line, rest...)
			break
		}
		c.line = append(c.line, rest[:nl+1]...)
		rest = rest[nl+1:]
		line, err := c.command(c.line)
		if err != nil {
			return 0, c.fail(err)
		}
		send = append(send, line...)
		c.line = c.line[:0]
	}
	if c.corked && !c.awaiting.Load() {
		c.held = send
		return len(b), nil
	}
	if err := c.send(send); err != nil {
		return 0, c.fail(err)
	}
	return len(b), nil
}

// Cork holds back what is written until the returned function is called, so
// that commands which leave together travel together: one packet, one round
// trip. Nothing may be waited for in between. A literal that needs the server's
// permission is sent all the same, with everything before it.
func (c *Conn) Cork() (uncork func()) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.corked = true
	return func() {
		c.writing.Lock()
		defer c.writing.Unlock()
		c.corked = false
		send := c.held
		c.held = nil
		if err := c.send(send); err != nil {
			_ = c.fail(err) // who waits for an answer will hear of it
		}
	}
}

func (c *Conn) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if idle := c.opt.Timeouts.Idle; idle > 0 {
		_ = c.raw.SetWriteDeadline(time.Now().Add(idle))
	}
	n, err := c.raw.Write(b)
	c.octetsOut.Add(int64(n))
	return err
}

// command checks one line, notes the command as pending and returns the line as
// it is to be sent.
func (c *Conn) command(line []byte) ([]byte, error) {
	text := strings.TrimRight(string(line), "\r\n")
	if c.tag != "" || c.waitingFor("AUTHENTICATE") {
		return c.goOn(line, text)
	}
	tag, rest, _ := strings.Cut(text, " ")
	verb, args := cutVerb(rest)
	if err := allowed(verb, args); err != nil {
		return nil, err
	}
	switch verb {
	case "UID SEARCH":
		args = plainSearch(args)
	case "UID FETCH":
		args = c.plainFetch(args)
	}
	c.expect(tag, verb)
	c.tag = tag
	c.announced(args)
	if args == "" {
		return []byte(tag + " " + verb + "\r\n"), nil
	}
	return []byte(tag + " " + verb + " " + args + "\r\n"), nil
}

// goOn takes a line that belongs to the command before: what follows a literal,
// or an answer in a SASL exchange (RFC 9051 §6.2.2), which is base64 and can
// therefore hide no command.
func (c *Conn) goOn(line []byte, text string) ([]byte, error) {
	if c.tag != "" {
		c.announced(text)
		return line, nil
	}
	if strings.Trim(text, base64Letters+"=*") != "" {
		return nil, fmt.Errorf("%w a line that is no answer to the server's challenge", ErrRefused)
	}
	return line, nil
}

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// announced notes whether a line of ours ends by announcing a literal, {n} or
// {n+} (RFC 7888); if not, the command is complete.
func (c *Conn) announced(line string) {
	c.awaiting.Store(false)
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		c.tag = ""
		return
	}
	size, async := strings.CutSuffix(line[open+1:len(line)-1], "+")
	n, err := strconv.ParseInt(size, 10, 32)
	if err != nil {
		c.tag = ""
		return
	}
	c.literal = n
	c.awaiting.Store(!async)
}

// mayContinue tells whether the library waits for a continuation request.
func (c *Conn) mayContinue() bool {
	return c.awaiting.Load() || c.waitingFor("AUTHENTICATE")
}

// cutVerb splits a command into its name, two words for UID commands, and its
// arguments.
func cutVerb(s string) (verb, args string) {
	verb, args, _ = strings.Cut(s, " ")
	verb = strings.ToUpper(verb)
	if verb == "UID" {
		var second string
		second, args, _ = strings.Cut(args, " ")
		verb += " " + strings.ToUpper(second)
	}
	return verb, args
}

// allowed is the whole of what this program may say to a mail server. CLOSE is
// not in it (it expunges), IDLE and ENABLE are not needed, and FETCH is allowed
// for the items of fetchOK alone. STARTTLS happens beneath.
func allowed(verb, args string) error {
	switch verb {
	case "CAPABILITY", "ID", "NOOP", "LOGOUT", "LOGIN", "AUTHENTICATE",
		"NAMESPACE", "LIST", "STATUS", "EXAMINE", "SELECT", "UNSELECT", "UID SEARCH":
		return nil
	case "UID FETCH":
		if fetchOK(args) {
			return nil
		}
		return fmt.Errorf("%w UID FETCH of anything but header fields and arrival times: this program never reads a body", ErrRefused)
	}
	if !isAtom([]byte(strings.ReplaceAll(verb, " ", ""))) || len(verb) > 20 {
		verb = "an unknown command"
	}
	return fmt.Errorf("%w %s: this program only reads headers", ErrRefused, verb)
}

// fetchOK checks the arguments of UID FETCH: a set, then a list of nothing but
// UID, INTERNALDATE, thread ids and peeked header sections.
func fetchOK(args string) bool {
	set, items, _ := strings.Cut(args, " ")
	if set == "" || strings.Trim(set, "0123456789:,*") != "" {
		return false
	}
	if !strings.HasPrefix(items, "(") || !strings.HasSuffix(items, ")") {
		return false
	}
	b := []byte(items[1 : len(items)-1])
	for len(bytes.TrimLeft(b, " ")) > 0 {
		item, rest, ok := token(b, 1)
		if !ok || !itemOK(string(item)) {
			return false
		}
		b = rest
	}
	return true
}

func itemOK(item string) bool {
	switch item {
	case "UID", "INTERNALDATE", "X-GM-THRID", "THREADID":
		return true
	}
	rest, ok := strings.CutPrefix(item, "BODY.PEEK[HEADER")
	return ok && headerSection.MatchString(rest)
}

// headerSection is what may follow BODY.PEEK[HEADER.
var headerSection = regexp.MustCompile(`^(\.FIELDS \([A-Z" -]+\))?\](<\d+\.\d+>)?$`)

// datedKey is a date search key as the library writes it.
var datedKey = regexp.MustCompile(`\b((?:SENT)?SINCE|BEFORE) "(\d{1,2}-[A-Z][a-z]{2}-\d{4})"`)

// plainSearch takes off what is legal but refused by some servers: quotes around
// dates and around the name of a header field.
func plainSearch(args string) string {
	args = datedKey.ReplaceAllString(args, "$1 $2")
	return strings.Replace(args, `HEADER "Message-ID" `, "HEADER Message-ID ", 1)
}

// plainFetch writes field names as atoms, which every server takes and echoes
// in fewer bytes, and adds the thread item to a FETCH of headers.
func (c *Conn) plainFetch(args string) string {
	args = strings.ReplaceAll(args, `"`, "")
	if c.thread != "" && strings.Contains(args, "BODY.PEEK[") {
		args = strings.Replace(args, "(UID ", "(UID "+c.thread+" ", 1)
	}
	return args
}

var _ io.Writer = (*Conn)(nil)
