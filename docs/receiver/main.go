// Command receiver is a small webhook receiver for mailsyncd: the shortest
// program that does right what an ATS has to do. It checks the signature, drops
// repeats, upserts messages by their id, follows merged threads, shows a message
// under its candidates only, and erases what a purge names. It keeps everything
// in memory; the comments say where an ATS has its tables.
//
//	receiver -listen 127.0.0.1:8080 -secret whsec_…
//
// GET /candidates/REF shows what it knows of a candidate.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("receiver", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "address to listen on")
	secret := flags.String("secret", "", "the secret of webhook.secret_file, whsec_…")
	if err := flags.Parse(args); err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(*secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return errors.New("-secret must be whsec_ and base64")
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Fprintf(out, "listening on http://%s\n", l.Addr())
	srv := &http.Server{Handler: newReceiver(key), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// maxBody is more than any event has: fifty messages with long subjects.
const maxBody = 5 << 20

// event is the part of every body.
type event struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// message is what the receiver keeps of a message. Fields it does not know are
// dropped; an ATS does the same.
type message struct {
	ID         string `json:"id"`
	Subject    string `json:"subject"`
	Direction  string `json:"direction"`
	Thread     string `json:"thread"`
	Candidates []struct {
		Ref string `json:"ref"`
	} `json:"candidates"`
}

// receiver holds what would be three tables of an ATS.
type receiver struct {
	key []byte

	mu       sync.Mutex
	seen     map[string]bool     // webhook-id; an ATS keeps them for a month
	messages map[string]*message // by msg_ id
	merged   map[string]string   // thr_ id → the thread it belongs to now
}

func newReceiver(key []byte) http.Handler {
	r := &receiver{key: key, seen: map[string]bool{}, messages: map[string]*message{}, merged: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hooks/mail", r.post)
	mux.HandleFunc("GET /candidates/{ref}", r.show)
	return mux
}

// post answers 2xx only when the event is stored: mailsyncd then forgets it.
func (r *receiver) post(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if !r.signed(req.Header, body) {
		http.Error(w, "wrong signature", http.StatusUnauthorized)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.Header.Get("webhook-id")
	if !r.seen[id] { // in an ATS: the id and the change in one transaction
		if err := r.apply(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.seen[id] = true
	}
	w.WriteHeader(http.StatusNoContent)
}

// signed checks the signature as Standard Webhooks describes it: any of the
// signatures may be ours, because two secrets are in use during a change.
func (r *receiver) signed(h http.Header, body []byte) bool {
	id, sent := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(sent, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false // a recording that somebody plays again
	}
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.%s", id, sent, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for signature := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(signature), want) {
			return true
		}
	}
	return false
}

// apply carries out one event. Types it does not know are accepted and ignored.
func (r *receiver) apply(body []byte) error {
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return errors.New("not JSON")
	}
	switch e.Type {
	case "thread.matched":
		return r.matched(e.Data)
	case "thread.merged":
		return r.merge(e.Data)
	case "candidate.purged":
		return r.purge(e.Data)
	default:
		return nil
	}
}

// matched upserts messages by id: the same message comes again when it gains a
// candidate, and its candidates are the full list each time. An ATS leaves out
// refs that it does not know, and still answers 2xx.
func (r *receiver) matched(data json.RawMessage) error {
	var d struct {
		Thread   struct{ ID string }
		Messages []message
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return errors.New("data does not fit thread.matched")
	}
	for _, m := range d.Messages {
		m.Thread = r.thread(d.Thread.ID)
		r.messages[m.ID] = &m
	}
	return nil
}

// thread follows merges: a late event may still name a thread that ended.
func (r *receiver) thread(id string) string {
	for into, ok := r.merged[id]; ok; into, ok = r.merged[id] {
		id = into
	}
	return id
}

func (r *receiver) merge(data json.RawMessage) error {
	var d struct{ From, Into string }
	if err := json.Unmarshal(data, &d); err != nil {
		return errors.New("data does not fit thread.merged")
	}
	if r.thread(d.Into) == d.From {
		return nil // it is known the other way round
	}
	r.merged[d.From] = d.Into
	for _, m := range r.messages {
		m.Thread = r.thread(m.Thread)
	}
	return nil
}

// purge takes the candidate off every message, and deletes the messages that
// have no other.
func (r *receiver) purge(data json.RawMessage) error {
	var d struct{ Candidate string }
	if err := json.Unmarshal(data, &d); err != nil {
		return errors.New("data does not fit candidate.purged")
	}
	for id, m := range r.messages {
		kept := m.Candidates[:0]
		for _, c := range m.Candidates {
			if c.Ref != d.Candidate {
				kept = append(kept, c)
			}
		}
		if m.Candidates = kept; len(kept) == 0 {
			delete(r.messages, id)
		}
	}
	return nil
}

// show lists the messages of a candidate, sorted by id.
func (r *receiver) show(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []*message{}
	for _, m := range r.messages {
		for _, c := range m.Candidates {
			if c.Ref == req.PathValue("ref") {
				list = append(list, m)
			}
		}
	}
	slices.SortFunc(list, func(a, b *message) int { return strings.Compare(a.ID, b.ID) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}
