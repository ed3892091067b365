package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"mailsyncd/config"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
	"mailsyncd/webhook"
)

// How the configuration becomes connections: a mailbox's opener, the webhook's
// poster.

// dialer returns what makes the openers of mailboxes. IMAP mailboxes of one host
// share their TLS sessions, so that a poll resumes one instead of shaking hands
// anew, and those of one CA its certificates. It is for the holder of the fleet's
// door.
func (d *daemon) dialer(meter *providers.Meter) func(config.Mailbox) (providers.Opener, error) {
	servers := map[string]*imap.Server{}
	cas := &imap.CAs{}
	return func(m config.Mailbox) (providers.Opener, error) {
		if m.Provider == config.ProviderGmail {
			return d.google.opener(m)
		}
		host := net.JoinHostPort(m.IMAP.Host, strconv.Itoa(m.IMAP.Port))
		if servers[host] == nil {
			servers[host] = imap.NewServer()
		}
		cfg := imapConfig(m)
		cfg.Server, cfg.CAs = servers[host], cas
		cfg.Logger = d.log.With("mailbox", m.ID)
		cfg.Meter = meter
		if err := cfg.Validate(); err != nil {
			return nil, err
		}
		return imap.New(cfg), nil
	}
}

// imapConfig is a mailbox as its provider takes it. The credential is read at
// every login, so that a changed file counts at once.
func imapConfig(m config.Mailbox) imap.Config {
	file := m.SecretFile()
	return imap.Config{
		Host: m.IMAP.Host, Port: m.IMAP.Port, TLS: imap.TLSMode(m.IMAP.TLS), CAFile: m.IMAP.CAFile,
		Username: m.IMAP.Username, Auth: imap.AuthKind(m.IMAP.Auth),
		Credential: func(context.Context) (string, error) {
			secret, err := config.ReadSecret(file)
			if err != nil {
				return "", &providers.ClassError{Class: providers.ClassConfig, Err: err}
			}
			return secret.Reveal(), nil
		},
		IgnoreFolders: m.IgnoreFolders,
		Version:       buildVersion().Version,
	}
}

// poster makes what events are posted with; a dry run prints them instead.
func (d *daemon) poster(cfg *config.Config) (webhook.Poster, error) {
	if d.dry != nil {
		return d.dry, nil
	}
	return newPoster(cfg)
}

// newPoster makes the poster of a configuration. Files it cannot read yet are
// an error: a webhook that cannot be signed or verified is never posted to.
func newPoster(cfg *config.Config) (*webhook.HTTPPoster, error) {
	w := cfg.Webhook
	secrets := func() ([]webhook.Secret, error) {
		file, err := config.ReadSecret(w.SecretFile)
		if err != nil {
			return nil, err
		}
		s, err := webhook.ParseSecrets([]byte(file.Reveal()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.SecretFile, err)
		}
		return s, nil
	}
	if _, err := secrets(); err != nil {
		return nil, fmt.Errorf("webhook.secret_file: %w", err)
	}
	roots, err := readCAs(w.CAFile)
	if err != nil {
		return nil, fmt.Errorf("webhook.ca_file: %w", err)
	}
	return webhook.NewPoster(webhook.PosterConfig{
		URL: w.URL, Secrets: secrets, AllowNetworks: w.AllowNetworks, RootCAs: roots,
		ClientCertificate: clientCertificate(w), Timeout: w.Timeout, Connections: w.Concurrency,
		Version: buildVersion().Version,
	})
}

// readCAs reads PEM certificates; nil for no file, which means the system's.
func readCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(file + " holds no PEM certificate")
	}
	return pool, nil
}

// clientCertificate reads our certificate at each handshake; nil for none.
func clientCertificate(w config.Webhook) func() (*tls.Certificate, error) {
	if w.ClientCertFile == "" {
		return nil
	}
	return func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(w.ClientCertFile, w.ClientKeyFile)
		return &cert, err
	}
}

// usesWebhookFile tells that one of the files belongs to the webhook.
func usesWebhookFile(cfg *config.Config, files []string) bool {
	w := cfg.Webhook
	return slices.ContainsFunc(files, func(f string) bool {
		return f == w.SecretFile || f == w.CAFile || f == w.ClientCertFile || f == w.ClientKeyFile
	})
}

// posting is a poster and a digest of what it was made of.
type posting struct {
	poster webhook.Poster
	digest [sha256.Size]byte
}

// draftPosting makes the posting of a configuration: the one in force, if nothing
// that it is made of has changed. The caller holds d.change.
func (d *daemon) draftPosting(cfg *config.Config) (posting, error) {
	digest := postingDigest(cfg.Webhook) // before the poster: what changes in between is seen the next time
	if d.posting.poster != nil && digest == d.posting.digest {
		return d.posting, nil
	}
	poster, err := d.poster(cfg)
	return posting{poster, digest}, err
}

// postingDigest stands for all that decides how an event is posted.
func postingDigest(w config.Webhook) (sum [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %v %d", w.URL, w.AllowNetworks, w.Timeout) // concurrency waits for a restart
	for _, file := range []string{w.SecretFile, w.CAFile, w.ClientCertFile, w.ClientKeyFile} {
		content, err := os.ReadFile(file)
		fmt.Fprintf(h, "%q %q %v", file, content, err != nil)
	}
	h.Sum(sum[:0])
	return sum
}

// use posts with another posting from now on. The courier then forgets that the
// endpoint asked for a pause, so it is not told of one that is the same.
func (d *daemon) use(p posting) {
	if p.digest == d.posting.digest {
		return
	}
	d.courier.Use(p.poster)
	if old, ok := d.posting.poster.(*webhook.HTTPPoster); ok {
		old.Close()
	}
	d.posting = p
}

// renewPoster posts with the files as they are now. While they cannot be used,
// the poster of before stays.
func (d *daemon) renewPoster(ctx context.Context) {
	if err := d.change.enter(ctx); err != nil {
		return // stopping
	}
	defer d.change.leave()
	p, err := d.draftPosting(d.cfg.Load())
	if err != nil {
		d.log.Error("the webhook's files cannot be used, the ones before stay",
			"event", "webhook_files_refused", "err", err)
		return
	}
	d.use(p)
}
