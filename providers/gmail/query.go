package gmail

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"mailsyncd/message"
)

// term is something the server can be asked for in an address field: an
// address, or a whole domain where Gmail spells an address in ways that no
// query can name. Its mark is a hash that orders terms, so that a cursor can
// say how far a walk has come without holding an address.
type term struct{ text, mark string }

const (
	// groupSize is how many terms one query asks for.
	groupSize = 10
	// maxTerms bounds a walk by address. With more of them the queries cost more
	// than the headers of a busy window: 2,000 queries are 10,000 units, or 500
	// headers.
	maxTerms = 20_000
	// A query's dates are Gmail's date of acceptance. Mail whose sender's clock
	// is ahead belongs to a window by its Date alone; two days cover that.
	querySlack = 48 * time.Hour
)

// terms says what to ask the server for, in order of marks; false when the
// server cannot be asked and every header must be read. No addresses at all is
// nothing to ask for; nil is everything.
func (s *session) terms(addresses []string) ([]term, bool) {
	if s.p.cfg.Mode != ModeSearch || addresses == nil || len(addresses) > maxTerms {
		return nil, false
	}
	texts := map[string]bool{}
	for _, a := range addresses {
		spelled := spellings(a)
		if len(spelled) == 0 {
			return nil, false
		}
		for _, text := range spelled {
			texts[text] = true
		}
	}
	var terms []term
	for text := range texts {
		terms = append(terms, term{text: text, mark: mark(text)})
	}
	slices.SortFunc(terms, func(a, b term) int { return strings.Compare(a.mark, b.mark) })
	return terms, true
}

// mark hashes a text. Marks never meet by chance.
func mark(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// spellings lists what a folded address may stand as in a header, as search
// terms; none when that cannot be said. Of a gmail.com address dots, a tag and
// the old domain are folded away: only the domain can be asked for. Of an
// internationalised domain both forms are asked for.
func spellings(key string) []string {
	at := strings.LastIndexByte(key, '@')
	if at < 1 {
		return nil
	}
	local, domain := key[:at], message.Domain(key)
	if domain == "gmail.com" {
		return []string{"gmail.com", "googlemail.com"}
	}
	var out []string
	for _, d := range []func(string) (string, error){idna.ToASCII, idna.ToUnicode} {
		name, err := d(domain)
		if err != nil || !plain(name) {
			return nil
		}
		text := local + "@" + name
		if !plain(local) {
			text = name // a local part that would need quoting: ask for the domain
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// plain tells that a word stands in a query for itself.
func plain(s string) bool {
	return s != "" && !strings.HasPrefix(s, "-") && !strings.ContainsAny(s, "\"'(){}[]<>:,;\\*|& \t\r\n")
}

// group returns the terms of the query after the one that ended with a mark.
func group(terms []term, after string) []term {
	i, _ := slices.BinarySearchFunc(terms, after, func(t term, mark string) int {
		if t.mark <= mark {
			return -1
		}
		return 1
	})
	return terms[i:min(len(terms), i+groupSize)]
}

// addressQuery asks for mail since a time with one of the terms in an address
// field. Braces mean "or". Dates of a query mean midnight in California unless
// they are seconds since 1970. The API widens neither aliases nor threads, as
// the web interface does, so each field is named: replyto is understood and not
// documented, and Sender cannot be asked for at all. So a walk by address proves
// nothing; a caller who must have everything also reads the headers.
func addressQuery(terms []term, since time.Time) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, t := range terms {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "from:%[1]s to:%[1]s cc:%[1]s bcc:%[1]s replyto:%[1]s", t.text)
	}
	fmt.Fprintf(&b, "} after:%d -in:chats -in:drafts", max(0, since.Add(-querySlack).Unix()))
	return b.String()
}
