package imap

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
)

func TestMailboxesOfOneCAShareItsCertificates(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) (path string) {
		t.Helper()
		cert, _ := testutil.NewCert(t, time.Now().Add(time.Hour), name)
		path = filepath.Join(dir, name)
		if err := os.WriteFile(path, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := write("one"), filepath.Join(dir, "two")
	if err := os.Link(one, two); err != nil { // another path, the same content
		t.Fatal(err)
	}
	c := &CAs{}
	a, errA := c.Pool(one)
	b, errB := c.Pool(two)
	if errA != nil || errB != nil || a != b {
		t.Errorf("two paths of one content: %p %p, %v %v", a, b, errA, errB)
	}
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	write("one") // another certificate in its place
	renewed, err := c.Pool(one)
	if err != nil || renewed.Equal(a) || len(c.pools) != 2 {
		t.Errorf("a replaced file: %v, %d pools", err, len(c.pools))
	}
	if err := os.Rename(one, two); err != nil {
		t.Fatal(err)
	}
	if pool, err := c.Pool(two); err != nil || pool != renewed || len(c.pools) != 1 {
		t.Errorf("the last file of a pool is gone: %v, %d pools", err, len(c.pools))
	}
	for name, content := range map[string]string{"none": "", "text": "not a certificate"} {
		if content != "" {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Pool(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What looks the same is not read again, unless it was written to so lately that
// another write need not show.
func TestCAFilesAreReadWhenTheyMayHaveChanged(t *testing.T) {
	for age, want := range map[time.Duration]bool{0: true, caFileTick / 2: true, time.Minute: false, -time.Minute: true} {
		path, at := filepath.Join(t.TempDir(), "ca.pem"), time.Now().Add(-age)
		write := func(name string) {
			t.Helper()
			cert, _ := testutil.NewCert(t, time.Now().Add(time.Hour), name)
			cert = append(cert, bytes.Repeat([]byte("\n"), 2000-len(cert))...) // of one size
			if err := errors.Join(os.WriteFile(path, cert, 0o600), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		var c CAs
		write("one")
		before, err := c.Pool(path)
		write("two")
		after, err2 := c.Pool(path)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if got := before != after; got != want {
			t.Errorf("written to %v ago: read again: %v", age, got)
		}
	}
}
