package config

import (
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// maxSocketPath is sun_path without its closing zero byte (unix(7)).
const maxSocketPath = 107

// validate checks values, alone and against each other. It reports every
// problem at the line to mend.
func (l *loader) validate(cfg *Config, mailboxes []mailboxNode) {
	top := scope{src: l.main}
	checkCompany(top.sub("company"), &cfg.Company)
	checkFiles(top, cfg)
	checkSync(top.sub("sync"), &cfg.Sync)
	checkDefaults(top.sub("defaults"), &cfg.Defaults)
	checkWebhook(top.sub("webhook"), &cfg.Webhook)
	checkRest(top, cfg)
	checkGoogle(top.sub("google"), &cfg.Google)
	l.checkFromUsers(cfg)
	for i := range mailboxes {
		checkMailbox(mailboxes[i])
	}
	checkUnique(mailboxes)
	if len(mailboxes) == 0 && cfg.MailboxesFromUsers.Domain == "" && !l.anyFailed() {
		top.fail("mailboxes", "there is no mailbox, here or in an included file; add one under mailboxes or check the globs of include")
	}
}

// anyFailed tells that a file could not be read at all: its mailboxes are not
// known then.
func (l *loader) anyFailed() bool {
	for _, s := range l.sources {
		if s.failed[""] || s.failed["mailboxes"] || s.failed["include"] {
			return true
		}
	}
	return false
}

func checkCompany(s scope, c *Company) {
	s.each("domains", c.Domains, wrongDomain)
	s.each("shared_addresses", c.SharedAddresses, wrongAddress)
	s.each("internal_applicants", c.InternalApplicants, wrongAddress)
	s.each("ignore_from", c.IgnoreFrom, wrongAddress)
}

// checkFiles checks the paths outside the mailboxes.
func checkFiles(s scope, c *Config) {
	s.required("store.path", c.Store.Path, "name the database file")
	s.required("secrets.key_file", c.Secrets.KeyFile, "make one with `mailsyncd key new FILE` and name it here")
	s.required("directory.file", c.Directory.File, "name the file that holds the candidates as JSON lines")
	if s.required("admin.socket", c.Admin.Socket, "name the socket that the commands use") && len(c.Admin.Socket) > maxSocketPath {
		s.fail("admin.socket", "the path has %d bytes, a socket's may have %d; choose a shorter one, such as /run/mailsyncd/admin.sock",
			len(c.Admin.Socket), maxSocketPath)
	}
	for key, path := range map[string]string{
		"store.path": c.Store.Path, "secrets.key_file": c.Secrets.KeyFile, "directory.file": c.Directory.File,
		"admin.socket": c.Admin.Socket, "sync.resync_file": c.Sync.ResyncFile,
		"webhook.secret_file": c.Webhook.SecretFile, "webhook.ca_file": c.Webhook.CAFile,
		"webhook.client_cert_file": c.Webhook.ClientCertFile, "webhook.client_key_file": c.Webhook.ClientKeyFile,
	} {
		s.plain(key, path)
	}
}

func checkSync(s scope, c *Sync) {
	s.lasts("interval", c.Interval, time.Second, day)
	s.lasts("resync_limit", c.ResyncLimit, day, 3650*day)
	if c.Reconcile != 0 {
		s.lasts("reconcile", c.Reconcile, time.Hour, 30*day)
	}
	s.between("concurrency", c.Concurrency, 1, 1024)
	s.between("per_host.connections", c.PerHost.Connections, 1, 1024)
	s.between("per_host.logins_per_minute", c.PerHost.LoginsPerMinute, 1, 100_000)
	s.atLeast("max_recipients", c.MaxRecipients, 0)
	if c.Backfill > c.ResyncLimit {
		s.fail("backfill", "%s is longer than sync.resync_limit, %s; shorten it or raise the limit",
			FormatDuration(c.Backfill), FormatDuration(c.ResyncLimit))
	}
}

func checkDefaults(s scope, c *Defaults) {
	s.each("ignore_folders", c.IgnoreFolders, wrongFolder)
	s.oneOf("imap.tls", string(c.IMAP.TLS), "implicit", "starttls", "none")
	s.oneOf("imap.auth", string(c.IMAP.Auth), "password", "xoauth2", "oauthbearer")
	s.oneOf("gmail.mode", string(c.Gmail.Mode), "metadata", "search")
	if c.Gmail.ServiceAccountFile != "" && c.Gmail.ClientFile != "" {
		s.fail("gmail.client_file", "stands beside service_account_file; keep the one that most mailboxes use and write the other into the rest")
	}
}

// checkFromUsers checks the rule that makes mailboxes of users.
func (l *loader) checkFromUsers(cfg *Config) {
	s := scope{src: l.main, prefix: "mailboxes_from_users", defaults: l.main}
	if !(scope{src: l.main}).saidHere("mailboxes_from_users") {
		return
	}
	if s.required("domain", cfg.MailboxesFromUsers.Domain, "write the domain whose users become mailboxes") {
		if wrong := wrongDomain(cfg.MailboxesFromUsers.Domain); wrong != "" {
			s.fail("domain", "%s", wrong)
		}
	}
	checkGmail(s, "gmail", &cfg.MailboxesFromUsers.Gmail)
}

// checkGoogle checks that every call fits into every budget, twice: a budget
// that is full of one dear call would let no cheap one through.
func checkGoogle(s scope, g *Google) {
	s.oneOf("quota", string(g.Quota), "new", "old")
	dearest := 20
	for _, p := range []struct {
		key   string
		units int
	}{
		{"profile", g.Prices.Profile}, {"labels", g.Prices.Labels}, {"history", g.Prices.History},
		{"list", g.Prices.List}, {"get", g.Prices.Get},
	} {
		s.between("prices."+p.key, p.units, 0, 100_000)
		dearest = max(dearest, p.units)
	}
	for _, b := range []struct {
		key   string
		units int
	}{
		{"user_per_minute", g.UserPerMinute}, {"project_per_minute", g.ProjectPerMinute}, {"project_per_day", g.ProjectPerDay},
	} {
		if b.units != 0 {
			s.atLeast(b.key, b.units, 2*dearest)
		}
	}
	checkEndpoint(s, g.Endpoint)
}

// checkEndpoint wants an address to which an access token may be sent.
func checkEndpoint(s scope, endpoint string) {
	if endpoint == "" {
		return
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		s.fail("endpoint", "is not a plain URL; write it like https://gmail.googleapis.com/")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackHost(u.Hostname())):
		s.fail("endpoint", "would send tokens in clear; write https")
	}
}

func wrongFolder(name string) string {
	if strings.TrimSpace(name) == "" {
		return "is empty; write the folder's name as the mail client shows it"
	}
	return ""
}

// checkRest checks the sections of a few plain values.
func checkRest(s scope, c *Config) {
	const years = 3650 * day
	s.lasts("directory.missing_grace", c.Directory.MissingGrace, 0, years)
	s.atLeast("outbox.max_events", c.Outbox.MaxEvents, 1)
	s.oneOf("privacy.subject", string(c.Privacy.Subject), "full", "omit")
	s.oneOf("privacy.other_addresses", string(c.Privacy.OtherAddresses), "full", "omit")
	s.lasts("retention.delivered_payload", c.Retention.DeliveredPayload, 0, years)
	s.lasts("retention.dead_letter", c.Retention.DeadLetter, time.Hour, years)
	s.lasts("retention.suspended_credentials", c.Retention.SuspendedCredentials, 0, years)
	if c.Metrics.Listen != "" {
		if wrong := wrongListen(c.Metrics.Listen); wrong != "" {
			s.fail("metrics.listen", "%s", wrong)
		}
	}
	s.oneOf("metrics.mailbox_label", string(c.Metrics.MailboxLabel), "none", "hash", "id")
	s.oneOf("log.level", string(c.Log.Level), "debug", "info", "warn", "error")
	s.oneOf("log.format", string(c.Log.Format), "text", "json")
}

func checkWebhook(s scope, w *Webhook) {
	checkURL(s, w)
	s.required("secret_file", w.SecretFile, "name the file that holds the signing secret (whsec_…)")
	for i, p := range w.AllowNetworks {
		if wrong := wrongAllowed(p); wrong != "" {
			s.fail(index("allow_networks", i), "%s", wrong)
		}
	}
	switch {
	case w.ClientCertFile != "" && w.ClientKeyFile == "":
		s.fail("client_cert_file", "stands without client_key_file; name both or neither")
	case w.ClientCertFile == "" && w.ClientKeyFile != "":
		s.fail("client_key_file", "stands without client_cert_file; name both or neither")
	}
	s.lasts("timeout", w.Timeout, time.Second, 5*time.Minute)
	s.between("concurrency", w.Concurrency, 1, 256)
	if w.LinkTemplate != "" {
		if wrong := wrongLinkTemplate(w.LinkTemplate); wrong != "" {
			s.fail("link_template", "%s", wrong)
		}
	}
}

// wrongAllowed checks one of webhook.allow_networks.
func wrongAllowed(p netip.Prefix) string {
	switch {
	case !p.IsValid(): // the walker has said why
		return ""
	case p.Bits() == 0:
		return p.String() + " is every address there is; list the networks the receiver is in"
	case p.Addr().IsLinkLocalUnicast():
		return p.String() + " is link-local, where cloud metadata services live; it is never posted to, remove it"
	}
	return ""
}

// checkURL checks where events go. The address that is dialled is checked
// again when it is, because a name may lead anywhere.
func checkURL(s scope, w *Webhook) {
	if !s.required("url", w.URL, "write the URL that takes the events") {
		return
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		s.fail("url", "is not a URL; write it like https://ats.example.com/hooks/mail")
	case u.Scheme != "https" && u.Scheme != "http":
		s.fail("url", "has the scheme %s; write https", quote(u.Scheme))
	case u.User != nil:
		s.fail("url", "holds a user name or password; remove it, posts are signed with secret_file")
	case u.Fragment != "":
		s.fail("url", "has a fragment (#…), which is never sent; remove it")
	case u.Scheme == "http" && !mayBeClear(u.Hostname(), w.AllowNetworks):
		s.fail("url", "sends mail data in clear; write https, or list the private network the receiver is in under allow_networks")
	default:
		checkTarget(s, u.Hostname(), w.AllowNetworks)
	}
}

// mayBeClear tells that a host may be posted to without TLS: this machine, or
// one that can lie in a network the operator listed.
func mayBeClear(host string, allowed []netip.Prefix) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback() || contains(allowed, addr.Unmap())
	}
	return isLoopbackHost(host) || len(allowed) > 0
}

// checkTarget refuses early what the poster would refuse at every attempt.
func checkTarget(s scope, host string, allowed []netip.Prefix) {
	if wrong := wrongHost(host); wrong != "" {
		s.fail("url", "%s", wrong)
		return
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return
	}
	addr = addr.Unmap()
	switch {
	case addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified():
		s.fail("url", "leads to %s, which is never posted to; write the receiver's own address", addr)
	case (addr.IsLoopback() || addr.IsPrivate()) && !contains(allowed, addr):
		s.fail("url", "leads to the private address %s; add %s/%d to allow_networks if that is meant", addr, addr, addr.BitLen())
	}
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
