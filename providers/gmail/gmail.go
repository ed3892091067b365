// Package gmail reads the headers of a mailbox through the Gmail API. It
// answers one question: which mail is new since a cursor, whatever Google's
// quotas, expiries and quirks do in between.
//
// How it stays right:
//
//   - The position is a history id, and it is read before any listing begins: a
//     listing can repeat what comes later, never leave a hole.
//   - The mailbox's id as the first page of a history listing tells it becomes
//     the next position; a page without changes but with a page token is normal.
//   - Ids that were listed and not read yet wait in the cursor, and so do mails
//     that the server would not hand out: nothing blocks, nothing vanishes.
//   - Where the history is forgotten (404, or 400 on the id, or an id that went
//     back) the window is walked again; whoever reads the pages drops repeats.
//   - Mail rescued from Spam or Trash shows as a removed label, and counts as new.
//
// How it stays harmless: metadata only, and through a field mask, because
// Gmail's metadata holds a snippet of the body. A round-tripper beneath the
// generated client (gate) refuses every other call and every other form.
//
// How it stays within quota: every call is priced in units and passes a Limiter
// that all mailboxes of a Cloud project share. A quiet poll is one call of two
// units; new mail costs twenty each.
//
// Mail is found as https://developers.google.com/workspace/gmail/api/guides/sync
// describes it; units are those of .../gmail/api/reference/quota.
package gmail

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/gmail/v1"
	"google.golang.org/api/option"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// Config describes one mailbox.
type Config struct {
	// Address is the account's primary address. The account behind the credential
	// must have it: reading somebody else's mailbox is the worst mistake of all.
	Address string
	// Mode is metadata when empty.
	Mode Mode
	// Credential gives out access tokens: ServiceAccount or User.
	Credential Credential

	// Limiter is shared by all mailboxes of a Cloud project; nil: no limit.
	Limiter *Limiter
	// QuotaKey names the user that the calls are counted for. Empty: this
	// mailbox. Give all mailboxes of a service account one key if Google turns out
	// to count them as one user.
	QuotaKey string

	// IgnoreLabels names user labels to leave out, with everything below them
	// ("Privat" also means "Privat/Sport"); case does not matter. Spam, Trash,
	// drafts and chats are always left out.
	IgnoreLabels []string
	// Candidates returns the folded addresses that are matchable now, and is used
	// in search mode: walks of the window then ask for their mail instead of
	// reading every header. It must be at least as new as what the caller decides
	// a page with. Nil: walks read every header.
	Candidates func() []string

	// Endpoint is where the API is; empty: Google's.
	Endpoint string
	// Transport carries the calls; share one between mailboxes, so that they
	// share connections. Nil: http.DefaultTransport.
	Transport http.RoundTripper
	// Timeout bounds one call; 0: 30 s.
	Timeout time.Duration
	// PageSize is the largest number of messages of a page; 0 means 100, which is
	// what one page can cost twice after a crash: 2,000 units.
	PageSize int
	// AtOnce bounds the calls of this mailbox that are under way at a time; 0: 4,
	// and fewer while Gmail refuses calls. Tests that must play the same again set
	// it to 1.
	AtOnce int
	// Logger gets what an operator should know, once per change. Nil: nothing.
	Logger *slog.Logger
	// Meter counts requests and bytes; nil: nothing is counted.
	Meter *providers.Meter
	// Version of this program, told to the server as user agent.
	Version string
}

const (
	defaultEndpoint = "https://gmail.googleapis.com/"
	defaultTimeout  = 30 * time.Second
	defaultPageSize = 100
	maxPageSize     = 500
	// Gmail answers 429 to more concurrency of one user than it likes, and does not
	// say how much that is.
	defaultAtOnce = 4
	// The account behind a credential is looked at again after this long.
	verifyEvery = 24 * time.Hour
)

// Provider opens sessions with one mailbox. It remembers between sessions only
// what is cheap to learn again.
type Provider struct {
	cfg  Config
	key  string // of the limiter, and quotaUser: a hash
	svc  *gmail.Service
	err  error // of making svc
	link string

	notices *providers.Notices

	mu       sync.Mutex
	verified time.Time       // when the account was last looked at
	atOnce   int             // calls under way at a time
	labels   map[string]bool // label ids that exist: true for ignored ones; nil: not read yet
}

var _ providers.Opener = (*Provider)(nil)

// New makes a provider. It does no I/O; Open reports what is wrong with cfg.
func New(cfg Config) *Provider {
	setDefaults(&cfg)
	p := &Provider{cfg: cfg, key: quotaKey(cfg), atOnce: cfg.AtOnce, notices: providers.NewNotices(cfg.Logger, Name)}
	p.link = "https://mail.google.com/mail/?authuser=" + url.QueryEscape(cfg.Address) + "#all/"
	p.svc, p.err = newService(cfg)
	return p
}

func setDefaults(cfg *Config) {
	if cfg.Mode == "" {
		cfg.Mode = ModeMetadata
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = defaultEndpoint
	}
	if !strings.HasSuffix(cfg.Endpoint, "/") {
		cfg.Endpoint += "/"
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.PageSize <= 0 || cfg.PageSize > maxPageSize {
		cfg.PageSize = defaultPageSize
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = defaultAtOnce
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}

// quotaKey hashes the key: it is also sent to Google as quotaUser, which takes
// 40 characters and needs to know no address.
func quotaKey(cfg Config) string {
	key := cfg.QuotaKey
	if key == "" {
		key = message.Fold(cfg.Address)
	}
	sum := sha256.Sum256([]byte("mailsyncd quota\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// newService puts the round-trippers together: gate, then authorizer, then
// meter. The generated client logs requests and answers when an environment
// variable says so; its logger is taken away, because they hold addresses.
func newService(cfg Config) (*gmail.Service, error) {
	base, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, errors.New("the endpoint is not a URL")
	}
	var rt http.RoundTripper = &counting{meter: cfg.Meter, next: cfg.Transport}
	rt = &authorizer{credential: cfg.Credential, next: rt}
	rt = &gate{base: base, next: rt}
	client := &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	svc, err := gmail.NewService(context.Background(), option.WithHTTPClient(client),
		option.WithEndpoint(cfg.Endpoint), option.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, fmt.Errorf("making the Gmail client: %w", err)
	}
	svc.UserAgent = "mailsyncd/" + cfg.Version + " (gzip)" // Google compresses only for agents that say gzip
	return svc, nil
}

// Validate reports what can be wrong with a configuration without asking the
// server.
func (c Config) Validate() error {
	setDefaults(&c)
	var errs []error
	if message.Domain(message.Fold(c.Address)) == "" {
		errs = append(errs, errors.New("the mailbox's address is missing or is none"))
	}
	if c.Credential == nil {
		errs = append(errs, errors.New("the credential is missing"))
	}
	if c.Mode != ModeMetadata && c.Mode != ModeSearch {
		errs = append(errs, fmt.Errorf("mode is %q; use metadata or search", c.Mode))
	}
	if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "https" && !isLoopback(u) {
		errs = append(errs, errors.New("the endpoint is not an https URL"))
	}
	return errors.Join(errs...)
}

// isLoopback tells whether plain HTTP to this URL stays on this machine.
func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// Open gets an access token and, once a day, looks whose account it opens.
func (p *Provider) Open(ctx context.Context) (providers.Mailbox, error) {
	if err := p.cfg.Validate(); err != nil {
		return nil, classed(providers.ClassConfig, "gmail settings: %w", err)
	}
	if p.err != nil {
		return nil, classed(providers.ClassConfig, "gmail settings: %w", p.err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening the mailbox: %w", err)
	}
	if _, err := p.cfg.Credential.Token(ctx, ""); err != nil {
		return nil, err
	}
	s := &session{p: p}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// lessAtOnce halves how many calls are under way at a time.
func (p *Provider) lessAtOnce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce = max(1, p.atOnce/2)
}

// moreAtOnce takes back one step of lessAtOnce, after a page that went well.
func (p *Provider) moreAtOnce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce = min(p.cfg.AtOnce, p.atOnce+1)
}

func (p *Provider) width() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.atOnce
}
