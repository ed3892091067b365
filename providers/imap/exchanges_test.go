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
		p := New(Config{})
		for i, s := range steps {
			time.Sleep(s.after)
			offered := p.exchanges()
			if got := offered == nil; got != s.offers {
				t.Errorf("step %d: offered %v", i, got)
			}
			p.exchanged(offered, s.takes)
		}
	})
}
