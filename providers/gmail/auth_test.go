package gmail_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// asServiceAccount gives a world the credential of the service account.
func (w *world) asServiceAccount(subject string) *world {
	key := w.ServiceAccountKey()
	w.cfg.Credential = gmail.ServiceAccount(gmail.ServiceAccountConfig{
		Key:     func(context.Context) ([]byte, error) { return key, nil },
		Subject: subject, Mode: w.cfg.Mode, Transport: w.cfg.Transport,
	})
	return w
}

func TestServiceAccountReadsTheMailbox(t *testing.T) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		w := newWorld(t, gmailtest.Options{}, mode).asServiceAccount(rita)
		w.Delegate(mode.Scope())
		w.deliver("a@x")
		mb := open(t, w.cfg)
		same(t, string(mode), drain(t, mb, start(t, mb)).ids, []string{"a@x"})
	}
}

func TestServiceAccountRefusals(t *testing.T) {
	both := []string{gmail.ModeMetadata.Scope(), gmail.ModeSearch.Scope()}
	tests := []struct {
		name, subject string
		allowed       []string
		says          string
		class         providers.Class
	}{
		{"not delegated", rita, nil, "domain-wide delegation", providers.ClassUnauthorized},
		{"delegated with another scope", rita, both[1:], "domain-wide delegation", providers.ClassUnauthorized},
		{"a user who is gone", "gone@example.com", both, "no active user", providers.ClassUnauthorized},
		{"another user of the domain", "boss@example.com", both, "another account", providers.ClassUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata).asServiceAccount(tt.subject)
			w.Account("boss@example.com")
			w.Delegate(tt.allowed...)
			refused(t, w.cfg, tt.class, tt.says)
		})
	}
}

// refused expects that a mailbox cannot be opened, for a reason a person can act
// on.
func refused(t *testing.T, cfg gmail.Config, class providers.Class, says string) {
	t.Helper()
	_, err := gmail.New(cfg).Open(t.Context())
	if providers.Classify(err) != class || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("class %q, %v; want %q and %q", providers.Classify(err), err, class, says)
	}
	if err != nil && strings.Contains(err.Error(), "@") {
		t.Errorf("the error names an address: %v", err)
	}
}

func TestBrokenKeyFile(t *testing.T) {
	for name, key := range map[string]func(context.Context) ([]byte, error){
		"not JSON":     func(context.Context) ([]byte, error) { return []byte("-----BEGIN"), nil },
		"another kind": func(context.Context) ([]byte, error) { return []byte(`{"installed":{}}`), nil },
		"no PEM inside": func(context.Context) ([]byte, error) {
			return []byte(`{"type":"service_account","private_key":"x"}`), nil
		},
		"unreadable": func(context.Context) ([]byte, error) { return nil, errors.New("permission denied") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
			w.cfg.Credential = gmail.ServiceAccount(gmail.ServiceAccountConfig{Key: key, Subject: rita, Mode: gmail.ModeMetadata, Transport: w.cfg.Transport})
			refused(t, w.cfg, providers.ClassConfig, "key of the service account")
		})
	}
}

func TestUserRefusals(t *testing.T) {
	metadata := gmail.ModeMetadata.Scope()
	tests := []struct {
		name  string
		spoil func(*world)
		class providers.Class
		says  string
	}{
		{"never connected", func(w *world) { w.tokens.kept["rita"] = "" }, providers.ClassUnauthorized, "run mailsyncd connect"},
		{"revoked", func(w *world) { w.Revoke(rita, "") }, providers.ClassUnauthorized, "invalid_grant"},
		{"restricted by the administrator", func(w *world) { w.Revoke(rita, "admin_policy_enforced") }, providers.ClassUnauthorized, "API controls"},
		{"a client that is gone", func(w *world) { w.AddClient(clientID, "another secret") }, providers.ClassUnauthorized, "client file"},
		{"an unknown refusal", func(w *world) { w.Revoke(rita, "some_new_code") }, providers.ClassUnauthorized, "some_new_code"},
		{"a refusal in words", func(w *world) { w.Revoke(rita, "rita@example.com is not allowed") }, providers.ClassServer, "unexpected answer 400"},
		{"too little granted", func(w *world) { w.regrant("openid") }, providers.ClassUnauthorized, "gmail.metadata was not granted"},
		{"another mode's scope", func(w *world) { w.regrant(gmail.ModeSearch.Scope()) }, providers.ClassUnauthorized, "gmail.metadata was not granted"},
		{"too much granted", func(w *world) { w.regrant(metadata, gmail.ModeSearch.Scope(), "https://mail.google.com/") }, providers.ClassUnauthorized, "gmail.readonly, https://mail.google.com/"},
		{"a scope that is no scope", func(w *world) { w.regrant(metadata, "rita@example.com") }, providers.ClassUnauthorized, "an unknown scope"},
		{"another account", func(w *world) { w.account.Rename("boss@example.com") }, providers.ClassUnauthorized, "another account"},
		{"the token endpoint fails", func(w *world) { w.tokenFault(gmailtest.Fault{Status: 503}) }, providers.ClassServer, "503"},
		{"the token endpoint is busy", func(w *world) { w.tokenFault(gmailtest.Fault{Status: 429, Reason: "x", RetryAfter: "60"}) }, providers.ClassThrottled, "1m0s"},
		{"the token endpoint limits by code", func(w *world) { w.tokenFault(gmailtest.Fault{Status: 403, Reason: "rate_limit_exceeded"}) }, providers.ClassThrottled, "pause"},
		{"the token endpoint answers HTML", func(w *world) { w.tokenFault(gmailtest.Fault{Garbage: true}) }, providers.ClassNetwork, "connection failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
			tt.spoil(w)
			refused(t, w.cfg, tt.class, tt.says)
		})
	}
}

func (w *world) regrant(scopes ...string) {
	w.tokens.kept["rita"] = gmail.RefreshToken(w.Grant(clientID, rita, scopes...))
}

func (w *world) tokenFault(f gmailtest.Fault) {
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "token" {
			return f
		}
		return gmailtest.Fault{}
	})
}

func TestHarmlessScopesAreNoMatter(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.regrant(gmail.ModeMetadata.Scope(), "openid", "https://www.googleapis.com/auth/userinfo.email")
	open(t, w.cfg)
}

// A token that dies between two reads of one page is replaced, and the page
// comes whole.
func TestTokenDiesInTheMiddleOfAPage(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(40, "n")
	w.deliver(ids...)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" && r.N == 20 {
			w.KillAccess()
		}
		return gmailtest.Fault{}
	})
	var refreshes int
	mb := open(t, w.cfg)
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || page.More || page.Unreadable != 0 {
		t.Fatalf("the page: more %v, %d unreadable, %v", page.More, page.Unreadable, err)
	}
	var r run
	r.take(page)
	same(t, "the page", r.ids, ids)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "token" {
			refreshes = r.N
		}
		return gmailtest.Fault{}
	})
	w.KillAccess()
	if _, err := mb.Next(t.Context(), page.Next, window()); err != nil {
		t.Fatal(err)
	}
	// The first one, the one in the page, the one just now.
	if refreshes != 3 {
		t.Errorf("%d tokens were fetched, want 3: calls in flight together share one", refreshes)
	}
}

func TestRevokedInTheMiddleOfAPageAndConnectedAgain(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	ids := numbered(40, "n")
	w.deliver(ids...)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "get" && r.N == 20 {
			w.Revoke(rita, "")
		}
		return gmailtest.Fault{}
	})
	p := gmail.New(w.cfg)
	mb, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := mb.Next(t.Context(), cur, window())
	if err != nil || !page.More {
		t.Fatalf("the page that was half read: more %v, %v", page.More, err)
	}
	if _, err := mb.Next(t.Context(), page.Next, window()); !errors.Is(err, providers.ErrUnauthorized) {
		t.Errorf("the page after it: %v, want unauthorized", err)
	}
	w.SetFault(nil)
	w.regrant(gmail.ModeMetadata.Scope()) // the same provider takes the new consent
	if mb, err = p.Open(t.Context()); err != nil {
		t.Fatalf("after connecting again: %v", err)
	}
	var r run
	r.take(page)
	same(t, "everything", append(r.ids, drain(t, mb, page.Next).ids...), ids)
}

func TestAccessTokensEndByTheServersClock(t *testing.T) {
	w, cur := settled(t, gmailtest.Options{}, gmail.ModeMetadata)
	mb := open(t, w.cfg)
	w.Advance(2 * time.Hour)
	w.deliver("a@x")
	same(t, "two hours later", drain(t, mb, cur).ids, []string{"a@x"})
}

func TestRotatedTokensArePersisted(t *testing.T) {
	w := newWorld(t, gmailtest.Options{Rotate: true}, gmail.ModeMetadata)
	p := gmail.New(w.cfg)
	for i := range 3 {
		if _, err := p.Open(t.Context()); err != nil {
			t.Fatalf("open %d: %v", i+1, err)
		}
		w.KillAccess()
		w.cfg.Credential = gmail.User(w.user(gmail.ModeMetadata, w.cfg.Transport)) // a restart
		p = gmail.New(w.cfg)
	}
	if w.tokens.saves != 3 {
		t.Errorf("%d tokens were saved, want 3", w.tokens.saves)
	}
}

// The store is full at the worst moment: the old token is dead, the new one not
// kept. It is held on to until the store takes it.
func TestRotatedTokenSurvivesAStoreThatFails(t *testing.T) {
	w := newWorld(t, gmailtest.Options{Rotate: true}, gmail.ModeMetadata)
	p := gmail.New(w.cfg)
	w.tokens.fail = errors.New("disk full")
	for range 2 {
		if _, err := p.Open(t.Context()); providers.Classify(err) != providers.ClassConfig {
			t.Errorf("while the store fails: %v", err)
		}
	}
	w.tokens.fail = nil
	for range 2 {
		if _, err := p.Open(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

func TestCredentialFetchesOnceForManyCalls(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range 20 {
		wg.Go(func() {
			token, err := w.cfg.Credential.Token(t.Context(), "")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[token]++
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Errorf("%d tokens were fetched, want one", len(got))
	}
}

func TestCredentialWaitIsCancellable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gmail.User(gmail.UserConfig{
			Mailbox: "rita", Client: gmail.Client{ID: "x"}, Transport: hanging{},
			Tokens: &tokens{kept: map[string]gmail.RefreshToken{"rita": "t"}},
		})
		var wg sync.WaitGroup
		for _, d := range []time.Duration{time.Second, 2 * time.Second, time.Hour} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				if _, err := c.Token(ctx, ""); err == nil {
					t.Error("a token endpoint that hangs gave a token")
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("the waits took %v", took)
		}
	})
}

func TestAccountIsLookedAtOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gmailtest.New(gmailtest.Options{})
		w := worldOf(t, s, s.Transport(), gmail.ModeMetadata)
		p := gmail.New(w.cfg)
		for hour := range 48 {
			if _, err := p.Open(t.Context()); err != nil {
				t.Fatalf("hour %d: %v", hour, err)
			}
			time.Sleep(time.Hour)
		}
		if n := s.Usage().Calls["profile"]; n != 2 {
			t.Errorf("the account was looked at %d times in two days", n)
		}
		w.account.Rename("boss@example.com")
		if _, err := p.Open(t.Context()); !errors.Is(err, providers.ErrUnauthorized) {
			t.Errorf("a day after the account became another: %v", err)
		}
	})
}

func TestGmailAddressesAreOneAccount(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.account.Rename("Rita.Keller@gmail.com")
	w.cfg.Address = "ritakeller@googlemail.com"
	open(t, w.cfg)
}

func TestRefreshTokenPrintsAsRedacted(t *testing.T) {
	token := gmail.RefreshToken("1//secret")
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s %q", token, token, token, token, token), token.LogValue().String()} {
		if strings.Contains(text, "secret") {
			t.Errorf("it prints as %s", text)
		}
	}
}

func TestParseClient(t *testing.T) {
	c, err := gmail.ParseClient([]byte(`{"installed":{"client_id":"a","client_secret":"b","auth_uri":"c","token_uri":"d"}}`))
	if want := (gmail.Client{ID: "a", Secret: "b", AuthURL: "c", TokenURL: "d"}); err != nil || c != want {
		t.Errorf("got %v, %v", c, err)
	}
	for _, bad := range []string{"", "x", "{}", `{"web":{"client_id":"a"}}`, `{"installed":{}}`, `{"type":"service_account"}`} {
		if _, err := gmail.ParseClient([]byte(bad)); providers.Classify(err) != providers.ClassConfig {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestModesExplainThemselves(t *testing.T) {
	for _, m := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		short := m.Scope()[strings.LastIndex(m.Scope(), "/")+1:]
		if text := m.Explain(); !strings.HasPrefix(text, string(m)+" ("+short+")") {
			t.Errorf("%s explains itself as %q", m, text)
		}
	}
}

func TestValidate(t *testing.T) {
	good := gmail.Config{Address: rita, Credential: gmail.User(gmail.UserConfig{})}
	if err := good.Validate(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	tests := []struct {
		name  string
		spoil func(*gmail.Config)
		says  string
	}{
		{"no address", func(c *gmail.Config) { c.Address = "" }, "address"},
		{"no credential", func(c *gmail.Config) { c.Credential = nil }, "credential"},
		{"an unknown mode", func(c *gmail.Config) { c.Mode = "full" }, "mode"},
		{"plain HTTP to somewhere", func(c *gmail.Config) { c.Endpoint = "http://example.com/" }, "https"},
	}
	for _, tt := range tests {
		c := good
		tt.spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
		if _, err := gmail.New(c).Open(t.Context()); providers.Classify(err) != providers.ClassConfig {
			t.Errorf("%s: Open says %v", tt.name, err)
		}
	}
}

// Nobody but the API's own host ever sees a token.
func TestTokensStayWithTheirHosts(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Call == "profile" {
			return gmailtest.Fault{Status: http.StatusTemporaryRedirect}
		}
		return gmailtest.Fault{}
	})
	refused(t, w.cfg, providers.ClassServer, "unexpected answer 307")
}
