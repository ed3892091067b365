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

// mailServer is a real server with its users.
type mailServer interface {
	MakeFolder(user, folder string)
	Deliver(user, folder, mail string, arrival time.Time)
}

// realServer is one user's mailbox on it as the suite wants it.
type realServer struct {
	*imap.Provider
	on       mailServer
	user     string
	renumber func(user string)
}

func (s realServer) Deliver(_ *testing.T, folder, mail string, arrival time.Time) {
	s.on.Deliver(s.user, folder, mail, arrival)
}

func (s realServer) Renumber(*testing.T) { s.renumber(s.user) }

// newRealServer makes a user's folders. On Courier all but INBOX lie below it.
func newRealServer(t *testing.T, on mailServer, addr, user string, renumber func(user string)) providertest.Server {
	t.Helper()
	for _, folder := range []string{"INBOX", "Sent", "Junk"} {
		on.MakeFolder(user, folder)
	}
	cfg := config(t, addr)
	cfg.Username, cfg.PageSize = user, 3
	return realServer{imap.New(cfg), on, user, renumber}
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
	t.Helper()
	return newRealServer(t, d, d.Plain, user, func(user string) {
		d.Stop()
		d.Renumber(user, 0)
		d.Start()
	})
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
