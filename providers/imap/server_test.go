package imap

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"
)

// A server that is upgraded meanwhile must not wait for our restart.
func TestHybridKeyExchangeIsOfferedAgain(t *testing.T) {
	const without, with = tls.X25519, tls.X25519MLKEM768
	steps := []struct {
		after  time.Duration
		takes  tls.CurveID // of the server, if it may
		offers bool
	}{
		{0, without, true},
		{0, without, false},
		{offerEvery - time.Second, with, false},
		{time.Second, without, true},
		{0, with, false},
		{offerEvery, with, true},
		{0, with, true},
	}
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer()
		for i, s := range steps {
			time.Sleep(s.after)
			offered := srv.exchanges()
			if got := offered == nil; got != s.offers {
				t.Errorf("step %d: offered %v", i, got)
			}
			srv.exchanged(offered, s.takes)
		}
	})
}

// A server that takes nothing else any more is not refused until tomorrow.
func TestHybridKeyExchangeIsOfferedAfterAFailure(t *testing.T) {
	srv := NewServer()
	srv.exchanged(srv.exchanges(), tls.X25519)
	if srv.exchanges() == nil {
		t.Fatal("a server that declined is offered everything at once")
	}
	srv.failed()
	if srv.exchanges() != nil {
		t.Error("after a failed handshake not everything is offered")
	}
}
