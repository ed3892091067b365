package testutil

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// maildirs is the directory of a private server: its configuration and log, and
// one Maildir++ a user, which it changes behind the server's back.
type maildirs struct {
	t   testing.TB
	dir string
	seq atomic.Int64
}

// newMaildirs makes a directory that goes when the test ends.
func newMaildirs(t testing.TB, prefix string) *maildirs {
	t.Helper()
	// Not t.TempDir: Unix socket paths are limited to 107 bytes.
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &maildirs{t: t, dir: dir}
}

func (m *maildirs) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *maildirs) write(name, text string) {
	m.t.Helper()
	m.must(os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644))
}

// Log returns the server's log so far.
func (m *maildirs) Log() string {
	b, _ := os.ReadFile(filepath.Join(m.dir, "log"))
	return string(b)
}

// runAs names the user the mail processes run as. Servers refuse to serve mail
// as root, so as root it is nobody.
func runAs() (name, group string) {
	u, err := user.Current()
	if err != nil || u.Uid == "0" {
		return "nobody", "nogroup"
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return u.Username, u.Gid
	}
	return u.Username, g.Name
}

// ids are the numbers of the user that runAs names.
func (m *maildirs) ids() (uid, gid int) {
	m.t.Helper()
	name, _ := runAs()
	u, err := user.Lookup(name)
	m.must(err)
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// own gives everything to the user the mail processes run as.
func (m *maildirs) own() {
	m.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	uid, gid := m.ids()
	m.must(os.Chmod(m.dir, 0o755))
	m.must(filepath.WalkDir(filepath.Join(m.dir, "mail"), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}))
}

// makeUsers makes the INBOX of every user; of "rita" when there are none.
func (m *maildirs) makeUsers(users []string) {
	m.t.Helper()
	if len(users) == 0 {
		users = []string{"rita"}
	}
	for _, u := range users {
		m.MakeFolder(u, "INBOX")
	}
}

// maildir is where a folder lies; Maildir++ writes the hierarchy with dots.
func (m *maildirs) maildir(userName, folder string) string {
	root := filepath.Join(m.dir, "mail", userName)
	if folder == "INBOX" {
		return root
	}
	return filepath.Join(root, "."+strings.ReplaceAll(folder, "/", "."))
}

// Deliver puts a mail into a folder as a delivery agent does, with the given
// arrival time (zero: now). The folder must be INBOX or exist. The mail is
// there when Deliver returns.
func (m *maildirs) Deliver(userName, folder, mail string, arrival time.Time) {
	m.t.Helper()
	if arrival.IsZero() {
		arrival = time.Now()
	}
	n := m.seq.Add(1)
	dir := m.maildir(userName, folder)
	name := fmt.Sprintf("%d.%06d.test", arrival.Unix(), n)
	tmp := filepath.Join(dir, "tmp", name)
	m.must(os.WriteFile(tmp, []byte(strings.ReplaceAll(mail, "\r\n", "\n")), 0o644))
	m.must(os.Chtimes(tmp, arrival, arrival))
	if os.Getuid() == 0 {
		uid, gid := m.ids()
		m.must(os.Chown(tmp, uid, gid))
	}
	m.must(os.Rename(tmp, filepath.Join(dir, "new", name)))
}

// Collect takes away the mail of a folder that nobody has seen yet, as a POP3
// client does.
func (m *maildirs) Collect(userName, folder string) {
	m.t.Helper()
	dir := filepath.Join(m.maildir(userName, folder), "new")
	es, err := os.ReadDir(dir)
	m.must(err)
	for _, e := range es {
		m.must(os.Remove(filepath.Join(dir, e.Name())))
	}
}

// MakeFolder makes a folder behind the server's back, which it shows at once.
func (m *maildirs) MakeFolder(userName, folder string) {
	m.t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		m.must(os.MkdirAll(filepath.Join(m.maildir(userName, folder), sub), 0o755))
	}
	m.own()
}

// Files lists the names of a folder's mail files: their flags are part of them.
func (m *maildirs) Files(userName, folder string) []string {
	m.t.Helper()
	var names []string
	for _, sub := range []string{"cur", "new"} {
		es, err := os.ReadDir(filepath.Join(m.maildir(userName, folder), sub))
		m.must(err)
		for _, e := range es {
			names = append(names, e.Name())
		}
	}
	return names
}
