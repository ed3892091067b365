package main

import (
	"fmt"
	"os"

	"mailsyncd/config"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// The demo's third mailbox is one of Gmail: a Google for tests, inside this
// process, with a service account that may act for its one user.

// demoGmail is the mailbox that is no IMAP mailbox.
const demoGmail = "sam"

// startDemoGmail serves the mails of demoGmail; their folders are its labels.
func startDemoGmail(mails []demoMail) *gmailtest.Server {
	srv := gmailtest.Start(gmailtest.Options{})
	srv.Delegate(gmail.ModeMetadata.Scope())
	account := srv.Account(demoGmail + "@example.com")
	for _, m := range mails {
		if m.Mailbox == demoGmail {
			mail := gmailtest.ParseMail(string(m.Raw))
			mail.Labels, mail.Arrival = []string{m.Folder}, m.Arrival
			account.Deliver(mail)
		}
	}
	return srv
}

// addGmail puts the mailbox into the configuration.
func (d *demo) addGmail(cfg *config.Config, srv *gmailtest.Server, keyFile string) error {
	if err := os.WriteFile(keyFile, srv.ServiceAccountKey(), 0o600); err != nil {
		return fmt.Errorf("writing the demo's files: %w", err)
	}
	cfg.Google.Endpoint = srv.URL
	cfg.Mailboxes = append(cfg.Mailboxes, config.Mailbox{
		ID: demoGmail, Address: demoGmail + "@example.com", User: "usr_9", Interval: cfg.Sync.Interval,
		Provider: config.ProviderGmail,
		Gmail:    config.Gmail{Mode: config.GmailMetadata, ServiceAccountFile: keyFile},
	})
	return nil
}
