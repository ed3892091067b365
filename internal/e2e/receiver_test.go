package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sort"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="

// receiver is the ATS: it verifies signatures with the reference library,
// records everything, and fails when a test tells it to.
type receiver struct {
	t   *testing.T
	srv *httptest.Server

	mu sync.Mutex
	// answer decides what to do with a post that is well formed; nil: 204.
	answer func(p *post) int
	posts  []*post
}

// The answers beside HTTP status codes.
const (
	cutBefore = -1 // the connection dies, the post was not taken
	cutAfter  = -2 // the post was taken, its answer is lost
)

// post is one attempt as it arrived.
type post struct {
	id    string // webhook-id
	nth   int    // how often this id came, 1 first
	body  []byte
	event event
	taken bool
}

// event is as much of a body as the tests look at.
type event struct {
	Type   string `json:"type"`
	Stream struct {
		Key   string `json:"key"`
		Epoch uint64 `json:"epoch"`
		Seq   uint64 `json:"seq"`
	} `json:"stream"`
	Data struct {
		Origin string `json:"origin"`
		Thread struct {
			ID string `json:"id"`
		} `json:"thread"`
		State    string          `json:"state"`
		Messages json.RawMessage `json:"messages"`
	} `json:"data"`
}

// delivered is one message of thread.matched.
type delivered struct {
	ID         string `json:"id"`
	MessageID  string `json:"message_id"`
	Direction  string `json:"direction"`
	Subject    string `json:"subject"`
	Candidates []struct {
		Ref string `json:"ref"`
	} `json:"candidates"`
}

func (e event) messages(t *testing.T) (ms []delivered) {
	t.Helper()
	if e.Type != "thread.matched" {
		return nil
	}
	if err := json.Unmarshal(e.Data.Messages, &ms); err != nil {
		t.Fatal(err)
	}
	return ms
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t}
	r.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the sender was killed in the middle of it
		}
		if err := verifier.Verify(body, req.Header); err != nil {
			t.Errorf("signature: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.respond(w, req.Header.Get("webhook-id"), body)
	}))
	t.Cleanup(r.srv.Close)
	return r
}

func (r *receiver) respond(w http.ResponseWriter, id string, body []byte) {
	p := &post{id: id, nth: 1, body: body}
	if err := json.Unmarshal(body, &p.event); err != nil {
		r.t.Errorf("body: %v", err)
	}
	r.mu.Lock()
	for _, other := range r.posts {
		if other.id == id {
			p.nth++
		}
	}
	status := http.StatusNoContent
	if r.answer != nil {
		status = r.answer(p)
	}
	p.taken = status/100 == 2 || status == cutAfter
	r.posts = append(r.posts, p)
	r.mu.Unlock()
	if status < 0 {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	}
	w.WriteHeader(status)
}

func (r *receiver) setAnswer(f func(p *post) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// taken returns the posts that were accepted, each event once, in order of
// their first acceptance.
func (r *receiver) taken() (first []*post) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, p := range r.posts {
		if p.taken && !seen[p.id] {
			seen[p.id] = true
			first = append(first, p)
		}
	}
	return first
}

// pairs returns "message-id candidate" of everything taken, and how many events
// brought it.
func (r *receiver) pairs() map[string]int {
	pairs := map[string]int{}
	for _, p := range r.taken() {
		for _, m := range p.event.messages(r.t) {
			for _, c := range m.Candidates {
				pairs[m.MessageID+" "+c.Ref]++
			}
		}
	}
	return pairs
}

// count returns how many posts came at all.
func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.posts)
}

// wantPairs fails unless exactly these pairs were taken, each by one event.
func (r *receiver) wantPairs(want map[string]bool) {
	r.t.Helper()
	got := r.pairs()
	var lost, leaked, twice []string
	for pair := range want {
		if got[pair] == 0 {
			lost = append(lost, pair)
		}
	}
	for pair, n := range got {
		if !want[pair] {
			leaked = append(leaked, pair)
		}
		if n > 1 {
			twice = append(twice, fmt.Sprintf("%s (%d)", pair, n))
		}
	}
	for what, list := range map[string][]string{"lost": lost, "leaked": leaked, "delivered by two events": twice} {
		if sort.Strings(list); len(list) > 0 {
			r.t.Errorf("%s: %d\n  %q", what, len(list), list)
		}
	}
}

// invariants checks what holds for every history: one body and one place in its
// stream per event id, and rising seq over first acceptances.
func (r *receiver) invariants() {
	r.t.Helper()
	r.mu.Lock()
	bodies := map[string][]byte{}
	places := map[string]string{}
	for _, p := range r.posts {
		if b, ok := bodies[p.id]; ok && !bytes.Equal(b, p.body) {
			r.t.Errorf("event %s came with two bodies", p.id)
		}
		bodies[p.id] = p.body
		place := fmt.Sprintf("%s %d/%d", p.event.Stream.Key, p.event.Stream.Epoch, p.event.Stream.Seq)
		if id, ok := places[place]; ok && id != p.id {
			r.t.Errorf("%s is the place of %s and of %s", place, id, p.id)
		}
		places[place] = p.id
	}
	r.mu.Unlock()
	last := map[string]uint64{}
	for _, p := range r.taken() {
		key := fmt.Sprintf("%s/%d", p.event.Stream.Key, p.event.Stream.Epoch)
		if p.event.Stream.Seq <= last[key] {
			r.t.Errorf("stream %s: seq %d after %d", key, p.event.Stream.Seq, last[key])
		}
		last[key] = p.event.Stream.Seq
	}
}
