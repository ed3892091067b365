package imap_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

// mail makes a mail with the given Message-ID.
func mail(id string, extra ...string) string {
	return "From: Nora Brandt <nora@example.net>\r\nTo: rita@example.com\r\nSubject: Interview\r\n" +
		"Message-ID: <" + id + ">\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n" +
		strings.Join(extra, "") + "\r\nThe body that nobody reads.\r\n"
}

// config is a mailbox of rita on a plain listener.
func config(t testing.TB, addr string) imap.Config {
	host, port := testutil.HostPort(t, addr)
	return imap.Config{
		Host: host, Port: port, TLS: imap.TLSNone, Username: "rita",
		Credential: func(context.Context) (string, error) { return testutil.Password, nil },
	}
}

func open(t testing.TB, cfg imap.Config) providers.Mailbox {
	t.Helper()
	mb, err := imap.New(cfg).Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = mb.Close() })
	return mb
}

// start returns the cursor of a first walk that covers the last two weeks.
func start(t testing.TB, mb providers.Mailbox) providers.Cursor {
	t.Helper()
	cur, err := mb.Start(t.Context(), window().Since)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return cur
}

func window() providers.Window {
	return providers.Window{Since: time.Now().AddDate(0, 0, -14)}
}

// drain reads pages until there are no more; it returns the Message-IDs with
// their folder, and the last cursor.
func drain(t testing.TB, mb providers.Mailbox, cur providers.Cursor) ([]string, providers.Cursor) {
	t.Helper()
	var got []string
	for {
		page, err := mb.Next(t.Context(), cur, window())
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		for _, m := range page.Messages {
			got = append(got, m.Folder+" "+m.Header.MessageID)
		}
		cur = page.Next
		if !page.More {
			return got, cur
		}
	}
}

func TestFirstWalkThenNews(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	for i := range 7 {
		d.Deliver("rita", "INBOX", mail(fmt.Sprintf("%d@x", i)), time.Time{})
	}
	mb := open(t, config(t, d.Plain))
	got, cur := drain(t, mb, start(t, mb))
	t.Log(got, cur)
	again, same := drain(t, mb, cur)
	if len(got) != 7 || len(again) != 0 || same != cur {
		t.Fatalf("first %v, then %v; cursor the same: %v", got, again, same == cur)
	}
	d.Deliver("rita", "INBOX", mail("new@x"), time.Time{})
	news, _ := drain(t, mb, cur)
	if len(news) != 1 || news[0] != "INBOX new@x" {
		t.Errorf("news are %v", news)
	}
}
