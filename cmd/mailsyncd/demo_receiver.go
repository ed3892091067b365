package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// demoReceiver stands for the ATS: it verifies every signature with the
// reference library, upserts messages by id, and sets their thread each time,
// as a receiver should.
type demoReceiver struct {
	url      string
	verifier *standardwebhooks.Webhook
	srv      *http.Server

	mu       sync.Mutex
	posts    int
	refused  int
	messages map[string]*demoMessage
	threads  map[string]string // alias → survivor
	events   map[string]int    // type → how many
	purged   []demoPurge
}

// demoPurge is a candidate.purged event.
type demoPurge struct {
	Candidate    string `json:"candidate"`
	MessageCount int    `json:"message_count"`
	ThreadCount  int    `json:"thread_count"`
	Receipt      string `json:"receipt"`
}

// demoMessage is a message as the receiver keeps it.
type demoMessage struct {
	thread    string
	origin    string
	date      time.Time
	direction string
	subject   string
	mailboxes []string
	refs      []string
}

// demoEvent is as much of an event as the demo looks at.
type demoEvent struct {
	Type string `json:"type"`
	Data struct {
		Thread struct {
			ID string `json:"id"`
		} `json:"thread"`
		From, Into string
		Messages   json.RawMessage `json:"messages"`
		Message    string          `json:"message"`
		Mailbox    json.RawMessage `json:"mailbox"`
		Origin     string          `json:"origin"`
		demoPurge
	} `json:"data"`
}

// demoWireMessage is one message of a thread.matched event.
type demoWireMessage struct {
	ID         string    `json:"id"`
	Received   time.Time `json:"received"`
	Direction  string    `json:"direction"`
	Subject    string    `json:"subject"`
	Mailboxes  []demoBox `json:"mailboxes"`
	Candidates []struct {
		Ref string `json:"ref"`
	} `json:"candidates"`
}

type demoBox struct {
	ID string `json:"id"`
}

func startDemoReceiver(secret string) (*demoReceiver, error) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("the demo's secret: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the demo's receiver: %w", err)
	}
	r := &demoReceiver{
		url: "http://" + ln.Addr().String() + "/hooks/mail", verifier: verifier,
		messages: map[string]*demoMessage{}, threads: map[string]string{}, events: map[string]int{},
	}
	r.srv = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.srv.Serve(ln) }() // ends with stop
	return r, nil
}

func (r *demoReceiver) stop() { _ = r.srv.Close() }

func (r *demoReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err == nil {
		err = r.verifier.Verify(body, req.Header)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts++
	if err == nil {
		err = r.take(body)
	}
	if err != nil {
		r.refused++
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take upserts what an event says.
func (r *demoReceiver) take(body []byte) error {
	var e demoEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	r.events[e.Type]++
	switch e.Type {
	case "thread.matched":
		return r.matched(e)
	case "thread.merged":
		r.threads[e.Data.From] = e.Data.Into
	case "message.observed":
		return r.observed(e)
	case "candidate.purged":
		r.purged = append(r.purged, e.Data.demoPurge)
	}
	return nil
}

func (r *demoReceiver) matched(e demoEvent) error {
	var messages []demoWireMessage
	if err := json.Unmarshal(e.Data.Messages, &messages); err != nil {
		return err
	}
	for _, m := range messages {
		kept := &demoMessage{thread: e.Data.Thread.ID, origin: e.Data.Origin, date: m.Received, direction: m.Direction, subject: m.Subject}
		for _, b := range m.Mailboxes {
			kept.mailboxes = append(kept.mailboxes, b.ID)
		}
		for _, c := range m.Candidates {
			kept.refs = append(kept.refs, c.Ref)
		}
		r.messages[m.ID] = kept
	}
	return nil
}

func (r *demoReceiver) observed(e demoEvent) error {
	var box demoBox
	if err := json.Unmarshal(e.Data.Mailbox, &box); err != nil {
		return err
	}
	m := r.messages[e.Data.Message]
	if m == nil {
		return errors.New("message.observed for a message that never came")
	}
	m.mailboxes = append(m.mailboxes, box.ID)
	return nil
}

// root follows thread.merged.
func (r *demoReceiver) root(thread string) string {
	for r.threads[thread] != "" {
		thread = r.threads[thread]
	}
	return thread
}
