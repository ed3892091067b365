package message

import (
	"slices"
	"strings"
)

// maxID is the longest msg-id in bytes: that of a line (RFC 5322 §2.1.1).
const maxID = 998

// nextID returns the first msg-id of s, without its angle brackets, and what
// follows it; "" when there is none. An "@" is not asked for: many ids have
// none. An id with white space inside is broken, and so is one that is cut.
func nextID(s string) (id, rest string) {
	for {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			return "", ""
		}
		s = s[open+1:]
		end := 0
		for end < len(s) && s[end] != '<' && s[end] != '>' {
			end++
		}
		if end == len(s) {
			return "", ""
		}
		if s[end] == '<' {
			s = s[end:]
			continue
		}
		id, s = strings.Trim(s[:end], " "), s[end+1:]
		if usableID(id) {
			return id, s
		}
	}
}

func usableID(id string) bool {
	return id != "" && len(id) <= maxID && strings.IndexByte(id, ' ') < 0
}

// bareID finds an id that stands without angle brackets: the first word with
// an "@" inside. A word without one would be "none" or "null" more often than
// an id, and would tie strangers' threads together.
func bareID(s string) string {
	for w := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == ',' || r == ';' }) {
		w = strings.Trim(w, `<>"'()`)
		if at := strings.IndexByte(w, '@'); at > 0 && at < len(w)-1 && usableID(w) {
			return w
		}
	}
	return ""
}

// firstID reads a Message-ID field.
func (b *builder) firstID(v string) string {
	id, _ := nextID(v)
	if id == "" {
		id = bareID(v)
	}
	if id == "" && v != "" {
		b.problem(messageID, problemUnreadable)
	}
	return id
}

// ids appends the ids of a References or In-Reply-To field. Phrases, commas
// and comments between them are passed over (RFC 5322 §4.5.4).
func (b *builder) ids(n name, v string, ids []string) []string {
	before := len(ids)
	if ids == nil {
		ids = make([]string, 0, min(strings.Count(v, "<"), 64))
	}
	for rest := v; len(ids) < maxIDs; {
		var id string
		if id, rest = nextID(rest); id == "" {
			break
		}
		ids = append(ids, id)
	}
	switch {
	case len(ids) >= maxIDs:
		b.problem(n, problemTooMany)
	case len(ids) > before || v == "":
	case bareID(v) != "":
		ids = append(ids, bareID(v))
	default:
		b.problem(n, problemUnreadable)
	}
	return ids
}

// headAndTail is the part of References that counts: see MaxField. The space
// keeps the halves of two ids from becoming one.
func headAndTail(v string) string {
	if len(v) <= MaxField {
		return v
	}
	return v[:referencesHead] + " " + v[len(v)-(MaxField-referencesHead)+1:]
}

// dropAddresses drops addresses from In-Reply-To. Old mailers write `Message from
// "Ann" <ann@example.net> of Monday <1@example.net>` there, and an address
// taken for an id would tie all mail of a person into one thread. Of either
// list the first 20 count, and no more ids are kept: an answer names one.
func (b *builder) dropAddresses() {
	const few = 20
	h := &b.h
	ids := h.InReplyTo
	if len(ids) == 0 {
		return
	}
	h.InReplyTo = slices.DeleteFunc(ids[:min(len(ids), few)], func(id string) bool {
		for _, list := range [...][]Address{h.From, h.ReplyTo, h.To, h.Cc} {
			for _, a := range list[:min(len(list), few)] {
				if len(a.Addr) == len(id) && strings.EqualFold(a.Addr, id) {
					return true
				}
			}
		}
		return false
	})
}
