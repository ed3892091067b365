package imap_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

func many(n int) []uint32 {
	uids := make([]uint32, n)
	for i := range uids {
		uids[i] = uint32(i + 1)
	}
	return uids
}

func TestNextPageIsUnderWayWhileThisOneIsWorkedOn(t *testing.T) {
	s := newScript(t)
	s.put(many(9)...)
	fetches := make(chan string, 100)
	s.hook("UID FETCH", func(_ func(string, ...any), _, args string) bool {
		if strings.Contains(args, "BODY") {
			fetches <- strings.Fields(args)[0]
		}
		return false
	})
	cfg := config(t, s.addr)
	cfg.PageSize = 3
	mb := open(t, cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 3 || !page.More {
		t.Fatalf("%d messages, more %v, %v", len(page.Messages), page.More, err)
	}
	for _, want := range []string{"1:3", "4:6"} { // the second is never asked for by a call
		select {
		case got := <-fetches:
			if got != want {
				t.Errorf("fetched %s, want %s", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s was not asked for", want)
		}
	}
}

func TestRowsNobodyAskedForAreDropped(t *testing.T) {
	s := newScript(t)
	s.put(1, 2)
	s.hook("UID FETCH", func(say func(string, ...any), _, args string) bool {
		h := head("intruder@x")
		say("* 9 FETCH (UID 99 BODY[HEADER] {%d}\r\n%s)", len(h), h)
		return false
	})
	mb := open(t, config(t, s.addr))
	got, _ := drain(t, mb, start(t, mb))
	if len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestCancellingEndsAWait(t *testing.T) {
	s := newScript(t)
	s.put(1)
	waiting := make(chan struct{})
	s.hook("UID FETCH", func(func(string, ...any), string, string) bool {
		close(waiting)
		return true // and no answer
	})
	mb := open(t, config(t, s.addr))
	cur := start(t, mb)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	if _, err := mb.Next(ctx, cur, window()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	if _, err := mb.Next(t.Context(), cur, window()); err == nil {
		t.Error("the session goes on after a cancelled call")
	}
}

func TestTooManyUnreadableMailsStopTheFolder(t *testing.T) {
	s := newScript(t)
	var uids []uint32
	for i := range 300 {
		uids = append(uids, uint32(2*i+1)) // no neighbours: every one is a gap of its own
	}
	s.put(uids...)
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		if strings.Contains(args, "BODY") {
			say("%s NO broken", tag)
			return true
		}
		return false
	})
	mb := open(t, config(t, s.addr))
	_, err := mb.Next(t.Context(), start(t, mb), window())
	if providers.Classify(err) != providers.ClassServer || !strings.Contains(err.Error(), "repaired") {
		t.Errorf("%v", err)
	}
	if n := s.count("UID FETCH"); n > 250 {
		t.Errorf("it took %d FETCHes to give up", n)
	}
}

func TestHeaderThatIsTooLongIsReadFromItsBeginning(t *testing.T) {
	s := newScript(t)
	s.put(1, 2)
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		if !strings.Contains(args, "BODY") || strings.Contains(args, "<0.262144>") || !inSet(strings.Fields(args)[0], 1, 2) {
			return false
		}
		h := head("1@x")[:50] + strings.Repeat("x", 100_000)
		say("* 1 FETCH (UID 1 BODY[HEADER] {%d}\r\n%s)", len(h), h)
		if inSet(strings.Fields(args)[0], 2, 2) {
			h = head("2@x")
			say("* 2 FETCH (UID 2 BODY[HEADER] {%d}\r\n%s)", len(h), h)
		}
		say("%s OK done", tag)
		return true
	})
	cfg := config(t, s.addr)
	cfg.Limits.Line, cfg.Limits.Literal, cfg.Limits.Nesting = 1<<16, 1<<16, 8
	cfg.Limits.Responses, cfg.Limits.Bytes = 1000, 1<<20
	mb := open(t, cfg)
	got, _ := drain(t, mb, start(t, mb))
	if strings.Join(got, ",") != "INBOX 1@x,INBOX 2@x" {
		t.Errorf("got %v", got)
	}
}

func TestSessionGoesOnAfterAPauseWasWanted(t *testing.T) {
	s := newScript(t)
	s.put(many(9)...)
	refused := false
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		if refused || !strings.HasPrefix(args, "4:6 ") {
			return false
		}
		refused = true
		say("%s NO [LIMIT] slow down", tag)
		return true
	})
	cfg := config(t, s.addr)
	cfg.PageSize = 3
	mb := open(t, cfg)
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 3 {
		t.Fatalf("%d messages, %v", len(page.Messages), err)
	}
	var throttled *providers.ThrottledError
	if _, err := mb.Next(t.Context(), page.Next, window()); !errors.As(err, &throttled) {
		t.Fatalf("%v, want a ThrottledError", err)
	}
	if rest, _ := drain(t, mb, page.Next); len(rest) != 6 {
		t.Errorf("afterwards came %v, want the other 6", rest)
	}
}

func TestLogTellsOnceAndNamesNobody(t *testing.T) {
	s := newScript(t)
	s.put(1, 2)
	s.hook("LIST", func(say func(string, ...any), _, _ string) bool {
		say(`* LIST () "/" "R&D nora@example.net"`)
		return false
	})
	var log testutil.Log
	cfg := config(t, s.addr)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := imap.New(cfg)
	for range 3 {
		mb, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		drain(t, mb, start(t, mb))
		_ = mb.Close()
	}
	text := log.String()
	if strings.Count(text, "folder_name_unreadable") != 1 {
		t.Errorf("want one line about the folder: %s", text)
	}
	for _, private := range []string{"nora", "Interview", "rita", "@x", "R&D"} {
		if strings.Contains(text, private) {
			t.Errorf("the log holds %q", private)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3)
	reg := prometheus.NewRegistry()
	cfg := config(t, s.addr)
	cfg.Meter = providers.NewMetrics(reg).For(imap.Name)
	p := imap.New(cfg)
	mb, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drain(t, mb, start(t, mb))
	_ = mb.Close()
	s.hook("LOGIN", func(say func(string, ...any), tag, _ string) bool {
		say("%s NO [AUTHENTICATIONFAILED] x", tag)
		return true
	})
	if _, err := p.Open(t.Context()); err == nil {
		t.Error("the refused login succeeded")
	}
	want := `
# HELP mailsyncd_provider_requests_total Requests to mail providers, by operation and result.
# TYPE mailsyncd_provider_requests_total counter
mailsyncd_provider_requests_total{operation="examine",provider="imap",result="ok"} 1
mailsyncd_provider_requests_total{operation="fetch",provider="imap",result="ok"} 2
mailsyncd_provider_requests_total{operation="list",provider="imap",result="ok"} 1
mailsyncd_provider_requests_total{operation="open",provider="imap",result="ok"} 1
mailsyncd_provider_requests_total{operation="open",provider="imap",result="unauthorized"} 1
mailsyncd_provider_requests_total{operation="search",provider="imap",result="ok"} 2
`
	if err := promtest.GatherAndCompare(reg, strings.NewReader(want), "mailsyncd_provider_requests_total"); err != nil {
		t.Error(err)
	}
	if n, _ := promtest.GatherAndCount(reg, "mailsyncd_provider_bytes_total"); n != 2 {
		t.Errorf("%d directions are counted, want 2", n)
	}
}

func TestAGapIsGivenUpAfterTwoWeeks(t *testing.T) {
	s := newScript(t)
	s.put(1, 2, 3)
	s.hook("UID FETCH", func(say func(string, ...any), tag, args string) bool {
		if inSet(strings.Fields(args)[0], 2, 3) && strings.Contains(args, "BODY") {
			say("%s NO broken", tag)
			return true
		}
		return false
	})
	mb := open(t, config(t, s.addr))
	for _, tt := range []struct {
		name string
		age  time.Duration
		kept bool
	}{{"a day old", 24 * time.Hour, true}, {"fifteen days old", 15 * 24 * time.Hour, false}} {
		first, tried := time.Now().Add(-tt.age), time.Now().Add(-25*time.Hour)
		cur := fmt.Sprintf(`{"v":1,"since":1,"folders":{"INBOX":{"validity":7,"next":4,"gaps":[{"lo":2,"hi":2,"tries":9,"first":%d,"last":%d}]}}}`, first.Unix(), tried.Unix())
		page, err := mb.Next(t.Context(), providers.Cursor(cur), window())
		if err != nil || page.Unreadable != 1 {
			t.Errorf("%s: %d unreadable, %v; want 1", tt.name, page.Unreadable, err)
		}
		if kept := strings.Contains(string(page.Next), "gaps"); kept != tt.kept {
			t.Errorf("%s: kept %v, want %v", tt.name, kept, tt.kept)
		}
	}
}
