package config_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"mailsyncd/config"
)

// with puts lines in front of the small configuration.
func with(lines string) string { return lines + "\n" + small }

// replaced puts a line in the place of the one that begins with its first word.
func replaced(line string) string {
	key, _, _ := strings.Cut(line, ":")
	lines := strings.Split(small, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, key+":") {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}

// box is the small configuration with another mailbox, on line 5.
func box(mailboxes ...string) string {
	var items strings.Builder
	for _, m := range mailboxes {
		items.WriteString("  - " + m + "\n")
	}
	return strings.Replace(small, "  - {id: rita, address: rita@example.com}\n", items.String(), 1)
}

func hook(rest string) string {
	return replaced(`webhook: {` + rest + `}`)
}

const (
	okURL = `url: "https://ats.example.com/hook", `
	okKey = `secret_file: webhook.secret`
)

// What an operator gets to read. The folder of the file is left out.
var badConfigs = []struct {
	what string
	text string
	want string
}{
	{"an empty file lacks everything", "", `
c.yaml:1: secrets.key_file: is missing; make one with ` + "`mailsyncd key new FILE`" + ` and name it here
c.yaml:1: directory.file: is missing; name the file that holds the candidates as JSON lines
c.yaml:1: webhook.url: is missing; write the URL that takes the events
c.yaml:1: webhook.secret_file: is missing; name the file that holds the signing secret (whsec_…)
c.yaml:1: mailboxes: there is no mailbox, here or in an included file; add one under mailboxes or check the globs of include`},
	{"everything wrong is said at once, in order of lines", "log: {level: loud}\nsync: {concurrency: 0, interval: soon}\n" + small, `
c.yaml:1: log.level: "loud" is not one of them; write debug or info or warn or error
c.yaml:2: sync.interval: "soon" is not a duration; write a number and a unit, such as 90s, 15m, 12h or 7d
c.yaml:2: sync.concurrency: 0 is out of range; write 1 to 1024`},

	// The shape of the file.
	{"broken YAML", "log: {level: info\nsync: [", `
c.yaml:1: not valid YAML here or just above: did not find expected ',' or '}'; mind the indentation, and quote text that holds a colon`},
	{"a tab as indentation", "log:\n\tlevel: info\n" + small, `
c.yaml:2: not valid YAML here or just above: found character that cannot start any token; mind the indentation, and quote text that holds a colon`},
	{"a list instead of a mapping", "- log\n- sync\n", `
c.yaml:1: wants a mapping (key: value), not a list`},
	{"a second document", small + "---\nlog: {}\n", `
c.yaml:7: a second YAML document; remove the --- line`},
	{"an alias", "log: &l {level: info}\nmetrics: *l\n" + small, `
c.yaml:2: metrics: YAML aliases are not supported; put what mailboxes share under defaults`},
	{"a merge key", box("{id: rita, address: rita@example.com, <<: {user: usr_7}}"), `
c.yaml:5: mailboxes[0]: YAML merge keys are not supported; put what mailboxes share under defaults`},
	{"a key twice", with("log: {level: info}\nlog: {level: debug}"), `
c.yaml:2: log: stands here again, first on line 1; keep one`},
	{"a key without a value", with("company:\n  domains:"), `
c.yaml:2: company.domains: has no value; give it one or remove the line`},
	{"a control character", with(`log: {level: "in\u0007fo"}`), `
c.yaml:1: log.level: holds a control character; remove it`},

	// Keys nobody knows.
	{"a typo is guessed, and not reported as missing too", hook(okURL + "secretfile: webhook.secret"), `
c.yaml:6: webhook.secretfile: unknown key; did you mean secret_file?`},
	{"a dash instead of an underscore", with("sync: {max-recipients: 5}"), `
c.yaml:1: sync.max-recipients: unknown key; did you mean max_recipients?`},
	{"a secret in the configuration is not repeated", box("{id: rita, address: rita@example.com, imap: {password: hunter2}}"), `
c.yaml:5: mailboxes[0].imap.password: unknown key; secrets stand in files of their own; use password_file`},
	{"a key in the wrong section names the right one", with("interval: 15m"), `
c.yaml:1: interval: unknown key; it belongs at sync.interval or mailboxes[].interval`},
	{"a key like none", with("log: {rotation: daily}"), `
c.yaml:1: log.rotation: unknown key; legal here: level, format`},
	{"a key that breaks the line", with(`log: {"le\nvel": info}`), `
c.yaml:1: log."le\nvel": unknown key; did you mean level?`},
	{"a key that is a list", with("log: {[level]: info}"), `
c.yaml:1: log."": unknown key; legal here: level, format`},
	{"a section in the wrong place names the right ones", with("gmail: {}"), `
c.yaml:1: gmail: unknown key; it belongs at defaults.gmail or mailboxes_from_users.gmail or mailboxes[].gmail`},
	{"a whole unknown section", with("calendar: {}"), `
c.yaml:1: calendar: unknown key; legal here: company, store, secrets, directory, sync, defaults, mailboxes_from_users, google, include, mailboxes, webhook, outbox, privacy, retention, admin, metrics, log`},

	// Types.
	{"a number for text", box("{id: 7, address: rita@example.com}"), `
c.yaml:5: mailboxes[0].id: wants text, not a number; put it in quotes`},
	{"a date for text", box("{id: rita, address: rita@example.com, user: 2026-01-02}"), `
c.yaml:5: mailboxes[0].user: wants text, not a date; put it in quotes`},
	{"a switch for text", with("log: {level: true}"), `
c.yaml:1: log.level: wants text, not true or false; put it in quotes`},
	{"text for a list", with("company: {domains: example.com}"), `
c.yaml:1: company.domains: wants a list ([one, two]), not text; put it in brackets`},
	{"text for a number", with("sync: {concurrency: many}"), `
c.yaml:1: sync.concurrency: wants a whole number, not text`},
	{"a fraction for a number", with("sync: {concurrency: 1.5}"), `
c.yaml:1: sync.concurrency: wants a whole number, not a number`},
	{"a number too large", with("outbox: {max_events: 99999999999999999999}"), `
c.yaml:1: outbox.max_events: wants a whole number, not a number`},
	{"a hexadecimal number", with("outbox: {max_events: 0x10}"), `
c.yaml:1: outbox.max_events: "0x10" is not a whole number that fits; write it in decimal`},
	{"a duration without a unit", with("sync: {interval: 60}"), `
c.yaml:1: sync.interval: "60" is not a duration; write a number and a unit, such as 90s, 15m, 12h or 7d`},
	{"a negative duration", with("sync: {backfill: -3d}"), `
c.yaml:1: sync.backfill: "-3d" is not a duration; write a number and a unit, such as 90s, 15m, 12h or 7d`},
	{"a list for a duration", with("sync: {interval: [1m]}"), `
c.yaml:1: sync.interval: a list is not a duration; write a number and a unit, such as 90s, 15m, 12h or 7d`},
	{"mailboxes as a mapping", strings.Replace(small, "  - {id: rita, address: rita@example.com}", "  rita: {address: rita@example.com}", 1), `
c.yaml:5: mailboxes: wants a list of mailboxes, not a mapping`},
	{"a mailbox that is a word", box("rita"), `
c.yaml:5: mailboxes[0]: wants a mapping (key: value), not text`},

	// Ranges.
	{"an interval too short", with("sync: {interval: 10ms}"), `
c.yaml:1: sync.interval: 10ms is out of range; write 1s to 1d`},
	{"a backfill beyond the resync limit", with("sync: {backfill: 90d, resync_limit: 30d}"), `
c.yaml:1: sync.backfill: 90d is longer than sync.resync_limit, 30d; shorten it or raise the limit`},
	{"a reconcile every minute", with("sync: {reconcile: 1m}"), `
c.yaml:1: sync.reconcile: 1m is out of range; write 1h to 30d`},
	{"too many at once", with("sync: {concurrency: 5000, per_host: {connections: 0, logins_per_minute: -1}}"), `
c.yaml:1: sync.concurrency: 5000 is out of range; write 1 to 1024
c.yaml:1: sync.per_host.connections: 0 is out of range; write 1 to 1024
c.yaml:1: sync.per_host.logins_per_minute: -1 is out of range; write 1 to 100000`},
	{"a negative guard", with("sync: {max_recipients: -1}"), `
c.yaml:1: sync.max_recipients: -1 is too small; write at least 0`},
	{"no outbox at all", with("outbox: {max_events: 0}"), `
c.yaml:1: outbox.max_events: 0 is too small; write at least 1`},
	{"dead letters gone at once", with("retention: {dead_letter: 0s}"), `
c.yaml:1: retention.dead_letter: 0s is out of range; write 1h to 3650d`},

	// Choices.
	{"an unknown log format", with("log: {format: xml}"), `
c.yaml:1: log.format: "xml" is not one of them; write text or json`},
	{"a privacy mode that is none", with("privacy: {subject: hash, other_addresses: none}"), `
c.yaml:1: privacy.subject: "hash" is not one of them; write full or omit
c.yaml:1: privacy.other_addresses: "none" is not one of them; write full or omit`},
	{"a mailbox label that is none", with("metrics: {mailbox_label: address}"), `
c.yaml:1: metrics.mailbox_label: "address" is not one of them; write none or hash or id`},

	// Company.
	{"a domain with an @", with("company: {domains: ['@example.com']}"), `
c.yaml:1: company.domains[0]: is not a domain; write it without the @`},
	{"an address for a domain", with("company: {domains: [example.com, rita@example.com]}"), `
c.yaml:1: company.domains[1]: is an address, not a domain; write what follows the @`},
	{"a wildcard domain", with("company: {domains: ['*.example.com']}"), `
c.yaml:1: company.domains[0]: is not a domain; name each domain, there are no wildcards`},
	{"a domain with a space", with("company: {domains: ['exa mple.com']}"), `
c.yaml:1: company.domains[0]: is not a domain; write it like example.com`},
	{"a domain for an address", with("company: {ignore_from: [ats.example.com]}"), `
c.yaml:1: company.ignore_from[0]: is not a mail address, it has no @; write local@domain`},
	{"a name with the address", with("company: {shared_addresses: ['Jobs <jobs@example.com>']}"), `
c.yaml:1: company.shared_addresses[0]: is not a bare address; write it without a name and angle brackets`},
	{"two addresses in one", with("company: {internal_applicants: ['a@example.com,b@example.com']}"), `
c.yaml:1: company.internal_applicants[0]: is not a mail address; one address an item, without spaces and quotes`},

	// Paths.
	{"a placeholder where there is no mailbox", replaced("secrets: {key_file: 'keys/{id}'}"), `
c.yaml:1: secrets.key_file: {id} has no meaning here, only in a mailbox's imap block and its defaults; write the path`},
	{"a variable that is not set", replaced("secrets: {key_file: '${CREDENTIALS_DIRECTORY}/key'}"), `
c.yaml:1: secrets.key_file: CREDENTIALS_DIRECTORY is not set here; systemd sets it for a unit with LoadCredential=, elsewhere write the folder's path`},
	{"a variable of one's own", replaced("directory: {file: '${HOME}/directory.jsonl'}"), `
c.yaml:2: directory.file: names a variable other than ${CREDENTIALS_DIRECTORY}; write the path itself`},
	{"an empty required path", with("store: {path: ''}"), `
c.yaml:1: store.path: is missing; name the database file`},
	{"a socket path longer than the system takes", with("admin: {socket: /" + strings.Repeat("x", 120) + "}"), `
c.yaml:1: admin.socket: the path has 121 bytes, a socket's may have 107; choose a shorter one, such as /run/mailsyncd/admin.sock`},

	// Mailboxes.
	{"a mailbox with nothing", box("{}"), `
c.yaml:5: mailboxes[0].id: is missing; give the mailbox a name for commands and logs
c.yaml:5: mailboxes[0].address: is missing; write the mailbox's main address`},
	{"an id with a slash", box("{id: ../rita, address: rita@example.com}"), `
c.yaml:5: mailboxes[0].id: "../rita" cannot be an id; use letters, digits and . _ - @ +, at most 100`},
	{"an address with a slash", box("{id: rita, address: ri/ta@example.com}"), `
c.yaml:5: mailboxes[0].address: holds a slash, which cannot stand in a path; use another address as the main one`},
	{"an address that is none is not repeated", box("{id: rita, address: rita@exa_mple..com}"), `
c.yaml:5: mailboxes[0].address: is not a mail address, what follows the @ is not a domain; write local@domain`},
	{"an alias that says nothing new", box("{id: rita, address: rita.k@gmail.com, aliases: [RITAK+x@googlemail.com]}"), `
c.yaml:5: mailboxes[0].aliases[0]: is an address that this mailbox has already; remove it`},
	{"an id twice", box("{id: rita, address: rita@example.com}", "{id: rita, address: other@example.com}"), `
c.yaml:6: mailboxes[1].id: "rita" is the id of the mailbox at c.yaml:5 as well; give each its own`},
	{"an address twice, spelled differently", box("{id: a, address: rita@example.com}", "{id: b, address: Rita@EXAMPLE.com}"), `
c.yaml:6: mailboxes[1].address: is the address of the mailbox at c.yaml:5 as well; poll a mailbox once`},
	{"an interval too long", box("{id: rita, address: rita@example.com, interval: 3d}"), `
c.yaml:5: mailboxes[0].interval: 3d is out of range; write 1s to 1d`},
	{"a folder without a name", box("{id: rita, address: rita@example.com, ignore_folders: [' ']}"), `
c.yaml:5: mailboxes[0].ignore_folders[0]: is empty; write the folder's name as the mail client shows it`},
	{"a user longer than a ref may be", box("{id: rita, address: rita@example.com, user: " + strings.Repeat("u", 201) + "}"), `
c.yaml:5: mailboxes[0].user: is longer than 200 bytes; write the ATS's ref of the user`},

	// Servers.
	{"no host anywhere", replaced(`defaults: {imap: {password_file: "{id}.pw"}}`), `
c.yaml:5: mailboxes[0].imap.host: is missing; name the mail server here or in defaults`},
	{"a bad default is said once, where it stands",
		strings.Replace(box("{id: a, address: a@example.com}", "{id: b, address: b@example.com}"), "imap.example.com", "imaps://imap.example.com", 1), `
c.yaml:3: defaults.imap.host: "imaps://imap.example.com" is a URL; write only the host name`},
	{"a typo in the defaults is said once, where it stands",
		strings.Replace(box("{id: a, address: a@example.com}", "{id: b, address: b@example.com}"), "host: imap", "hots: imap", 1), `
c.yaml:3: defaults.imap.hots: unknown key; did you mean host?`},
	{"a host with a port", box("{id: rita, address: rita@example.com, imap: {host: 'imap.example.com:993'}}"), `
c.yaml:5: mailboxes[0].imap.host: "imap.example.com:993" holds a port; write the host here and the number at port`},
	{"a host that is none", box("{id: rita, address: rita@example.com, imap: {host: 'imap example'}}"), `
c.yaml:5: mailboxes[0].imap.host: "imap example" is not a host name or an IP address; write it like imap.example.com`},
	{"a port out of range", box("{id: rita, address: rita@example.com, imap: {port: 99999}}"), `
c.yaml:5: mailboxes[0].imap.port: 99999 is out of range; write 1 to 65535`},
	{"port zero", box("{id: rita, address: rita@example.com, imap: {port: 0}}"), `
c.yaml:5: mailboxes[0].imap.port: 0 is out of range; write 1 to 65535`},
	{"a password in clear over the network", box("{id: rita, address: rita@example.com, imap: {tls: none}}"), `
c.yaml:5: mailboxes[0].imap.tls: none would send the password in clear, only a loopback host may have it; write implicit or starttls`},
	{"an unknown TLS mode", box("{id: rita, address: rita@example.com, imap: {tls: ssl}}"), `
c.yaml:5: mailboxes[0].imap.tls: "ssl" is not one of them; write implicit or starttls or none`},
	{"an unknown login method in the defaults", strings.Replace(small, "imap: {", "imap: {auth: ntlm, ", 1), `
c.yaml:3: defaults.imap.auth: "ntlm" is not one of them; write password or xoauth2 or oauthbearer`},
	{"a login without a password", replaced("defaults: {imap: {host: imap.example.com}}"), `
c.yaml:5: mailboxes[0].imap.password_file: is missing; name the file that holds the password, here or in defaults`},
	{"a token without a token file", box("{id: rita, address: rita@example.com, imap: {auth: xoauth2}}"), `
c.yaml:5: mailboxes[0].imap.token_file: is missing; name the file that holds the access token, here or in defaults`},
	{"a token file with a password login", box("{id: rita, address: rita@example.com, imap: {token_file: t}}"), `
c.yaml:5: mailboxes[0].imap.token_file: is not used with auth: password; remove it, or set auth to xoauth2 or oauthbearer`},
	{"a password file with a token login", box("{id: rita, address: rita@example.com, imap: {auth: xoauth2, token_file: t, password_file: p}}"), `
c.yaml:5: mailboxes[0].imap.password_file: is not used with auth: xoauth2; remove it, or set auth to password`},
	{"an empty user name", box("{id: rita, address: rita@example.com, imap: {username: ''}}"), `
c.yaml:5: mailboxes[0].imap.username: is missing; write the user to log in as, or remove the line to use "{address}"`},
	{"a placeholder that is unknown", strings.Replace(small, "{id}.pw", "{mailbox}.pw", 1), `
c.yaml:3: defaults.imap.password_file: holds the unknown placeholder {mailbox}; {id} and {address} are known`},

	// Gmail.
	{"a mailbox that is both", box("{id: sam, address: sam@example.com, imap: {port: 993}, gmail: {service_account_file: sa.json}}"), `
c.yaml:5: mailboxes[0].gmail: stands beside imap; a mailbox has one of them, remove the other`},
	{"a mailbox that could be either", replaced(`defaults: {imap: {host: h, password_file: p}, gmail: {service_account_file: sa.json}}`), `
c.yaml:5: mailboxes[0]: has neither imap nor gmail, and the defaults have both; write ` + "`imap: {}` or `gmail: {}`" + ` here`},
	{"a Gmail mailbox without a credential", box("{id: sam, address: sam@example.com, gmail: {}}"), `
c.yaml:5: mailboxes[0].gmail.service_account_file: is missing; name the key of a service account here or in defaults, or the OAuth client under client_file`},
	{"a Gmail mailbox with two credentials", box("{id: sam, address: sam@example.com, gmail: {service_account_file: sa.json, client_file: c.json}}"), `
c.yaml:5: mailboxes[0].gmail.client_file: stands beside service_account_file; a mailbox has one credential, remove the other`},
	{"two credentials in the defaults", replaced(`defaults: {gmail: {service_account_file: sa.json, client_file: c.json}}`), `
c.yaml:3: defaults.gmail.client_file: stands beside service_account_file; keep the one that most mailboxes use and write the other into the rest`},
	{"an unknown mode", box("{id: sam, address: sam@example.com, gmail: {mode: full, service_account_file: sa.json}}"), `
c.yaml:5: mailboxes[0].gmail.mode: "full" is not one of them; write metadata or search`},
	{"a client secret in the configuration is not repeated", box("{id: sam, address: sam@example.com, gmail: {client: hunter2}}"), `
c.yaml:5: mailboxes[0].gmail.client: unknown key; secrets stand in files of their own; use client_file
c.yaml:5: mailboxes[0].gmail.service_account_file: is missing; name the key of a service account here or in defaults, or the OAuth client under client_file`},
	{"a placeholder that Gmail does not know", box("{id: sam, address: sam@example.com, gmail: {client_file: '{user}.json'}}"), `
c.yaml:5: mailboxes[0].gmail.client_file: holds the unknown placeholder {user}; {id} and {address} are known`},
	{"mailboxes from users of nowhere", with("mailboxes_from_users: {gmail: {service_account_file: sa.json}}"), `
c.yaml:1: mailboxes_from_users.domain: is missing; write the domain whose users become mailboxes`},
	{"mailboxes from users with an address for a domain", with("mailboxes_from_users: {domain: '@example.com', gmail: {service_account_file: sa.json}}"), `
c.yaml:1: mailboxes_from_users.domain: is not a domain; write it without the @`},
	{"mailboxes from users without a credential", with("mailboxes_from_users: {domain: example.com}"), `
c.yaml:1: mailboxes_from_users.gmail.service_account_file: is missing; name the key of a service account here or in defaults, or the OAuth client under client_file`},
	{"a quota of another kind", with("google: {quota: free}"), `
c.yaml:1: google.quota: "free" is not one of them; write new or old`},
	{"a budget that no call fits in", with("google: {user_per_minute: 30, prices: {get: 20}}"), `
c.yaml:1: google.user_per_minute: 30 is too small; write at least 40`},
	{"a price below nothing", with("google: {prices: {get: -1}}"), `
c.yaml:1: google.prices.get: -1 is out of range; write 0 to 100000`},
	{"tokens sent in clear", with("google: {endpoint: 'http://gateway.example.com/'}"), `
c.yaml:1: google.endpoint: would send tokens in clear; write https`},
	{"an endpoint that is none", with("google: {endpoint: gateway}"), `
c.yaml:1: google.endpoint: is not a plain URL; write it like https://gmail.googleapis.com/`},

	// The webhook.
	{"a URL without a scheme", hook(`url: ats.example.com/hook, ` + okKey), `
c.yaml:6: webhook.url: is not a URL; write it like https://ats.example.com/hooks/mail`},
	{"a URL of another kind", hook(`url: "ftp://ats.example.com/hook", ` + okKey), `
c.yaml:6: webhook.url: has the scheme "ftp"; write https`},
	{"a password in the URL is not repeated", hook(`url: "https://u:hunter2@ats.example.com/hook", ` + okKey), `
c.yaml:6: webhook.url: holds a user name or password; remove it, posts are signed with secret_file`},
	{"a fragment", hook(`url: "https://ats.example.com/hook#x", ` + okKey), `
c.yaml:6: webhook.url: has a fragment (#…), which is never sent; remove it`},
	{"posts in clear", hook(`url: "http://ats.example.com/hook", ` + okKey), `
c.yaml:6: webhook.url: sends mail data in clear; write https, or list the private network the receiver is in under allow_networks`},
	{"posts in clear to a public address", hook(`url: "http://203.0.113.7/hook", allow_networks: [10.0.0.0/8], ` + okKey), `
c.yaml:6: webhook.url: sends mail data in clear; write https, or list the private network the receiver is in under allow_networks`},
	{"loopback that is not listed", hook(`url: "http://localhost:8080/hook", ` + okKey), `
c.yaml:6: webhook.url: leads to the private address 127.0.0.1; add 127.0.0.1/32 to allow_networks if that is meant`},
	{"a private target outside the list", hook(`url: "https://10.1.2.3/hook", allow_networks: [10.2.0.0/16], ` + okKey), `
c.yaml:6: webhook.url: leads to the private address 10.1.2.3; add 10.1.2.3/32 to allow_networks if that is meant`},
	{"a metadata service", hook(`url: "https://169.254.169.254/", ` + okKey), `
c.yaml:6: webhook.url: leads to 169.254.169.254, which is never posted to; write the receiver's own address`},
	{"an address for a network", hook(okURL + `allow_networks: [10.1.2.3], ` + okKey), `
c.yaml:6: webhook.allow_networks[0]: "10.1.2.3" is one address; write it as a network, 10.1.2.3/32`},
	{"a network with host bits", hook(okURL + `allow_networks: [10.1.2.3/8], ` + okKey), `
c.yaml:6: webhook.allow_networks[0]: "10.1.2.3/8" has bits set behind its length; write 10.0.0.0/8`},
	{"a network that is none", hook(okURL + `allow_networks: [intranet], ` + okKey), `
c.yaml:6: webhook.allow_networks[0]: "intranet" is not a network; write it as address/bits, such as 10.20.0.0/16`},
	{"every network", hook(okURL + `allow_networks: [0.0.0.0/0], ` + okKey), `
c.yaml:6: webhook.allow_networks[0]: 0.0.0.0/0 is every address there is; list the networks the receiver is in`},
	{"link-local as a network", hook(okURL + `allow_networks: [169.254.0.0/16], ` + okKey), `
c.yaml:6: webhook.allow_networks[0]: 169.254.0.0/16 is link-local, where cloud metadata services live; it is never posted to, remove it`},
	{"a client certificate without its key", hook(okURL + `client_cert_file: c.pem, ` + okKey), `
c.yaml:6: webhook.client_cert_file: stands without client_key_file; name both or neither`},
	{"a client key without its certificate", hook(okURL + `client_key_file: c.key, ` + okKey), `
c.yaml:6: webhook.client_key_file: stands without client_cert_file; name both or neither`},
	{"a timeout too long and no posts at once", hook(okURL + `timeout: 1h, concurrency: 0, ` + okKey), `
c.yaml:6: webhook.timeout: 1h is out of range; write 1s to 5m
c.yaml:6: webhook.concurrency: 0 is out of range; write 1 to 256`},
	{"a link without the message", hook(okURL + `link_template: "https://mail.example.com/", ` + okKey), `
c.yaml:6: webhook.link_template: has no {message_id}; put it where the mail's Message-ID belongs`},
	{"a link with another placeholder", hook(okURL + `link_template: "https://mail.example.com/{id}/{message_id}", ` + okKey), `
c.yaml:6: webhook.link_template: holds the unknown placeholder {id}; only {message_id} is known`},
	{"a link that runs a script", hook(okURL + `link_template: "javascript:open('{message_id}')", ` + okKey), `
c.yaml:6: webhook.link_template: is not a URL; begin it with https:// and a host`},

	// Metrics.
	{"a port without its colon", with("metrics: {listen: '9464'}"), `
c.yaml:1: metrics.listen: "9464" is not host:port; write it like 127.0.0.1:9464, or "" to serve no metrics`},
	{"a port that is none", with("metrics: {listen: '127.0.0.1:http'}"), `
c.yaml:1: metrics.listen: "127.0.0.1:http" has no port from 0 to 65535 behind the colon; write it like 127.0.0.1:9464`},

	// Included files.
	{"an included file that is not there", with("include: [boxes.yaml]"), `
c.yaml:1: include[0]: "boxes.yaml" does not exist; check the path, or write a glob (*.yaml) that may match nothing`},
	{"a broken glob", with("include: ['[a.yaml']"), `
c.yaml:1: include[0]: is not a glob; mind the brackets`},
}

func TestBadConfigs(t *testing.T) {
	if len(badConfigs) < 60 {
		t.Fatalf("only %d rows", len(badConfigs))
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for _, c := range badConfigs {
		t.Run(c.what, func(t *testing.T) { wantProblems(t, write(t, "c.yaml", c.text), c.want) })
	}
}

// wantProblems loads a file and compares what is said about it.
func wantProblems(t *testing.T, path, want string) {
	t.Helper()
	cfg, err := config.Load(path)
	if err == nil {
		t.Fatalf("loaded: %+v", cfg)
	}
	dir := filepath.Dir(path)
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, secret := range []string{"hunter2"} {
		if strings.Contains(got, secret) {
			t.Errorf("the error repeats the secret %q", secret)
		}
	}
}

func TestProblemsOfIncludedFiles(t *testing.T) {
	main := "include: ['*.box.yaml']\n" + small
	for _, c := range []struct {
		what, text, want string
	}{
		{"a mailbox of the main file again", "mailboxes:\n  - {id: rita, address: rita@example.com}\n", `
a.box.yaml:2: mailboxes[0].id: "rita" is the id of the mailbox at c.yaml:6 as well; give each its own
a.box.yaml:2: mailboxes[0].address: is the address of the mailbox at c.yaml:6 as well; poll a mailbox once`},
		{"settings outside the main file", "sync: {interval: 5m}\nmailboxes: []\n", `
a.box.yaml:1: sync: unknown key; an included file holds only mailboxes; settings belong to the main file`},
		{"a bad value", "mailboxes:\n  - id: b\n    address: b@example.com\n    imap:\n      port: 0\n", `
a.box.yaml:5: mailboxes[0].imap.port: 0 is out of range; write 1 to 65535`},
		{"broken YAML", "mailboxes: [", `
a.box.yaml:1: not valid YAML here or just above: did not find expected node content; mind the indentation, and quote text that holds a colon`},
	} {
		t.Run(c.what, func(t *testing.T) {
			wantProblems(t, write(t, "c.yaml", main, "a.box.yaml", c.text), c.want)
		})
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "none.yaml: cannot be read: it does not exist; check the path",
		dir:                             "cannot be read: it is not a regular file; name a file",
	} {
		_, err := config.Load(path)
		var invalid *config.Error
		if !errors.As(err, &invalid) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
