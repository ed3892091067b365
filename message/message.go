// Package message holds what mailsyncd knows of one mail: the facts of its
// header. It parses header blocks leniently (RFC 5322 as it is written in real
// life), folds addresses so that they can be compared, gives a message its
// identity, and names the ids that tie it to a thread.
//
// The package knows no clock, no network and no log, and it has no place to
// put a body: a Header is all there ever is of a mail in this process.
//
// All text that it hands out is valid UTF-8 without control characters or line
// breaks, and bounded, whatever a sender wrote.
//
// A Header and an Address print as "[header]" and "[address]": most mail that
// passes through matches nobody, and a mistaken log line must not leak it.
package message

import (
	"log/slog"
	"time"
)

// Address is one mailbox of an address field (RFC 5322 §3.4).
type Address struct {
	// Name is the display name, decoded to UTF-8, at most 1 KiB; empty when
	// there is none.
	Name string
	// Addr is the addr-spec as the sender wrote it, without comments, quotes
	// around the whole, or a trailing dot. For showing, never for comparing.
	Addr string
	// Key is Fold(Addr): what matching compares. Never empty.
	Key string
}

// String hides the address; see the package comment.
func (Address) String() string { return "[address]" }

// GoString hides the address from %#v.
func (Address) GoString() string { return "[address]" }

// LogValue hides the address from slog.
func (Address) LogValue() slog.Value { return slog.StringValue("[address]") }

// Header is the set of facts that matching, the guards, threading and the
// webhook need, and nothing else. The zero value is a mail without a header.
type Header struct {
	// MessageID is the first msg-id of Message-ID without its angle brackets
	// (RFC 5322 §3.6.4); empty when absent or unusable.
	MessageID string
	// InReplyTo and References are msg-ids without angle brackets, oldest first.
	InReplyTo  []string
	References []string
	// Date is the Date field in UTC; zero when absent, unreadable or absurd
	// (before 1990).
	Date time.Time
	// RawDate is the Date field as it came, white space folded: part of the
	// identity of a message whose Date cannot be read.
	RawDate string

	// Every field of a name counts: two From fields give both addresses.
	From, Sender, ReplyTo, To, Cc, Bcc []Address

	// Subject is decoded to UTF-8 (RFC 2047), unfolded, at most 4 KiB. Where
	// Message-ID, Date, Subject or Precedence come twice, the first counts
	// that can be read.
	Subject string

	// ListID and ListPost tell that the field is there (RFC 2919, RFC 2369).
	ListID, ListPost bool
	// ListUnsubscribe tells that List-Unsubscribe is there (RFC 2369).
	ListUnsubscribe bool
	// Precedence is lower-cased, "" when absent ("bulk", "list", "junk").
	Precedence string
	// AutoSubmitted is true for any Auto-Submitted value but "no" (RFC 3834 §5).
	AutoSubmitted bool

	// Problems names what could not be read, as stable codes without any value
	// of the mail, each once: a lower-case field name, or "header" for the
	// block, and "cut", "no address", "part unreadable", "too many",
	// "unreadable" or "absurd" ("from: no address"). For counting and
	// explaining; never a reason to drop the mail.
	Problems []string
}

// String hides the header; see the package comment.
func (Header) String() string { return "[header]" }

// GoString hides the header from %#v.
func (Header) GoString() string { return "[header]" }

// LogValue hides the header from slog.
func (Header) LogValue() slog.Value { return slog.StringValue("[header]") }

// Field is one raw header field: its lower-cased name and its unfolded,
// undecoded value. Providers that get fields apart (the Gmail API) use it.
type Field struct{ Name, Value string }

// FieldNames are the header fields a provider must ask for: all that Parse
// reads. Upper case, as IMAP FETCH lists them (RFC 9051 §6.4.5).
var FieldNames = [...]string{
	"MESSAGE-ID", "IN-REPLY-TO", "REFERENCES", "DATE",
	"FROM", "SENDER", "REPLY-TO", "TO", "CC", "BCC", "SUBJECT",
	"LIST-ID", "LIST-POST", "LIST-UNSUBSCRIBE", "PRECEDENCE", "AUTO-SUBMITTED",
}
