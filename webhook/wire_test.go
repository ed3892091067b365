package webhook_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mailsyncd/store"
	"mailsyncd/webhook"
)

func TestTheContractsExampleComesOutByteForByte(t *testing.T) {
	const want = `{"type":"thread.matched","timestamp":"2026-11-21T10:00:03.120Z","schema":1,` +
		`"stream":{"key":"thr_k7q2","epoch":1,"seq":7},` +
		`"data":{"origin":"poll","thread":{"id":"thr_k7q2","message_count":4},"messages":[{` +
		`"id":"msg_9xw4","message_id":"a1@mail.example.net",` +
		`"date":"2026-11-21T09:59:40Z","received":"2026-11-21T09:59:42Z","direction":"inbound",` +
		`"from":[{"name":"Nora Brandt","address":"nora@example.net"}],` +
		`"to":[{"name":"","address":"rita@example.com"}],"cc":[],` +
		`"subject":"Re: Interview","auto_submitted":false,` +
		`"mailboxes":[{"id":"rita","user":"usr_7","link":null}],` +
		`"candidates":[{"ref":"cand_123","address":"nora@example.net","fields":["from"]}]}]}}`
	if got := render(t, contractEvent()); string(got) != want {
		t.Errorf("rendered\n%s\nwant\n%s", got, want)
	}
}

func TestWhatAMailLacksIsNullOrEmptyAndArraysAreNeverNull(t *testing.T) {
	const want = `{"id":"msg_9xw5","message_id":"","date":null,"received":null,"direction":"other",` +
		`"from":[],"to":[],"cc":[],"subject":"","auto_submitted":false,` +
		`"mailboxes":[{"id":"rita","user":null,"link":null}],`
	if got := render(t, bareEvent()); !bytes.Contains(got, []byte(want)) {
		t.Errorf("rendered\n%s\nwhich lacks\n%s", got, want)
	}
}

func TestRenderGivesTheSameBytesForTheSameEvent(t *testing.T) {
	for _, s := range samples() {
		if a, b := render(t, s.event), render(t, s.event); !bytes.Equal(a, b) {
			t.Errorf("%s rendered differently the second time:\n%s\n%s", s.name, a, b)
		}
	}
}

func TestRenderRefusesWhatIsNotThere(t *testing.T) {
	erased := contractEvent()
	erased.Data = nil
	swapped := contractEvent()
	swapped.Type = store.CandidatePurged
	unknown := contractEvent()
	unknown.Type = "thread.guessed"
	for _, tt := range []struct {
		name  string
		event store.Event
		says  string
	}{
		{"an event whose content was erased", erased, "erased by retention"},
		{"an event with the content of another type", swapped, "does not belong to its type"},
		{"an event of an unknown type", unknown, "does not belong to its type"},
	} {
		_, err := webhook.Render(tt.event)
		switch {
		case err == nil:
			t.Errorf("%s was rendered", tt.name)
		case !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "nora"):
			t.Errorf("%s: error %q, want one that says %q and names no address", tt.name, err, tt.says)
		}
	}
}

func TestForeignTextIsCutToWhatReceiversTake(t *testing.T) {
	e := contractEvent()
	m := &e.Data.Thread.Messages[0]
	m.Subject = strings.Repeat("ä", 5000)
	m.From[0].Name = strings.Repeat("n", 5000)
	m.To[0].Address = strings.Repeat("a", 300) + "@example.com"
	got := decode(t, render(t, e)).Data.Messages[0]
	if n := utf8.RuneCountInString(got.Subject); n != 1000 || !strings.HasSuffix(got.Subject, "ä…") {
		t.Errorf("subject has %d characters and ends in %q, want 1000 and an ellipsis", n, got.Subject[len(got.Subject)-5:])
	}
	if n := utf8.RuneCountInString(got.From[0].Name); n != 200 {
		t.Errorf("name has %d characters, want 200", n)
	}
	if got.To[0].Address != m.To[0].Address {
		t.Error("an address was cut: it would be another one")
	}
}

func TestBrokenTextBecomesValidUTF8(t *testing.T) {
	e := contractEvent()
	e.Data.Thread.Messages[0].Subject = "\xff\x00\x1b[31m</script>\r\nX"
	body := render(t, e)
	if !utf8.Valid(body) || bytes.ContainsAny(body, "\x00\x1b\r\n") {
		t.Errorf("body holds raw control bytes or broken UTF-8: %q", body)
	}
	if got := decode(t, body).Data.Messages[0].Subject; got != "�\x00\x1b[31m</script>\r\nX" {
		t.Errorf("subject came out as %q", got)
	}
}

func TestAPanicInRenderingIsContained(t *testing.T) {
	_, err := webhook.RenderWith(contractEvent(), func(e store.Event) ([]byte, error) {
		panic("cannot render " + e.Data.Thread.Messages[0].Subject)
	})
	if err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Fatalf("error is %v, want one that tells of a panic", err)
	}
	if strings.Contains(err.Error(), "Interview") {
		t.Error("the error quotes the event")
	}
}

// FuzzRender holds that whatever a mail says, the body is valid UTF-8, satisfies
// its schema, and gives back the address it was given.
func FuzzRender(f *testing.F) {
	f.Add("Re: Interview", "Nora", "nora@example.net", "a1@mail", int64(1_795_000_000))
	f.Add("\xff\xfe", "\x00", "\"a b\"@example.net", "", int64(-62135596800))
	f.Add(strings.Repeat("<", 2000), strings.Repeat("é", 300), "x", "\r\n", int64(1)<<61)
	schemas := compileSchemas(f)
	f.Fuzz(func(t *testing.T, subject, name, address, id string, date int64) {
		e := contractEvent()
		m := &e.Data.Thread.Messages[0]
		m.Subject, m.MessageID, m.Date = subject, id, time.Unix(date, 0)
		m.From = []store.EventAddress{{Name: name, Address: address}}
		body, err := webhook.Render(e)
		if err != nil {
			t.Fatal(err)
		}
		schemas.validate(t, body)
		got := decode(t, body).Data.Messages[0]
		if utf8.ValidString(address) && got.From[0].Address != address {
			t.Errorf("address %q came out as %q", address, got.From[0].Address)
		}
	})
}

func render(t testing.TB, e store.Event) []byte {
	t.Helper()
	body, err := webhook.Render(e)
	if err != nil {
		t.Fatalf("rendering: %v", err)
	}
	return body
}

// received is what the tests read of a body, as a receiver would.
type received struct {
	Type   string
	Stream struct {
		Key        string
		Epoch, Seq uint64
	}
	Data struct {
		Candidate string
		Messages  []struct {
			ID, Subject string
			From, To    []struct{ Name, Address string }
			Candidates  []struct{ Ref string }
		}
	}
}

func (r received) names(ref string) bool {
	for _, m := range r.Data.Messages {
		if slices.ContainsFunc(m.Candidates, func(c struct{ Ref string }) bool { return c.Ref == ref }) {
			return true
		}
	}
	return false
}

func decode(t testing.TB, body []byte) (r received) {
	t.Helper()
	var head struct{ Type store.EventType }
	if err := json.Unmarshal(body, &head); err != nil {
		t.Fatalf("body is not JSON: %v", err)
	}
	if head.Type == store.ThreadMerged {
		return received{Type: string(head.Type)} // its messages are ids
	}
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("body is not JSON: %v", err)
	}
	return r
}
