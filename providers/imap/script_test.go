package imap_test

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/providers/imap"
)

// script is a small IMAP server that behaves well unless a test tells it
// otherwise: one INBOX, headers only.
type script struct {
	addr string

	mu       sync.Mutex
	greeting string
	caps     string
	validity uint32
	mails    map[uint32]string // header by UID
	noNext   bool              // UIDNEXT is never told
	// on answers a command by its verb instead of the server; it returns false to
	// let the server answer after all.
	on   map[string]func(say func(string, ...any), tag, args string) bool
	seen []string
}

func newScript(t testing.TB) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{
		addr: l.Addr().String(), greeting: "* OK [CAPABILITY IMAP4rev1 LOGIN] ready", caps: "IMAP4rev1 LIST-EXTENDED LIST-STATUS",
		validity: 7, mails: map[uint32]string{}, on: map[string]func(func(string, ...any), string, string) bool{},
	}
	var wg sync.WaitGroup
	var conns sync.Map
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return s
}

func (s *script) serve(c net.Conn) {
	defer c.Close()
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	s.mu.Lock()
	greeting := s.greeting
	s.mu.Unlock()
	if greeting != "" {
		say("%s", greeting)
	}
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		verb, args, _ := strings.Cut(rest, " ")
		if verb == "UID" {
			var sub string
			sub, args, _ = strings.Cut(args, " ")
			verb += " " + sub
		}
		s.mu.Lock()
		s.seen = append(s.seen, verb)
		on := s.on[verb]
		s.mu.Unlock()
		if on != nil && on(say, tag, args) {
			continue
		}
		if verb == "LOGOUT" {
			return
		}
		s.answer(say, verb, tag, args)
	}
}

func (s *script) answer(say func(string, ...any), verb, tag, args string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch verb {
	case "LOGIN":
		say("%s OK [CAPABILITY %s] in", tag, s.caps)
		return
	case "CAPABILITY":
		say("* CAPABILITY %s", s.caps)
	case "LIST":
		say(`* LIST () "/" INBOX`)
		say("* STATUS INBOX (MESSAGES %d%s UIDVALIDITY %d)", len(s.mails), s.nextItem(" UIDNEXT %d"), s.validity)
	case "STATUS":
		say("* STATUS INBOX (MESSAGES %d%s UIDVALIDITY %d)", len(s.mails), s.nextItem(" UIDNEXT %d"), s.validity)
	case "EXAMINE", "SELECT":
		say("* %d EXISTS", len(s.mails))
		say("* OK [UIDVALIDITY %d] x", s.validity)
		if !s.noNext {
			say("* OK [UIDNEXT %d] x", s.next())
		}
	case "UID SEARCH":
		say("* SEARCH%s", s.list(args))
	case "UID FETCH":
		s.fetch(say, args)
	}
	say("%s OK done", tag)
}

func (s *script) uids() []uint32 {
	var uids []uint32
	for u := range s.mails {
		uids = append(uids, u)
	}
	slices.Sort(uids)
	return uids
}

func (s *script) next() uint32 {
	uids := s.uids()
	if len(uids) == 0 {
		return 1
	}
	return uids[len(uids)-1] + 1
}

func (s *script) nextItem(format string) string {
	if s.noNext {
		return ""
	}
	return fmt.Sprintf(format, s.next())
}

// list answers UID SEARCH: the UIDs of the set that exist, whatever else is asked.
func (s *script) list(args string) string {
	set := "1:*"
	if _, rest, ok := strings.Cut(args, "UID "); ok {
		set, _, _ = strings.Cut(rest, " ")
	}
	var b strings.Builder
	top := s.next() - 1
	for _, u := range s.uids() {
		if inSet(set, u, top) {
			fmt.Fprintf(&b, " %d", u)
		}
	}
	return b.String()
}

func (s *script) fetch(say func(string, ...any), args string) {
	set, items, _ := strings.Cut(args, " ")
	top := s.next() - 1
	for i, u := range s.uids() {
		if inSet(set, u, top) {
			s.row(say, i+1, u, strings.Contains(items, "BODY"))
		}
	}
}

func (s *script) row(say func(string, ...any), seq int, uid uint32, header bool) {
	date := time.Now().Format("02-Jan-2006 15:04:05 -0700")
	if !header {
		say("* %d FETCH (UID %d INTERNALDATE %q)", seq, uid, date)
		return
	}
	h := s.mails[uid]
	say("* %d FETCH (UID %d INTERNALDATE %q BODY[HEADER.FIELDS (FROM)] {%d}\r\n%s)", seq, uid, date, len(h), h)
}

func inSet(set string, uid, top uint32) bool {
	for part := range strings.SplitSeq(set, ",") {
		lo, hi, ok := strings.Cut(part, ":")
		if !ok {
			hi = lo
		}
		a, b := num(lo, top), num(hi, top)
		if min(a, b) <= uid && uid <= max(a, b) {
			return true
		}
	}
	return false
}

func num(s string, top uint32) uint32 {
	if s == "*" {
		return top
	}
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// put adds mails with ids <uid>@x.
func (s *script) put(uids ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range uids {
		s.mails[u] = head(fmt.Sprintf("%d@x", u))
	}
}

// head is a header block.
func head(id string) string {
	h, _, _ := strings.Cut(mail(id), "\r\n\r\n")
	return h + "\r\n\r\n"
}

func (s *script) hook(verb string, f func(say func(string, ...any), tag, args string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on[verb] = f
}

// set changes the server before or between sessions.
func (s *script) set(change func(s *script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// count tells how often a command was seen.
func (s *script) count(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.seen {
		if v == verb {
			n++
		}
	}
	return n
}

// quick bounds the waits of a test against a server that hangs.
func quick(cfg imap.Config) imap.Config {
	const wait = time.Second
	cfg.Timeouts.Dial, cfg.Timeouts.TLS = wait, wait
	cfg.Timeouts.Greeting, cfg.Timeouts.Login, cfg.Timeouts.Idle = wait, wait, wait
	cfg.Timeouts.Search, cfg.Timeouts.Command = wait, 2*wait
	return cfg
}
