package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

const (
	// maxAnswer is how much of an answer's body, and of its header, is read.
	// Nothing of it is used; reading lets the connection be used again.
	maxAnswer = 64 << 10
	// answerTime bounds that reading: the verdict stands once the status is
	// there.
	answerTime = time.Second
)

// Poster makes one attempt to deliver one event. It never sleeps, never retries
// and never panics; Courier decides what a Result means.
type Poster interface {
	Post(ctx context.Context, id string, body []byte) Result
}

// PosterConfig configures an HTTPPoster.
type PosterConfig struct {
	// URL is where events go: http or https. User and password in it become
	// basic authentication.
	URL string
	// Secrets returns the active secrets, the current one first. It is asked for
	// each attempt, so that a changed file counts at once.
	Secrets func() ([]Secret, error)
	// AllowNetworks lists the loopback and private networks that may be dialled.
	// Link-local and metadata addresses never are.
	AllowNetworks []netip.Prefix
	// RootCAs replaces the system's certificate authorities; nil keeps them.
	RootCAs *x509.CertPool
	// ClientCertificate, if not nil, is asked for each handshake.
	ClientCertificate func() (*tls.Certificate, error)
	// Timeout bounds an attempt from the dial to the status; 0 means 20 s.
	Timeout time.Duration
	// Connections is how many idle connections are kept; 0 means 8.
	Connections int
	// Version is ours, for the User-Agent.
	Version string
}

// HTTPPoster posts to an HTTP endpoint. It may be used by several goroutines.
type HTTPPoster struct {
	target    *url.URL
	secrets   func() ([]Secret, error)
	timeout   time.Duration
	agent     string
	transport *http.Transport
}

// NewPoster returns a poster, or an error that names the setting to correct.
func NewPoster(cfg PosterConfig) (*HTTPPoster, error) {
	target, err := parseTarget(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Secrets == nil {
		return nil, errors.New("webhook.secret_file is missing: events are never sent unsigned")
	}
	return &HTTPPoster{
		target:    target,
		secrets:   cfg.Secrets,
		timeout:   orDefault(cfg.Timeout, 20*time.Second),
		agent:     "mailsyncd/" + orDefault(cfg.Version, "dev"),
		transport: transport(cfg, target.Scheme == "http"),
	}, nil
}

// parseTarget refuses what cannot be posted to. Its errors do not repeat the
// URL: there may be a token in it.
func parseTarget(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("webhook.url cannot be read as a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("webhook.url has the scheme %q: use https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("webhook.url names no host")
	}
	u.Fragment = ""
	return u, nil
}

// transport has no proxy, because behind one the guard would see the proxy
// only, and no decompression, because a small answer must stay small.
func transport(cfg PosterConfig, clear bool) *http.Transport {
	dialer := &net.Dialer{
		Timeout:        10 * time.Second,
		ControlContext: guard{allow: cfg.AllowNetworks, clear: clear}.control,
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs}
	if cfg.ClientCertificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return cfg.ClientCertificate()
		}
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
		MaxIdleConnsPerHost:    orDefault(cfg.Connections, 8),
		IdleConnTimeout:        90 * time.Second,
	}
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Post makes one attempt. Redirects are not followed: it asks the transport, not
// a client.
func (p *HTTPPoster) Post(ctx context.Context, id string, body []byte) Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := p.request(ctx, id, body)
	if err != nil {
		return failure("secret", fmt.Errorf("reading webhook.secret_file: %w", err))
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return unanswered(err)
	}
	defer resp.Body.Close()
	defer time.AfterFunc(answerTime, cancel).Stop()
	// What the body says, or whether it ends, changes nothing: with the status
	// the endpoint has answered.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return classify(resp.StatusCode, resp.Header, time.Now())
}

func (p *HTTPPoster) request(ctx context.Context, id string, body []byte) (*http.Request, error) {
	secrets, err := p.secrets()
	if err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return nil, errors.New("no secret in it; " + howToSecret)
	}
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           p.target,
		Header:        p.header(secrets, id, body),
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		// The transport posts again by itself when a kept connection turns out
		// closed before a byte was written; it needs a fresh reader then.
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	if u := p.target.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	return req, nil
}

func (p *HTTPPoster) header(secrets []Secret, id string, body []byte) http.Header {
	now := time.Now()
	h := make(http.Header, 6)
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", p.agent)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", sign(secrets, id, now, body))
	return h
}

// String is where the poster posts to, without user, password and query: safe
// to log and to show.
func (p *HTTPPoster) String() string {
	u := url.URL{Scheme: p.target.Scheme, Host: p.target.Host, Path: p.target.Path}
	return u.String()
}

// Close ends idle connections: for a poster that another one has replaced.
func (p *HTTPPoster) Close() { p.transport.CloseIdleConnections() }

// unanswered classifies an attempt without a status. The texts are ours: an
// error of net/http may quote what the endpoint sent, and that may quote us.
func unanswered(err error) Result {
	var blocked *BlockedError
	var dns *net.DNSError
	var dial *net.OpError
	if r, ok := unverified(err); ok {
		return r
	}
	switch {
	case errors.As(err, &blocked):
		return failure("blocked", blocked)
	case errors.Is(err, context.Canceled):
		return failure("canceled", errors.New("the attempt was cut off by the shutdown: it is repeated at the next start"))
	case isTimeout(err):
		return failure("timeout", errors.New("no answer in time: look at the receiver's load, or raise webhook.timeout"))
	case errors.As(err, &dns):
		return failure("dns", fmt.Errorf("the host %q of webhook.url was not found: check the name and this machine's DNS", dns.Name))
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure("refused", errors.New("nothing listens there: check host and port of webhook.url and that the receiver runs"))
	case errors.As(err, &dial) && dial.Op == "dial":
		return failure("network", fmt.Errorf("the endpoint cannot be reached: %w: check route and firewall", dial.Err))
	default:
		return failure("network", errors.New("the connection broke, or the answer was not HTTP, before a status came: look into the receiver's log"))
	}
}

// unverified classifies failures of TLS.
func unverified(err error) (Result, bool) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		return failure("tls", errors.New("the endpoint's certificate is signed by an unknown authority: put it into webhook.ca_file")), true
	case errors.As(err, &host):
		return failure("tls", fmt.Errorf("the endpoint's certificate is not for %q: correct webhook.url or the certificate", host.Host)), true
	case errors.As(err, &invalid):
		return failure("tls", errors.New("the endpoint's certificate is expired, not yet valid or not for servers: renew it")), true
	case errors.As(err, &alert):
		return failure("tls", fmt.Errorf("the endpoint ended the TLS handshake (%w): it may want webhook.client_cert_file", alert)), true
	case errors.As(err, &record):
		return failure("tls", errors.New("the endpoint does not speak TLS: use http in webhook.url, or switch TLS on there")), true
	}
	return Result{}, false
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
