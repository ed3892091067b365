package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"mailsyncd/store"
)

// TestEvent is the type of the event that Test posts. It never stands in the
// outbox.
const TestEvent store.EventType = "webhook.test"

// schemaVersion is the value of "schema" in every body. Fields and types may be
// added under it; anything else needs the next number.
const schemaVersion = 1

// Foreign text that grows without a use is cut, so that fifty messages of a
// hostile sender stay within what a receiver takes. Addresses and ids are never
// cut: they are compared, not shown.
const (
	maxSubject = 1000 // characters
	maxName    = 200  // characters
)

// Our own clock is told in milliseconds, header dates in the seconds they have
// (RFC 5322 §3.3).
const (
	clockFormat  = "2006-01-02T15:04:05.000Z"
	headerFormat = "2006-01-02T15:04:05Z"
)

var (
	errErased  = errors.New("its content was erased by retention")
	errContent = errors.New("its content does not belong to its type")
)

// envelope is what every body looks like from outside.
type envelope struct {
	Type      store.EventType `json:"type"`
	Timestamp string          `json:"timestamp"`
	Schema    int             `json:"schema"`
	Stream    wireStream      `json:"stream"`
	Data      any             `json:"data"`
}

type wireStream struct {
	Key   string `json:"key"`
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

type wireThreadMatched struct {
	Origin   store.Origin  `json:"origin"`
	Thread   wireThread    `json:"thread"`
	Messages []wireMessage `json:"messages"`
}

type wireThread struct {
	ID           string `json:"id"`
	MessageCount int    `json:"message_count"`
}

type wireMessage struct {
	ID            string          `json:"id"`
	MessageID     string          `json:"message_id"`
	Date          *string         `json:"date"`
	Received      *string         `json:"received"`
	Direction     string          `json:"direction"`
	From          []wireAddress   `json:"from"`
	To            []wireAddress   `json:"to"`
	Cc            []wireAddress   `json:"cc"`
	Subject       string          `json:"subject"`
	AutoSubmitted bool            `json:"auto_submitted"`
	Mailboxes     []wireMailbox   `json:"mailboxes"`
	Candidates    []wireCandidate `json:"candidates"`
}

type wireAddress struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type wireMailbox struct {
	ID   string  `json:"id"`
	User *string `json:"user"`
	Link *string `json:"link"`
}

type wireCandidate struct {
	Ref     string   `json:"ref"`
	Address string   `json:"address"`
	Fields  []string `json:"fields"`
}

type wireMerged struct {
	From     string   `json:"from"`
	Into     string   `json:"into"`
	Messages []string `json:"messages"`
}

type wireObserved struct {
	Message string      `json:"message"`
	Mailbox wireMailbox `json:"mailbox"`
}

type wirePurged struct {
	Candidate    string `json:"candidate"`
	Reason       string `json:"reason"`
	ThreadCount  int    `json:"thread_count"`
	MessageCount int    `json:"message_count"`
	Receipt      string `json:"receipt"`
}

type wireMailboxState struct {
	Mailbox  string             `json:"mailbox"`
	State    store.MailboxState `json:"state"`
	Previous store.MailboxState `json:"previous"`
	Class    string             `json:"class"`
	Since    string             `json:"since"`
	Action   string             `json:"action"`
}

type wireConflict struct {
	Candidate string `json:"candidate"`
	Address   string `json:"address"`
	Rule      string `json:"rule"`
}

type wireSweepHeld struct {
	Kind    string `json:"kind"`
	Missing int    `json:"missing"`
	Total   int    `json:"total"`
}

// Render gives the body of an event. The same event gives the same bytes. It
// fails when the content is missing or belongs to another type; the error names
// the event's id and nothing of its content.
func Render(e store.Event) ([]byte, error) {
	data, err := content(e)
	if err != nil {
		return nil, fmt.Errorf("rendering event %q (%s): %w", e.ID, e.Type, err)
	}
	return encode(envelope{
		Type:      e.Type,
		Timestamp: clock(e.Created),
		Schema:    schemaVersion,
		Stream:    wireStream{Key: e.Stream, Epoch: e.Epoch, Seq: e.Seq},
		Data:      data,
	})
}

// encode writes JSON without HTML escapes: "<" in a subject stays one byte, and
// receivers compare and sign bytes, not markup.
func encode(v envelope) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// content picks the data of an event by its type.
func content(e store.Event) (any, error) {
	d := e.Data
	switch {
	case d == nil:
		return nil, errErased
	case e.Type == store.ThreadMatched && d.Thread != nil:
		return threadMatched(d.Thread), nil
	case e.Type == store.ThreadMerged && d.Merged != nil:
		return wireMerged{From: d.Merged.From, Into: d.Merged.Into, Messages: list(d.Merged.Messages, same)}, nil
	case e.Type == store.MessageObserved && d.Observed != nil:
		return wireObserved{Message: d.Observed.Message, Mailbox: mailbox(d.Observed.Mailbox)}, nil
	case e.Type == store.CandidatePurged && d.Purged != nil:
		return wirePurged(*d.Purged), nil
	case e.Type == store.MailboxStateEvent && d.Mailbox != nil:
		return mailboxState(d.Mailbox), nil
	case e.Type == store.DirectoryConflict && d.Directory != nil:
		return wireConflict{Candidate: d.Directory.Candidate, Address: d.Directory.Address, Rule: d.Directory.Rule}, nil
	case e.Type == store.DirectorySweepHeld && d.Directory != nil:
		return wireSweepHeld{Kind: d.Directory.Kind, Missing: d.Directory.Missing, Total: d.Directory.Total}, nil
	default:
		return nil, errContent
	}
}

func threadMatched(t *store.ThreadEvent) wireThreadMatched {
	return wireThreadMatched{
		Origin:   t.Origin,
		Thread:   wireThread{ID: t.Thread, MessageCount: t.MessageCount},
		Messages: list(t.Messages, wireMessageOf),
	}
}

func wireMessageOf(m store.EventMessage) wireMessage {
	return wireMessage{
		ID:            m.ID,
		MessageID:     m.MessageID,
		Date:          headerTime(m.Date),
		Received:      headerTime(m.Received),
		Direction:     m.Direction,
		From:          list(m.From, address),
		To:            list(m.To, address),
		Cc:            list(m.Cc, address),
		Subject:       cut(m.Subject, maxSubject),
		AutoSubmitted: m.AutoSubmitted,
		Mailboxes:     list(m.Mailboxes, mailbox),
		Candidates:    list(m.Candidates, candidate),
	}
}

func address(a store.EventAddress) wireAddress {
	return wireAddress{Name: cut(a.Name, maxName), Address: a.Address}
}

func mailbox(h store.Holding) wireMailbox {
	return wireMailbox{ID: h.ID, User: orNull(h.User), Link: orNull(h.Link)}
}

func candidate(p store.Pair) wireCandidate {
	return wireCandidate{Ref: p.Candidate, Address: p.Address, Fields: list(p.Fields, same)}
}

func mailboxState(m *store.MailboxEvent) wireMailboxState {
	return wireMailboxState{
		Mailbox: m.Mailbox, State: m.State, Previous: m.Previous,
		Class: m.Class, Since: clock(m.Since), Action: m.Action,
	}
}

// list maps a slice and never gives null: a receiver may loop without asking.
func list[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

func same(s string) string { return s }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func clock(t time.Time) string { return t.UTC().Format(clockFormat) }

// headerTime gives null for a time nobody knows, and for a year that RFC 3339
// §5.6 cannot write.
func headerTime(t time.Time) *string {
	t = t.UTC()
	if t.IsZero() || t.Year() > 9999 {
		return nil
	}
	s := t.Format(headerFormat)
	return &s
}

// cut shortens foreign text to n characters, the last of them an ellipsis.
func cut(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
