package main

import (
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
	c := &caPools{}
	a, errA := c.read(one)
	b, errB := c.read(two)
	if errA != nil || errB != nil || a != b {
		t.Errorf("two paths of one content: %p %p, %v %v", a, b, errA, errB)
	}
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	write("one") // another certificate in its place
	renewed, err := c.read(one)
	if err != nil || renewed.Equal(a) || len(c.pools) != 2 {
		t.Errorf("a replaced file: %v, %d pools", err, len(c.pools))
	}
	if err := os.Rename(one, two); err != nil {
		t.Fatal(err)
	}
	if pool, err := c.read(two); err != nil || pool != renewed || len(c.pools) != 1 {
		t.Errorf("the last file of a pool is gone: %v, %d pools", err, len(c.pools))
	}
	for name, content := range map[string]string{"none": "", "text": "not a certificate"} {
		if content != "" {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.read(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
