package imap

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailsyncd/providers"
	"mailsyncd/providers/imap/wire"
)

// connect dials, protects the connection, and puts the filter and the library
// on top. The greeting has not been read yet.
func (p *Provider) connect(ctx context.Context) (*session, error) {
	raw, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn, greeted, err := p.protect(ctx, raw)
	if err != nil {
		_ = raw.Close()
		return nil, ended(ctx, err)
	}
	s := &session{p: p, walkedBlind: map[string]bool{}}
	s.conn = wire.New(conn, raw, wire.Options{
		Sink: &s.sink, Limits: p.cfg.Limits, Timeouts: p.cfg.Timeouts.Timeouts, Greeted: greeted,
	})
	s.client = imapclient.New(s.conn, nil)
	return s, nil
}

func (p *Provider) dial(ctx context.Context) (net.Conn, error) {
	dctx, cancel := context.WithTimeout(ctx, p.cfg.Timeouts.Dial)
	defer cancel()
	raw, err := p.cfg.Dial(dctx, "tcp", p.cfg.address())
	if err != nil {
		return nil, ended(ctx, classed(providers.ClassNetwork, "connecting to %s: %w; check host, port and network", p.cfg.address(), err))
	}
	return raw, nil
}

// protect brings up TLS as configured. It never falls back.
func (p *Provider) protect(ctx context.Context, raw net.Conn) (conn net.Conn, greeted bool, err error) {
	if p.cfg.TLS == TLSNone {
		if a, ok := raw.RemoteAddr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			return nil, false, classed(providers.ClassConfig, "tls: none, but %q is not this machine; use implicit or starttls", p.cfg.Host)
		}
		return raw, false, nil
	}
	cfg, err := p.tlsConfig()
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeouts.TLS)
	defer cancel()
	if p.cfg.TLS == TLSStart {
		if err := startTLS(ctx, raw); err != nil {
			return nil, false, err
		}
		greeted = true
	}
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		p.cfg.Server.failed()
		return nil, false, tlsError(err)
	}
	p.cfg.Server.exchanged(cfg.CurvePreferences, c.ConnectionState().CurveID)
	return c, greeted, nil
}

// tlsError says what an operator can do about a failed handshake.
func tlsError(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return classed(providers.ClassTLS, "the certificate is signed by an authority that is not trusted: %w; set ca_file", err)
	case errors.As(err, &name):
		return classed(providers.ClassTLS, "the certificate is for another host: %w; set host to a name in it", err)
	case errors.As(err, &invalid):
		return classed(providers.ClassTLS, "the certificate is not valid: %w; renew it on the server", err)
	case errors.As(err, &record):
		return classed(providers.ClassTLS, "the server does not speak TLS on this port: %w; check port and tls", err)
	case errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded), isNet(err):
		return classed(providers.ClassNetwork, "the TLS handshake did not end: %w", err)
	}
	return classed(providers.ClassTLS, "TLS handshake: %w", err)
}

func isNet(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "remote error"
}

// What a server may say before TLS. Three lines are usual.
const (
	startTLSLines = 8
	startTLSLine  = 4 << 10
)

// startTLS upgrades by hand: the library waits without a deadline and reads
// ahead. Nothing that came in plain text is believed afterwards; the
// capabilities are asked for again (RFC 9051 §6.2.1).
func startTLS(ctx context.Context, raw net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	br := bufio.NewReaderSize(raw, startTLSLine)
	if err := plainGreeting(br); err != nil {
		return ended(ctx, err)
	}
	if _, err := io.WriteString(raw, "S STARTTLS\r\n"); err != nil {
		return ended(ctx, classed(providers.ClassNetwork, "sending STARTTLS: %w", err))
	}
	if err := startTLSAnswer(br); err != nil {
		return ended(ctx, err)
	}
	// Bytes that arrived with the answer came in plain text and would be taken
	// for protected ones (the CVE-2011-0411 class).
	if n := br.Buffered(); n > 0 {
		return classed(providers.ClassTLS, "somebody sent %d bytes between STARTTLS and TLS: the connection is tampered with or the server is broken; use tls: implicit", n)
	}
	return nil
}

func plainGreeting(br *bufio.Reader) error {
	line, err := plainLine(br)
	if err != nil {
		return err
	}
	switch word, text, _ := strings.Cut(strings.TrimPrefix(line, "* "), " "); strings.ToUpper(word) {
	case "OK":
		return nil
	case "PREAUTH":
		// RFC 9051 §11.1: an attacker's way around STARTTLS.
		return classed(providers.ClassTLS, "the server greeted with PREAUTH before TLS, which leaves no way to protect the session; use tls: implicit")
	case "BYE":
		return byeError(text)
	}
	return classed(providers.ClassServer, "the greeting is not IMAP; check host and port")
}

func startTLSAnswer(br *bufio.Reader) error {
	for range startTLSLines {
		line, err := plainLine(br)
		if err != nil {
			return err
		}
		rest, ok := strings.CutPrefix(line, "S ")
		if !ok {
			continue
		}
		if word, _, _ := strings.Cut(rest, " "); strings.EqualFold(word, "OK") {
			return nil
		}
		return classed(providers.ClassTLS, "the server refused STARTTLS (%s) and nothing is sent without TLS; use tls: implicit, port 993", foreign(rest))
	}
	return classed(providers.ClassTLS, "the server did not answer STARTTLS within %d lines; use tls: implicit", startTLSLines)
}

func plainLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", classed(providers.ClassServer, "the server sent a line of more than %d bytes before TLS", startTLSLine)
	}
	if err != nil {
		return "", classed(providers.ClassNetwork, "waiting for the server before TLS: %w", err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// ended prefers the reason for which ctx ended over its consequence.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return classed(providers.ClassNetwork, "the server did not answer in time: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("connecting: %w", ctx.Err())
}
