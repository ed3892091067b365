package testutil_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
)

func TestCourierServesDeliveredMail(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	c.Deliver("rita", "INBOX", "From: a@example.net\r\n\r\nhi\r\n", time.Time{})
	first := selected(t, c.Plain)
	if !strings.Contains(first, "* 1 EXISTS") || strings.Contains(first, "UIDNEXT") {
		t.Errorf("SELECT says %q", first)
	}
	if again := selected(t, c.Plain); validity(again) != validity(first) {
		t.Errorf("the next SELECT says %q", again)
	}
	c.Renumber("rita")
	if anew := selected(t, c.Plain); validity(anew) == validity(first) {
		t.Errorf("after Renumber SELECT says the same: %q", anew)
	}
	if !strings.Contains(c.Log(), "LOGIN, user=rita") {
		t.Errorf("the log does not tell of the login: %q", c.Log())
	}
}

func TestCourierRefusesAWrongPassword(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	for _, login := range []string{"rita wrong", "nobody " + testutil.Password} {
		if got := talk(t, c.Plain, "LOGIN "+login); !strings.Contains(got, "T0 NO Login failed.") {
			t.Errorf("LOGIN %s: %q", login, got)
		}
	}
}

func selected(t *testing.T, addr string) string {
	t.Helper()
	return talk(t, addr, "LOGIN rita "+testutil.Password, "SELECT INBOX", "LOGOUT")
}

// validity is the part of an answer that tells UIDVALIDITY.
func validity(answer string) string {
	_, rest, _ := strings.Cut(answer, "[UIDVALIDITY ")
	number, _, _ := strings.Cut(rest, "]")
	return number
}

// talk sends commands one by one and returns everything the server says.
func talk(t *testing.T, addr string, cmds ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var heard strings.Builder
	lines := bufio.NewScanner(conn)
	for i, cmd := range cmds {
		tag := fmt.Sprintf("T%d ", i)
		if _, err := fmt.Fprintf(conn, "%s%s\r\n", tag, cmd); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			heard.WriteString(lines.Text() + "\n")
			if strings.HasPrefix(lines.Text(), tag) {
				break
			}
		}
		if lines.Err() != nil {
			t.Fatalf("after %q: %v", cmd, lines.Err())
		}
	}
	return heard.String()
}
