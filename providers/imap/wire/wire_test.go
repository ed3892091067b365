package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/providers/imap/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape is a sink that keeps what it gets.
type tape struct {
	rows  []string
	found []uint32
}

func (s *tape) Row(r wire.Row) {
	line := fmt.Sprintf("%d", r.UID)
	if !r.Arrival.IsZero() {
		line += " " + r.Arrival.Format(time.RFC3339)
	}
	if r.HasHeader {
		line += fmt.Sprintf(" %q", r.Header)
	}
	if r.TooLong {
		line += " too long"
	}
	if r.Thread != "" {
		line += " thread " + r.Thread
	}
	s.rows = append(s.rows, line)
}

func (s *tape) Found(uids []uint32) { s.found = append(s.found, uids...) }

// canned is a connection whose server says one thing and ends.
type canned struct {
	io.Reader
	said bytes.Buffer
}

func (c *canned) Write(b []byte) (int, error)      { return c.said.Write(b) }
func (c *canned) Close() error                     { return nil }
func (c *canned) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

func options(s wire.Sink) wire.Options {
	return wire.Options{Sink: s, Limits: wire.DefaultLimits(), Timeouts: wire.DefaultTimeouts()}
}

// pass gives the filter what a server says after the commands were sent, and
// returns what the library sees.
func pass(t *testing.T, said string, commands ...string) (seen string, s *tape, c *wire.Conn) {
	t.Helper()
	s = &tape{}
	raw := &canned{Reader: strings.NewReader("* OK hi\r\n" + said)}
	c = wire.New(raw, raw, options(s))
	for i, cmd := range commands {
		if _, err := fmt.Fprintf(c, "T%d %s\r\n", i+1, cmd); err != nil {
			t.Fatalf("sending %s: %v", cmd, err)
		}
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("reading: %v", err)
	}
	return strings.TrimPrefix(string(b), "* OK hi\r\n"), s, c
}

func TestResponses(t *testing.T) {
	tests := []struct {
		name, cmd, said, want string
	}{
		{"an unknown untagged response stays", "NOOP", "* XYZZY foo\r\nT1 OK done\r\n", "T1 OK done\r\n"},
		{"empty lines and leading NULs stay", "NOOP", "\r\n\x00\x00T1 OK done\r\n", "T1 OK done\r\n"},
		{"two spaces are one", "EXAMINE INBOX", "*  1688 EXISTS\r\nT1 OK done\r\n", "* 1688 EXISTS\r\nT1 OK done\r\n"},
		{"flags in any form stay", "EXAMINE INBOX", "* FLAGS (\\Seen a]b)\r\n* OK [PERMANENTFLAGS (\\*)] x\r\n* FLAGS\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"UIDVALIDITY above 32 bits counts as none", "EXAMINE INBOX", "* OK [UIDVALIDITY 4294967296] x\r\n* OK [UIDNEXT 5] x\r\nT1 OK x\r\n", "* OK [UIDNEXT 5] ok\r\nT1 OK x\r\n"},
		{"UIDNEXT -1 and UIDVALIDITY 0 count as none", "EXAMINE INBOX", "* OK [UIDNEXT -1] x\r\n* OK [UIDVALIDITY 0] x\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"a code without text", "EXAMINE INBOX", "* OK [UIDVALIDITY 7]\r\nT1 OK\r\n", "* OK [UIDVALIDITY 7] ok\r\nT1 OK .\r\n"},
		{"IMAP4rev2 is not offered", "CAPABILITY", "* CAPABILITY IMAP4rev1 IMAP4REV2 ID (x\r\nT1 OK [CAPABILITY IMAP4rev2 IDLE] x\r\n", "* CAPABILITY IMAP4rev1 ID\r\nT1 OK [CAPABILITY IDLE] x\r\n"},
		{"an ID answer with NIL stays", "ID NIL", "* ID (\"name\" \"srv\" \"version\" NIL)\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"a LIST nobody asked for stays", "NOOP", "* LIST () \"/\" INBOX\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"LIST loses extended data and odd attributes", `LIST "" "*"`, "* LIST (\\HasNoChildren x \\Sent) \".\" INBOX.Sent (CHILDINFO (\"SUBSCRIBED\"))\r\nT1 OK x\r\n", "* LIST (\\HasNoChildren \\Sent) \".\" INBOX.Sent\r\nT1 OK x\r\n"},
		{"a delimiter that is no character is none", `LIST "" "*"`, "* LIST () \"//\" a\r\n* LIST () NIL b\r\nT1 OK x\r\n", "* LIST () NIL a\r\n* LIST () NIL b\r\nT1 OK x\r\n"},
		{"a LIST name as a literal", `LIST "" "*"`, "* LIST () \"/\" {3}\r\na b\r\nT1 OK x\r\n", "* LIST () \"/\" {3}\r\na b\r\nT1 OK x\r\n"},
		{"STATUS without numbers", "STATUS INBOX (UIDNEXT)", "* STATUS \"INBOX\" ()\r\nT1 OK x\r\n", "* STATUS \"INBOX\" ()\r\nT1 OK x\r\n"},
		{"STATUS with numbers out of range", "STATUS INBOX (UIDNEXT)", "* STATUS INBOX (MESSAGES 3 UIDNEXT 99999999999 UIDVALIDITY 0 SIZE 1)\r\nT1 OK x\r\n", "* STATUS INBOX (MESSAGES 3)\r\nT1 OK x\r\n"},
		{"a nested bomb in BODYSTRUCTURE stays", "NOOP", "* 1 FETCH (BODYSTRUCTURE " + strings.Repeat("(", 40_000) + "\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"ESEARCH stays, whatever it holds", "UID SEARCH ALL", "* ESEARCH (TAG \"T1\") UID ALL 1:4294967295\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"VANISHED and EXPUNGE stay", "NOOP", "* VANISHED 3:5\r\n* 4 EXPUNGE\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"an untagged BAD answers the only command", "NOOP", "* BAD what?\r\n", "T1 BAD what?\r\n"},
		{"an untagged NO does not", "NOOP", "* NO careful\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"a tag nobody used stays", "NOOP", "T9 OK x\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"a second completion stays", "NOOP", "T1 OK x\r\nT1 NO y\r\n", "T1 OK x\r\n"},
		{"a continuation nobody waits for stays", "NOOP", "+ go on\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"an empty continuation for one who waits", "AUTHENTICATE PLAIN", "+\r\n+ \r\n+ YQ==\r\nT1 OK x\r\n", "+ \r\n+ \r\n+ YQ==\r\nT1 OK x\r\n"},
		{"braces at the end of a text are no literal", "NOOP", "* OK see {5}\r\nT1 OK see {7}\r\n", "T1 OK see {7}\r\n"},
		{"control characters in a text are blank", "NOOP", "T1 NO a\x01\x7fb\r\n", "T1 NO a  b\r\n"},
		{"a code that does not end", "NOOP", "T1 NO [ALERT oops\r\n", "T1 NO ALERT oops\r\n"},
		{"NAMESPACE as the RFC has it", "NAMESPACE", "* NAMESPACE ((\"INBOX.\" \".\" \"X\" (\"a\"))) NIL ((\"#s/\" \"/\"))\r\nT1 OK x\r\n", "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#s/\" \"/\"))\r\nT1 OK x\r\n"},
		{"NAMESPACE as it should not be", "NAMESPACE", "* NAMESPACE (x) NIL\r\nT1 OK x\r\n", "T1 OK x\r\n"},
		{"lower case is as good", "EXAMINE INBOX", "* 3 exists\r\n* ok [uidnext 4] x\r\nT1 ok done\r\n", "* 3 EXISTS\r\n* OK [UIDNEXT 4] ok\r\nT1 OK done\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _, _ := pass(t, tt.said, tt.cmd); got != tt.want {
				t.Errorf("passed\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

const fetch = "UID FETCH 1:9 (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (FROM)])"

func TestRows(t *testing.T) {
	tests := []struct {
		name, said string
		want       []string
	}{
		{"a row as the RFC has it", "* 1 FETCH (UID 5 INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" BODY[HEADER.FIELDS (FROM)] {3}\r\nA:b)\r\n", []string{`5 1996-07-17T09:44:25Z "A:b"`}},
		{"the UID after the literal", "* 1 FETCH (BODY[HEADER.FIELDS (FROM)] {3}\r\nA:b UID 5)\r\n", []string{`5 "A:b"`}},
		{"no UID at all", "* 1 FETCH (BODY[HEADER.FIELDS (FROM)] {3}\r\nA:b)\r\n", nil},
		{"a quoted header", "* 1 FETCH (UID 5 BODY[HEADER.FIELDS (\"From\")] \"A: \\\"b\\\"\")\r\n", []string{`5 "A: \"b\""`}},
		{"an empty header is one", "* 1 FETCH (UID 5 BODY[HEADER.FIELDS (FROM)] \"\")\r\n", []string{`5 ""`}},
		{"NIL is none", "* 1 FETCH (UID 5 BODY[HEADER.FIELDS (FROM)] NIL)\r\n", nil},
		{"another section name for the header", "* 1 FETCH (UID 5 BODY[HEADER]<0> {3}\r\nA:b)\r\n", []string{`5 "A:b"`}},
		{"a body nobody asked for", "* 1 FETCH (UID 5 BODY[] {6}\r\nsecret BODY[TEXT] {6}\r\nsecret)\r\n", nil},
		{"a flag update of another client", "* 1 FETCH (UID 5 FLAGS (\\Seen a]b))\r\n", nil},
		{"flags among the items", "* 1 FETCH (UID 5 FLAGS (\\Seen) BODY[HEADER] {3}\r\nA:b)\r\n", []string{`5 "A:b"`}},
		{"unknown items", "* 1 FETCH (UID 5 X-FOO (1 \"a\" NIL) BODY[HEADER] {3}\r\nA:b EMAILID (M1))\r\n", []string{`5 "A:b"`}},
		{"Gmail's and Fastmail's thread ids", "* 1 FETCH (UID 5 X-GM-THRID 123 BODY[HEADER] {0}\r\n)\r\n* 2 FETCH (UID 6 THREADID (T9) BODY[HEADER] {0}\r\n)\r\n", []string{`5 "" thread 123`, `6 "" thread T9`}},
		{"an absurd arrival", "* 1 FETCH (UID 5 INTERNALDATE \"01-Jan-0000 00:00:00 +0000\" BODY[HEADER] {3}\r\nA:b)\r\n* 1 FETCH (UID 6 INTERNALDATE NIL BODY[HEADER] {0}\r\n)\r\n", []string{`5 "A:b"`, `6 ""`}},
		{"an arrival with a one-digit day", "* 1 FETCH (UID 5 INTERNALDATE \" 1-Jan-2020 00:00:00 +0100\")\r\n", []string{"5 2019-12-31T23:00:00Z"}},
		{"no space before the list", "* 1 FETCH(UID 5 BODY[HEADER] {3}\r\nA:b)\r\n", []string{`5 "A:b"`}},
		{"an announced length that is too short", "* 1 FETCH (UID 5 BODY[HEADER] {3}\r\nA:bcdef)\r\n", nil},
		{"a row that does not end", "* 1 FETCH (UID 5 BODY[HEADER] {3}\r\nA:b\r\n", nil},
		{"a cut literal", "* 1 FETCH (UID 5 BODY[HEADER] {500}\r\nA:b", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen, s, _ := pass(t, tt.said, fetch)
			if seen != "" || !slices.Equal(s.rows, tt.want) {
				t.Errorf("rows %q, want %q; passed %q", s.rows, tt.want, seen)
			}
		})
	}
}

func TestSearchResults(t *testing.T) {
	_, s, _ := pass(t, "* SEARCH 3 1 2 (MODSEQ 9)\r\n* SEARCH\r\n* SEARCH 4294967295 7 99999999999 8\r\nT1 OK x\r\n", "UID SEARCH ALL")
	if want := []uint32{3, 1, 2, 4294967295, 7}; !slices.Equal(s.found, want) {
		t.Errorf("found %v, want %v", s.found, want)
	}
}

func TestFolderNames(t *testing.T) {
	tests := []struct {
		name string
		ok   bool
	}{
		{`INBOX`, true}, {`"a b"`, true}, {`"R&-D"`, true}, {`"Entw&APw-rfe"`, true}, {`"&2D3eAA-"`, true},
		{`"a\"b\\c"`, true}, {`"%*"`, true}, {`a]b`, true},
		{`"R&D"`, false}, {`"Entw` + "\xfc" + `rfe"`, false}, {`"&AOQ-&APY-"`, false}, {`"&AEE-"`, false},
		{`"&2D0-"`, false}, {`"&!-"`, false}, {`""`, false}, {`(a)`, false}, {`"a` + "\x01" + `"`, false},
	}
	for _, tt := range tests {
		seen, _, c := pass(t, "* LIST () \"/\" "+tt.name+"\r\nT1 OK x\r\n", `LIST "" "*"`)
		if got := strings.Contains(seen, "LIST"); got != tt.ok || (c.LeftOut() == 0) != tt.ok {
			t.Errorf("%s passes: %v, want %v; left out %d", tt.name, got, tt.ok, c.LeftOut())
		}
	}
}

func TestLastWords(t *testing.T) {
	_, _, c := pass(t, "* NO [ALERT] disk full\r\n* OK [ALERT] moving soon\r\n* BYE [UNAVAILABLE] Throttled, retry in 600 seconds\r\n", "NOOP")
	if c.Bye() != "[UNAVAILABLE] Throttled, retry in 600 seconds" {
		t.Errorf("BYE is %q", c.Bye())
	}
	if a := c.Alerts(); len(a) != 2 || a[0] != "[ALERT] disk full" {
		t.Errorf("alerts are %q", a)
	}
	if !errors.Is(c.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("the end is %v, want an unexpected EOF", c.Err())
	}
}

// endless repeats a text for ever.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		k := copy(b[n:], e.text[e.at:])
		n, e.at = n+k, (e.at+k)%len(e.text)
	}
	return n, nil
}

func TestLimits(t *testing.T) {
	small := wire.Limits{Line: 1 << 16, Literal: 1 << 16, Nesting: 32, Responses: 1000, Bytes: 1 << 20}
	tests := []struct {
		name, begin, again string
	}{
		{"a greeting without end", "* OK ", "x"},
		{"a quoted string without end", "* OK\r\n* 1 FETCH (X \"", "x"},
		{"an atom without end", "* OK\r\n* 1 FETCH (", "x"},
		{"flags without end", "* OK\r\n* FLAGS (", "\\Seen "},
		{"an address list without end", "* OK\r\n* 1 FETCH (ENVELOPE (", "(NIL NIL \"a\" \"b\")"},
		{"SEARCH without end", "* OK\r\n* SEARCH", " 1"},
		{"CAPABILITY without end", "* OK\r\n* CAPABILITY", " A"},
		{"parentheses without end", "* OK\r\n* 1 FETCH (BODYSTRUCTURE ", "("},
		{"EXISTS without end", "* OK\r\n", "* 1 EXISTS\r\n"},
		{"OK without end", "* OK\r\n", "* OK x\r\n"},
		{"LIST without end", "* OK\r\n", "* LIST () \"/\" a\r\n"},
		{"rows without end", "* OK\r\n", "* 1 FETCH (UID 1 BODY[HEADER] {1}\r\nx)\r\n"},
		{"literals without end", "* OK\r\n* 1 FETCH (", "X {65000}\r\n" + strings.Repeat("y", 65000)},
		{"a literal of 4 GiB", "* OK\r\n* 1 FETCH (UID 1 BODY[HEADER] {4294967296}\r\n", "z"},
		{"a literal of 2^63", "* OK\r\n* 1 FETCH (UID 1 BODY[HEADER] {9223372036854775808}\r\n", "z"},
		{"a literal of 30 digits", "* OK\r\n* 1 FETCH (UID 1 BODY[HEADER] {999999999999999999999999999999}\r\n", "z"},
		{"empty lines without end", "* OK\r\n", "\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw := &canned{Reader: io.MultiReader(strings.NewReader(tt.begin), &endless{text: tt.again})}
			o := options(&tape{})
			o.Limits = small
			c := wire.New(raw, raw, o)
			n, err := io.Copy(io.Discard, c)
			if !errors.Is(err, wire.ErrProtocol) {
				t.Errorf("ended with %v, want ErrProtocol", err)
			}
			in, _ := c.Octets()
			if limit := small.Bytes + 64<<10; in > limit || n > limit {
				t.Errorf("read %d bytes and passed %d, want at most %d", in, n, limit)
			}
			if _, again := c.Read(make([]byte, 1)); !errors.Is(again, err) {
				t.Errorf("the next read says %v: the error must be final", again)
			}
		})
	}
}

func TestLongLiteralIsSkipped(t *testing.T) {
	said := "* 1 FETCH (UID 5 BODY[HEADER] {100000}\r\n" + strings.Repeat("x", 100_000) + ")\r\n" +
		"* 2 FETCH (UID 6 BODY[HEADER] {3}\r\nA:b)\r\n" +
		"* 3 FETCH (UID 7 X {900}\r\n" + strings.Repeat("y", 900) + " BODY[HEADER] {900}\r\n" + strings.Repeat("z", 900) + ")\r\nT1 OK x\r\n"
	s := &tape{}
	raw := &canned{Reader: strings.NewReader("* OK\r\n" + said)}
	o := options(s)
	o.Limits.Literal = 1000
	c := wire.New(raw, raw, o)
	fmt.Fprintf(c, "T1 %s\r\n", fetch)
	seen, _ := io.ReadAll(c)
	if want := []string{"5 too long", `6 "A:b"`, "7 too long"}; !slices.Equal(s.rows, want) {
		t.Errorf("rows %q, want %q", s.rows, want)
	}
	if !strings.HasSuffix(string(seen), "T1 OK x\r\n") {
		t.Errorf("passed %q, want the completion", seen)
	}
}

func TestOnlyReadingCommandsLeave(t *testing.T) {
	tests := []struct {
		cmd  string
		sent string // "": refused
	}{
		{"CAPABILITY", "CAPABILITY"}, {"NOOP", "NOOP"}, {"LOGOUT", "LOGOUT"}, {"UNSELECT", "UNSELECT"},
		{`EXAMINE "a b"`, `EXAMINE "a b"`}, {"SELECT INBOX", "SELECT INBOX"},
		{fetch, fetch},
		{`UID FETCH 1 (UID BODY.PEEK[HEADER.FIELDS ("FROM" "TO")])`, "UID FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (FROM TO)])"},
		{"UID FETCH 1:* (UID INTERNALDATE)", "UID FETCH 1:* (UID INTERNALDATE)"},
		{"UID FETCH 7 (UID BODY.PEEK[HEADER]<0.262144>)", "UID FETCH 7 (UID BODY.PEEK[HEADER]<0.262144>)"},
		{`UID SEARCH UID 1:9 BEFORE "5-Jan-2024" SENTSINCE "15-Jan-2024"`, "UID SEARCH UID 1:9 BEFORE 5-Jan-2024 SENTSINCE 15-Jan-2024"},
		{`UID SEARCH HEADER "Message-ID" "a@x"`, `UID SEARCH HEADER Message-ID "a@x"`},

		{"STORE 1 +FLAGS (\\Seen)", ""}, {"UID STORE 1 +FLAGS (\\Seen)", ""}, {"UID EXPUNGE 1", ""},
		{"EXPUNGE", ""}, {"CLOSE", ""}, {"APPEND INBOX {3}", ""}, {"DELETE a", ""}, {"CREATE a", ""},
		{"RENAME a b", ""}, {"UID COPY 1 a", ""}, {"UID MOVE 1 a", ""}, {"SUBSCRIBE a", ""},
		{"SETACL a b c", ""}, {"ENABLE IMAP4rev2", ""}, {"IDLE", ""}, {"STARTTLS", ""}, {"FETCH 1 (UID)", ""},
		{"uid store 1 flags ()", ""}, {"XYZZY", ""}, {"", ""},
		{"UID FETCH 1 (UID BODY[HEADER])", ""},
		{"UID FETCH 1 (UID BODY.PEEK[])", ""},
		{"UID FETCH 1 (UID BODY.PEEK[TEXT])", ""},
		{"UID FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (FROM)] BODY.PEEK[1])", ""},
		{"UID FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (FROM)]) (X)", ""},
		{"UID FETCH 1 (UID RFC822)", ""}, {"UID FETCH 1 RFC822.TEXT", ""}, {"UID FETCH 1 (UID ENVELOPE)", ""},
		{"UID FETCH 1 (UID PREVIEW)", ""}, {"UID FETCH 1 ALL", ""}, {"UID FETCH 1 (UID BODY.PEEK[1.HEADER])", ""},
		{"UID FETCH 1 (UID BODY.PEEK[HEADER] BODYSTRUCTURE)", ""}, {"UID FETCH x (UID)", ""}, {"UID FETCH 1 {3}", ""},
	}
	for _, tt := range tests {
		raw := &canned{Reader: strings.NewReader("")}
		c := wire.New(raw, raw, options(&tape{}))
		_, err := io.WriteString(c, "T1 "+tt.cmd+"\r\n")
		if tt.sent == "" {
			if !errors.Is(err, wire.ErrRefused) || raw.said.Len() > 0 {
				t.Errorf("%q: %v, and %q was sent; want it refused", tt.cmd, err, raw.said.String())
			}
			if _, again := io.WriteString(c, "T2 NOOP\r\n"); !errors.Is(again, wire.ErrRefused) {
				t.Errorf("%q: the connection lives on", tt.cmd)
			}
			continue
		}
		if got := raw.said.String(); err != nil || got != "T1 "+tt.sent+"\r\n" {
			t.Errorf("%q: sent %q, %v", tt.cmd, got, err)
		}
	}
}

func TestNothingHidesBehindALiteralOrAChallenge(t *testing.T) {
	tests := []struct {
		name    string
		writes  []string
		refused bool
	}{
		{"a login with literals", []string{"T1 LOGIN {4}\r\n", "rita", " {3}\r\n", "a\nb", "\r\n"}, false},
		{"a command after a login", []string{"T1 LOGIN {4+}\r\nrita x\r\nT2 DELETE a\r\n"}, true},
		{"an answer to a challenge", []string{"T1 AUTHENTICATE PLAIN\r\n", "AGFiYw==\r\n"}, false},
		{"an empty answer and a cancellation", []string{"T1 AUTHENTICATE XOAUTH2\r\n", "\r\n", "*\r\n"}, false},
		{"a command for an answer", []string{"T1 AUTHENTICATE PLAIN\r\n", "T2 DELETE a\r\n"}, true},
	}
	for _, tt := range tests {
		raw := &canned{Reader: strings.NewReader("")}
		c := wire.New(raw, raw, options(&tape{}))
		var err error
		for _, w := range tt.writes {
			if _, err = io.WriteString(c, w); err != nil {
				break
			}
		}
		if errors.Is(err, wire.ErrRefused) != tt.refused || strings.Contains(raw.said.String(), "DELETE") {
			t.Errorf("%s: %v, sent %q", tt.name, err, raw.said.String())
		}
	}
}

func TestThreadItemIsAdded(t *testing.T) {
	raw := &canned{Reader: strings.NewReader("")}
	c := wire.New(raw, raw, options(&tape{}))
	c.AskThread("X-GM-THRID")
	fmt.Fprintf(c, "T1 %s\r\nT2 UID FETCH 1:* (UID INTERNALDATE)\r\n", fetch)
	want := "T1 " + strings.Replace(fetch, "(UID", "(UID X-GM-THRID", 1) + "\r\nT2 UID FETCH 1:* (UID INTERNALDATE)\r\n"
	if got := raw.said.String(); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// packets counts writes.
type packets struct {
	canned
	n int
}

func (p *packets) Write(b []byte) (int, error) {
	p.n++
	return p.canned.Write(b)
}

func TestCorkedCommandsTravelTogether(t *testing.T) {
	raw := &packets{}
	c := wire.New(raw, raw, options(&tape{}))
	uncork := c.Cork()
	fmt.Fprint(c, "T1 NOOP\r\n")
	fmt.Fprint(c, "T2 EXAMINE INBOX\r\n")
	if raw.n != 0 {
		t.Errorf("%d writes while corked", raw.n)
	}
	uncork()
	if got := raw.said.String(); raw.n != 1 || got != "T1 NOOP\r\nT2 EXAMINE INBOX\r\n" {
		t.Errorf("%d writes: %q", raw.n, got)
	}
	uncork = c.Cork()
	fmt.Fprint(c, "T3 NOOP\r\nT4 EXAMINE {5}\r\n")
	if raw.n != 2 {
		t.Error("a literal that needs permission was held back: nobody would ever give it")
	}
	uncork()
	if _, err := fmt.Fprint(c, "INBOX\r\nT5 NOOP\r\n"); err != nil || !strings.HasSuffix(raw.said.String(), "T4 EXAMINE {5}\r\nINBOX\r\nT5 NOOP\r\n") {
		t.Errorf("afterwards: %v, %q", err, raw.said.String())
	}
}

// Every wait of a connection, in virtual time.
func TestDeadlines(t *testing.T) {
	tests := []struct {
		name  string
		said  string        // at once
		every string        // and then this, every two seconds
		cmd   string        // sent first
		want  time.Duration // when the connection ends; 0: it lives
	}{
		{"no greeting", "", "", "", 30 * time.Second},
		{"half a greeting", "* OK", "", "", 30 * time.Second},
		{"a greeting in drips", "", "x", "", 30 * time.Second},
		{"silence after a command", "* OK\r\n", "", "NOOP", time.Minute},
		{"silence inside a literal", "* OK\r\n* 1 FETCH (UID 1 BODY[HEADER] {500}\r\nx", "", fetch, time.Minute},
		{"silence inside a line", "* OK\r\n* 1 FET", "", fetch, time.Minute},
		{"a search may take longer", "* OK\r\n", "", "UID SEARCH ALL", 5 * time.Minute},
		{"a login as a whole", "* OK\r\n", "* OK wait\r\n", "LOGIN a b", time.Minute},
		{"a command that drips for ever", "* OK\r\n", "* 1 EXISTS\r\n", "NOOP", 15 * time.Minute},
		{"nothing is owed", "* OK\r\n", "", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				var talk sync.WaitGroup
				defer talk.Wait()
				defer server.Close()
				c := wire.New(client, client, options(&tape{}))
				begun := time.Now()
				ended := make(chan error, 1)
				talk.Go(func() { _, err := io.Copy(io.Discard, c); ended <- err })
				talk.Go(func() { _, _ = io.Copy(io.Discard, server) })
				talk.Go(func() { drip(server, tt.said, tt.every) })
				if tt.cmd != "" {
					fmt.Fprintf(c, "T1 %s\r\n", tt.cmd)
				}
				if tt.want == 0 {
					<-time.After(24 * time.Hour)
					if c.Err() != nil {
						t.Errorf("ended with %v", c.Err())
					}
					_ = c.Close()
					<-ended
					return
				}
				err := <-ended
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("ended with %v, want a timeout", err)
				}
				if took := time.Since(begun); took != tt.want {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
			})
		})
	}
}

// drip says one thing, and then another every two seconds until nobody listens.
func drip(w io.Writer, said, every string) {
	_, err := io.WriteString(w, said)
	for every != "" && err == nil {
		<-time.After(2 * time.Second)
		_, err = io.WriteString(w, every)
	}
}

func TestContextEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		c := wire.New(client, client, options(&tape{}))
		ctx, cancel := context.WithCancel(t.Context())
		defer c.Bind(ctx)()
		ended := make(chan error, 1)
		go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v, want context.Canceled", err)
		}
	})
}

func TestCloseDoesNotWaitForADeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe() // nobody reads the other end
		defer server.Close()
		c := wire.New(client, client, options(&tape{}))
		begun := time.Now()
		_ = c.Close()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if !errors.Is(c.Err(), net.ErrClosed) {
			t.Errorf("after Close: %v", c.Err())
		}
	})
}

func TestRenewGrantsAFreshMeasure(t *testing.T) {
	raw := &canned{Reader: &endless{text: "* 1 EXISTS\r\n"}}
	o := options(&tape{})
	o.Limits.Responses = 100
	c := wire.New(raw, raw, o)
	b := make([]byte, len("* 1 EXISTS\r\n"))
	for i := range 1000 {
		if i%50 == 0 {
			c.Renew()
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
	}
}
