package gmail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// screen is what the user of connect sees, and follows.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
	url chan string
}

var links = regexp.MustCompile(`(?m)^https?://\S+$`)

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := links.Find(p); u != nil {
		s.url <- string(u)
	}
	return s.buf.Write(p)
}

// connecting is a world whose mailbox is not connected yet, and the settings to
// do it.
func connecting(t *testing.T, mode gmail.Mode) (*world, gmail.ConnectConfig, *screen) {
	t.Helper()
	w := newWorld(t, gmailtest.Options{}, mode)
	w.tokens.kept = map[string]gmail.RefreshToken{}
	w.SetConsent(gmailtest.Consent{Account: rita})
	s := &screen{url: make(chan string, 1)}
	return w, gmail.ConnectConfig{
		Mailbox: "rita", Address: rita, Mode: mode, Client: w.client(), Tokens: w.tokens,
		Out: s, Endpoint: w.URL, Transport: w.cfg.Transport,
	}, s
}

// browse opens a URL as a browser does, redirects followed, and returns the
// text of the last page.
func (w *world) browse(u string) (string, error) {
	resp, err := (&http.Client{Transport: w.cfg.Transport}).Get(u)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// redirectOf is where the consent page sends the browser.
func (w *world) redirectOf(t *testing.T, u string) string {
	t.Helper()
	c := &http.Client{Transport: w.cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("Location")
}

func TestConnectWithABrowser(t *testing.T) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		t.Run(string(mode), func(t *testing.T) {
			w, cfg, _ := connecting(t, mode)
			pages := make(chan string, 1)
			cfg.OpenBrowser = func(u string) error {
				go func() {
					text, err := w.browse(u)
					pages <- fmt.Sprint(text, err)
				}()
				return nil
			}
			if err := gmail.Connect(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			if text := <-pages; !strings.Contains(text, "The consent has arrived") {
				t.Errorf("the browser shows %q", text)
			}
			w.deliver("a@x")
			mb := open(t, w.cfg)
			same(t, "the connected mailbox", drain(t, mb, start(t, mb)).ids, []string{"a@x"})
		})
	}
}

func TestConnectAsksForWhatItNeeds(t *testing.T) {
	w, cfg, s := connecting(t, gmail.ModeMetadata)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- gmail.Connect(ctx, cfg) }()
	u, err := url.Parse(<-s.url)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"scope": gmail.ModeMetadata.Scope(), "response_type": "code", "access_type": "offline", "prompt": "consent",
		"code_challenge_method": "S256", "login_hint": rita, "client_id": clientID,
	} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("state")) < 20 || len(q.Get("code_challenge")) != 43 || !strings.HasPrefix(q.Get("redirect_uri"), "http://127.0.0.1:") {
		t.Errorf("state, challenge or redirect: %v", q)
	}
	// Another page in the browser knows the port, but not the state.
	for _, bad := range []string{"?code=evil", "?code=evil&state=guess", "?error=access_denied", "favicon.ico"} {
		if text, err := w.browse(q.Get("redirect_uri") + bad); err != nil || !strings.Contains(text, "not the answer") {
			t.Errorf("%s: the page says %q, %v", bad, text, err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(w.tokens.kept) != 0 {
		t.Errorf("Connect: %v, %d tokens kept", err, len(w.tokens.kept))
	}
}

func TestConnectWithoutABrowser(t *testing.T) {
	tests := []struct {
		name  string
		paste func(redirect string) string
		says  string // "": connected
	}{
		{"the whole address", func(r string) string { return r + "\n" }, ""},
		{"with spaces, without an end of line", func(r string) string { return "  " + r }, ""},
		{"nothing", func(string) string { return "" }, "no address was pasted"},
		{"only the code", func(r string) string { u, _ := url.Parse(r); return u.Query().Get("code") }, "not the answer to this attempt"},
		{"of another attempt", func(r string) string { return strings.Replace(r, "state=", "state=x", 1) }, "not the answer to this attempt"},
		{"without a code", func(r string) string { return strings.Replace(r, "code=", "kode=", 1) }, "holds no code"},
		{"with a code of somebody else", func(r string) string { return strings.Replace(r, "code=", "code=x", 1) }, "invalid_grant"},
		{"no URL", func(string) string { return "http://[::1" }, "not an address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, cfg, s := connecting(t, gmail.ModeMetadata)
			in, keyboard := io.Pipe()
			cfg.Pasted = in
			go func() {
				_, _ = io.WriteString(keyboard, tt.paste(w.redirectOf(t, <-s.url)))
				keyboard.Close()
			}()
			err := gmail.Connect(t.Context(), cfg)
			if connected := w.tokens.kept["rita"] != ""; connected != (tt.says == "") || connected != (err == nil) {
				t.Errorf("connected %v, %v", connected, err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v, want %q", err, tt.says)
			}
		})
	}
}

func TestPastingIsCancellable(t *testing.T) {
	_, cfg, _ := connecting(t, gmail.ModeMetadata)
	in, keyboard := io.Pipe()
	t.Cleanup(func() { keyboard.Close() })
	cfg.Pasted = in
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := gmail.Connect(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Connect: %v", err)
	}
}

// Nothing is kept unless everything is right.
func TestConnectRefusals(t *testing.T) {
	metadata, readonly := gmail.ModeMetadata.Scope(), gmail.ModeSearch.Scope()
	tests := []struct {
		name    string
		consent gmailtest.Consent
		fault   gmailtest.Fault // of the token endpoint
		class   providers.Class
		says    string
	}{
		{"the user says no", gmailtest.Consent{Account: rita, Deny: "access_denied"}, gmailtest.Fault{}, providers.ClassUnauthorized, "said no"},
		{"the administrator says no", gmailtest.Consent{Account: rita, Deny: "admin_policy_enforced"}, gmailtest.Fault{}, providers.ClassUnauthorized, "API controls"},
		{"Google says something in words", gmailtest.Consent{Account: rita, Deny: "no rita@example.com"}, gmailtest.Fault{}, providers.ClassUnauthorized, "did not give"},
		{"another account", gmailtest.Consent{Account: "boss@example.com"}, gmailtest.Fault{}, providers.ClassUnauthorized, "another account"},
		{"the box was not ticked", gmailtest.Consent{Account: rita, Scopes: []string{"openid"}}, gmailtest.Fault{}, providers.ClassUnauthorized, "gmail.metadata was not granted"},
		{"more than was asked for", gmailtest.Consent{Account: rita, Scopes: []string{metadata, readonly}}, gmailtest.Fault{}, providers.ClassUnauthorized, "gmail.readonly"},
		{"no refresh token", gmailtest.Consent{Account: rita, NoRefreshToken: true}, gmailtest.Fault{}, providers.ClassUnauthorized, "no refresh token"},
		{"the token endpoint fails", gmailtest.Consent{Account: rita}, gmailtest.Fault{Status: 500}, providers.ClassServer, "500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, cfg, _ := connecting(t, gmail.ModeMetadata)
			w.Account("boss@example.com")
			w.SetConsent(tt.consent)
			w.tokenFault(tt.fault)
			seen := make(chan struct{})
			cfg.OpenBrowser = func(u string) error {
				go func() { defer close(seen); _, _ = w.browse(u) }()
				return nil
			}
			err := gmail.Connect(t.Context(), cfg)
			<-seen
			if providers.Classify(err) != tt.class || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("class %q, %v; want %q and %q", providers.Classify(err), err, tt.class, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "@") {
				t.Errorf("the error names an address: %v", err)
			}
			if len(w.tokens.kept) != 0 {
				t.Error("a token was kept")
			}
		})
	}
}

func TestConnectNeedsItsSettings(t *testing.T) {
	_, good, _ := connecting(t, gmail.ModeMetadata)
	for name, spoil := range map[string]func(*gmail.ConnectConfig){
		"no client":  func(c *gmail.ConnectConfig) { c.Client = gmail.Client{} },
		"no store":   func(c *gmail.ConnectConfig) { c.Tokens = nil },
		"no address": func(c *gmail.ConnectConfig) { c.Address = "" },
	} {
		c := good
		spoil(&c)
		if err := gmail.Connect(t.Context(), c); providers.Classify(err) != providers.ClassConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
}
