package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/config"
)

const example = "../config.example.yaml"

// small is the least that is a configuration.
const small = `secrets: {key_file: key}
directory: {file: directory.jsonl}
defaults: {imap: {host: imap.example.com, password_file: "{id}.pw"}}
mailboxes:
  - {id: rita, address: rita@example.com}
webhook: {url: "https://ats.example.com/hook", secret_file: webhook.secret}
`

// write puts files into a new folder and returns the path of the first.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0])
}

func load(t *testing.T, files ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(write(t, files...))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg
}

func TestExampleLoads(t *testing.T) {
	cfg, err := config.Load(example)
	if err != nil {
		t.Fatalf("the example is not a configuration: %v", err)
	}
	timo, ok := cfg.Mailbox("timo")
	if !ok {
		t.Fatal("mailbox timo is missing")
	}
	if got := timo.SecretFile(); got != "/run/tokens/timo" {
		t.Errorf("timo logs in with %s", got)
	}
	if timo.IMAP.PasswordFile != "" {
		t.Error("timo kept the password file of the defaults beside its token")
	}
}

// The example says that it shows every default, so it must.
func TestExampleShowsTheDefaults(t *testing.T) {
	cfg, err := config.Load(example)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	for _, section := range []struct {
		name      string
		got, want any
	}{
		{"store", cfg.Store, want.Store},
		{"sync", cfg.Sync, want.Sync},
		{"google", cfg.Google, want.Google},
		{"outbox", cfg.Outbox, want.Outbox},
		{"privacy", cfg.Privacy, want.Privacy},
		{"retention", cfg.Retention, want.Retention},
		{"admin", cfg.Admin, want.Admin},
		{"metrics", cfg.Metrics, want.Metrics},
		{"log", cfg.Log, want.Log},
		{"directory.missing_grace", cfg.Directory.MissingGrace, want.Directory.MissingGrace},
		{"webhook.timeout", cfg.Webhook.Timeout, want.Webhook.Timeout},
		{"webhook.concurrency", cfg.Webhook.Concurrency, want.Webhook.Concurrency},
		{"defaults.imap.tls", cfg.Defaults.IMAP.TLS, want.Defaults.IMAP.TLS},
		{"defaults.imap.auth", cfg.Defaults.IMAP.Auth, want.Defaults.IMAP.Auth},
		{"defaults.imap.username", cfg.Defaults.IMAP.Username, want.Defaults.IMAP.Username},
	} {
		if !reflect.DeepEqual(section.got, section.want) {
			t.Errorf("%s: the example says %+v, the default is %+v", section.name, section.got, section.want)
		}
	}
}

// Every key of the structs stands in the example, at its place.
func TestExampleShowsEveryKey(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	shown := keysOfText(string(text))
	wanted := keysOfType(reflect.TypeFor[config.Config](), "")
	if len(wanted) < 60 {
		t.Fatalf("found only %d keys; the reflection is broken", len(wanted))
	}
	for _, key := range wanted {
		// A mailbox has the keys of the defaults' blocks, shown there.
		for _, prefix := range []string{"mailboxes.", "mailboxes_from_users."} {
			if rest := strings.TrimPrefix(key, prefix); rest != key && (strings.HasPrefix(rest, "imap.") || strings.HasPrefix(rest, "gmail.")) {
				key = "defaults." + rest
			}
		}
		if !slices.Contains(shown, key) {
			t.Errorf("config.example.yaml does not show %s", key)
		}
	}
}

func keysOfType(t reflect.Type, path string) []string {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "net/netip" {
		return nil
	}
	var keys []string
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		keys = append(keys, path+name)
		keys = append(keys, keysOfType(t.Field(i).Type, path+name+".")...)
	}
	return keys
}

// keysOfText reads key paths off the indentation, a key commented out
// ("# token_file: ...") included.
func keysOfText(text string) []string {
	line := regexp.MustCompile(`^( *)(?:- )?(?:# )?([a-z_]+):( |$)`)
	var keys []string
	var sections []string
	for l := range strings.Lines(text) {
		dashed := strings.Replace(l, "- ", "  ", 1)
		m := line.FindStringSubmatch(strings.TrimRight(dashed, "\n"))
		if m == nil {
			continue
		}
		depth := len(m[1]) / 2
		if sections0(sections) == "mailboxes" && depth > 0 {
			depth-- // items stand one step deeper, behind their dash
		}
		sections = append(sections[:min(depth, len(sections))], m[2])
		keys = append(keys, strings.Join(sections, "."))
	}
	return keys
}

func sections0(sections []string) string {
	if len(sections) == 0 {
		return ""
	}
	return sections[0]
}

func TestDefaultsReachMailboxes(t *testing.T) {
	cfg := load(t, "c.yaml", small)
	m := cfg.Mailboxes[0]
	dir := filepath.Dir(cfg.File)
	want := config.Mailbox{
		ID: "rita", Address: "rita@example.com", Interval: time.Hour,
		IMAP: config.IMAP{
			Host: "imap.example.com", Port: 993, TLS: config.TLSImplicit, Auth: config.AuthPassword,
			Username: "rita@example.com", PasswordFile: filepath.Join(dir, "rita.pw"),
		},
		Provider: config.ProviderIMAP,
		File:     cfg.File, Line: 5,
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	if got := cfg.Secrets.KeyFile; got != filepath.Join(dir, "key") {
		t.Errorf("a relative path became %s, not one beside the configuration", got)
	}
}

func TestMailboxOverridesDefaults(t *testing.T) {
	cfg := load(t, "c.yaml", `sync: {interval: 30m}
defaults:
  ignore_folders: [Privat]
  imap: {host: imap.example.com, port: 1993, username: "{id}", password_file: "/pw/{id}"}
secrets: {key_file: key}
directory: {file: d}
webhook: {url: "https://ats.example.com/hook", secret_file: s}
mailboxes:
  - {id: plain, address: a@example.com}
  - {id: odd, address: b@example.com, interval: 15m, ignore_folders: [], imap: {host: other.example.com, tls: starttls, username: boss}}
  - {id: token, address: c@example.com, imap: {auth: oauthbearer, token_file: "/tok/{address}"}}
  - {id: local, address: d@example.com, imap: {host: 127.0.0.1, tls: none}}
`)
	for _, c := range []struct{ what, got, want string }{
		{"plain keeps the interval of sync", cfg.Mailboxes[0].Interval.String(), "30m0s"},
		{"plain keeps the folders of defaults", strings.Join(cfg.Mailboxes[0].IgnoreFolders, ","), "Privat"},
		{"plain logs in by its id", cfg.Mailboxes[0].IMAP.Username, "plain"},
		{"odd has its own interval", cfg.Mailboxes[1].Interval.String(), "15m0s"},
		{"odd ignores no folder", strings.Join(cfg.Mailboxes[1].IgnoreFolders, ","), ""},
		{"odd has its own host", cfg.Mailboxes[1].IMAP.Host, "other.example.com"},
		{"odd has its own user", cfg.Mailboxes[1].IMAP.Username, "boss"},
		{"odd keeps the password file of defaults", cfg.Mailboxes[1].IMAP.PasswordFile, "/pw/odd"},
		{"token logs in with a token", cfg.Mailboxes[2].SecretFile(), "/tok/c@example.com"},
		{"token has no password", cfg.Mailboxes[2].IMAP.PasswordFile, ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	for i, want := range []int{1993, 1993, 1993, 1993} {
		if got := cfg.Mailboxes[i].IMAP.Port; got != want {
			t.Errorf("mailbox %d has port %d, want the one of defaults", i, got)
		}
	}
}

func TestPortFollowsTLS(t *testing.T) {
	for mode, want := range map[string]int{"implicit": 993, "starttls": 143, "none": 143} {
		cfg := load(t, "c.yaml", strings.Replace(small, "host: imap.example.com", "host: localhost, tls: "+mode, 1))
		if got := cfg.Mailboxes[0].IMAP.Port; got != want {
			t.Errorf("tls %s gives port %d, want %d", mode, got, want)
		}
	}
}

func TestIncludedFiles(t *testing.T) {
	cfg := load(t, "c.yaml", "include: [boxes/*.yaml, boxes/b.yaml, nothing/*.yaml]\n"+small,
		"boxes/b.yaml", "mailboxes: [{id: bob, address: bob@example.com}]",
		"boxes/a.yaml", "mailboxes: [{id: ann, address: ann@example.com, imap: {password_file: ann.pw}}]",
		"boxes/empty.yaml", "# nobody yet\n")
	var ids []string
	for _, m := range cfg.Mailboxes {
		ids = append(ids, m.ID)
	}
	if got := strings.Join(ids, " "); got != "rita ann bob" {
		t.Errorf("mailboxes are %s", got)
	}
	ann, _ := cfg.Mailbox("ann")
	if want := filepath.Join(filepath.Dir(cfg.File), "boxes", "ann.pw"); ann.IMAP.PasswordFile != want {
		t.Errorf("a relative path of an included file became %s, want %s", ann.IMAP.PasswordFile, want)
	}
	if ann.IMAP.Host != "imap.example.com" {
		t.Error("an included mailbox did not get the defaults")
	}
}

func TestCredentialsDirectory(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
	cfg := load(t, "c.yaml", strings.Replace(small, "key_file: key", "key_file: '${CREDENTIALS_DIRECTORY}/key'", 1))
	if got := cfg.Secrets.KeyFile; got != "/run/credentials/x/key" {
		t.Errorf("the key file is %s", got)
	}
}

func TestWatchedFiles(t *testing.T) {
	cfg := load(t, "c.yaml", strings.Replace(small, "host: imap.example.com", "host: imap.example.com, ca_file: /ca.pem", 1))
	dir := filepath.Dir(cfg.File)
	want := []string{"/ca.pem", filepath.Join(dir, "key"), filepath.Join(dir, "rita.pw"), filepath.Join(dir, "webhook.secret")}
	if got := cfg.WatchedFiles(); !slices.Equal(got, want) {
		t.Errorf("watched: %v, want %v", got, want)
	}
	if got := cfg.MailboxesUsing([]string{filepath.Join(dir, "rita.pw")}); !slices.Equal(got, []string{"rita"}) {
		t.Errorf("mailboxes using the password file: %v", got)
	}
	if got := cfg.MailboxesUsing([]string{filepath.Join(dir, "key")}); got != nil {
		t.Errorf("mailboxes using the key file: %v", got)
	}
}

func TestCompare(t *testing.T) {
	from := load(t, "c.yaml", small+"")
	for _, c := range []struct {
		what string
		text string
		want config.Changes
	}{
		{"nothing changed", small, config.Changes{}},
		{"a comment moved the mailbox", "# a\n\n" + small, config.Changes{}},
		{"an empty list was spelled out", strings.Replace(small, "id: rita,", "id: rita, aliases: [],", 1), config.Changes{}},
		{"a mailbox came and one went",
			strings.Replace(small, "{id: rita, address: rita@example.com}", "{id: timo, address: timo@example.com}", 1),
			config.Changes{Added: []string{"timo"}, Removed: []string{"rita"}}},
		{"an alias came", strings.Replace(small, "id: rita,", "id: rita, aliases: [r@example.com],", 1),
			config.Changes{Changed: []string{"rita"}}},
		{"the defaults changed", strings.Replace(small, "imap.example.com", "mail.example.com", 1),
			config.Changes{Changed: []string{"rita"}}},
		{"the interval of all changed", "sync: {interval: 5m}\n" + small,
			config.Changes{Changed: []string{"rita"}, Settings: []string{"sync.interval"}}},
		{"a setting changed that a restart brings", "store: {path: /x.db}\nlog: {level: debug}\n" + small,
			config.Changes{Settings: []string{"store.path", "log.level"}, Restart: []string{"store.path"}}},
	} {
		// All relative paths lie in one folder, as those of one installation do.
		path := filepath.Join(filepath.Dir(from.File), "new.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		to, err := config.Load(path)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		got := config.Compare(from, to)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
		if got.Empty() != reflect.DeepEqual(c.want, config.Changes{}) {
			t.Errorf("%s: Empty is %v", c.what, got.Empty())
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour,
		"1d12h": 36 * time.Hour, "0d": 0, "1.5h": 90 * time.Minute,
	} {
		if got, err := config.ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-5m", "+5m", "1d-2h", "5 m", "1h1d", "99999d", "1w", "0x1d", "106000d106000d"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
	for want, d := range map[string]time.Duration{
		"0s": 0, "20s": 20 * time.Second, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"14d": 336 * time.Hour, "1d12h": 36 * time.Hour, "10m": 10 * time.Minute, "1h0m5s": time.Hour + 5*time.Second,
	} {
		got := config.FormatDuration(d)
		if back, err := config.ParseDuration(got); got != want || err != nil || back != d {
			t.Errorf("FormatDuration(%v) = %q, want %q; reads back as %v, %v", d, got, want, back, err)
		}
	}
}

func TestErrorCarriesTheProblems(t *testing.T) {
	_, err := config.Load(write(t, "c.yaml", "log: {level: loud}\n"))
	var invalid *config.Error
	if !errors.As(err, &invalid) {
		t.Fatalf("Load returned %T", err)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(invalid.Problems) || lines < 5 {
		t.Errorf("%d problems printed as %d lines:\n%v", len(invalid.Problems), lines, err)
	}
}

func TestWebhookTargetsThatAreFine(t *testing.T) {
	for _, hook := range []string{
		`url: "https://ats.example.com:8443/hook?tenant=1"`,
		`url: "https://203.0.113.7/hook"`,
		`url: "https://[2001:db8::1]/hook"`,
		`url: "http://localhost:8080/", allow_networks: [127.0.0.0/8]`,
		`url: "http://[::1]:8080/", allow_networks: ["::1/128"]`,
		`url: "http://ats_internal:8080/", allow_networks: [10.0.0.0/8]`,
		`url: "http://10.1.2.3/", allow_networks: [10.0.0.0/8, 192.168.0.0/16]`,
		`url: "https://bücher.example/", link_template: "https://mail.example.com/?id={message_id}"`,
	} {
		text := strings.Replace(small, `url: "https://ats.example.com/hook"`, hook, 1)
		if _, err := config.Load(write(t, "c.yaml", text)); err != nil {
			t.Errorf("%s: %v", hook, err)
		}
	}
}
