// Package providers is the contract between mailsyncd and a mail server: how a
// pass reads new headers, walks old ones, and tells one kind of failure from
// another. Each subpackage is one provider; providertest is the conformance
// suite that every one of them passes, and a scripted fake.
//
// A provider reads headers only. It never changes a mailbox, never asks for a
// body, never sleeps and never retries: it says whether retrying helps and the
// schedule decides when. It does not know the store; a Cursor is text that only
// its own provider understands.
package providers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/message"
)

// Cursor is a position in a walk, opaque to everyone but the provider that
// made it. It is printable text, and survives a restart and an upgrade.
type Cursor string

// Message is the header of one mail and where it was found.
type Message struct {
	// Ref names the mail inside its mailbox so that the provider can find it
	// again (IMAP: folder, UIDVALIDITY, UID; Gmail: id). Opaque.
	Ref string
	// Folder is the folder's decoded name; empty where the provider has labels.
	Folder string
	// Labels are the provider's labels (Gmail); nil elsewhere.
	Labels []string
	// Arrival is when the server took the mail, UTC; zero when it does not say.
	Arrival time.Time
	// ThreadHint is the provider's own thread id, valid inside this mailbox only.
	ThreadHint string
	// Link opens the mail in its owner's mail client; empty when there is none.
	Link string
	// Ignored tells that the folder or a label is one that walks leave out (Junk,
	// Trash, Drafts, views, configured ones). Only Find returns such mails.
	Ignored bool
	// Header holds the facts. Never a body.
	Header message.Header
}

// Page is one bounded piece of a walk.
type Page struct {
	// Messages, oldest UID first within a folder; at most a few hundred.
	Messages []Message
	// Next is the cursor after this page. It equals the cursor that was given
	// when the page brought nothing and nothing needs to be remembered: then
	// the caller writes nothing.
	Next Cursor
	// More tells that another page is known to follow.
	More bool
	// Unreadable counts mails the server lists but will not hand out; they are
	// remembered in Next and tried again.
	Unreadable int
	// Reset tells that the provider had forgotten part of the position
	// (UIDVALIDITY changed, history expired) and walks the window again; it
	// names the cause for one log line, "" otherwise.
	Reset string
}

// Query says which old mail a Search walks over.
type Query struct {
	// Since bounds the walk by arrival; it may return older mail, never less.
	Since time.Time
	// Addresses are folded addresses (message.Fold) of which at least one
	// should stand in an address field. A provider may ignore them and return
	// every header since Since: the matcher decides. Empty means all.
	Addresses []string
}

// Window bounds a walk that a provider must start by itself because it forgot
// its position.
type Window struct {
	// Since is where the window begins: the earlier of (now − backfill) and
	// (last complete poll − 3 days), and on the first pass the horizon.
	Since time.Time
}

// Mailbox is one session with one mailbox, opened for a pass and closed after
// it. Its methods are called from one goroutine at a time.
type Mailbox interface {
	// Start returns the cursor at which a first walk begins that covers all
	// mail which arrived at or after since, and everything new after it.
	Start(ctx context.Context, since time.Time) (Cursor, error)
	// Next returns the page after cur: mail that is new since, or the rest of
	// the first walk. When the provider cannot place the cursor any more it
	// walks the window again by itself and says so in Page.Reset; where even
	// that is impossible it returns ErrCursorExpired and the caller calls Start.
	Next(ctx context.Context, cur Cursor, w Window) (Page, error)
	// Search returns the page after cur of a walk over old mail; an empty cur
	// begins it. The walk ends with the page whose More is false.
	Search(ctx context.Context, q Query, cur Cursor) (Page, error)
	// Find returns the mails with this Message-ID (without angle brackets), in
	// whatever folder, ignored ones included: for explain.
	Find(ctx context.Context, messageID string) ([]Message, error)
	// Close ends the session. It never blocks for longer than a second and is
	// safe after any error.
	Close() error
}

// Opener opens a session. It fails with the classes below.
type Opener interface {
	Open(ctx context.Context) (Mailbox, error)
}

// ErrCursorExpired says that the provider cannot continue from this cursor and
// the walk must begin again with Start.
var ErrCursorExpired = errors.New("the server no longer knows this position")

// ErrUnauthorized says that the server refused the credential: trying the same
// one again does not help and may lock the account.
var ErrUnauthorized = errors.New("the server refused the credential")

// ThrottledError says that the server asked for a pause. The credential and
// the position are fine.
type ThrottledError struct {
	// After is how long the server asked to wait; zero when it did not say.
	After time.Duration
	Err   error
}

func (e *ThrottledError) Error() string {
	if e.After > 0 {
		return fmt.Sprintf("throttled for %v: %v", e.After.Round(time.Second), e.Err)
	}
	return fmt.Sprintf("throttled: %v", e.Err)
}

func (e *ThrottledError) Unwrap() error { return e.Err }

// Class is the kind of a failure as operators see it: the value of the log key
// "class", of mailbox.state events and of status.
type Class string

const (
	ClassNone         Class = ""             // no failure
	ClassUnauthorized Class = "unauthorized" // credential refused
	ClassThrottled    Class = "throttled"    // server asked for a pause
	ClassNetwork      Class = "network"      // DNS, connect, reset, timeout
	ClassTLS          Class = "tls"          // certificate or handshake
	ClassServer       Class = "server"       // the server said no, or broke the protocol
	ClassConfig       Class = "config"       // a file or setting on our side
)

// ClassError carries a class up to the pass. Err says what happened and what
// to do, without any address or subject of a mail.
type ClassError struct {
	Class Class
	Err   error
}

func (e *ClassError) Error() string { return e.Err.Error() }
func (e *ClassError) Unwrap() error { return e.Err }

// Classify returns the class of err; ClassServer for an error that carries
// none, ClassNone for nil.
func Classify(err error) Class {
	var t *ThrottledError
	var c *ClassError
	switch {
	case err == nil:
		return ClassNone
	case errors.Is(err, ErrUnauthorized):
		return ClassUnauthorized
	case errors.As(err, &t):
		return ClassThrottled
	case errors.As(err, &c):
		return c.Class
	default:
		return ClassServer
	}
}
