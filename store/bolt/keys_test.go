package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailsyncd/store/bolt"
)

func TestNewKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := bolt.NewKeyFile(path); err != nil {
		t.Fatalf("making a key file: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v (%v), expected 0600", info.Mode(), err)
	}
	before, _ := os.ReadFile(path)
	if err := bolt.NewKeyFile(path); err == nil || !strings.Contains(err.Error(), "not replaced") {
		t.Errorf("making it again: got %v, expected a refusal", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the refused call changed the file")
	}
	ks, err := bolt.LoadKeys(path)
	if err != nil || ks.Current.IsZero() || !ks.Previous.IsZero() {
		t.Errorf("loading: %v, %v", ks, err)
	}
}

func TestLoadKeys(t *testing.T) {
	a, b, c := keyLine(t), keyLine(t), keyLine(t)
	for _, row := range []struct {
		name, content string
		mode          os.FileMode
		wants         string // in the error; "" for none
	}{
		{"one key", a + "\n", 0o600, ""},
		{"a key without a line end", a, 0o400, ""},
		{"two keys, a comment and an empty line", "# rotated in March\n" + a + "\n\n" + b + "\n", 0o600, ""},
		{"three keys", a + "\n" + b + "\n" + c, 0o600, "holds 3 keys"},
		{"no key", "# later\n", 0o600, "mailsyncd key new"},
		{"another prefix", "whsec_" + a[7:], 0o600, `:1: a key begins with "mskey1_"`},
		{"a key cut short on line 2", a + "\n" + b[:len(b)-3], 0o600, ":2: a key is"},
		{"a key with a foreign character", a[:20] + "!" + a[21:], 0o600, "mistyped"},
		{"a file the world reads", a, 0o604, "chmod 600"},
		{"a file the group reads", a, 0o640, "chmod 600"},
		{"a file the group writes", a, 0o620, "chmod 600"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, row.mode); err != nil {
				t.Fatal(err)
			}
			_, err := bolt.LoadKeys(path)
			switch {
			case row.wants == "" && err != nil:
				t.Errorf("got %v", err)
			case row.wants != "" && (err == nil || !strings.Contains(err.Error(), row.wants)):
				t.Errorf("got %v, expected one that says %q", err, row.wants)
			case err != nil && strings.Contains(err.Error(), a[10:]):
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
	if _, err := bolt.LoadKeys(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "mailsyncd key new") {
		t.Errorf("a missing file: got %v", err)
	}
}

// keyLine is the text of a new key, as a key file holds it.
func keyLine(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := bolt.NewKeyFile(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func TestKeyPrintsAsItsID(t *testing.T) {
	line := keyLine(t)
	k, err := bolt.ParseKey(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		if text := fmt.Sprintf(verb, k); strings.Contains(text, line[7:20]) || !strings.Contains(text, k.ID()) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("mskey1_" + strings.Repeat("A", 43))
	f.Add("mskey1_")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := bolt.ParseKey(text)
		if (err == nil) == k.IsZero() {
			t.Errorf("ParseKey(%q) gives %v and %v", text, k, err)
		}
	})
}
