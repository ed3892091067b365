package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"mailsyncd/config"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const value = "hunter2"
	s := config.NewSecret(value)
	type holder struct{ S config.Secret }
	type hider struct{ s config.Secret } // fmt cannot call methods in here
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", holder{s})
		fmt.Fprintf(&out, verb+"\n", hider{s})
		fmt.Fprintf(&out, verb+"\n", &hider{s})
		fmt.Fprintf(&out, verb+"\n", []config.Secret{s})
	}
	fmt.Fprintln(&out, s, errors.New(s.String()))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "holder", holder{s}, "hider", hider{s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "holder", holder{s}, "hider", hider{s})
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := marshal(map[string]any{"s": s, "h": holder{s}})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	for _, spelled := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprint([]byte(value))} {
		if strings.Contains(out.String(), spelled) {
			t.Errorf("%q was printed:\n%s", spelled, out.String())
		}
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing shows that a secret was left out")
	}
	if s.Reveal() != value {
		t.Error("Reveal gave something else")
	}
}

func TestSecretLinesAndEqual(t *testing.T) {
	s := config.NewSecret("new\r\n\n old \n")
	lines := s.Lines()
	if len(lines) != 2 || lines[0].Reveal() != "new" || lines[1].Reveal() != "old" {
		t.Errorf("%d lines", len(lines))
	}
	if !lines[0].Equal(config.NewSecret("new")) || lines[0].Equal(lines[1]) {
		t.Error("Equal compares wrongly")
	}
	if lines[0].IsEmpty() || !(config.Secret{}).IsEmpty() {
		t.Error("IsEmpty is wrong")
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	put("plain", "hunter2\n", 0o600)
	put("read-only", "\ufeff  hunter2 \r\n\r\n", 0o400)
	put("world", "hunter2", 0o604)
	put("group-write", "hunter2", 0o620)
	put("empty", " \n", 0o600)
	put("zero", "hun\x00ter2", 0o600)
	put("huge", strings.Repeat("x", 64<<10+1), 0o600)
	if err := os.Symlink("plain", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, file, want, wrong string }{
		{"a plain file, without its last newline", "plain", "hunter2", ""},
		{"a byte order mark and spaces around", "read-only", "hunter2", ""},
		{"a link to a good file", "link", "hunter2", ""},
		{"a file everybody can read", "world", "", "mode 0604 lets others read or change it; run chmod 0600 on it"},
		{"a file the group can change", "group-write", "", "mode 0620 lets others read or change it; run chmod 0600 on it"},
		{"an empty file", "empty", "", "is empty; write the secret into it"},
		{"a zero byte", "zero", "", "holds a zero byte; store it as plain UTF-8 text"},
		{"a file too large", "huge", "", "larger than 64 KiB; this is not a secret"},
		{"a folder", ".", "", "not a regular file; name a file"},
		{"a pipe that nobody writes to", "pipe", "", "not a regular file; name a file"},
		{"no file", "none", "", "no such file or directory; create it with mode 0600"},
	} {
		path := filepath.Join(dir, c.file)
		s, err := config.ReadSecret(path)
		switch {
		case c.wrong == "" && (err != nil || s.Reveal() != c.want):
			t.Errorf("%s: %v", c.what, err)
		case c.wrong != "" && (err == nil || !strings.HasSuffix(err.Error(), c.wrong) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: got %v, want %s", c.what, err, c.wrong)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the error holds the secret", c.what)
		}
	}
	if _, err := config.ReadSecret(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing file is not fs.ErrNotExist")
	}
}

// Owners can be set only by root, as which CI runs.
func TestReadSecretOfRootForOurGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: only files of our own were tried")
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := config.ReadSecret(path)
	if root := os.Getuid() == 0; (err == nil) != root {
		t.Errorf("a group-readable file of uid %d: %v", os.Getuid(), err)
	}
	if os.Getuid() != 0 {
		return
	}
	for _, c := range []struct {
		what     string
		uid, gid int
		ok       bool
	}{
		{"root's, readable by a group that is not ours", 0, 54321, false},
		{"somebody's, readable by our group", 54321, 0, false},
	} {
		if err := os.Chown(path, c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
		if _, err := config.ReadSecret(path); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestReadSecretInCredentialsDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "creds"))
	for _, c := range []struct {
		file string
		ok   bool
	}{{"creds/s", true}, {"creds/../other/s", false}, {"creds2/s", false}} {
		path := filepath.Join(dir, filepath.Clean(c.file))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o444); err != nil {
			t.Fatal(err)
		}
		if _, err := config.ReadSecret(dir + "/" + c.file); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.file, err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	cfg := load(t, "c.yaml", strings.Replace(small, "host: imap.example.com", "host: imap.example.com, ca_file: ca.pem", 1),
		"key", "k", "rita.pw", "p", "ca.pem", "-----BEGIN CERTIFICATE-----")
	dir := filepath.Dir(cfg.File) + "/"
	err := cfg.CheckFiles()
	if err == nil {
		t.Fatal("the webhook's secret is missing and nobody says so")
	}
	want := "c.yaml:6: webhook.secret_file: secret file webhook.secret: no such file or directory; create it with mode 0600"
	if got := strings.ReplaceAll(err.Error(), dir, ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := os.WriteFile(dir+"webhook.secret", []byte("whsec_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cfg.CheckFiles(); err != nil {
		t.Errorf("every file is there: %v", err)
	}
	if err := os.WriteFile(dir+"ca.pem", []byte("DER"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"rita.pw", 0o644); err != nil {
		t.Fatal(err)
	}
	want = `c.yaml:5: mailboxes[rita].imap.password_file: secret file rita.pw: mode 0644 lets others read or change it; run chmod 0600 on it
c.yaml:5: mailboxes[rita].imap.ca_file: certificate file ca.pem holds no PEM certificate; convert it to PEM`
	if err := cfg.CheckFiles(); err == nil || strings.ReplaceAll(err.Error(), dir, "") != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
