package imap

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"mailsyncd/providers"
)

// login waits for the greeting and authenticates: two round trips where the
// greeting tells the capabilities, three where it does not.
func (s *session) login(secret string) error {
	if err := s.client.WaitGreeting(); err != nil {
		return s.why("waiting for the greeting", err)
	}
	if s.client.State() == imap.ConnStateAuthenticated {
		return nil // PREAUTH under TLS or on this machine: who we are is settled
	}
	caps := s.client.Caps()
	if caps == nil {
		return s.why("asking for the capabilities", errors.New("no answer"))
	}
	var err error
	switch s.p.cfg.Auth {
	case AuthPassword:
		err = s.passwordLogin(caps, secret)
	default:
		err = s.tokenLogin(caps, secret)
	}
	if err != nil {
		return scrub(s.loginError(err), secret)
	}
	return nil
}

// passwordLogin prefers SASL PLAIN, which has no trouble with quotes and
// characters outside ASCII (RFC 4616).
func (s *session) passwordLogin(caps imap.CapSet, secret string) error {
	user := s.p.cfg.Username
	if strings.ContainsAny(user+secret, "\x00\r\n") {
		return classed(providers.ClassConfig, "the user name or password holds a line break or NUL; check the file for a stray character")
	}
	switch {
	case caps.Has(imap.AuthCap(sasl.Plain)):
		return s.client.Authenticate(sasl.NewPlainClient("", user, secret))
	case !caps.Has(imap.CapLoginDisabled): // RFC 9051 §6.2.3
		return s.client.Login(user, secret).Wait()
	case caps.Has(imap.AuthCap(sasl.Login)):
		return s.client.Authenticate(sasl.NewLoginClient(user, secret))
	}
	return classed(providers.ClassConfig, "the server takes no password on this connection; use tls: implicit, or a token (auth: xoauth2)")
}

func (s *session) tokenLogin(caps imap.CapSet, token string) error {
	user := s.p.cfg.Username
	if strings.ContainsAny(user+token, "\x00\x01\r\n") {
		return classed(providers.ClassConfig, "the user name or token holds a control character; check the file for a stray one")
	}
	mech, client := "XOAUTH2", sasl.Client(&xoauth2{user: user, token: token})
	if s.p.cfg.Auth == AuthOAuthBearer {
		mech = sasl.OAuthBearer
		client = bearer{sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{
			Username: user, Token: token, Host: s.p.cfg.Host, Port: s.p.cfg.Port,
		})}
	}
	if !caps.Has(imap.AuthCap(mech)) {
		return classed(providers.ClassConfig, "the server does not offer %s; check host and auth", mech)
	}
	return s.client.Authenticate(client)
}

// scrub takes the secret out of a text that a server may have put it into.
func scrub(err error, secret string) error {
	if secret == "" || !strings.Contains(err.Error(), secret) {
		return err
	}
	if errors.Is(err, providers.ErrUnauthorized) {
		return fmt.Errorf("%w: check the user name and the password or token", providers.ErrUnauthorized)
	}
	return classed(providers.Classify(err), "the server refused the login")
}

// xoauth2 is the mechanism of Google and Microsoft that no RFC describes: the
// initial response of OAUTHBEARER in older clothes.
type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (mech string, ir []byte, err error) {
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next is called only for a refusal: it holds JSON with a status. The exchange
// is left open, so the caller must end the connection.
func (x *xoauth2) Next(challenge []byte) ([]byte, error) { return nil, refusedToken(challenge) }

// bearer reads the refusal of OAUTHBEARER the same way (RFC 7628 §3.2.2).
type bearer struct{ sasl.Client }

func (b bearer) Next(challenge []byte) ([]byte, error) { return nil, refusedToken(challenge) }

// challengeError is a refused token with the status the server gave.
type challengeError struct{ status string }

func refusedToken(challenge []byte) error {
	var c struct{ Status json.RawMessage }
	_ = json.Unmarshal(challenge, &c) // unreadable is as good as none
	return &challengeError{status: strings.Trim(string(c.Status), `"`)}
}

func (e *challengeError) Error() string {
	return "the server refused the token, status " + foreign(e.status)
}

// classify: a server's own trouble (5xx, 429) says nothing about the token.
func (e *challengeError) classify() error {
	if len(e.status) == 3 && (e.status[0] == '5' || e.status == "429") {
		return &providers.ThrottledError{Err: e}
	}
	return fmt.Errorf("%w: %s; get a new token", providers.ErrUnauthorized, e.Error())
}
