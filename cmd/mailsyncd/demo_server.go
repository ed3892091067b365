package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// The demo's mail server: go-imap's memory server with the mails of
// demo/mails.txt, on a port of its own on loopback.

//go:embed demo/mails.txt
var demoMails string

//go:embed demo/directory.jsonl
var demoDirectory []byte

// demoPassword is no secret: the server lives as long as the demo and listens
// on loopback only.
const demoPassword = "demo"

// demoMail is one mail of the demo's file.
type demoMail struct {
	Mailbox, Folder string
	Arrival         time.Time
	Raw             []byte // header and body
}

// parseDemoMails reads the demo's file. Its form stands in its first lines.
func parseDemoMails(text string, now time.Time) ([]demoMail, error) {
	var mails []demoMail
	for block := range strings.SplitSeq("\n"+text, "\n== ") {
		head, header, _ := strings.Cut(block, "\n")
		f := strings.Fields(head)
		if len(mails) == 0 && len(f) != 3 {
			continue // the comment before the first mail
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("%q: want MAILBOX FOLDER AGE", head)
		}
		age, err := demoAge(f[2])
		if err != nil {
			return nil, err
		}
		mails = append(mails, newDemoMail(f[0], f[1], now.Add(-age), header))
	}
	return mails, nil
}

func newDemoMail(mailbox, folder string, arrival time.Time, header string) demoMail {
	header = strings.ReplaceAll(strings.TrimSpace(header), "DATE", arrival.Format(time.RFC1123Z))
	text := header + "\n\nThe body. Nobody reads it.\n"
	return demoMail{
		Mailbox: mailbox, Folder: folder, Arrival: arrival,
		Raw: []byte(strings.ReplaceAll(text, "\n", "\r\n")),
	}
}

// demoAge reads "9d" and "1h".
func demoAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		return 24 * d, err
	}
	return time.ParseDuration(s)
}

// startDemoServer serves the mails; the returned function stops it.
func startDemoServer(mails []demoMail) (addr *net.TCPAddr, stop func(), err error) {
	mem := imapmemserver.New()
	users := map[string]*imapmemserver.User{}
	for _, m := range mails {
		if m.Mailbox == demoGmail {
			continue
		}
		u := users[m.Mailbox]
		if u == nil {
			u = imapmemserver.NewUser(m.Mailbox, demoPassword)
			users[m.Mailbox] = u
			mem.AddUser(u)
		}
		if err := putDemoMail(u, m); err != nil {
			return nil, nil, fmt.Errorf("filling the demo's mail server: %w", err)
		}
	}
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapListExtended: {}, imap.CapListStatus: {}},
		InsecureAuth: true, // loopback only
		Logger:       log.New(io.Discard, "", 0),
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("starting the demo's mail server: %w", err)
	}
	go func() { _ = srv.Serve(ln) }() // ends with stop
	return ln.Addr().(*net.TCPAddr), func() { _ = srv.Close() }, nil
}

func putDemoMail(u *imapmemserver.User, m demoMail) error {
	if _, err := u.Status(m.Folder, &imap.StatusOptions{}); err != nil {
		if err := u.Create(m.Folder, nil); err != nil {
			return err
		}
	}
	_, err := u.Append(m.Folder, literal{bytes.NewReader(m.Raw)}, &imap.AppendOptions{Time: m.Arrival})
	return err
}

// literal is a reader with a size, as APPEND takes it.
type literal struct{ *bytes.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

// place is the folder as the provider tells it: Gmail has none.
func (m demoMail) place() string {
	if m.Mailbox == demoGmail {
		return ""
	}
	return m.Folder
}

// demoSubject is the subject line as it stands in the mail: the demo shows its
// own sample mails, which the daemon never does.
func (m demoMail) subject() string {
	for sc := bufio.NewScanner(bytes.NewReader(m.Raw)); sc.Scan(); {
		if s, ok := strings.CutPrefix(sc.Text(), "Subject: "); ok {
			return s
		}
	}
	return "(no subject)"
}
