package gmail_test

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	rita     = "rita@example.com"
	clientID = "client-1"
	secret   = "not-a-secret"
)

// discovery is Google's description of the API, read once.
var discovery = sync.OnceValues(func() (*gmailtest.Discovery, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return gmailtest.LoadDiscovery(filepath.Join(strings.TrimSpace(string(dir)), "gmail", "v1", "gmail-api.json"))
})

// world is a server with one account, and what a provider needs to read it.
type world struct {
	*gmailtest.Server
	account *gmailtest.Account
	tokens  *tokens
	cfg     gmail.Config
}

// newWorld makes a server whose every answer, and every request to it, is held
// to Google's description.
func newWorld(t testing.TB, o gmailtest.Options, mode gmail.Mode) *world {
	t.Helper()
	s := gmailtest.Start(o)
	t.Cleanup(s.Close)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return worldOf(t, s, transport, mode)
}

func worldOf(t testing.TB, s *gmailtest.Server, transport http.RoundTripper, mode gmail.Mode) *world {
	t.Helper()
	d, err := discovery()
	if err != nil {
		t.Fatal(err)
	}
	s.OnAnswer(func(r gmailtest.Request, b []byte) {
		if err := d.Check(r, b); err != nil {
			t.Errorf("not what Google describes: %v", err)
		}
	})
	s.AddClient(clientID, secret)
	w := &world{Server: s, account: s.Account(rita), tokens: &tokens{kept: map[string]gmail.RefreshToken{}}}
	w.tokens.kept["rita"] = gmail.RefreshToken(s.Grant(clientID, rita, mode.Scope()))
	w.cfg = gmail.Config{
		Address: rita, Mode: mode, Endpoint: s.URL, Transport: transport, Version: "test",
		Credential: gmail.User(w.user(mode, transport)),
	}
	return w
}

func (w *world) client() gmail.Client {
	return gmail.Client{ID: clientID, Secret: secret, AuthURL: w.AuthURL, TokenURL: w.TokenURL}
}

func (w *world) user(mode gmail.Mode, transport http.RoundTripper) gmail.UserConfig {
	return gmail.UserConfig{Mailbox: "rita", Client: w.client(), Mode: mode, Tokens: w.tokens, Transport: transport}
}

// tokens is a TokenStore in memory.
type tokens struct {
	mu    sync.Mutex
	kept  map[string]gmail.RefreshToken
	saves int
	fail  error // of SaveToken
}

func (s *tokens) LoadToken(_ context.Context, mailbox string) (gmail.RefreshToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[mailbox], nil
}

func (s *tokens) SaveToken(_ context.Context, mailbox string, t gmail.RefreshToken) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.fail != nil {
		return s.fail
	}
	s.kept[mailbox] = t
	return nil
}

// mail is a mail from the candidate with a Message-ID.
func mail(id string, extra ...string) string {
	return "From: Nora Brandt <nora@example.net>\r\nTo: rita@example.com\r\nSubject: Interview\r\n" +
		"Message-ID: <" + id + ">\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n" +
		strings.Join(extra, "") + "\r\nThe body that nobody reads.\r\n"
}

// deliver puts mails with these Message-IDs into the inbox; it returns Gmail's ids.
func (w *world) deliver(ids ...string) []string {
	var out []string
	for _, id := range ids {
		m := gmailtest.ParseMail(mail(id))
		m.Arrival = w.Now().Add(-time.Minute)
		out = append(out, w.account.Deliver(m))
	}
	return out
}

func numbered(n int, prefix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%04d@x", prefix, i)
	}
	return out
}

func open(t testing.TB, cfg gmail.Config) providers.Mailbox {
	t.Helper()
	mb, err := gmail.New(cfg).Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return mb
}

func window() providers.Window {
	return providers.Window{Since: time.Now().AddDate(0, 0, -14)}
}

func start(t testing.TB, mb providers.Mailbox) providers.Cursor {
	t.Helper()
	cur, err := mb.Start(t.Context(), window().Since)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return cur
}

// run is what a walk brought.
type run struct {
	ids   []string // Message-IDs, sorted
	pages int
	reset string
	cur   providers.Cursor
}

// follow calls page until no more follows.
func follow(t testing.TB, cur providers.Cursor, page func(providers.Cursor) (providers.Page, error)) run {
	t.Helper()
	r := run{cur: cur}
	for {
		p, err := page(r.cur)
		if err != nil {
			t.Fatalf("page %d: %v", r.pages+1, err)
		}
		r.take(p)
		if !p.More {
			slices.Sort(r.ids)
			return r
		}
		if r.pages > 1_000 {
			t.Fatal("the walk does not end")
		}
	}
}

func (r *run) take(p providers.Page) {
	for _, m := range p.Messages {
		r.ids = append(r.ids, m.Header.MessageID)
	}
	if p.Reset != "" {
		r.reset = p.Reset
	}
	r.pages, r.cur = r.pages+1, p.Next
}

func drain(t testing.TB, mb providers.Mailbox, cur providers.Cursor) run {
	t.Helper()
	return follow(t, cur, func(cur providers.Cursor) (providers.Page, error) {
		return mb.Next(t.Context(), cur, window())
	})
}

func search(t testing.TB, mb providers.Mailbox, addresses ...string) run {
	t.Helper()
	q := providers.Query{Since: window().Since, Addresses: addresses}
	return follow(t, "", func(cur providers.Cursor) (providers.Page, error) {
		return mb.Search(t.Context(), q, cur)
	})
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		if len(got)+len(want) > 40 {
			t.Errorf("%s: %d mails came, want %d", what, len(got), len(want))
			return
		}
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
