package config_test

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"mailsyncd/config"
)

// files is all but the defaults and the mailboxes, on one line.
const files = `secrets: {key_file: /k}
directory: {file: /d}
webhook: {url: "https://ats.example.com/hook", secret_file: /w}
`

func TestKindOfAMailbox(t *testing.T) {
	const imap, gmail = `imap: {host: h, password_file: /pw}`, `gmail: {service_account_file: "/keys/{id}.json"}`
	for _, c := range []struct {
		what, defaults, mailbox string
		provider                config.Provider
		secret                  string
	}{
		{"imap in the defaults", imap, "", config.ProviderIMAP, "/pw"},
		{"gmail in the defaults", gmail, "", config.ProviderGmail, "/keys/sam.json"},
		{"imap in the defaults and gmail on the mailbox", imap, ", gmail: {client_file: /c}", config.ProviderGmail, "/c"},
		{"gmail in the defaults and imap on the mailbox", gmail, ", imap: {host: h, password_file: /own}", config.ProviderIMAP, "/own"},
		{"both in the defaults and the mailbox chooses gmail", imap + ", " + gmail, ", gmail: {}", config.ProviderGmail, "/keys/sam.json"},
		{"both in the defaults and the mailbox chooses imap", imap + ", " + gmail, ", imap: {}", config.ProviderIMAP, "/pw"},
		{"a client on the mailbox replaces the account of the defaults", gmail, ", gmail: {client_file: '/c/{address}'}", config.ProviderGmail, "/c/sam@example.com"},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := load(t, "c.yaml", files+"defaults: {"+c.defaults+"}\nmailboxes: [{id: sam, address: sam@example.com"+c.mailbox+"}]\n")
			m := cfg.Mailboxes[0]
			if m.Provider != c.provider || m.SecretFile() != c.secret {
				t.Errorf("is %s with %s, want %s with %s", m.Provider, m.SecretFile(), c.provider, c.secret)
			}
			if m.Provider == config.ProviderGmail && (m.IMAP != config.IMAP{} || m.Gmail.Mode != config.GmailMetadata) {
				t.Errorf("holds %+v and %+v", m.IMAP, m.Gmail)
			}
			if m.Provider == config.ProviderIMAP && m.Gmail != (config.Gmail{}) {
				t.Errorf("kept a gmail block: %+v", m.Gmail)
			}
			if got := cfg.MailboxesUsing([]string{c.secret}); len(got) != 1 {
				t.Errorf("a change of %s concerns %v", c.secret, got)
			}
		})
	}
}

func TestAMailboxThatMovesToGmailHasChanged(t *testing.T) {
	imap := load(t, "c.yaml", files+"mailboxes: [{id: sam, address: sam@example.com, imap: {host: h, password_file: /pw}}]\n")
	gmail := load(t, "c.yaml", files+"mailboxes: [{id: sam, address: sam@example.com, gmail: {client_file: /c}}]\n")
	search := load(t, "c.yaml", files+"mailboxes: [{id: sam, address: sam@example.com, gmail: {client_file: /c, mode: search}}]\n")
	for _, pair := range [][2]*config.Config{{imap, gmail}, {gmail, imap}, {gmail, search}} {
		if got := config.Compare(pair[0], pair[1]).Changed; !reflect.DeepEqual(got, []string{"sam"}) {
			t.Errorf("changed: %v", got)
		}
	}
}

const fromUsers = files + `defaults: {ignore_folders: [Privat], gmail: {mode: search, service_account_file: "/keys/{id}.json"}}
mailboxes_from_users: {domain: Example.com, gmail: {quota_key: all}}
`

func TestUsersBecomeMailboxes(t *testing.T) {
	const configured = "mailboxes: [{id: rita, address: rita@example.com, aliases: [rita.keller@example.com]}, {id: tim, address: tim@example.com, user: usr_3}]\n"
	for _, c := range []struct {
		what    string
		users   []config.User
		want    []string // id address
		skipped int
	}{
		{"nobody", nil, nil, 0},
		{"a user of the domain, named by its ref", []config.User{{"usr_9", []string{"Sam@Example.com"}}}, []string{"usr_9 sam@example.com"}, 0},
		{"the first address in the domain counts", []config.User{{"usr_9", []string{"sam@old.example", "sam@example.com", "s@example.com"}}}, []string{"usr_9 sam@example.com"}, 0},
		{"a user of another domain", []config.User{{"usr_9", []string{"sam@sub.example.com"}}}, nil, 0},
		{"a user without an address", []config.User{{"usr_9", nil}}, nil, 0},
		{"a configured mailbox with that address wins", []config.User{{"usr_7", []string{"rita@example.com"}}}, nil, 0},
		{"a configured alias wins", []config.User{{"usr_7", []string{"r@example.com", "Rita.Keller@example.com"}}}, nil, 0},
		{"a configured mailbox of that user wins", []config.User{{"usr_3", []string{"timothy@example.com"}}}, nil, 0},
		{"a ref that cannot be an id", []config.User{{"users/9 ü", []string{"sam@example.com"}}}, []string{"user-7470c923b146295b sam@example.com"}, 0},
		{"a ref that is a configured id", []config.User{{"rita", []string{"sam@example.com"}}}, []string{"user-c5420b43786b20f6 sam@example.com"}, 0},
		{"two users with one address: the first by ref has it", []config.User{{"usr_9", []string{"sam@example.com"}}, {"usr_8", []string{"sam@example.com"}}}, []string{"usr_8 sam@example.com"}, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := load(t, "c.yaml", fromUsers+configured)
			with, skipped := cfg.WithUsers(c.users)
			again, _ := with.WithUsers(c.users)
			for _, got := range []*config.Config{with, again} {
				var made []string
				for _, m := range got.Mailboxes[2:] {
					made = append(made, m.ID+" "+m.Address)
				}
				if !reflect.DeepEqual(made, c.want) || skipped != c.skipped {
					t.Errorf("made %v, skipped %d; want %v, %d", made, skipped, c.want, c.skipped)
				}
			}
			if gone, _ := with.WithUsers(nil); len(gone.Mailboxes) != 2 || len(cfg.Mailboxes) != 2 {
				t.Errorf("%d mailboxes without users, %d in the configuration; want 2", len(gone.Mailboxes), len(cfg.Mailboxes))
			}
		})
	}
}

func TestWhatAMailboxOfAUserIs(t *testing.T) {
	cfg := load(t, "c.yaml", fromUsers)
	with, _ := cfg.WithUsers([]config.User{{"usr_9", []string{"sam@example.com", "s@example.org"}}})
	got, ok := with.Mailbox("usr_9")
	want := config.Mailbox{
		ID: "usr_9", Address: "sam@example.com", Aliases: []string{"s@example.org"}, User: "usr_9",
		Interval: time.Hour, IgnoreFolders: []string{"Privat"}, Provider: config.ProviderGmail, FromUser: true,
		Gmail: config.Gmail{Mode: config.GmailSearch, ServiceAccountFile: "/keys/usr_9.json", QuotaKey: "all"},
		File:  cfg.File, Line: 5,
	}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if files := with.WatchedFiles(); len(files) == 0 || files[1] != "/keys/usr_9.json" {
		t.Errorf("watches %v", files)
	}
	if filepath.Base(got.File) != "c.yaml" {
		t.Errorf("stands in %s", got.File)
	}
}
