package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailsyncd/config"
)

func TestLoosened(t *testing.T) {
	base := func() *config.Config {
		c := config.Default()
		c.Company = config.Company{
			Domains: []string{"example.com", "example.org"}, SharedAddresses: []string{"desk@x.example"},
			InternalApplicants: []string{"intern@example.com"}, IgnoreFrom: []string{"noreply@ats.example"},
		}
		c.Mailboxes = []config.Mailbox{
			{ID: "rita", Address: "rita@example.com", Aliases: []string{"r@example.com"}, IgnoreFolders: []string{"Privat", "Choir"}},
			{ID: "tom", Address: "tom@example.com"},
		}
		return &c
	}
	for _, c := range []struct {
		what   string
		change func(c *config.Config)
		want   bool
	}{
		{"nothing", func(*config.Config) {}, false},
		{"a domain less", func(c *config.Config) { c.Company.Domains = c.Company.Domains[:1] }, true},
		{"a domain more", func(c *config.Config) { c.Company.Domains = append(c.Company.Domains, "x.example") }, false},
		{"the domains in another order and case", func(c *config.Config) { c.Company.Domains = []string{"Example.org", "EXAMPLE.com"} }, false},
		{"a shared address less", func(c *config.Config) { c.Company.SharedAddresses = nil }, true},
		{"a shared address more", func(c *config.Config) { c.Company.SharedAddresses = append(c.Company.SharedAddresses, "y@x.example") }, false},
		{"an internal applicant more", func(c *config.Config) {
			c.Company.InternalApplicants = append(c.Company.InternalApplicants, "new@example.com")
		}, true},
		{"an internal applicant less", func(c *config.Config) { c.Company.InternalApplicants = nil }, false},
		{"an ignored sender less", func(c *config.Config) { c.Company.IgnoreFrom = nil }, true},
		{"an ignored sender more", func(c *config.Config) { c.Company.IgnoreFrom = append(c.Company.IgnoreFrom, "x@ats.example") }, false},
		{"more recipients", func(c *config.Config) { c.Sync.MaxRecipients++ }, true},
		{"any number of recipients", func(c *config.Config) { c.Sync.MaxRecipients = 0 }, true},
		{"fewer recipients", func(c *config.Config) { c.Sync.MaxRecipients-- }, false},
		{"a mailbox less", func(c *config.Config) { c.Mailboxes = c.Mailboxes[:1] }, true},
		{"a mailbox more", func(c *config.Config) {
			c.Mailboxes = append(c.Mailboxes, config.Mailbox{ID: "uwe", Address: "uwe@example.com"})
		}, false},
		{"an alias less", func(c *config.Config) { c.Mailboxes[0].Aliases = nil }, true},
		{"an alias more", func(c *config.Config) { c.Mailboxes[1].Aliases = []string{"t@example.com"} }, false},
		{"an alias that moves", func(c *config.Config) {
			c.Mailboxes[0].Aliases, c.Mailboxes[1].Aliases = nil, []string{"r@example.com"}
		}, true},
		{"the mailboxes in another order", func(c *config.Config) {
			c.Mailboxes[0], c.Mailboxes[1] = c.Mailboxes[1], c.Mailboxes[0]
		}, false},
		{"an ignored folder less", func(c *config.Config) { c.Mailboxes[0].IgnoreFolders = []string{"Choir"} }, true},
		{"an ignored folder more", func(c *config.Config) { c.Mailboxes[1].IgnoreFolders = []string{"Privat"} }, false},
		{"another interval", func(c *config.Config) { c.Mailboxes[0].Interval = time.Minute }, false},
	} {
		after := base()
		c.change(after)
		if got := loosened(base(), after); got != c.want {
			t.Errorf("%s: loosened is %v", c.what, got)
		}
	}
	unlimited := base()
	unlimited.Sync.MaxRecipients = 0
	if loosened(unlimited, base()) {
		t.Error("a limit where there was none counts as looser")
	}
}

// yaml writes the rig's configuration as a file, with these staff domains.
func (r *rig) yaml(domains string) {
	var boxes strings.Builder
	for _, id := range []string{"rita", "tom"} {
		fmt.Fprintf(&boxes, "  - {id: %[1]s, address: %[1]s@example.com, user: usr_%[1]s, imap: {host: %[1]s.example}}\n", id)
	}
	r.write("config.yaml", fmt.Sprintf(`
company: {domains: [%[2]s]}
store: {path: %[1]s/store}
secrets: {key_file: %[1]s/key}
directory: {file: %[1]s/directory.jsonl}
sync: {resync_file: %[1]s/resync}
defaults: {imap: {password_file: %[1]s/pw}}
mailboxes:
%[3]swebhook: {url: "http://127.0.0.1:1/hook", secret_file: %[1]s/webhook.secret, allow_networks: [127.0.0.0/8]}
admin: {socket: %[1]s/s}
metrics: {listen: ""}
`, r.dir, domains, boxes.String()))
}

// A guard that a reload loosens lets the window's mail through that it refused.
func TestReloadThatLoosensAGuardWalksTheWindowAgain(t *testing.T) {
	r := newRig(t, `{"kind":"candidate","ref":"cand_1","emails":["ann@partner.example"]}`)
	r.yaml("example.com, partner.example")
	r.start()
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.courier.Use(r.posts) // the reload made a real poster
	r.mail("rita", "INBOX", "ann@test", "ann@partner.example", time.Hour)
	r.mail("tom", "INBOX", "staff@test", "uwe@example.com", time.Hour)
	r.synced()
	r.wants()
	if strings.Contains(r.log.String(), "event=guards_loosened") {
		t.Error("a guard that was tightened counts as loosened")
	}
	r.yaml("example.com")
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.courier.Use(r.posts)
	r.synced()
	r.wants("lookback ann@test cand_1")
	if !strings.Contains(r.log.String(), "event=guards_loosened") {
		t.Error("it was not logged")
	}
}
