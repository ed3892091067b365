package bolt

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// keyPrefix begins a key's text form: what it is, and the version of the form.
const keyPrefix = "mskey1_"

// Key is a wrapping key: 32 random bytes that seal the data keys of a store.
// Its text form is "mskey1_" and the bytes in unpadded base64url. It prints as
// its id, never as itself.
type Key struct{ secret *[32]byte }

// NewKey makes a key.
func NewKey() Key {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	return Key{&secret}
}

// ParseKey reads the text form. Its errors do not repeat the text.
func ParseKey(text string) (Key, error) {
	body, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("a key begins with %q", keyPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != 32 {
		return Key{}, fmt.Errorf("a key is %q and 43 characters of base64url, this one is cut or mistyped", keyPrefix)
	}
	return Key{(*[32]byte)(raw)}, nil
}

// text is the form that ParseKey reads.
func (k Key) text() string { return keyPrefix + base64.RawURLEncoding.EncodeToString(k.secret[:]) }

// IsZero tells that there is no key.
func (k Key) IsZero() bool { return k.secret == nil }

// ID names the key without telling it: 16 hex digits of its hash.
func (k Key) ID() string {
	if k.IsZero() {
		return "none"
	}
	sum := sha256.Sum256(append([]byte("mailsyncd key id "), k.secret[:]...))
	return hex.EncodeToString(sum[:8])
}

// String returns the id; see ID.
func (k Key) String() string { return "[key " + k.ID() + "]" }

// GoString hides the key from %#v.
func (k Key) GoString() string { return k.String() }

// LogValue hides the key from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Keys are the lines of a key file: the key to seal with, and the one before
// it, which may still be needed to open. Previous may be zero.
type Keys struct{ Current, Previous Key }

// NewKeyFile writes a file with one new key, mode 0600, and refuses to replace
// anything: a lost key is a lost store.
func NewKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("key file %q is there already and is not replaced: name another file, or to rotate put a new key's line above the line it has", path)
	}
	if err != nil {
		return fmt.Errorf("making key file: %w", err)
	}
	_, err = f.WriteString(NewKey().text() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing key file %q: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// LoadKeys reads a key file: line 1 the current key, line 2, if any, the
// previous one; empty lines and lines that begin with # do not count. A file
// that others may read is refused.
func LoadKeys(path string) (Keys, error) {
	if err := checkPrivate(path); err != nil {
		return Keys{}, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Keys{}, fmt.Errorf("reading key file: %w", err)
	}
	var found []Key
	for i, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return Keys{}, fmt.Errorf("key file %s:%d: %w", path, i+1, err)
		}
		found = append(found, k)
	}
	switch len(found) {
	case 0:
		return Keys{}, fmt.Errorf("key file %q holds no key: restore it from your copy; only a new installation makes one with `mailsyncd key new FILE`", path)
	case 1:
		return Keys{Current: found[0]}, nil
	case 2:
		return Keys{Current: found[0], Previous: found[1]}, nil
	}
	return Keys{}, fmt.Errorf("key file %q holds %d keys: keep the current one on line 1 and the previous one on line 2", path, len(found))
}

// checkPrivate refuses a key file that anybody but its owner can read or
// change. One exception: root hands a file to an unprivileged service through
// its group, as secret mounts of container platforms do.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("key file: %w; restore it from your copy, without it an existing store cannot be read; only a new installation makes one with `mailsyncd key new FILE`", err)
	}
	perm := info.Mode().Perm()
	st, _ := info.Sys().(*syscall.Stat_t)
	handed := st != nil && st.Uid == 0 && os.Geteuid() != 0
	if perm&0o037 == 0 && (perm&0o040 == 0 || handed) {
		return nil
	}
	return fmt.Errorf("key file %q has mode %04o, others may use it: chmod 600 %s", path, perm, path)
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
