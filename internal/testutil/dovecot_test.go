package testutil_test

import (
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
)

func TestDovecotServesDeliveredMail(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	d.Deliver("rita", "INBOX", "From: a@example.net\r\n\r\nhi\r\n", time.Time{})
	if n := len(d.Files("rita", "INBOX")); n != 1 {
		t.Fatalf("%d files in INBOX, want 1", n)
	}
	d.Stop()
	d.Renumber("rita", 0)
	d.Start()
	if !strings.Contains(d.Log(), "starting up") {
		t.Errorf("the log does not tell of the start: %q", d.Log())
	}
}
