// Package testutil holds what tests of several rooms share: a private Dovecot
// on loopback, a proxy that records, cuts and stalls what passes between a client
// and a mail server, and a log that is read while it is written. Nothing here is
// part of the program.
package testutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Password is what every user of a test server logs in with.
const Password = "correct-horse"

// DovecotOptions describes a server; the zero value is a usual one.
type DovecotOptions struct {
	// Users exist from the start; none: "rita". Any other name logs in as well.
	Users []string
	// Capability replaces what the server offers after login, such as
	// "IMAP4rev1 UIDPLUS"; empty: everything it has.
	Capability string
	// Extra is appended to the configuration file.
	Extra string
}

// Dovecot is a private server: its own directories, ports and process, one
// maildir a user. All of it goes when the test ends.
type Dovecot struct {
	// Plain and TLS are the addresses of the two listeners. STARTTLS is offered
	// on the plain one.
	Plain, TLS string
	// CAFile holds the certificate that clients must trust; it is for localhost
	// and 127.0.0.1.
	CAFile string

	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	dead chan struct{}
	seq  atomic.Int64
}

// StartDovecot starts a server and stops it when the test ends. Without Dovecot
// on the machine the test fails under CI=true, and is skipped with a loud word
// elsewhere.
func StartDovecot(t testing.TB, o DovecotOptions) *Dovecot {
	t.Helper()
	if _, err := exec.LookPath("dovecot"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("dovecot is not installed: install dovecot-imapd, or run `make test`, which does")
		}
		t.Skip("NOT RUN: dovecot is not installed, so nothing is proved about a real mail server; `make test` installs it")
	}
	// Not t.TempDir: Unix socket paths are limited to 107 bytes.
	dir, err := os.MkdirTemp("", "dc")
	if err != nil {
		t.Fatal(err)
	}
	d := &Dovecot{t: t, dir: dir}
	t.Cleanup(func() { d.Stop(); _ = os.RemoveAll(dir) })
	d.prepare(o)
	d.Start()
	return d
}

func (d *Dovecot) prepare(o DovecotOptions) {
	d.t.Helper()
	d.Plain, d.TLS = freeAddr(d.t), freeAddr(d.t)
	d.CAFile = filepath.Join(d.dir, "cert.pem")
	writeCert(d.t, d.CAFile, filepath.Join(d.dir, "key.pem"))
	d.write("dovecot.conf", d.config(o))
	if len(o.Users) == 0 {
		o.Users = []string{"rita"}
	}
	for _, u := range o.Users {
		for _, sub := range []string{"cur", "new", "tmp"} {
			d.must(os.MkdirAll(filepath.Join(d.maildir(u, "INBOX"), sub), 0o755))
		}
	}
	d.own()
}

func (d *Dovecot) write(name, text string) {
	d.t.Helper()
	d.must(os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644))
}

func (d *Dovecot) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// runAs names the user the mail processes run as. Dovecot refuses to serve mail
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

func (d *Dovecot) config(o DovecotOptions) string {
	name, group := runAs()
	internal := "dovecot"
	login := "dovenull"
	if os.Getuid() != 0 {
		internal, login = name, name
	}
	capability := ""
	if o.Capability != "" {
		capability = "imap_capability = " + o.Capability
	}
	return strings.NewReplacer(
		"$DIR", d.dir, "$USER", name, "$GROUP", group, "$INTERNAL", internal, "$LOGIN", login,
		"$PLAIN", port(d.Plain), "$TLS", port(d.TLS), "$CAPABILITY", capability, "$EXTRA", o.Extra,
		"$PASSWORD", Password,
	).Replace(dovecotConf)
}

// The login processes are kept for many logins: a poll then costs what a poll
// costs, not the start of a process.
const dovecotConf = `
base_dir = $DIR/run
state_dir = $DIR/run
log_path = $DIR/log
protocols = imap
default_internal_user = $INTERNAL
default_internal_group = $GROUP
default_login_user = $LOGIN
listen = 127.0.0.1
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_cache_size = 0
disable_plaintext_auth = no
ssl = yes
ssl_cert = <$DIR/cert.pem
ssl_key = <$DIR/key.pem
ssl_dh =
mail_location = maildir:$DIR/mail/%u
mail_uid = $USER
mail_gid = $GROUP
first_valid_uid = 1
first_valid_gid = 1
maildir_stat_dirs = no
mail_fsync = never
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \Sent
  }
  mailbox Junk {
    auto = create
    special_use = \Junk
  }
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
  mailbox Drafts {
    auto = create
    special_use = \Drafts
  }
}
passdb {
  driver = static
  args = password=$PASSWORD
}
userdb {
  driver = static
  args = uid=$USER gid=$GROUP home=$DIR/mail/%u
}
service anvil {
  chroot =
}
service imap-login {
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener imap {
    address = 127.0.0.1
    port = $PLAIN
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = $TLS
    ssl = yes
  }
}
service imap {
  process_limit = 256
}
service stats {
  chroot =
}
protocol imap {
  mail_max_userip_connections = 100
  $CAPABILITY
}
$EXTRA
`

// own gives everything to the user the mail processes run as.
func (d *Dovecot) own() {
	d.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	name, _ := runAs()
	u, err := user.Lookup(name)
	d.must(err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	d.must(os.Chmod(d.dir, 0o755))
	d.must(filepath.WalkDir(filepath.Join(d.dir, "mail"), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}))
}

// Start starts the server after Stop, on the same ports with the same mail.
func (d *Dovecot) Start() {
	d.t.Helper()
	d.own()
	cmd := exec.Command("dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	EndWithTest(cmd, syscall.SIGTERM)
	d.must(cmd.Start())
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }()
	d.cmd, d.dead = cmd, dead
	if err := d.awaitGreeting(); err != nil {
		d.Stop()
		d.t.Fatalf("dovecot did not start: %v\n%s\n%s", err, out.String(), d.Log())
	}
}

// awaitGreeting asks until the server greets: the only sign that it is up.
func (d *Dovecot) awaitGreeting() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if greets(d.Plain) {
			return nil
		}
		select {
		case <-d.dead:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.New("no greeting within 20 s")
		case <-tick.C:
		}
	}
}

func greets(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4)
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "* OK"
}

// Stop ends the server and waits until it has gone. Stopping twice is fine.
func (d *Dovecot) Stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.dead:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.dead
	}
	d.cmd = nil
}

// Log returns the server's log so far.
func (d *Dovecot) Log() string {
	b, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	return string(b)
}

// maildir is where a folder lies; Maildir++ writes the hierarchy with dots.
func (d *Dovecot) maildir(userName, folder string) string {
	root := filepath.Join(d.dir, "mail", userName)
	if folder == "INBOX" {
		return root
	}
	return filepath.Join(root, "."+strings.ReplaceAll(folder, "/", "."))
}

// Deliver puts a mail into a folder as a delivery agent does, with the given
// arrival time (zero: now). The folder must be INBOX or exist. The mail is
// there when Deliver returns.
func (d *Dovecot) Deliver(userName, folder, mail string, arrival time.Time) {
	d.t.Helper()
	if arrival.IsZero() {
		arrival = time.Now()
	}
	n := d.seq.Add(1)
	dir := d.maildir(userName, folder)
	name := fmt.Sprintf("%d.%06d.test", arrival.Unix(), n)
	tmp := filepath.Join(dir, "tmp", name)
	d.must(os.WriteFile(tmp, []byte(strings.ReplaceAll(mail, "\r\n", "\n")), 0o644))
	d.must(os.Chtimes(tmp, arrival, arrival))
	if os.Getuid() == 0 {
		name, _ := runAs()
		u, err := user.Lookup(name)
		d.must(err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		d.must(os.Chown(tmp, uid, gid))
	}
	d.must(os.Rename(tmp, filepath.Join(dir, "new", name)))
}

// MakeFolder makes a folder behind the server's back, which it shows at once.
func (d *Dovecot) MakeFolder(userName, folder string) {
	d.t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		d.must(os.MkdirAll(filepath.Join(d.maildir(userName, folder), sub), 0o755))
	}
	d.own()
}

// Renumber makes the server number the mails of a user anew: with its index and
// its list of UIDs gone it begins again, under another UIDVALIDITY. remove mails
// are deleted first, so that the numbers really move. The server must be
// stopped.
func (d *Dovecot) Renumber(userName string, remove int) {
	d.t.Helper()
	if d.cmd != nil {
		d.t.Fatal("testutil: Renumber while the server runs")
	}
	root := d.maildir(userName, "INBOX")
	d.must(filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return nil
		case strings.HasPrefix(e.Name(), "dovecot"):
			return os.Remove(path)
		case remove > 0 && filepath.Base(filepath.Dir(path)) == "cur":
			remove--
			return os.Remove(path)
		}
		return nil
	}))
}

// Files lists the names of a folder's mail files: their flags are part of them.
func (d *Dovecot) Files(userName, folder string) []string {
	d.t.Helper()
	var names []string
	for _, sub := range []string{"cur", "new"} {
		es, err := os.ReadDir(filepath.Join(d.maildir(userName, folder), sub))
		d.must(err)
		for _, e := range es {
			names = append(names, e.Name())
		}
	}
	return names
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// HostPort splits an address for a configuration.
func HostPort(t testing.TB, addr string) (string, int) {
	t.Helper()
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return host, n
}
