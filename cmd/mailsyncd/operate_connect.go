package main

import (
	"context"
	"errors"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/store"
)

// A user's consent for their Gmail mailbox: `mailsyncd connect` asks for what it
// needs, talks to Google and the user's browser itself, and brings the refresh
// token. No browser ever reaches the daemon.

// Connection implements admin.Connector.
func (d mailboxDesk) Connection(ctx context.Context, id string) (admin.Connection, error) {
	m, err := d.connectable(id)
	if err != nil {
		return admin.Connection{}, err
	}
	if err := d.wantsConsent(ctx, id); err != nil {
		return admin.Connection{}, err
	}
	client, err := readClient(m.Gmail.ClientFile)
	if err != nil {
		return admin.Connection{}, admin.Conflict("gmail.client_file: %v", err)
	}
	return admin.Connection{
		Mailbox: id, Address: m.Address, Mode: string(m.Gmail.Mode), Endpoint: d.google.endpoint,
		Client: admin.OAuthClient{ID: client.ID, Secret: client.Secret, AuthURL: client.AuthURL, TokenURL: client.TokenURL},
	}, nil
}

// connectable returns a mailbox that a user's consent opens.
func (d mailboxDesk) connectable(id string) (config.Mailbox, error) {
	m, ok := d.cfg.Load().Mailbox(id)
	switch {
	case !ok:
		return m, admin.NotFound("no mailbox %q in the configuration; `mailsyncd mailbox list` lists them", id)
	case m.Provider != config.ProviderGmail:
		return m, admin.Conflict("mailbox %q is read over IMAP and needs no consent; to read it through Google's API, give it a gmail block with a client_file", id)
	case m.Gmail.ServiceAccountFile != "":
		return m, admin.Conflict("mailbox %q is opened by a service account and needs no consent; to have its user connect it, give it a client_file instead of service_account_file", id)
	}
	return m, nil
}

// wantsConsent fails for a mailbox whose consent works as far as anybody knows.
func (d mailboxDesk) wantsConsent(ctx context.Context, id string) error {
	token, err := d.store.Secret(ctx, id, refreshToken)
	if err != nil || token == nil {
		return err
	}
	row, err := d.store.Mailbox(ctx, id)
	if err != nil || row.State == store.MailboxUnauthorized {
		return err
	}
	return admin.Conflict("mailbox %q is connected already, and Google has not refused it; to connect it anew, let its user remove the app's access in the Google account, wait for the next poll, and connect", id)
}

// SetToken implements admin.Connector. A mailbox that was parked is active from
// now on: the consent was tried when it was given.
func (d mailboxDesk) SetToken(ctx context.Context, id, token string) error {
	if _, err := d.connectable(id); err != nil {
		return err
	}
	if err := store.CheckSecret(id, refreshToken, []byte(token)); err != nil {
		return admin.Invalid("the token: %v", err)
	}
	if err := d.store.SetSecret(ctx, id, refreshToken, []byte(token)); err != nil {
		return err
	}
	d.log.Info("mailbox was connected by its user", "event", "mailbox_connected", "mailbox", id)
	m := d.fleet.member(id)
	if m == nil {
		return nil // it is polled once the directory is there
	}
	row, err := m.box.Row(ctx)
	if err == nil && row.State == store.MailboxUnauthorized {
		err = m.box.Resume(ctx)
	}
	// Unknown to the schedule: paused or suspended, and tried when it is not.
	return errors.Join(err, ignoreUnknown(d.fleet.schedule.Unpark(id)))
}
