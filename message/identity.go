package message

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// How many ids of a thread are named: see ThreadIDs.
const (
	headIDs  = 10
	tailIDs  = 40
	replyIDs = 10
)

// identityDomain begins what is hashed, so that the hash can be mistaken for
// no other one. It is part of every id ever given out: never change it.
const identityDomain = "mailsyncd message identity 1"

// ID is the identity of the message: the same in every folder, mailbox and
// provider that holds a copy, and after every rebuild of the store. It is
// "msg_" and 26 characters of lower-case base32 (RFC 4648 §6, no padding): the
// first 16 bytes of the SHA-256 of these items, each as its length (unsigned
// varint) and its bytes:
//
//   - identityDomain
//   - MessageID, white space removed
//   - the From keys, sorted, without repeats: their number in decimal, then each
//   - Date as decimal seconds since 1970 in UTC; where it could not be read "?"
//     and RawDate, white space removed; "?" alone when there is no Date
//   - only where MessageID is empty: the To keys and the Cc keys as those of
//     From, and Subject, white space removed
//
// From and Date stand beside Message-ID so that a sender who reuses an id, by
// mistake or to suppress somebody else's mail, makes another message. Size,
// trace fields and Bcc differ between copies and are left out. White space goes
// because servers fold differently, and addresses are taken folded, without
// display names, because gateways encode those anew.
func (h *Header) ID() string {
	b := make([]byte, 0, 512)
	b = appendItem(b, identityDomain)
	b = appendItem(b, withoutSpace(h.MessageID))
	b = appendKeys(b, h.From)
	b = appendItem(b, h.dateItem())
	if h.MessageID == "" {
		b = appendKeys(b, h.To)
		b = appendKeys(b, h.Cc)
		b = appendItem(b, withoutSpace(h.Subject))
	}
	sum := sha256.Sum256(b)
	return "msg_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

func (h *Header) dateItem() string {
	if h.Date.IsZero() {
		return "?" + withoutSpace(h.RawDate)
	}
	return strconv.FormatInt(h.Date.Unix(), 10)
}

func appendItem(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendKeys(b []byte, addrs []Address) []byte {
	keys := make([]string, len(addrs))
	for i, a := range addrs {
		keys[i] = a.Key
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	b = appendItem(b, strconv.Itoa(len(keys)))
	for _, k := range keys {
		b = appendItem(b, k)
	}
	return b
}

func withoutSpace(s string) string {
	return strings.ReplaceAll(s, " ", "")
}

// ownID is the name under which other mail refers to this one; a message
// without Message-ID can be referred to by nobody and stands for itself.
func (h *Header) ownID() string {
	if h.MessageID != "" {
		return h.MessageID
	}
	return h.ID()
}

// ThreadIDs names the messages of the thread that this header knows of: its
// own id (Message-ID, or ID without one) first, then In-Reply-To and
// References, without repeats.
//
// At most 61 are named: of a long References the first 10, which hold the root
// that all members share, and the last 40, the nearest parents; what stands
// between them is tied in by the messages there. A sender cannot make the
// store link ten thousand ids.
func (h *Header) ThreadIDs() []string {
	refs := h.References
	if len(refs) <= headIDs+tailIDs {
		return distinct([]string{h.ownID()}, h.replyIDs(), refs)
	}
	return distinct([]string{h.ownID()}, h.replyIDs(), refs[:headIDs], refs[len(refs)-tailIDs:])
}

func (h *Header) replyIDs() []string {
	return h.InReplyTo[:min(len(h.InReplyTo), replyIDs)]
}

func distinct(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, id := range list {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// Root is the earliest message of the thread that this header knows of: the
// first of References, else of In-Reply-To, else the message itself (its
// Message-ID, or ID without one).
func (h *Header) Root() string {
	switch {
	case len(h.References) > 0:
		return h.References[0]
	case len(h.InReplyTo) > 0:
		return h.InReplyTo[0]
	}
	return h.ownID()
}
