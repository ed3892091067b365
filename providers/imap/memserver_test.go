package imap_test

import (
	"io"
	"log"
	"net"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers/imap"
	"mailsyncd/providers/providertest"
)

// memServer is the library's own server, a second opinion: it offers IMAP4rev2,
// and forgets its numbering only with the folder.
type memServer struct {
	*imap.Provider
	user  *imapmemserver.User
	mails map[string]time.Time // what INBOX holds
}

// literal is a mail to append.
type literal struct {
	*strings.Reader
}

func (l literal) Size() int64 { return l.Reader.Size() }

func (s memServer) Deliver(t *testing.T, folder, mail string, arrival time.Time) {
	t.Helper()
	if _, err := s.user.Append(folder, literal{strings.NewReader(mail)}, &goimap.AppendOptions{Time: arrival}); err != nil {
		t.Fatal(err)
	}
	if folder == "INBOX" {
		s.mails[mail] = arrival
	}
}

func (s memServer) Renumber(t *testing.T) {
	t.Helper()
	if err := s.user.Delete("INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := s.user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	for mail, arrival := range s.mails {
		s.Deliver(t, "INBOX", mail, arrival)
	}
}

func TestConformanceOnTheMemoryServer(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Server {
		user := imapmemserver.NewUser("rita", testutil.Password)
		for name, attr := range map[string]goimap.MailboxAttr{"INBOX": "", "Sent": goimap.MailboxAttrSent, "Junk": goimap.MailboxAttrJunk} {
			opts := &goimap.CreateOptions{}
			if attr != "" {
				opts.SpecialUse = []goimap.MailboxAttr{attr}
			}
			if err := user.Create(name, opts); err != nil {
				t.Fatal(err)
			}
		}
		cfg := config(t, serveMemory(t, user))
		cfg.PageSize = 3
		return memServer{imap.New(cfg), user, map[string]time.Time{}}
	})
}

func serveMemory(t *testing.T, user *imapmemserver.User) string {
	t.Helper()
	mem := imapmemserver.New()
	mem.AddUser(user)
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         goimap.CapSet{goimap.CapIMAP4rev1: {}, goimap.CapIMAP4rev2: {}},
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}
