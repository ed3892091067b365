// Package gmailtest is a Gmail for tests: the part of the API and of Google's
// OAuth that reading headers needs, with the failures that the real one shows
// once a year. It speaks real HTTP on a loopback port (Start), or is called
// without a network (New, Transport), so that it also lives in a synctest
// bubble.
//
// What it does as Gmail does: history ids that grow with gaps, a history that
// expires by age and by count, pages without changes, listings newest first with
// page tokens, labels and their rules, drafts that change their id, the rules
// of gmail.metadata, field masks, quota units with both forms of refusal, access
// tokens that end, refresh tokens that are revoked or rotated, service accounts
// that may act for some scopes only.
//
// What it does at a test's command: any fault before any answer (SetFault), a
// body cut in half, a clock that jumps (Advance), mails that vanish between
// listing and reading.
//
// What it does not do: send, change labels over HTTP, threads, push.
//
// It is held to Google's own description of the API: Discovery checks answers
// and requests against it.
package gmailtest

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Options say how the server behaves. Zero fields have the values named.
type Options struct {
	// Prices are units per call; nil: those of new projects.
	Prices map[string]int
	// Budgets of units; 0: not enforced (they are counted all the same).
	UserPerMinute, ProjectPerMinute, ProjectPerDay int
	// RefuseWith429 answers a spent budget with 429 instead of 403.
	RefuseWith429 bool
	// RetryAfter is sent with a refusal, in seconds; 0: not sent.
	RetryAfter int
	// HistoryAge and HistoryRecords bound what the history remembers; 0: 7 days,
	// no count.
	HistoryAge     time.Duration
	HistoryRecords int
	// AheadStatus answers a history id that is newer than the mailbox: 404 or
	// 400; 0 answers as if nothing had changed.
	AheadStatus int
	// EmptyPages puts a page without changes before every page of the history.
	EmptyPages bool
	// BareHistory leaves labelIds out of history records.
	BareHistory bool
	// MaxPage caps the page size of listings; 0: what the caller asks for.
	MaxPage int
	// PageTokenLifetime is how long page tokens hold; 0: for ever.
	PageTokenLifetime time.Duration
	// NoReplyTo leaves replyto: out of the search language, which Google does not
	// document.
	NoReplyTo bool
	// LooseTokens takes a page token also with another query than it was given
	// for, and goes on at its place as if nothing were wrong.
	LooseTokens bool
	// TokenLifetime is how long access tokens hold; 0: 1 hour.
	TokenLifetime time.Duration
	// Rotate gives a new refresh token at every refresh and ends the old one.
	Rotate bool
}

// Request is one API call as hooks see it.
type Request struct {
	Call    string // "profile", "labels", "history", "list", "get", "token", "authorize", or the path of anything else
	Account string // the address behind the token
	ID      string // of get
	N       int    // counts the calls of this kind, from 1
	Query   url.Values
}

// Fault is what a call meets instead of its answer; the zero Fault is none.
type Fault struct {
	Status     int
	Reason     string // of the error, as errors[0].reason; of token: the code
	RetryAfter string // header
	// Cut sends half of the true answer and breaks the connection.
	Cut bool
	// Garbage sends 200 with a body that is not JSON.
	Garbage bool
}

// Server is the service with all its accounts.
type Server struct {
	// URL is where the API is, with a slash at the end; AuthURL and TokenURL are
	// the OAuth endpoints.
	URL, AuthURL, TokenURL string

	opts Options
	http *httptest.Server // nil when made with New
	key  func() *rsa.PrivateKey

	mu       sync.Mutex
	offset   time.Duration
	accounts map[string]*Account
	access   map[string]*accessToken
	grants   map[string]*grant
	codes    map[string]*codeGrant
	clients  map[string]string // id → secret
	allowed  []string          // scopes that the service account may use
	consent  Consent
	meter    meter
	serial   int
	fault    func(Request) Fault
	onAnswer func(Request, []byte)
}

// New makes a server without a network: call it through Transport.
func New(o Options) *Server {
	if o.HistoryAge == 0 {
		o.HistoryAge = 7 * 24 * time.Hour
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = time.Hour
	}
	if o.Prices == nil {
		o.Prices = map[string]int{"profile": 1, "labels": 1, "sendAs": 1, "history": 2, "list": 5, "get": 20}
	}
	s := &Server{
		opts: o, key: sync.OnceValue(newKey),
		accounts: map[string]*Account{}, access: map[string]*accessToken{}, grants: map[string]*grant{},
		codes: map[string]*codeGrant{}, clients: map[string]string{},
		meter: newMeter(),
	}
	s.at("https://gmail.test/")
	return s
}

// Start makes a server on a loopback port; Close ends it.
func Start(o Options) *Server {
	s := New(o)
	s.http = httptest.NewServer(s)
	s.at(s.http.URL + "/")
	return s
}

func (s *Server) at(url string) {
	s.URL, s.AuthURL, s.TokenURL = url, url+"o/oauth2/v2/auth", url+"token"
}

// Close ends a server that was made with Start.
func (s *Server) Close() {
	if s.http != nil {
		s.http.Close()
	}
}

// Now is the server's time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Server) now() time.Time { return time.Now().Add(s.offset) }

// Advance makes the server's clock jump.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// SetFault makes every call ask fault first; nil ends it. It is called without
// any lock held and may change the server.
func (s *Server) SetFault(fault func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// FailNth is a fault that meets the n-th call of a kind from now on, counted
// from 1, and no other. It may be used by one server at a time.
func FailNth(call string, n int, f Fault) func(Request) Fault {
	var mu sync.Mutex
	return func(r Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Call != call {
			return Fault{}
		}
		if n--; n == 0 {
			return f
		}
		return Fault{}
	}
}

// OnAnswer is shown every request with its 200 answer, token answers apart.
func (s *Server) OnAnswer(f func(Request, []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onAnswer = f
}

// Set changes the options of a running server.
func (s *Server) Set(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.opts)
}

// Transport calls the server without a network.
func (s *Server) Transport() http.RoundTripper { return direct{s} }

type direct struct{ s *Server }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	d.s.ServeHTTP(rec, in)
	resp := rec.Result()
	resp.Request = r
	if want, err := strconv.Atoi(resp.Header.Get("Content-Length")); err == nil && want > rec.Body.Len() {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(resp.Body, broken{}), resp.Body}
	}
	return resp, nil
}

// broken is the end of a cut body.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // no randomness: nothing works
	}
	return key
}
