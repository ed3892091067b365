package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// writesChild opens a store, writes to it and tells what came of each write. A
// line on its standard output goes first, so that strace can count from there.
func writesChild(path, keyFile string) error {
	ks, err := bolt.LoadKeys(keyFile)
	if err != nil {
		return err
	}
	s, err := bolt.Open(bolt.Options{Path: path, Keys: ks})
	if err != nil {
		return err
	}
	for range 4 {
		switch err := s.Writable(context.Background()); {
		case err == nil:
			fmt.Println("written")
		case errors.Is(err, store.ErrFull):
			fmt.Println("full")
		case errors.Is(err, store.ErrUnusable):
			fmt.Println("unusable")
		default:
			fmt.Println(err)
		}
	}
	_ = s.Close()
	return nil
}

// TestAFailingDisk fails one system call of a running store. Where only space
// is missing the store goes on once there is some; after anything else it
// refuses until it is opened again, and then all is well.
func TestAFailingDisk(t *testing.T) {
	needStrace(t)
	for _, row := range []struct{ name, call, fault, wants string }{
		{"no space for a write", "pwrite64", "ENOSPC", "written full written written"},
		{"no quota for a write", "pwrite64", "EDQUOT", "written full written written"},
		{"a write fails", "pwrite64", "EIO", "written unusable unusable unusable"},
		{"a sync fails", "fdatasync", "EIO", "written unusable unusable unusable"},
		{"the file system turns read-only", "pwrite64", "EROFS", "written unusable unusable unusable"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path, keys := filepath.Join(dir, "mailsyncd.db"), filepath.Join(dir, "key")
			mustNot(t, bolt.NewKeyFile(keys))
			ks, err := bolt.LoadKeys(keys)
			mustNot(t, err)
			mustNot(t, open(t, bolt.Options{Path: path, Keys: ks}).Close())
			nth := map[string]int{"pwrite64": perCommit(t, path, keys) + 1, "fdatasync": 3}[row.call]
			got := writesUnder(t, path, keys, fmt.Sprintf("inject=%s:error=%s:when=%d", row.call, row.fault, nth))
			if got != row.wants {
				t.Errorf("the store says %q, expected %q", got, row.wants)
			}
			s := open(t, bolt.Options{Path: path, Keys: ks})
			mustNot(t, errors.Join(s.Writable(t.Context()), s.Check(t.Context())))
		})
	}
}

// perCommit counts the writes of one Writable.
func perCommit(t *testing.T, path, keys string) int {
	t.Helper()
	cmd := child(t, "writes", path, keys)
	ops := record(t, cmd, filepath.Dir(path))
	n := 0
	for _, o := range ops {
		if o.kind == "write" {
			n++
		}
	}
	return n / 4
}

// writesUnder runs writesChild under a fault and returns what it says.
func writesUnder(t *testing.T, path, keys, inject string) string {
	t.Helper()
	cmd := child(t, "writes", path, keys)
	cmd.Args = append([]string{"strace", "-f", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync", "-e", inject, cmd.Path}, cmd.Args[1:]...)
	strace, err := exec.LookPath("strace")
	mustNot(t, err)
	cmd.Path = strace
	out, err := cmd.Output()
	mustNot(t, err)
	return strings.Join(strings.Fields(string(out)), " ")
}
