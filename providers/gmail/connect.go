package gmail

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"mailsyncd/providers"
)

// ConnectConfig is what one consent needs.
type ConnectConfig struct {
	// Mailbox is the name under which Tokens keeps the refresh token, Address the
	// account that must give the consent.
	Mailbox, Address string
	Mode             Mode
	Client           Client
	Tokens           TokenStore

	// Out gets the URL and what to do with it.
	Out io.Writer
	// Pasted, if not nil, is read for the address that the browser was sent to:
	// for a machine without a browser (--no-browser). Nil: this program listens
	// on a loopback port for the browser.
	Pasted io.Reader
	// OpenBrowser opens a URL; nil or a failure: the user does it by hand.
	OpenBrowser func(url string) error

	// Endpoint and Transport are as in Config.
	Endpoint  string
	Transport http.RoundTripper
}

// Connect obtains a user's consent and keeps the refresh token: the flow for
// installed apps (RFC 8252) with PKCE (RFC 7636) and a state. Nothing is kept
// unless exactly the needed scope was granted by exactly the mailbox's account.
//
// A refused grant is not revoked: at Google that would end every other consent
// of the same account to this app, a working one included.
func Connect(ctx context.Context, cfg ConnectConfig) error {
	f, err := newFlow(ctx, cfg)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.show(); err != nil {
		return err
	}
	code, err := f.await(ctx)
	if err != nil {
		return err
	}
	token, err := f.exchange(ctx, code)
	if err != nil {
		return err
	}
	if err := f.checkAccount(ctx, token); err != nil {
		return err
	}
	if err := cfg.Tokens.SaveToken(ctx, cfg.Mailbox, RefreshToken(token.RefreshToken)); err != nil {
		return classed(providers.ClassConfig, "saving the refresh token: %w", err)
	}
	return nil
}

// flow is one consent under way.
type flow struct {
	cfg      ConnectConfig
	oauth    *oauth2.Config
	state    string
	verifier string
	listener net.Listener // nil when the redirect is pasted
}

func newFlow(ctx context.Context, cfg ConnectConfig) (*flow, error) {
	if cfg.Client.ID == "" || cfg.Tokens == nil || cfg.Address == "" {
		return nil, classed(providers.ClassConfig, "connecting needs an OAuth client, a place for the token and the mailbox's address")
	}
	if cfg.Mode == "" {
		cfg.Mode = ModeMetadata
	}
	f := &flow{cfg: cfg, state: rand.Text(), verifier: oauth2.GenerateVerifier()}
	host := pastedHost
	if cfg.Pasted == nil {
		var err error
		if f.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, classed(providers.ClassConfig, "listening for the browser: %w; use --no-browser", err)
		}
		host = f.listener.Addr().String()
	}
	// RFC 8252 §7.3: the loopback address, not "localhost", and any port.
	f.oauth = cfg.Client.oauth(cfg.Mode.Scope(), "http://"+host+"/")
	return f, nil
}

// pastedHost is where the browser is sent when nobody listens: a loopback port
// that nothing is known to use and that browsers do not block. The browser shows
// an error page there, and above it the address that is to be pasted. Whatever
// may answer learns a code that is worth nothing without the verifier.
const pastedHost = "127.0.0.1:49817"

func (f *flow) close() {
	if f.listener != nil {
		_ = f.listener.Close()
	}
}

// show tells the user where to go.
func (f *flow) show() error {
	where := f.oauth.AuthCodeURL(f.state, oauth2.AccessTypeOffline, oauth2.S256ChallengeOption(f.verifier),
		oauth2.SetAuthURLParam("prompt", "consent"), // else Google gives no refresh token the second time
		oauth2.SetAuthURLParam("login_hint", f.cfg.Address))
	text := "Open this address in a browser, as the user of the mailbox, and allow the access:\n\n" + where + "\n\n"
	switch {
	case f.cfg.Pasted != nil:
		text += "The browser then shows a page that cannot be reached. Copy its address and paste it here:\n"
	case f.cfg.OpenBrowser != nil && f.cfg.OpenBrowser(where) == nil:
		text = "Waiting for the consent in the browser window that has just opened. If there is none:\n\n" + text
	}
	if _, err := io.WriteString(f.cfg.Out, text); err != nil {
		return fmt.Errorf("showing the address to open: %w", err)
	}
	return nil
}

// await returns the authorization code.
func (f *flow) await(ctx context.Context) (string, error) {
	if f.cfg.Pasted != nil {
		return f.paste(ctx)
	}
	return f.listen(ctx)
}

type reply struct {
	code string
	err  error
}

// paste reads the redirect from a line of text. A reader cannot be interrupted:
// when ctx ends first, the goroutine that reads stays until the reader ends,
// which for a terminal is the end of the process.
func (f *flow) paste(ctx context.Context) (string, error) {
	got := make(chan reply, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(f.cfg.Pasted, maxPasted)).ReadString('\n')
		line = strings.TrimSpace(line)
		if line == "" {
			got <- reply{err: fmt.Errorf("no address was pasted: %w", errors.Join(err, errNoConsent))}
			return
		}
		code, err := f.codeIn(line)
		got <- reply{code, err}
	}()
	select {
	case r := <-got:
		return r.code, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for the pasted address: %w", ctx.Err())
	}
}

const maxPasted = 16 << 10

var errNoConsent = errors.New("the mailbox is not connected; run the command again")

// codeIn reads a pasted redirect.
func (f *flow) codeIn(line string) (string, error) {
	u, err := url.Parse(line)
	if err != nil {
		return "", fmt.Errorf("what was pasted is not an address; copy the whole of it, from http:// on: %w", errNoConsent)
	}
	if !f.ours(u.Query()) {
		return "", fmt.Errorf("the pasted address is not the answer to this attempt: %w", errNoConsent)
	}
	return codeOf(u.Query())
}

// ours tells whether an answer belongs to this attempt (RFC 6749 §10.12).
func (f *flow) ours(q url.Values) bool {
	return subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.state)) == 1
}

// codeOf reads an answer of ours (RFC 6749 §4.1.2).
func codeOf(q url.Values) (string, error) {
	if e := q.Get("error"); e != "" {
		code := word(e)
		hint := userHints[code]
		if hint == "" {
			hint = "Google did not give the access"
		}
		return "", fmt.Errorf("%w: %s (%s)", providers.ErrUnauthorized, hint, code)
	}
	if q.Get("code") == "" {
		return "", fmt.Errorf("the answer holds no code: %w", errNoConsent)
	}
	return q.Get("code"), nil
}

// listen waits for the browser. A request that does not know the state is
// answered and otherwise left alone: any page in the browser can make one.
func (f *flow) listen(ctx context.Context) (string, error) {
	got := make(chan reply, 1)
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.answer(w, r, got) }),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(f.listener) }()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(bounded) != nil {
			_ = srv.Close()
		}
		<-served
	}()
	select {
	case r := <-got:
		return r.code, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for the consent: %w", ctx.Err())
	}
}

func (f *flow) answer(w http.ResponseWriter, r *http.Request, got chan<- reply) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer") // the address holds the code
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != "/" || !f.ours(q) {
		http.Error(w, "This is not the answer that mailsyncd is waiting for.", http.StatusBadRequest)
		return
	}
	code, err := codeOf(q)
	text := "The consent has arrived. Close this window and look at the terminal.\n"
	if err != nil {
		text = "The access was not given. Look at the terminal.\n"
	}
	_, _ = io.WriteString(w, text)
	select {
	case got <- reply{code, err}:
	default: // the first answer counts
	}
}

// exchange turns the code into tokens, and refuses a grant that is not exactly
// the one that is needed.
func (f *flow) exchange(ctx context.Context, code string) (*oauth2.Token, error) {
	t, err := f.oauth.Exchange(withHTTP(ctx, f.cfg.Transport), code, oauth2.VerifierOption(f.verifier))
	if err != nil {
		return nil, tokenError(ctx, err, userHints)
	}
	if err := checkScopes(t, f.cfg.Mode.Scope()); err != nil {
		return nil, err
	}
	if t.RefreshToken == "" {
		return nil, fmt.Errorf("%w: Google gave no refresh token; remove the app's access in the Google account, then connect again", providers.ErrUnauthorized)
	}
	return t, nil
}

// checkAccount asks whose account the token opens.
func (f *flow) checkAccount(ctx context.Context, t *oauth2.Token) error {
	p := New(Config{
		Address: f.cfg.Address, Mode: f.cfg.Mode, Credential: fixed(t.AccessToken),
		Endpoint: f.cfg.Endpoint, Transport: f.cfg.Transport,
	})
	mb, err := p.Open(ctx)
	if err != nil {
		return err
	}
	return mb.Close()
}

// fixed is a token that cannot be renewed.
type fixed string

func (t fixed) Token(_ context.Context, refused string) (string, error) {
	if refused != "" {
		return "", fmt.Errorf("%w: Google refuses the access token it has just given", providers.ErrUnauthorized)
	}
	return string(t), nil
}
