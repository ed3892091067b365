package gmail

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"mailsyncd/providers"
)

// Mode says how much Google lets this program see, and so how old mail is found.
type Mode string

const (
	// ModeMetadata uses the scope gmail.metadata: headers and labels, no bodies,
	// and no search on the server. Old mail is found by reading the headers of
	// the window, newest first: complete, and 20 units a mail.
	ModeMetadata Mode = "metadata"
	// ModeSearch uses the scope gmail.readonly, because Google searches for no
	// smaller one. Old mail is found by asking for candidates' addresses, at once
	// and cheaply. The scope would allow to read bodies; the gate of this package
	// refuses to. What the search cannot ask for (Sender; Reply-To for certain) is
	// found only by whoever also walks all headers.
	ModeSearch Mode = "search"
)

// Scope is the OAuth scope that a mode needs. Never ask for both: Google treats
// a token that has both as metadata.
func (m Mode) Scope() string {
	if m == ModeSearch {
		return "https://www.googleapis.com/auth/gmail.readonly"
	}
	return "https://www.googleapis.com/auth/gmail.metadata"
}

// Explain says in one sentence what a mode trades, for whoever has to choose.
func (m Mode) Explain() string {
	if m == ModeSearch {
		return "search (gmail.readonly): Google finds candidates' old mail, at once and at little cost, but the scope would allow to read bodies (this program refuses to); unless sync.reconcile is 0, headers of the window are read once a day all the same, for what the search does not find"
	}
	return "metadata (gmail.metadata): Google hands out headers only, and finding old mail reads the headers of the whole window, 20 quota units a mail"
}

// Credential gives out access tokens for one mailbox.
type Credential interface {
	// Token returns an access token. refused is one that the server has just
	// refused, "" otherwise: it is not given out again. Errors are classed:
	// ErrUnauthorized when a person must act.
	Token(ctx context.Context, refused string) (string, error)
}

// RefreshToken is the secret that stands for a user's consent. It prints as
// "[redacted]".
type RefreshToken string

// String hides the token.
func (RefreshToken) String() string { return "[redacted]" }

// GoString hides the token from %#v.
func (RefreshToken) GoString() string { return "[redacted]" }

// LogValue hides the token from slog.
func (RefreshToken) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// TokenStore keeps one refresh token per mailbox, sealed.
type TokenStore interface {
	// LoadToken returns the token of a mailbox; "" when none is kept.
	LoadToken(ctx context.Context, mailbox string) (RefreshToken, error)
	// SaveToken replaces it. It is durable when SaveToken returns.
	SaveToken(ctx context.Context, mailbox string, token RefreshToken) error
}

// Client is the OAuth client of the company's own Cloud project: an installed
// app ("Desktop app"), whose secret is no secret.
type Client struct {
	ID     string
	Secret string
	// AuthURL and TokenURL are Google's when empty.
	AuthURL, TokenURL string
}

// ParseClient reads the JSON file that the Google Cloud console offers for an
// OAuth client of the type "Desktop app".
func ParseClient(file []byte) (Client, error) {
	var f struct {
		Installed *struct {
			ID       string `json:"client_id"`
			Secret   string `json:"client_secret"`
			AuthURL  string `json:"auth_uri"`
			TokenURL string `json:"token_uri"`
		} `json:"installed"`
	}
	if json.Unmarshal(file, &f) != nil || f.Installed == nil || f.Installed.ID == "" {
		return Client{}, classed(providers.ClassConfig, `this is not the file of an OAuth client of the type "Desktop app"; create one in the Google Cloud console under Credentials and download its JSON`)
	}
	return Client{ID: f.Installed.ID, Secret: f.Installed.Secret, AuthURL: f.Installed.AuthURL, TokenURL: f.Installed.TokenURL}, nil
}

func (c Client) oauth(scope, redirect string) *oauth2.Config {
	end := google.Endpoint
	end.AuthStyle = oauth2.AuthStyleInParams // as Google documents it; saves the probing
	if c.AuthURL != "" {
		end.AuthURL = c.AuthURL
	}
	if c.TokenURL != "" {
		end.TokenURL = c.TokenURL
	}
	return &oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, Endpoint: end, Scopes: []string{scope}, RedirectURL: redirect}
}

// tokenTimeout bounds one call of a token endpoint.
const tokenTimeout = 30 * time.Second

// expirySlack is how long before its end a token is no longer used: longer than
// a call takes.
const expirySlack = time.Minute

// cached gives out one token until it ends or is refused. Calls that need a new
// one at the same time wait for one fetch.
type cached struct {
	fetch func(context.Context) (*oauth2.Token, error)
	// source, if not nil, tells what a token is fetched with: one that came from
	// something else is not given out.
	source func(context.Context) (RefreshToken, error)
	scope  string
	meter  *providers.Meter
	turn   chan struct{} // holds the right to look and fetch
	token  *oauth2.Token
	from   RefreshToken // what token was fetched with
}

func newCached(scope string, m *providers.Meter, fetch func(context.Context) (*oauth2.Token, error)) *cached {
	return &cached{fetch: fetch, scope: scope, meter: m, turn: make(chan struct{}, 1)}
}

// Token implements Credential.
func (c *cached) Token(ctx context.Context, refused string) (string, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	from, err := c.sourceNow(ctx)
	if err != nil {
		return "", err
	}
	if t := c.token; t != nil && c.from == from && t.AccessToken != refused && time.Until(t.Expiry) > expirySlack {
		return t.AccessToken, nil
	}
	c.token = nil
	t, err := c.renew(ctx)
	c.meter.Request(operationToken, result(err))
	if err != nil {
		return "", err
	}
	if c.from, err = c.sourceNow(ctx); err != nil { // it may have been rotated
		return "", err
	}
	c.token = t
	return t.AccessToken, nil
}

func (c *cached) sourceNow(ctx context.Context) (RefreshToken, error) {
	if c.source == nil {
		return "", nil
	}
	return c.source(ctx)
}

func (c *cached) renew(ctx context.Context) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	t, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return t, checkScopes(t, c.scope)
}

// ServiceAccountConfig is a service account with domain-wide delegation: one
// key for all mailboxes of a domain.
type ServiceAccountConfig struct {
	// Key returns the JSON key file; it is asked whenever a token is fetched, so
	// that a replaced file counts at once.
	Key func(context.Context) ([]byte, error)
	// Subject is the address of the mailbox to act for.
	Subject string
	Mode    Mode
	// Transport carries the calls of the token endpoint; nil: http.DefaultTransport.
	Transport http.RoundTripper
	Meter     *providers.Meter
}

// ServiceAccount makes the credential of one mailbox from a service account.
func ServiceAccount(cfg ServiceAccountConfig) Credential {
	return newCached(cfg.Mode.Scope(), cfg.Meter, cfg.fetch)
}

func (cfg ServiceAccountConfig) fetch(ctx context.Context) (*oauth2.Token, error) {
	file, err := cfg.Key(ctx)
	if err != nil {
		return nil, classed(providers.ClassConfig, "reading the key of the service account: %w", err)
	}
	if err := CheckServiceAccountKey(file); err != nil {
		return nil, err
	}
	key, err := google.JWTConfigFromJSON(file, cfg.Mode.Scope())
	if err != nil {
		return nil, classed(providers.ClassConfig, "reading the key of the service account: %w", err)
	}
	key.Subject = cfg.Subject
	t, err := key.TokenSource(withHTTP(ctx, cfg.Transport)).Token()
	if err != nil {
		return nil, tokenError(ctx, err, serviceAccountHints)
	}
	return t, nil
}

// CheckServiceAccountKey says what is wrong with a JSON key file, without asking
// Google.
func CheckServiceAccountKey(file []byte) error {
	key, err := google.JWTConfigFromJSON(file)
	if err != nil || !isPrivateKey(key.PrivateKey) {
		return classed(providers.ClassConfig, "the key of the service account is not a JSON key file; create one in the Google Cloud console")
	}
	return nil
}

// isPrivateKey tells whether this is an RSA key as a key file holds it. Without
// this, x/oauth2 would report a broken file in the words of a broken network.
func isPrivateKey(text []byte) bool {
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	_, err8 := x509.ParsePKCS8PrivateKey(block.Bytes)
	_, err1 := x509.ParsePKCS1PrivateKey(block.Bytes)
	return err8 == nil || err1 == nil
}

// UserConfig is one user's own consent, as Connect obtained it.
type UserConfig struct {
	// Mailbox is the name under which Tokens keeps the refresh token.
	Mailbox string
	Client  Client
	Mode    Mode
	Tokens  TokenStore
	// Transport carries the calls of the token endpoint; nil: http.DefaultTransport.
	Transport http.RoundTripper
	Meter     *providers.Meter
}

// User makes the credential of one mailbox from its user's consent. The refresh
// token is read from the store whenever an access token is needed, so that a new
// consent counts as soon as it is there, and one that was erased opens nothing
// from then on.
func User(cfg UserConfig) Credential {
	u := &user{cfg: cfg}
	c := newCached(cfg.Mode.Scope(), cfg.Meter, u.fetch)
	c.source = u.load
	return c
}

type user struct {
	cfg UserConfig
	// unsaved is a rotated token that the store would not take yet: the old one
	// may be dead by now, so it is not let go.
	unsaved RefreshToken
}

func (u *user) fetch(ctx context.Context) (*oauth2.Token, error) {
	refresh, err := u.load(ctx)
	if err != nil {
		return nil, err
	}
	conf := u.cfg.Client.oauth(u.cfg.Mode.Scope(), "")
	t, err := conf.TokenSource(withHTTP(ctx, u.cfg.Transport), &oauth2.Token{RefreshToken: string(refresh)}).Token()
	if err != nil {
		return nil, tokenError(ctx, err, userHints)
	}
	if rotated := RefreshToken(t.RefreshToken); rotated != "" && rotated != refresh {
		u.unsaved = rotated
		return t, u.save(ctx)
	}
	return t, nil
}

func (u *user) load(ctx context.Context) (RefreshToken, error) {
	if u.unsaved != "" {
		if err := u.save(ctx); err != nil {
			return "", err
		}
	}
	refresh, err := u.cfg.Tokens.LoadToken(ctx, u.cfg.Mailbox)
	if err != nil {
		return "", classed(providers.ClassConfig, "loading the refresh token: %w", err)
	}
	if refresh == "" {
		return "", fmt.Errorf("%w: the mailbox is not connected; run mailsyncd connect for it", providers.ErrUnauthorized)
	}
	return refresh, nil
}

// save keeps a rotated token. Stopping the daemon must not lose it.
func (u *user) save(ctx context.Context) error {
	if err := u.cfg.Tokens.SaveToken(context.WithoutCancel(ctx), u.cfg.Mailbox, u.unsaved); err != nil {
		return classed(providers.ClassConfig, "saving the renewed refresh token: %w", err)
	}
	u.unsaved = ""
	return nil
}

// withHTTP tells x/oauth2 what to make its calls with.
func withHTTP(ctx context.Context, rt http.RoundTripper) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport: rt, Timeout: tokenTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

// Scopes that Google adds to a consent by itself, and that show nothing of mail.
var harmlessScopes = []string{
	"openid", "email", "profile",
	"https://www.googleapis.com/auth/userinfo.email",
	"https://www.googleapis.com/auth/userinfo.profile",
}

// checkScopes compares what was granted with what is needed. A token endpoint
// that does not name scopes granted what was asked for (RFC 6749 §5.1).
func checkScopes(t *oauth2.Token, needed string) error {
	said, _ := t.Extra("scope").(string)
	granted := strings.Fields(said)
	if len(granted) == 0 {
		return nil
	}
	if !slices.Contains(granted, needed) {
		return fmt.Errorf("%w: the scope %s was not granted; connect the mailbox again and leave its box ticked", providers.ErrUnauthorized, needed)
	}
	var more []string
	for _, s := range granted {
		if s != needed && !slices.Contains(harmlessScopes, s) {
			more = append(more, scopeName(s))
		}
	}
	if len(more) > 0 {
		return fmt.Errorf("%w: more was granted than is needed (%s); remove the app's access in the Google account, then connect the mailbox again", providers.ErrUnauthorized, strings.Join(more, ", "))
	}
	return nil
}

// scopeName shortens Google's scopes, and hides what is not one.
func scopeName(s string) string {
	short := strings.TrimPrefix(s, "https://www.googleapis.com/auth/")
	if word(strings.ReplaceAll(short, ".", "_")) == "" && s != "https://mail.google.com/" {
		return "an unknown scope"
	}
	return short
}

// hints say what to do about an error code of a token endpoint (RFC 6749 §5.2
// and Google's own).
type hints map[string]string

var userHints = hints{
	"invalid_grant":         "the user's consent has ended (withdrawn, password changed, unused for six months, or the seven days of an app in testing); connect the mailbox again",
	"invalid_client":        "Google does not know the OAuth client; check the client file",
	"unauthorized_client":   "the OAuth client may not do this; it must be of the type Desktop app",
	"deleted_client":        "the OAuth client was deleted in the Google Cloud console; create one, then connect the mailbox again",
	"admin_policy_enforced": "the Workspace administrator does not allow this app; have it trusted in the Admin console under API controls",
	"org_internal":          "the app is internal to another organisation; use an OAuth client of the company's own Cloud project",
	"invalid_scope":         "the scope cannot be granted; check the consent screen of the Cloud project",
	"access_denied":         "the user or the administrator said no; connect the mailbox again",
}

var serviceAccountHints = hints{
	"invalid_grant":         "Google knows no active user with this mailbox's address, the key was deleted, or this machine's clock is off",
	"invalid_client":        "Google does not know the service account; check the key file",
	"unauthorized_client":   "the service account may not act for this domain; a super admin must allow its client id and the scope in the Admin console under domain-wide delegation",
	"admin_policy_enforced": "the Workspace administrator does not allow this app; have it trusted in the Admin console under API controls",
	"invalid_scope":         "the scope cannot be granted; check domain-wide delegation in the Admin console",
	"access_denied":         "the administrator said no; check domain-wide delegation in the Admin console",
}

// tokenError gives a failed fetch its class.
func tokenError(ctx context.Context, err error, known hints) error {
	var refused *oauth2.RetrieveError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("fetching an access token: %w", ctx.Err())
	case !errors.As(err, &refused):
		return classed(providers.ClassNetwork, "fetching an access token: %w", netCause(err))
	case refused.Response.StatusCode == http.StatusTooManyRequests:
		return &providers.ThrottledError{
			After: retryAfter(refused.Response.Header, time.Now()),
			Err:   errors.New("the token endpoint asks for a pause; it will be tried again by itself"),
		}
	case refused.Response.StatusCode >= 500:
		return classed(providers.ClassServer, "fetching an access token: the server failed (%d)", refused.Response.StatusCode)
	}
	return refusedToken(refused, known)
}

func refusedToken(e *oauth2.RetrieveError, known hints) error {
	code := word(errorCode(e))
	hint, ok := known[code]
	switch {
	case ok:
		return fmt.Errorf("%w: %s (%s)", providers.ErrUnauthorized, hint, code)
	case code == "slow_down", strings.Contains(strings.ToLower(code), "rate"):
		return &providers.ThrottledError{
			After: retryAfter(e.Response.Header, time.Now()),
			Err:   fmt.Errorf("the token endpoint asks for a pause (%s); it will be tried again by itself", code),
		}
	case code == "", code == "temporarily_unavailable", code == "server_error", code == "internal_failure":
		return classed(providers.ClassServer, "fetching an access token: unexpected answer %d %s", e.Response.StatusCode, code)
	}
	return fmt.Errorf("%w: the token endpoint said %s", providers.ErrUnauthorized, code)
}

// errorCode reads the code also where x/oauth2 leaves it in the body (its jwt
// package).
func errorCode(e *oauth2.RetrieveError) string {
	if e.ErrorCode != "" {
		return e.ErrorCode
	}
	var body struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(e.Body, &body) // an unreadable body names no code
	return body.Error
}
