package imap

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
	"time"
)

// Server is what mailboxes learn of a server's TLS from each other's polls: sessions
// to resume, and whether it takes a hybrid key exchange.
type Server struct {
	sessions tls.ClientSessionCache
	declined atomic.Int64 // when it declined a hybrid key exchange (unix seconds)
}

// serverSessions is how many TLS sessions are kept: as many as polls of one server
// run at a time, and then some.
const serverSessions = 64

// NewServer makes one of which nothing is known.
func NewServer() *Server { return &Server{sessions: tls.NewLRUClientSessionCache(serverSessions)} }

// offerEvery is how often a hybrid key exchange is offered to a server that
// declines it.
const offerEvery = 24 * time.Hour

// exchanges lists the key exchanges to offer; nil means all that Go has, which
// prefers the hybrids of ML-KEM and an elliptic curve. They are not given up for
// speed: whoever records a session today must not read its password with a
// quantum computer one day. But a server without them (OpenSSL before 3.5) takes
// the curve alone, whatever is offered, and then a good part of a poll's processor
// time went into a key that nobody uses and a much longer hello. So such a
// server is offered the curves alone, as every server was until 2025, until it is
// time to ask again. Nobody on the way can make us believe that it declined: the
// handshake proves what was offered and taken (RFC 8446 §4.4).
func (s *Server) exchanges() []tls.CurveID {
	if time.Since(time.Unix(s.declined.Load(), 0)) < offerEvery {
		return curves()
	}
	return nil
}

// exchanged notes what the server took that was offered everything.
func (s *Server) exchanged(offered []tls.CurveID, took tls.CurveID) {
	if offered == nil && slices.Contains(curves(), took) {
		s.declined.Store(time.Now().Unix())
	}
}

// failed notes a handshake that failed: should it have been for want of a hybrid,
// the next one offers it.
func (s *Server) failed() { s.declined.Store(0) }

// curves are the key exchanges without ML-KEM.
func curves() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}
