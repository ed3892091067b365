package main

import (
	"context"
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

// tlsSessions is how many TLS sessions a host's mailboxes keep between polls.
const tlsSessions = 64

// dialer returns what makes the openers of mailboxes. IMAP mailboxes of one host
// share their TLS sessions, so that a poll resumes one instead of shaking hands
// anew.
func (d *daemon) dialer(metrics *imap.Metrics) func(config.Mailbox) (providers.Opener, error) {
	sessions := map[string]tls.ClientSessionCache{}
	return func(m config.Mailbox) (providers.Opener, error) {
		if m.Provider == config.ProviderGmail {
			return d.google.opener(m)
		}
		host := net.JoinHostPort(m.IMAP.Host, strconv.Itoa(m.IMAP.Port))
		if sessions[host] == nil {
			sessions[host] = tls.NewLRUClientSessionCache(tlsSessions)
		}
		cfg := imapConfig(m)
		cfg.Sessions = sessions[host]
		cfg.Logger = d.log.With("mailbox", m.ID)
		cfg.Metrics = metrics
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

// renewPoster posts with the files as they are now. While they cannot be used,
// the poster of before stays.
func (d *daemon) renewPoster(cfg *config.Config) {
	poster, err := d.poster(cfg)
	if err != nil {
		d.log.Error("the webhook's files cannot be used, the ones before stay",
			"event", "webhook_files_refused", "err", err)
		return
	}
	d.courier.Use(poster)
}
