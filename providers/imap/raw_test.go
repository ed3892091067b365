package imap_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"mailsyncd/internal/testutil"
)

// raw is another client of the mailbox, which may do everything.
type raw struct {
	c  net.Conn
	br *bufio.Reader
	n  int
}

func rawClient(t testing.TB, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r := &raw{c: c, br: bufio.NewReader(c)}
	if _, err := r.br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.do(t, "LOGIN rita "+testutil.Password)
	return r
}

// try sends a command and returns the untagged lines and whether it ended in OK.
func (r *raw) try(t testing.TB, cmd string) (lines []string, ok bool) {
	t.Helper()
	return r.answer(t, r.send(t, cmd))
}

// send returns the tag that a command was sent with.
func (r *raw) send(t testing.TB, cmd string) (tag string) {
	t.Helper()
	r.n++
	tag = fmt.Sprintf("R%d ", r.n)
	r.say(t, tag+cmd)
	return tag
}

func (r *raw) say(t testing.TB, line string) {
	t.Helper()
	if _, err := fmt.Fprintf(r.c, "%s\r\n", line); err != nil {
		t.Fatal(err)
	}
}

// answer reads to the line that begins with tag, or with "+".
func (r *raw) answer(t testing.TB, tag string) (lines []string, ok bool) {
	t.Helper()
	for {
		line, err := r.br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if rest, done := strings.CutPrefix(line, tag); done {
			return lines, strings.HasPrefix(rest, "OK")
		}
		if strings.HasPrefix(line, "+") {
			return lines, true
		}
		lines = append(lines, strings.TrimRight(line, "\r\n"))
	}
}

func (r *raw) do(t testing.TB, cmd string) []string {
	t.Helper()
	lines, ok := r.try(t, cmd)
	if !ok {
		t.Fatalf("%s was refused", cmd)
	}
	return lines
}

// put appends a mail.
func (r *raw) put(t testing.TB, folder, mail string) bool {
	t.Helper()
	tag := r.send(t, fmt.Sprintf("APPEND %s {%d}", folder, len(mail)))
	if _, ok := r.answer(t, tag); !ok {
		return false
	}
	r.say(t, mail)
	_, ok := r.answer(t, tag)
	return ok
}
