// Package config turns mailsyncd's configuration file into one validated value.
//
// It answers "what did the operator ask for, and is it possible?" before any
// part of the daemon starts: unknown keys, wrong types, impossible values and
// missing ones are all reported at once, each with file, line and key path and
// what to do about it. What Load returns needs no further checking.
//
// The comments of the structs below are the manual of the file: unit, default
// and the meaning of zero of each key. config.example.yaml shows all of them.
//
// Secrets never stand in the configuration. It names files; ReadSecret reads
// one, Secret keeps it from being printed, and Watcher tells when one changed.
//
// The package imports nothing of ours and never logs.
package config

import (
	"net/netip"
	"slices"
	"time"
)

// Config is the whole configuration. Load fills it; everything is then in its
// final form: defaults merged into the mailboxes, paths absolute, placeholders
// expanded.
//
// A field tagged `reload:"restart"` is read once, at start; Compare lists it
// when it changed, so that a reload can say that it has no effect yet.
type Config struct {
	// File is the path the configuration was read from.
	File string `yaml:"-"`

	Company   Company   `yaml:"company"`
	Store     Store     `yaml:"store"`
	Secrets   Secrets   `yaml:"secrets"`
	Directory Directory `yaml:"directory"`
	Sync      Sync      `yaml:"sync"`
	// Defaults holds for every mailbox that does not say otherwise.
	Defaults Defaults `yaml:"defaults"`
	// MailboxesFromUsers makes mailboxes of the directory's users.
	MailboxesFromUsers FromUsers `yaml:"mailboxes_from_users"`
	// Google bounds what is asked of Gmail.
	Google Google `yaml:"google"`
	// Include names files with more mailboxes: globs, relative to this file.
	// Such a file holds the one key `mailboxes`. A glob may match nothing; a
	// plain name must exist.
	Include []string `yaml:"include"`
	// Mailboxes are those of this file, then those of the included files in
	// order of their names.
	Mailboxes []Mailbox `yaml:"mailboxes"`
	Webhook   Webhook   `yaml:"webhook"`
	Outbox    Outbox    `yaml:"outbox"`
	Privacy   Privacy   `yaml:"privacy"`
	Retention Retention `yaml:"retention"`
	Admin     Admin     `yaml:"admin"`
	Metrics   Metrics   `yaml:"metrics"`
	Log       Log       `yaml:"log"`

	// byID finds a mailbox in Mailboxes; nil in a Config that Load did not make.
	byID map[string]int
	// lines are where the keys outside the mailboxes stand in File.
	lines map[string]int
}

// Company says whose addresses are staff. The guards live on it: an address
// named here is never matched as a candidate's.
type Company struct {
	// Domains are the company's mail domains; addresses in them are staff,
	// never candidates. Default: none.
	Domains []string `yaml:"domains"`
	// SharedAddresses are read by several people: never a candidate, never
	// proof of an owner. Default: none. Role names at Domains (jobs@, hr@ …)
	// are shared without being listed.
	SharedAddresses []string `yaml:"shared_addresses"`
	// InternalApplicants are exact addresses excepted from Domains. Default: none.
	InternalApplicants []string `yaml:"internal_applicants"`
	// IgnoreFrom are senders whose mail is never matched: the ATS's own
	// notifications. Default: none.
	IgnoreFrom []string `yaml:"ignore_from"`
}

// Store is the daemon's own file.
type Store struct {
	// Path of the database; its folder must be writable. Default
	// /var/lib/mailsyncd/mailsyncd.db.
	Path string `yaml:"path" as:"path" reload:"restart"`
}

// Secrets is what seals the store.
type Secrets struct {
	// KeyFile holds the store's key: line 1 the current one, line 2 the
	// previous one while a rotation runs. Required; `mailsyncd key new FILE`
	// makes one. Without it the store cannot be read.
	KeyFile string `yaml:"key_file" as:"path" reload:"restart"`
}

// Directory is where candidates, jobs and users come from.
type Directory struct {
	// File holds the directory as JSON lines and is read again when it
	// changes. Required.
	File string `yaml:"file" as:"path"`
	// MissingGrace is the time between a candidate's absence from the file
	// and its purge. It stops matching at once. Default 24h; 0 purges at once.
	MissingGrace time.Duration `yaml:"missing_grace"`
}

// Sync paces the polling.
type Sync struct {
	// Interval between the end of one poll of a mailbox and the next. Default
	// 60m; 1s to 24h.
	Interval time.Duration `yaml:"interval"`
	// Backfill is how far before its first sync a mailbox is read. Default
	// 14d; 0 reads only what arrives from then on. At most ResyncLimit.
	Backfill time.Duration `yaml:"backfill"`
	// Concurrency is how many mailboxes are polled at once. Default 16; 1 to 1024.
	Concurrency int `yaml:"concurrency"`
	// PerHost spares one mail server.
	PerHost PerHost `yaml:"per_host"`
	// MaxRecipients is the most addresses in To and Cc of a mail that still
	// matches (guard fan_out). Default 20; 0 switches the guard off.
	MaxRecipients int `yaml:"max_recipients"`
	// ResyncLimit is how far back a resync may reach. Default 365d; at least 1d.
	ResyncLimit time.Duration `yaml:"resync_limit"`
	// Reconcile is how often each mailbox's window is counted against what was
	// delivered; mailsyncd_unaccounted_messages shows what is missing. Default
	// 24h; 1h to 30d; 0 leaves it to `mailsyncd reconcile`, and then a Gmail mailbox
	// in search mode takes what the search finds for the whole.
	Reconcile time.Duration `yaml:"reconcile"`
	// ResyncFile is taken on SIGUSR1: one candidate ref or address a line.
	// Default /run/mailsyncd/resync; "" means that SIGUSR1 only polls.
	ResyncFile string `yaml:"resync_file" as:"path"`
}

// PerHost limits what one mail server sees of us.
type PerHost struct {
	// Connections at the same time. Default 8; at least 1.
	Connections int `yaml:"connections"`
	// LoginsPerMinute over all mailboxes of the host. Default 60; at least 1.
	LoginsPerMinute int `yaml:"logins_per_minute"`
}

// Defaults are settings of mailboxes that do not say otherwise. A list of a
// mailbox replaces the list here; the keys of its imap or gmail block replace
// single keys here. A mailbox that has neither block is of the kind that stands
// here.
type Defaults struct {
	// IgnoreFolders; see Mailbox.
	IgnoreFolders []string `yaml:"ignore_folders"`
	// IMAP; see IMAP.
	IMAP IMAP `yaml:"imap"`
	// Gmail; see Gmail.
	Gmail Gmail `yaml:"gmail"`
}

// Mailbox is one mailbox to poll.
type Mailbox struct {
	// ID names the mailbox in commands, logs and events: letters, digits and
	// ". _ - @ +", up to 100 of them. Required, unique, and kept for ever: a
	// mailbox under a new id is a new mailbox.
	ID string `yaml:"id"`
	// Address is the mailbox's main address. Required, unique.
	Address string `yaml:"address"`
	// Aliases are other addresses its mail arrives under. Default: none. An
	// alias of two mailboxes is a shared address.
	Aliases []string `yaml:"aliases"`
	// User is the ref of the ATS user the mailbox belongs to; a disabled user
	// suspends the mailbox. Default "": nobody, never suspended.
	User string `yaml:"user"`
	// Interval between polls of this mailbox. Default sync.interval.
	Interval time.Duration `yaml:"interval"`
	// IgnoreFolders are folders that are never read, by their names as the
	// mail client shows them. Default defaults.ignore_folders; [] ignores none.
	// Junk, Trash and Drafts are always left out.
	IgnoreFolders []string `yaml:"ignore_folders"`
	// IMAP is the server and how to log in. A mailbox has this block or gmail.
	IMAP IMAP `yaml:"imap"`
	// Gmail is how the mailbox is read through Google's API.
	Gmail Gmail `yaml:"gmail"`

	// Provider follows from the block that counts; the other one is empty.
	Provider Provider `yaml:"-"`
	// FromUser tells that the mailbox was made of a user of the directory.
	FromUser bool `yaml:"-"`
	// File and Line are where the mailbox stands in the configuration, or
	// mailboxes_from_users.
	File string `yaml:"-"`
	Line int    `yaml:"-"`
}

// Addresses returns the main address and the aliases.
func (m *Mailbox) Addresses() []string {
	return append([]string{m.Address}, m.Aliases...)
}

// SecretFile is the file that logs the mailbox in: password, token, the key of a
// service account, or the OAuth client that its user's consent was given to.
func (m *Mailbox) SecretFile() string {
	if m.Provider == ProviderGmail {
		return m.Gmail.File()
	}
	if m.IMAP.Auth == AuthPassword {
		return m.IMAP.PasswordFile
	}
	return m.IMAP.TokenFile
}

// IMAP is one IMAP server and how to log in to it. In user name and paths,
// {id} and {address} stand for the mailbox's own.
type IMAP struct {
	// Host name or IP address. Required.
	Host string `yaml:"host"`
	// Port. Default 993, and 143 where TLS is starttls or none.
	Port int `yaml:"port"`
	// TLS: implicit, starttls, or none. Default implicit.
	TLS TLSMode `yaml:"tls"`
	// CAFile holds the PEM certificates that the server's must descend from.
	// Default "": those of the system.
	CAFile string `yaml:"ca_file" as:"path"`
	// Auth: password, xoauth2 or oauthbearer. Default password.
	Auth AuthMode `yaml:"auth"`
	// Username to log in as. Default "{address}".
	Username string `yaml:"username"`
	// PasswordFile holds the password. Required with auth password.
	PasswordFile string `yaml:"password_file" as:"path"`
	// TokenFile holds an OAuth access token that something else keeps fresh.
	// Required with auth xoauth2 and oauthbearer.
	TokenFile string `yaml:"token_file" as:"path"`
}

// TLSMode says how a connection is protected.
type TLSMode string

// The TLS modes.
const (
	TLSImplicit TLSMode = "implicit" // TLS from the first byte (RFC 8314 §3.2)
	TLSStartTLS TLSMode = "starttls" // upgraded before the login, and never without (RFC 9051 §6.2.1)
	TLSNone     TLSMode = "none"     // in clear; only to a loopback address
)

// AuthMode says how a mailbox logs in.
type AuthMode string

// The login methods.
const (
	AuthPassword    AuthMode = "password"    // SASL PLAIN or LOGIN
	AuthXOAUTH2     AuthMode = "xoauth2"     // Google's and Microsoft's bearer method
	AuthOAuthBearer AuthMode = "oauthbearer" // RFC 7628
)

// Provider is the kind of a mailbox.
type Provider string

// The providers.
const (
	ProviderIMAP  Provider = "imap"  // any server that speaks IMAP
	ProviderGmail Provider = "gmail" // Google's API
)

// Gmail is one mailbox of Google Workspace and what opens it: a service account
// or its user's consent, never both. In the files, {id} and {address} stand for
// the mailbox's own.
type Gmail struct {
	// Mode is metadata or search. Default metadata: the scope gmail.metadata,
	// which shows no body; old mail is found by reading the window's headers, at
	// most once a day. search: the scope gmail.readonly, which would allow to read
	// bodies; Google is asked for candidates' mail at once, and the headers are read
	// once a day for what it does not find.
	Mode GmailMode `yaml:"mode"`
	// ServiceAccountFile is the JSON key of a service account with domain-wide
	// delegation: one for all mailboxes of a domain.
	ServiceAccountFile string `yaml:"service_account_file" as:"path"`
	// ClientFile is the JSON of an OAuth client of the type "Desktop app". The
	// mailbox's user consents once, with `mailsyncd connect`.
	ClientFile string `yaml:"client_file" as:"path"`
	// QuotaKey names the user that Google counts the calls for. Default "": each
	// mailbox is its own. Mailboxes with one key share one budget a minute.
	QuotaKey string `yaml:"quota_key"`
}

// File is the file that the credential hangs on.
func (g *Gmail) File() string {
	if g.ServiceAccountFile != "" {
		return g.ServiceAccountFile
	}
	return g.ClientFile
}

// GmailMode says how much Google lets us see.
type GmailMode string

// The modes.
const (
	GmailMetadata GmailMode = "metadata" // headers and labels, no search
	GmailSearch   GmailMode = "search"   // all of it, and so search
)

// FromUsers turns every enabled user of the directory who has an address in a
// domain into a mailbox, and follows them: the mailbox of a disabled user is
// suspended, a deleted user's is removed. Its id is the user's ref where that
// can be one, else made from it. A mailbox that is configured with one of the
// user's addresses, or with the user, wins.
type FromUsers struct {
	// Domain of the users' addresses. Default "": no user becomes a mailbox.
	Domain string `yaml:"domain"`
	// Gmail; see Gmail. Keys that are missing are those of defaults.gmail.
	Gmail Gmail `yaml:"gmail"`
}

// Google bounds what is asked of the Gmail API, per Cloud project: mailboxes
// with the same service account or OAuth client share one.
type Google struct {
	// Quota is new for Cloud projects that began to use the Gmail API in May 2026
	// or later, old for those before: which numbers the keys below have when they
	// are 0. Default new.
	Quota QuotaKind `yaml:"quota" reload:"restart"`
	// UserPerMinute is how many units one mailbox may cost in a minute. Default 0:
	// 6000, old 15000.
	UserPerMinute int `yaml:"user_per_minute" reload:"restart"`
	// ProjectPerMinute is the same for all mailboxes together. Default 0: 1200000.
	ProjectPerMinute int `yaml:"project_per_minute" reload:"restart"`
	// ProjectPerDay bounds all mailboxes together. Default 0: 80000000.
	ProjectPerDay int `yaml:"project_per_day" reload:"restart"`
	// Prices are the units of one call of each kind.
	Prices GooglePrices `yaml:"prices"`
	// Endpoint of the API, for networks that reach Google through a gateway of
	// their own. Default "": Google's.
	Endpoint string `yaml:"endpoint" reload:"restart"`
}

// GooglePrices are units a call. 0: as google.quota says.
type GooglePrices struct {
	// Profile is users.getProfile. Default 0: 1.
	Profile int `yaml:"profile" reload:"restart"`
	// Labels is users.labels.list. Default 0: 1.
	Labels int `yaml:"labels" reload:"restart"`
	// History is users.history.list. Default 0: 2.
	History int `yaml:"history" reload:"restart"`
	// List is users.messages.list. Default 0: 5.
	List int `yaml:"list" reload:"restart"`
	// Get is users.messages.get. Default 0: 20, old 5.
	Get int `yaml:"get" reload:"restart"`
}

// QuotaKind says which of Google's published numbers hold for a project.
type QuotaKind string

// The kinds of quota.
const (
	QuotaNew QuotaKind = "new" // from May 2026 on
	QuotaOld QuotaKind = "old" // before
)

// Webhook is where events go.
type Webhook struct {
	// URL that takes the posts. Required; https, or http to a loopback address
	// or into allow_networks.
	URL string `yaml:"url"`
	// SecretFile holds the signing secret: line 1 the current one (whsec_…),
	// line 2 the previous one while the receiver still accepts it. Required.
	SecretFile string `yaml:"secret_file" as:"path"`
	// AllowNetworks are the loopback and private networks (CIDR) that the URL
	// may lead to. Default: none; public addresses are always allowed,
	// link-local and metadata addresses never.
	AllowNetworks []netip.Prefix `yaml:"allow_networks"`
	// CAFile holds the PEM certificates that the receiver's must descend from.
	// Default "": those of the system.
	CAFile string `yaml:"ca_file" as:"path"`
	// ClientCertFile and ClientKeyFile are the PEM certificate and key that we
	// show the receiver. Default "": none. Both or neither.
	ClientCertFile string `yaml:"client_cert_file" as:"path"`
	ClientKeyFile  string `yaml:"client_key_file" as:"path"`
	// Timeout of one post. Default 20s; 1s to 5m.
	Timeout time.Duration `yaml:"timeout"`
	// Concurrency is how many posts are under way at once. Default 8; 1 to 256.
	Concurrency int `yaml:"concurrency" reload:"restart"`
	// LinkTemplate makes the link that opens a mail in its owner's mail
	// client: a URL with {message_id}. Default "": no link.
	LinkTemplate string `yaml:"link_template"`
}

// Outbox bounds what waits for the receiver.
type Outbox struct {
	// MaxEvents undelivered at once; at the limit polling stops and nothing is
	// thrown away. Default 1000000; at least 1.
	MaxEvents int `yaml:"max_events" reload:"restart"`
}

// Privacy leaves parts of matched mail out, before anything is stored.
type Privacy struct {
	// Subject: full or omit. Default full.
	Subject PrivacyMode `yaml:"subject"`
	// OtherAddresses are the addresses of a matched mail that are neither a
	// candidate's nor ours: full or omit. Default full.
	OtherAddresses PrivacyMode `yaml:"other_addresses"`
}

// PrivacyMode says whether a part of a mail is kept.
type PrivacyMode string

// The privacy modes.
const (
	PrivacyFull PrivacyMode = "full" // kept and posted
	PrivacyOmit PrivacyMode = "omit" // neither stored nor posted
)

// Retention says when what is no longer needed goes.
type Retention struct {
	// DeliveredPayload is how long after its delivery an event's payload is
	// kept for a replay. Default 7d; 0 erases it at the next sweep.
	DeliveredPayload time.Duration `yaml:"delivered_payload"`
	// DeadLetter is how long an undeliverable event waits for a replay.
	// Default 30d; at least 1h.
	DeadLetter time.Duration `yaml:"dead_letter"`
	// SuspendedCredentials is how long credentials of a suspended mailbox are
	// kept. Default 90d; 0 drops them at once.
	SuspendedCredentials time.Duration `yaml:"suspended_credentials"`
}

// Admin is the socket that the commands talk to.
type Admin struct {
	// Socket path; mode 0660. Default /run/mailsyncd/admin.sock.
	Socket string `yaml:"socket" as:"path" reload:"restart"`
}

// Metrics is the HTTP endpoint for monitoring.
type Metrics struct {
	// Listen address of /metrics, /healthz and /readyz. Default
	// 127.0.0.1:9464; "" serves none.
	Listen string `yaml:"listen" reload:"restart"`
	// MailboxLabel says how metrics name a mailbox: none, hash or id. Default none.
	MailboxLabel MailboxLabel `yaml:"mailbox_label" reload:"restart"`
}

// MailboxLabel says how metrics name a mailbox.
type MailboxLabel string

// The label modes.
const (
	LabelNone MailboxLabel = "none" // not at all
	LabelHash MailboxLabel = "hash" // by a hash of the id
	LabelID   MailboxLabel = "id"   // by the id; a person's name, often
)

// Log is the daemon's log on standard error.
type Log struct {
	// Level: debug, info, warn or error. Default info.
	Level LogLevel `yaml:"level"`
	// Format: text or json. Default text.
	Format LogFormat `yaml:"format" reload:"restart"`
}

// LogLevel is the least level that is written.
type LogLevel string

// The log levels.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// LogFormat is the shape of a log line.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text" // key=value
	LogJSON LogFormat = "json"
)

const day = 24 * time.Hour

// Default returns the configuration of an empty file: every default there is.
// It is not complete; the required keys have none.
func Default() Config {
	return Config{
		Store:     Store{Path: "/var/lib/mailsyncd/mailsyncd.db"},
		Directory: Directory{MissingGrace: day},
		Sync: Sync{
			Interval:      time.Hour,
			Backfill:      14 * day,
			Concurrency:   16,
			PerHost:       PerHost{Connections: 8, LoginsPerMinute: 60},
			MaxRecipients: 20,
			ResyncLimit:   365 * day,
			Reconcile:     day,
			ResyncFile:    "/run/mailsyncd/resync",
		},
		// The port follows from the TLS mode once both are known.
		Defaults: Defaults{
			IMAP:  IMAP{TLS: TLSImplicit, Auth: AuthPassword, Username: "{address}"},
			Gmail: Gmail{Mode: GmailMetadata},
		},
		Google:    Google{Quota: QuotaNew},
		Webhook:   Webhook{Timeout: 20 * time.Second, Concurrency: 8},
		Outbox:    Outbox{MaxEvents: 1_000_000},
		Privacy:   Privacy{Subject: PrivacyFull, OtherAddresses: PrivacyFull},
		Retention: Retention{DeliveredPayload: 7 * day, DeadLetter: 30 * day, SuspendedCredentials: 90 * day},
		Admin:     Admin{Socket: "/run/mailsyncd/admin.sock"},
		Metrics:   Metrics{Listen: "127.0.0.1:9464", MailboxLabel: LabelNone},
		Log:       Log{Level: LogInfo, Format: LogText},
	}
}

// Mailbox returns the mailbox with this id.
func (c *Config) Mailbox(id string) (Mailbox, bool) {
	if i, ok := c.byID[id]; ok && i < len(c.Mailboxes) && c.Mailboxes[i].ID == id {
		return c.Mailboxes[i], true
	}
	for i := range c.Mailboxes {
		if c.Mailboxes[i].ID == id {
			return c.Mailboxes[i], true
		}
	}
	return Mailbox{}, false
}

// WatchedFiles are the files whose content may change while the daemon runs
// and that a Watcher should look after: secrets, certificates, and the key.
// Sorted, each once.
func (c *Config) WatchedFiles() []string {
	files := []string{
		c.Secrets.KeyFile, c.Webhook.SecretFile, c.Webhook.CAFile,
		c.Webhook.ClientCertFile, c.Webhook.ClientKeyFile,
	}
	for i := range c.Mailboxes {
		files = append(files, c.Mailboxes[i].SecretFile(), c.Mailboxes[i].IMAP.CAFile)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// MailboxesUsing returns the ids of the mailboxes that need one of the files,
// in configuration order: those to try at once when they changed.
func (c *Config) MailboxesUsing(files []string) []string {
	changed := make(map[string]bool, len(files))
	for _, f := range files {
		changed[f] = true
	}
	var ids []string
	for i := range c.Mailboxes {
		m := &c.Mailboxes[i]
		if changed[m.SecretFile()] || m.IMAP.CAFile != "" && changed[m.IMAP.CAFile] {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
