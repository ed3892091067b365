package testutil

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// CourierOptions describes a server; the zero value is a usual one.
type CourierOptions struct {
	// Users exist from the start; none: "rita". Others log in once they have a
	// folder.
	Users []string
}

// Courier is a private Courier-IMAP: its own directories, port and processes, one
// maildir a user. All of it goes when the test ends.
//
// Every connection has an imapd of its own, as always with Courier. Only the
// login before it is ours: Courier's asks a daemon for the password whose socket
// lies at a path that is compiled in, so that no two tests could have one each.
// It says what Courier's says and hands the connection over in the same way.
type Courier struct {
	// Plain is the address of the listener, which offers no TLS.
	Plain string

	*maildirs
	root     string // of Courier's files
	uid, gid int    // whom the mail belongs to
	log      *os.File
	ctx      context.Context // ends everything
	served   sync.WaitGroup
}

// courierRoots are where Courier may lie: installed, or unpacked by
// install-servers.
var courierRoots = [...]string{"/", "/opt/courier-imap"}

// StartCourier starts a server and stops it when the test ends. Without Courier on
// the machine the test fails under CI=true, and is skipped with a loud word
// elsewhere.
func StartCourier(t testing.TB, o CourierOptions) *Courier {
	t.Helper()
	c := &Courier{root: courierRoot(t), maildirs: newMaildirs(t, "co")}
	c.makeUsers(o.Users)
	c.uid, c.gid = c.ids()
	var err error
	c.log, err = os.Create(filepath.Join(c.dir, "log"))
	c.must(err)
	ctx, stop := context.WithCancel(context.Background())
	c.ctx = ctx
	t.Cleanup(func() { stop(); c.served.Wait(); _ = c.log.Close() })
	c.startGamin()
	c.listen()
	return c
}

func courierRoot(t testing.TB) string {
	t.Helper()
	for _, root := range courierRoots {
		// Other servers have an imapd as well; this one only Courier has.
		_, errLogin := os.Stat(filepath.Join(root, "usr/lib/courier/courier/imaplogin"))
		_, errGamin := os.Stat(filepath.Join(root, "usr/libexec/gam_server"))
		if errLogin == nil && errGamin == nil {
			return root
		}
	}
	notInstalled(t, "courier-imap with gamin")
	return ""
}

// listen serves every connection until the server stops.
func (c *Courier) listen() {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	c.Plain = l.Addr().String()
	context.AfterFunc(c.ctx, func() { _ = l.Close() })
	c.served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.served.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(c.ctx, func() { _ = conn.Close() })()
				c.serve(conn)
			})
		}
	})
}

// program prepares a process that ends with the server, as the user who owns the
// mail.
func (c *Courier) program(path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, filepath.Join(c.root, path), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	libraries, _ := filepath.Glob(filepath.Join(c.root, "usr/lib/*-linux-gnu"))
	libraries = append(libraries, filepath.Join(c.root, "usr/lib"))
	cmd.Env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	cmd.Stderr = c.log
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)}}
	}
	EndWithTest(cmd, syscall.SIGTERM)
	return cmd
}

// startGamin starts the daemon that tells imapd of changed files. Without it a
// login takes a second, and who waits for another's lock on a maildir waits for
// two minutes. imapd would start one itself and leave it behind.
func (c *Courier) startGamin() {
	c.t.Helper()
	cmd := c.program("usr/libexec/gam_server", "--notimeout", c.id())
	c.must(cmd.Start())
	dead := make(chan struct{})
	c.served.Go(func() { _ = cmd.Wait(); close(dead) })
	name, _ := runAs()
	// An abstract socket, whose name is padded with zeros.
	const sunPath = 108
	socket := "@/tmp/fam-" + name + "-" + c.id()
	socket += strings.Repeat("\x00", sunPath-len(socket))
	if err := await(dead, func() bool { return answers("unix", socket) }); err != nil {
		c.t.Fatalf("gamin did not start: %v\n%s", err, c.Log())
	}
}

// id tells this server's Gamin from others.
func (c *Courier) id() string { return filepath.Base(c.dir) }

func answers(network, addr string) bool {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// courierCapability is what Debian configures; courierAdds is what the server
// adds by itself.
const (
	courierCapability = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"
	courierAdds       = " ACL ACL2=UNION ENABLE UTF8=ACCEPT"
)

// serve is the session until the login; what comes after is imapd's. Commands
// that were sent together with a LOGIN are lost, as they are with Courier.
func (c *Courier) serve(conn net.Conn) {
	const caps = "CAPABILITY " + courierCapability + courierAdds
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(conn, format+"\r\n", args...) }
	say("* OK [%s] Courier-IMAP ready. Copyright 1998-2019 Double Precision, Inc.  See COPYING for distribution information.", caps)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		tag, rest, _ := strings.Cut(lines.Text(), " ")
		cmd, args, _ := strings.Cut(rest, " ")
		switch strings.ToUpper(cmd) {
		case "CAPABILITY":
			say("* %s\r\n%s OK CAPABILITY completed", caps, tag)
		case "NOOP":
			say("%s OK NOOP completed", tag)
		case "LOGOUT":
			say("* BYE Courier-IMAP server shutting down\r\n%s OK LOGOUT completed", tag)
			return
		case "LOGIN":
			if user, ok := c.knows(args); ok {
				c.handOver(conn, tag, user)
				return
			}
			say("%s NO Login failed.", tag)
		default:
			say("%s NO Error in IMAP command received by server.", tag)
		}
	}
}

// knows checks the arguments of a LOGIN, which hold no blanks in tests.
func (c *Courier) knows(args string) (user string, ok bool) {
	user, password, _ := strings.Cut(strings.ReplaceAll(args, `"`, ""), " ")
	_, err := os.Stat(c.maildir(user, "INBOX"))
	return user, err == nil && password == Password
}

// handOver gives a connection to an imapd and waits until that has ended. The tag
// is that of the LOGIN, which imapd answers.
func (c *Courier) handOver(conn net.Conn, tag, user string) {
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return
	}
	cmd := c.program("usr/bin/imapd", ".")
	cmd.Dir = c.maildir(user, "INBOX")
	cmd.Env = append(cmd.Env, c.environment(tag, user)...)
	cmd.Stdin, cmd.Stdout = f, f
	err = cmd.Start()
	_ = f.Close()
	_ = conn.Close() // the connection ends with imapd
	switch {
	case err == nil:
		_ = cmd.Wait()
	case c.ctx.Err() == nil:
		c.t.Errorf("courier did not start: %v", err)
	}
}

// environment is what Courier's login leaves to imapd, with Debian's settings.
func (c *Courier) environment(tag, user string) []string {
	return []string{
		"GAM_CLIENT_ID=" + c.id(),
		"AUTHENTICATED=" + user, "IMAPLOGINTAG=" + tag, "PROTOCOL=IMAP",
		"TCPREMOTEIP=127.0.0.1", "TCPREMOTEPORT=1", "TCPLOCALPORT=143",
		"IMAP_CAPABILITY=" + courierCapability, "IMAP_ACL=1", "IMAP_KEYWORDS=1",
		"IMAP_USELOCKS=1", "IMAP_MAILBOX_SANITY_CHECK=1", "IMAP_EMPTYTRASH=Trash:7", "IMAP_TRASHFOLDERNAME=Trash",
	}
}

// Renumber makes the server number the mails of INBOX anew, under another
// UIDVALIDITY: its list of UIDs is gone.
func (c *Courier) Renumber(userName string) {
	c.t.Helper()
	c.must(os.Remove(filepath.Join(c.maildir(userName, "INBOX"), "courierimapuiddb")))
	c.NextSecond()
}

// NextSecond waits until the server would give a folder another UIDVALIDITY: it
// takes the second in which it looks at a folder that nobody has opened yet, by a
// clock that lags behind by a tick of the kernel.
func (c *Courier) NextSecond() {
	const tick = 20 * time.Millisecond
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + tick)))
}
