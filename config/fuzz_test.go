package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailsyncd/config"
)

// Whatever the bytes are, Load ends with a usable configuration or with
// problems that name the file and fit on a line each.
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text), "mailboxes: []")
	f.Add(small, "mailboxes: [{id: a, address: a@b}]")
	for _, c := range badConfigs {
		f.Add(c.text, "")
	}
	f.Fuzz(func(t *testing.T, text, included string) {
		cfg, err := config.LoadFrom(map[string]string{"c.yaml": text, "a.yaml": included})
		if err != nil {
			checkProblems(t, err)
			return
		}
		checkUsable(t, cfg)
	})
}

func checkProblems(t *testing.T, err error) {
	t.Helper()
	var invalid *config.Error
	if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
		t.Fatalf("%T without a problem: %v", err, err)
	}
	for _, p := range invalid.Problems {
		if p.File == "" || p.Text == "" || p.Line < 0 {
			t.Errorf("an incomplete problem: %+v", p)
		}
		if strings.ContainsAny(p.String(), "\n\r\x1b\x00") {
			t.Errorf("a problem that breaks its line: %q", p.String())
		}
	}
}

// checkUsable checks what the rest of the daemon takes for granted.
func checkUsable(t *testing.T, cfg *config.Config) {
	t.Helper()
	if len(cfg.Mailboxes) == 0 && cfg.MailboxesFromUsers.Domain == "" || cfg.Webhook.URL == "" {
		t.Fatal("loaded without a mailbox or a webhook")
	}
	for _, file := range cfg.WatchedFiles() {
		if !filepath.IsAbs(file) {
			t.Errorf("a relative path is left: %q", file)
		}
	}
	for _, m := range cfg.Mailboxes {
		server := m.Provider == config.ProviderGmail || m.IMAP.Host != "" && m.IMAP.Port >= 1
		if m.ID == "" || m.SecretFile() == "" || !server || m.Interval <= 0 {
			t.Errorf("an incomplete mailbox: %+v", m)
		}
	}
	if !config.Compare(cfg, cfg).Empty() {
		t.Error("a configuration differs from itself")
	}
}
