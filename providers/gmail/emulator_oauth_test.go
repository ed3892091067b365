package gmail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
)

// This file connects mailboxes to the emulator, and lets tokens and consents die
// there. Its token endpoint holds what it is asked for to PKCE and to the
// client's secret, so what passes here has been asked for correctly.

// connecting is a mailbox on the emulator that is not connected.
func (e *emulator) connecting(t *testing.T, mode gmail.Mode) (*side, gmail.ConnectConfig) {
	t.Helper()
	s := e.side(t, mode)
	clear(s.tokens.kept)
	return s, gmail.ConnectConfig{
		Mailbox: "rita", Address: s.cfg.Address, Mode: mode, Client: e.client(), Tokens: s.tokens,
		Out: &screen{url: make(chan string, 1)}, Endpoint: e.api, Transport: e.transport,
	}
}

// browse connects with a browser in which an account consents.
func (e *emulator) browse(t *testing.T, cfg gmail.ConnectConfig, address string) error {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	seen := make(chan string, 1)
	cfg.OpenBrowser = func(page string) error {
		go func() {
			text, err := e.consentIn(page, address)
			if err != nil {
				giveUp() // Connect would wait for ever
			}
			seen <- fmt.Sprint(text, err)
		}()
		return nil
	}
	err := gmail.Connect(ctx, cfg)
	if text := <-seen; !strings.Contains(text, "The consent has arrived") {
		t.Errorf("the browser shows %q", text)
	}
	return err
}

// consentIn consents and goes where the browser is sent; it returns what is
// shown there.
func (e *emulator) consentIn(page, address string) (string, error) {
	location, err := e.allow(page, address)
	if err != nil {
		return "", err
	}
	return textOf((&http.Client{Transport: e.transport}).Get(location))
}

func testEmulatorConnect(t *testing.T, e *emulator) {
	for _, mode := range []gmail.Mode{gmail.ModeMetadata, gmail.ModeSearch} {
		t.Run("with a browser, "+string(mode), func(t *testing.T) {
			s, cfg := e.connecting(t, mode)
			if err := e.browse(t, cfg, cfg.Address); err != nil {
				t.Fatal(err)
			}
			s.readable(t)
		})
	}
	t.Run("without a browser", func(t *testing.T) {
		s, cfg := e.connecting(t, gmail.ModeMetadata)
		in, keyboard := io.Pipe()
		cfg.Pasted = in
		where := cfg.Out.(*screen).url
		go func() {
			location, err := e.allow(<-where, cfg.Address)
			if err == nil {
				_, err = fmt.Fprintln(keyboard, location)
			}
			_ = keyboard.CloseWithError(err) // it always closes
		}()
		if err := gmail.Connect(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		s.readable(t)
	})
}

// readable expects that a mailbox can be read with the token that is kept.
func (s *side) readable(t *testing.T) {
	t.Helper()
	s.deliver(t, mail("a@x"), lately())
	mb := open(t, s.cfg)
	same(t, "the mailbox", drain(t, mb, start(t, mb)).ids, []string{"a@x"})
}

func testEmulatorRefusals(t *testing.T, e *emulator) {
	t.Run("another account consents", func(t *testing.T) {
		s, cfg := e.connecting(t, gmail.ModeMetadata)
		other := e.side(t, gmail.ModeMetadata)
		err := e.browse(t, cfg, other.cfg.Address)
		if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), "another account") || len(s.tokens.kept) != 0 {
			t.Errorf("Connect: %v, %d tokens kept", err, len(s.tokens.kept))
		}
	})
	t.Run("the client's secret is wrong", func(t *testing.T) {
		s, cfg := e.connecting(t, gmail.ModeMetadata)
		cfg.Client.Secret = "another"
		err := e.browse(t, cfg, cfg.Address)
		if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), "invalid_client") || len(s.tokens.kept) != 0 {
			t.Errorf("Connect: %v, %d tokens kept", err, len(s.tokens.kept))
		}
	})
	for name, scopes := range map[string]string{"too little": "openid", "the other mode's scope": gmail.ModeSearch.Scope(), "too much": everything + " " + gmail.ModeMetadata.Scope()} {
		t.Run(name+" was granted", func(t *testing.T) {
			s := e.side(t, gmail.ModeMetadata)
			s.tokens.kept["rita"] = gmail.RefreshToken(e.consent(t, s.cfg.Address, scopes).RefreshToken)
			refused(t, s.cfg, providers.ClassUnauthorized, "granted")
		})
	}
	t.Run("the verifier is another one", func(t *testing.T) {
		s, cfg := e.connecting(t, gmail.ModeMetadata)
		cfg.Transport = forgetful{e.transport}
		err := e.browse(t, cfg, cfg.Address)
		if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), "invalid_grant") || len(s.tokens.kept) != 0 {
			t.Errorf("Connect: %v, %d tokens kept: the emulator does not look at PKCE", err, len(s.tokens.kept))
		}
	})
}

// forgetful spoils the PKCE verifier: a check of the check.
type forgetful struct{ next http.RoundTripper }

func (f forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return f.next.RoundTrip(r)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(strings.NewReader(strings.Replace(string(b), "code_verifier=", "code_verifier=x", 1)))
	r.ContentLength++
	return f.next.RoundTrip(r)
}

func testEmulatorAccess(t *testing.T, e *emulator) {
	t.Run("one dies between two polls", func(t *testing.T) {
		s := e.side(t, gmail.ModeMetadata)
		s.cfg.PageSize = 0
		mb := open(t, s.cfg)
		cur := drain(t, mb, start(t, mb)).cur
		ids := numbered(40, "n")
		for _, id := range ids {
			s.deliver(t, mail(id), lately())
		}
		e.revoke(t, s.calls.lastToken())
		same(t, "the news", drain(t, mb, cur).ids, ids)
		if n := s.calls.made("token"); n != 2 {
			t.Errorf("%d tokens were fetched, want 2: the first and the one after", n)
		}
	})
	t.Run("one dies while several calls are under way", func(t *testing.T) {
		s := e.side(t, gmail.ModeMetadata)
		s.cfg.PageSize = 0
		ids := numbered(40, "n")
		for _, id := range ids {
			s.deliver(t, mail(id), lately())
		}
		var gets atomic.Int32
		s.calls.before = func(call string) {
			if call == "get" && gets.Add(1) == 20 {
				e.revoke(t, s.calls.lastToken())
			}
		}
		mb := open(t, s.cfg)
		same(t, "the window", drain(t, mb, start(t, mb)).ids, ids)
		if n := s.calls.made("token"); n != 2 {
			t.Errorf("%d tokens were fetched, want 2: calls that are refused together share one", n)
		}
	})
	t.Run("the first is nonsense", func(t *testing.T) {
		s := e.side(t, gmail.ModeMetadata)
		s.cfg.Credential = nonsenseFirst{s.cfg.Credential}
		s.readable(t)
	})
	t.Run("all are nonsense", func(t *testing.T) {
		s := e.side(t, gmail.ModeMetadata)
		s.cfg.Credential = nonsenseFirst{nonsense{}}
		refused(t, s.cfg, providers.ClassUnauthorized, "neither the old nor a new access token")
		if n := s.calls.made("profile"); n != 2 {
			t.Errorf("the refused call was made %d times, want 2", n)
		}
	})
}

// nonsense gives out a token that nobody was given.
type nonsense struct{}

func (nonsense) Token(context.Context, string) (string, error) { return "nonsense", nil }

// nonsenseFirst gives out nonsense until it is refused.
type nonsenseFirst struct{ gmail.Credential }

func (n nonsenseFirst) Token(ctx context.Context, refused string) (string, error) {
	if refused == "" {
		return "nonsense", nil
	}
	return n.Credential.Token(ctx, refused)
}

func testEmulatorWithdrawn(t *testing.T, e *emulator) {
	s := e.side(t, gmail.ModeMetadata)
	p := gmail.New(s.cfg)
	mb, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cur := drain(t, mb, start(t, mb)).cur
	s.withdraw()
	e.revoke(t, s.calls.lastToken()) // Google ends both together
	_, err = mb.Next(t.Context(), cur, window())
	if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("the poll after it: %v", err)
	}
	if _, err := p.Open(t.Context()); !errors.Is(err, providers.ErrUnauthorized) {
		t.Errorf("the next session: %v", err)
	}

	s.deliver(t, mail("meanwhile@x"), lately())
	s.tokens.kept["rita"] = gmail.RefreshToken(e.consent(t, s.cfg.Address, s.cfg.Mode.Scope()).RefreshToken)
	if mb, err = p.Open(t.Context()); err != nil {
		t.Fatalf("after connecting again: %v", err)
	}
	same(t, "what came meanwhile", drain(t, mb, cur).ids, []string{"meanwhile@x"})
}
