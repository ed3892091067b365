// Package testutil holds what tests of several rooms share: a private Dovecot
// and a private Courier on loopback, a proxy that records, cuts and stalls what
// passes between a client and a mail server, and a log that is read while it is
// written. Nothing here is part of the program.
package testutil

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

	*maildirs
	cmd  *exec.Cmd
	dead chan struct{}
}

// StartDovecot starts a server and stops it when the test ends. Without Dovecot
// on the machine the test fails under CI=true, and is skipped with a loud word
// elsewhere.
func StartDovecot(t testing.TB, o DovecotOptions) *Dovecot {
	t.Helper()
	if _, err := exec.LookPath("dovecot"); err != nil {
		notInstalled(t, "dovecot")
	}
	d := &Dovecot{maildirs: newMaildirs(t, "dc")}
	t.Cleanup(d.Stop)
	d.prepare(o)
	d.Start()
	return d
}

// notInstalled ends a test that needs a server which is not there: a skipped
// suite must not read as passed.
func notInstalled(t testing.TB, server string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: run `make test`, which installs it", server)
	}
	t.Skipf("NOT RUN: %s is not installed, so nothing is proved about this mail server; `make test` installs it", server)
}

func (d *Dovecot) prepare(o DovecotOptions) {
	d.t.Helper()
	d.Plain, d.TLS = freeAddr(d.t), freeAddr(d.t)
	d.CAFile = filepath.Join(d.dir, "cert.pem")
	writeCert(d.t, d.CAFile, filepath.Join(d.dir, "key.pem"))
	d.write("dovecot.conf", d.config(o))
	d.makeUsers(o.Users)
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
	// A greeting is the only sign that it is up.
	if err := await(dead, func() bool { return greets(d.Plain) }); err != nil {
		d.Stop()
		d.t.Fatalf("dovecot did not start: %v\n%s\n%s", err, out.String(), d.Log())
	}
}

// await asks until a server is up, and gives up when it has ended.
func await(dead <-chan struct{}, up func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if up() {
			return nil
		}
		select {
		case <-dead:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.New("no answer within 20 s")
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
