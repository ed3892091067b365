package testutil

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The floor of a benchmark is the least that the same answers can cost: a
// socket, every command at once, the answers thrown away. A server is the limit,
// not a client, so the distance from the floor is what a client can be judged by.

// FetchFloor asks for the status of every folder and reads the given header
// fields of the first n messages of INBOX: the questions that a first sync has to
// ask. It returns the wall time and the bytes that came.
func FetchFloor(t testing.TB, addr, user string, n int, fields []string) (time.Duration, int64) {
	t.Helper()
	var cmds bytes.Buffer
	fmt.Fprintf(&cmds, "a LOGIN %s %s\r\n%sb EXAMINE INBOX\r\n", user, Password, listStatus)
	for low := 1; low <= n; low += 500 {
		fmt.Fprintf(&cmds, "c UID FETCH %d:%d (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (%s)])\r\n",
			low, min(low+499, n), strings.Join(fields, " "))
	}
	return converse(t, addr, nil, cmds.Bytes())
}

// PollFloor logs in, asks for the status of every folder, and logs out, over TLS
// when conf is given.
func PollFloor(t testing.TB, addr, user string, conf *tls.Config) (time.Duration, int64) {
	t.Helper()
	return converse(t, addr, conf, fmt.Appendf(nil, "a LOGIN %s %s\r\n%s", user, Password, listStatus))
}

const listStatus = "l LIST \"\" \"*\" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY))\r\n"

// converse sends everything at once and reads until the last answer.
func converse(t testing.TB, addr string, conf *tls.Config, cmds []byte) (time.Duration, int64) {
	t.Helper()
	begun := time.Now()
	var c net.Conn
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		c = tls.Client(c, conf)
	}
	defer c.Close()
	if _, err := c.Write(append(cmds, "z NOOP\r\n"...)); err != nil {
		t.Fatal(err)
	}
	var octets int64
	for in := bufio.NewReaderSize(c, 64<<10); ; {
		line, err := in.ReadSlice('\n')
		octets += int64(len(line))
		if err != nil && err != bufio.ErrBufferFull {
			t.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("z OK")) {
			return time.Since(begun), octets
		}
	}
}

// CPU returns the processor time this process has used, in user and system.
func CPU(t testing.TB) time.Duration {
	t.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
