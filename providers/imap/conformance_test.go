package imap_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers/imap"
	"mailsyncd/providers/providertest"
)

// dovecotServer is a mailbox on a real server as the suite wants it.
type dovecotServer struct {
	*imap.Provider
	d    *testutil.Dovecot
	user string
}

func (s dovecotServer) Deliver(_ *testing.T, folder, mail string, arrival time.Time) {
	s.d.Deliver(s.user, folder, mail, arrival)
}

func (s dovecotServer) Renumber(*testing.T) {
	s.d.Stop()
	s.d.Renumber(s.user, 0)
	s.d.Start()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	providertest.Run(t, func(t *testing.T) providertest.Server {
		return newDovecotServer(t, d, userOf(t))
	})
}

func TestSpellings(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	providertest.RunSpellings(t, newDovecotServer(t, d, "spellings"))
}

func newDovecotServer(t *testing.T, d *testutil.Dovecot, user string) providertest.Server {
	for _, folder := range []string{"INBOX", "Sent", "Junk"} {
		d.MakeFolder(user, folder)
	}
	cfg := config(t, d.Plain)
	cfg.Username, cfg.PageSize = user, 3
	return dovecotServer{imap.New(cfg), d, user}
}

// userOf makes a user name of the last part of a test's name.
func userOf(t *testing.T) string {
	_, name, _ := strings.Cut(t.Name(), "/")
	return strings.ToLower(strings.Map(letters, name))
}

func letters(r rune) rune {
	if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}
