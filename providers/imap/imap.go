// Package imap reads the headers of a mailbox over IMAP (RFC 3501, RFC 9051).
// It answers one question: which mail is new since a cursor, whatever the
// server does in between.
//
// How it stays right:
//
//   - The position is UIDVALIDITY and UIDNEXT per folder (RFC 9051 §2.3.1.1).
//     New, moved and copied mail all get a UID at or above the UIDNEXT of the
//     folder they land in, so nothing else is needed; flags and deletions are of
//     no interest, and neither is CONDSTORE.
//   - The position moves only over a range whose FETCH ended in a tagged OK and
//     of which every mail that SEARCH lists was handed out whole. What the server
//     lists but will not hand out goes to a retry list in the cursor.
//   - Where the numbering cannot be trusted any more (UIDVALIDITY changed, UIDNEXT
//     went back, a folder has another name) the window is walked again; whoever
//     reads the pages drops the repeats.
//
// How it stays harmless: folders are opened with EXAMINE, headers are read with
// BODY.PEEK, and package wire beneath refuses to send anything else. SELECT is
// used with servers whose EXAMINE cannot be trusted (Courier); it changes
// nothing but \Recent.
//
// How it stays quick: LIST with STATUS tells in one round trip whether anything
// changed; a folder is opened, searched and fetched in one flight, and so are all
// folders with a few new mails together; the FETCH of the next page is under way
// while the caller works on this one.
//
// A search for addresses is a walk over their header fields, with the server's
// SEARCH as a hint of where to begin: no SEARCH finds all that the header walk
// finds, and whether mail or candidate came first must not matter (see wanted).
//
// The library (go-imap) writes commands and understands their completion.
// Answers pass package wire first, which hands FETCH rows and SEARCH results
// straight to this package.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/imap/wire"
)

// TLSMode says how the connection is protected.
type TLSMode string

// The modes.
const (
	TLSImplicit TLSMode = "implicit" // TLS from the first byte (RFC 8314), port 993
	TLSStart    TLSMode = "starttls" // upgraded before anything else is said, or not used at all; port 143
	TLSNone     TLSMode = "none"     // plain text, to this machine only; port 143
)

// AuthKind says what the credential is.
type AuthKind string

// The kinds.
const (
	AuthPassword    AuthKind = "password"    // SASL PLAIN, else LOGIN
	AuthXOAUTH2     AuthKind = "xoauth2"     // an access token, as Google and Microsoft take it
	AuthOAuthBearer AuthKind = "oauthbearer" // an access token, RFC 7628
)

// Config describes one mailbox.
type Config struct {
	// Host is a DNS name or an IP address; it is also the name the certificate
	// must show.
	Host string
	// Port 0 means 993 for implicit TLS, else 143.
	Port int
	// TLS is implicit when empty.
	TLS TLSMode
	// CAFile holds PEM certificates that are trusted instead of the system's; it
	// is looked at with every Open. Empty: the system's.
	CAFile string
	// CAs keeps what CAFile held. Share it between all mailboxes. Nil: the provider
	// keeps its own.
	CAs *CAs
	// Server is what is known of the server's TLS. Share it between the mailboxes of
	// a server, so that one poll resumes the session of another. Nil: the provider
	// keeps its own.
	Server *Server

	Username string
	// Auth is password when empty.
	Auth AuthKind
	// Credential returns the password or token; it is asked at every Open, so
	// that a changed file counts at once.
	Credential func(context.Context) (string, error)

	// IgnoreFolders names folders to leave out, with everything below them; case
	// does not matter.
	IgnoreFolders []string

	// Timeouts bound every wait; zero fields have the defaults.
	Timeouts Timeouts
	// Limits bound what a server may send; the zero value means the defaults.
	Limits wire.Limits
	// PageSize is the largest number of messages of a page and of UIDs of a
	// FETCH; 0 means 500.
	PageSize int
	// Patience is how long the rest of a search for addresses may take before the
	// server is asked where to begin; 0 means 10 s.
	Patience time.Duration
	// Dial opens the TCP connection; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets what an operator should know, once per change. Nil: nothing.
	Logger *slog.Logger
	// Meter counts requests (open, list, examine, search, fetch, find; ended as in
	// providers.Result) and the bytes above TLS; nil: nothing is counted.
	Meter *providers.Meter
	// Version of this program, told to the server in ID (RFC 2971).
	Version string
}

// Timeouts bounds the waits of one session.
type Timeouts struct {
	Dial time.Duration // DNS and TCP; 0: 15 s
	TLS  time.Duration // STARTTLS and the handshake; 0: 15 s
	wire.Timeouts
}

// Name is what logs and metrics call this provider.
const Name = "imap"

// Provider opens sessions with one mailbox. It remembers between sessions only
// what is cheap to learn again.
type Provider struct {
	cfg     Config
	ignored []string // IgnoreFolders, folded
	notices *providers.Notices

	// selects tells that EXAMINE cannot be trusted here; learnt, never unlearnt.
	selects atomic.Bool
	// deaf tells that the server refuses to search for addresses, or takes for
	// ever; learnt, never unlearnt.
	deaf atomic.Bool
}

var _ providers.Opener = (*Provider)(nil)

const (
	defaultPageSize = 500
	// Command lines stay under 8,000 bytes (RFC 7162 §4 asks for 8,192; Courier
	// drops the connection at some more): 500 UIDs of 10 digits take 5,500.
	maxPageSize = 500
)

// New makes a provider. It does no I/O; Open reports what is wrong with cfg.
func New(cfg Config) *Provider {
	setDefaults(&cfg)
	p := &Provider{cfg: cfg, notices: providers.NewNotices(cfg.Logger, Name)}
	for _, name := range cfg.IgnoreFolders {
		p.ignored = append(p.ignored, foldName(name))
	}
	return p
}

func setDefaults(cfg *Config) {
	if cfg.TLS == "" {
		cfg.TLS = TLSImplicit
	}
	if cfg.Port == 0 {
		cfg.Port = 143
		if cfg.TLS == TLSImplicit {
			cfg.Port = 993
		}
	}
	if cfg.Auth == "" {
		cfg.Auth = AuthPassword
	}
	if cfg.PageSize <= 0 || cfg.PageSize > maxPageSize {
		cfg.PageSize = defaultPageSize
	}
	if cfg.Limits == (wire.Limits{}) {
		cfg.Limits = wire.DefaultLimits()
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.CAs == nil {
		cfg.CAs = new(CAs)
	}
	if cfg.Server == nil {
		cfg.Server = NewServer()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	setTimeouts(&cfg.Timeouts)
}

func setTimeouts(t *Timeouts) {
	d := wire.DefaultTimeouts()
	for _, f := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.Dial, 15 * time.Second}, {&t.TLS, 15 * time.Second},
		{&t.Greeting, d.Greeting}, {&t.Login, d.Login}, {&t.Idle, d.Idle},
		{&t.Search, d.Search}, {&t.Command, d.Command},
	} {
		if *f.v <= 0 {
			*f.v = f.def
		}
	}
}

// Validate reports what can be wrong with a configuration without asking the
// server.
func (c Config) Validate() error {
	setDefaults(&c)
	var errs []error
	if c.Host == "" {
		errs = append(errs, errors.New("host is missing"))
	}
	if c.Port < 1 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not between 1 and 65535", c.Port))
	}
	if c.Username == "" || c.Credential == nil {
		errs = append(errs, errors.New("user name or credential is missing"))
	}
	switch c.TLS {
	case TLSImplicit, TLSStart:
	case TLSNone:
		if !isLoopback(c.Host) {
			errs = append(errs, errors.New("tls: none is allowed to a loopback address only; use implicit or starttls"))
		}
	default:
		errs = append(errs, fmt.Errorf("tls is %q; use implicit, starttls or none", c.TLS))
	}
	switch c.Auth {
	case AuthPassword, AuthXOAUTH2, AuthOAuthBearer:
	default:
		errs = append(errs, fmt.Errorf("auth is %q; use password, xoauth2 or oauthbearer", c.Auth))
	}
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c Config) address() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) }

// tlsConfig is made anew for every connection: what it rests on may have changed.
func (p *Provider) tlsConfig() (*tls.Config, error) {
	t := &tls.Config{
		ServerName:         p.cfg.Host,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: p.cfg.Server.sessions,
		NextProtos:         []string{"imap"}, // RFC 7301, registered; foils cross-protocol tricks
		CurvePreferences:   p.cfg.Server.exchanges(),
	}
	if p.cfg.CAFile == "" {
		return t, nil
	}
	var err error
	if t.RootCAs, err = p.cfg.CAs.Pool(p.cfg.CAFile); err != nil {
		return nil, classed(providers.ClassConfig, "reading the CA file: %w", err)
	}
	return t, nil
}

// Open connects and logs in: two round trips after TCP and TLS.
func (p *Provider) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := p.open(ctx)
	p.cfg.Meter.Request("open", providers.Result(err))
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *Provider) open(ctx context.Context) (*session, error) {
	if err := p.cfg.Validate(); err != nil {
		return nil, classed(providers.ClassConfig, "imap settings: %w", err)
	}
	secret, err := p.cfg.Credential(ctx)
	if err != nil {
		return nil, classed(providers.ClassConfig, "reading the credential: %w", err)
	}
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.conn.Bind(ctx)()
	if err := s.login(secret); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}
