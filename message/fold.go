package message

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// maxAddress is the longest address in bytes that is taken for one. RFC 5321
// §4.5.3.1.3 allows 256 octets; tagged and rewritten senders go beyond.
const maxAddress = 512

// Fold returns the key by which addresses are compared, or "" for text that is
// no address (no local part, no domain, longer than 512 bytes, a second "@").
//
// The domain is lower-cased, its international labels become A-labels
// (RFC 5891), a trailing dot goes. The local part is lower-cased in every
// script and normalised (NFC), quotes and backslashes go: RFC 5321 §2.4 lets a
// server tell "Ann" from "ann", but none that people use does. At gmail.com and
// googlemail.com, which are one, dots and what follows a "+" do not count.
//
// Fold(Fold(a)) == Fold(a).
func Fold(addr string) string {
	if len(addr) > maxAddress {
		return ""
	}
	if key, ok := foldPlain(addr); ok {
		return key
	}
	key := foldAny(addr)
	// Dropping a dot can bring a letter and its accent together, which then
	// compose: another round settles that. One round is enough for ASCII.
	for before := ""; key != before && !isASCII(key); {
		before, key = key, foldAny(key)
	}
	return key
}

// foldPlain folds the common case, an ASCII dot-atom at a domain name outside
// Gmail, without going through Unicode; without an allocation when it is lower
// case already. ok is false when the address needs foldAny.
func foldPlain(addr string) (key string, ok bool) {
	at, upper := -1, false
	for i := 0; i < len(addr); i++ {
		switch c := addr[i]; {
		case c == '@' && at < 0:
			at = i
		case at < 0 && !isLocalByte(c), at >= 0 && !isDomainByte(c), c >= utf8.RuneSelf:
			return "", false
		case 'A' <= c && c <= 'Z':
			upper = true
		}
	}
	if at <= 0 || at == len(addr)-1 || addr[at+1] == '.' || addr[len(addr)-1] == '.' {
		return "", false
	}
	if isGmail(addr[at+1:]) {
		return "", false
	}
	if upper {
		addr = strings.ToLower(addr)
	}
	return addr, true
}

func isGmail(domain string) bool {
	return len(domain) == len("gmail.com") && strings.EqualFold(domain, "gmail.com") ||
		len(domain) == len("googlemail.com") && strings.EqualFold(domain, "googlemail.com")
}

// foldAny is one round of Fold.
func foldAny(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	if at <= 0 {
		return ""
	}
	domain := foldDomain(strings.TrimSpace(addr[at+1:]))
	if domain == "" {
		return ""
	}
	local := foldLocal(addr[:at])
	if isGmail(domain) {
		domain, local = "gmail.com", foldGmail(local)
	}
	if local == "" || len(local)+1+len(domain) > maxAddress {
		return ""
	}
	return local + "@" + domain
}

// foldLocal lower-cases and normalises a local part. It returns "" when a
// character is left that would let two addresses pass for one.
func foldLocal(local string) string {
	local = strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || unicode.IsControl(r) {
			return -1
		}
		return r
	}, local)
	local = norm.NFC.String(strings.ToLower(norm.NFC.String(local)))
	if strings.ContainsAny(local, "<>@") {
		return ""
	}
	return strings.TrimSpace(local)
}

// foldGmail drops what Gmail does not look at.
func foldGmail(local string) string {
	local, _, _ = strings.Cut(local, "+")
	return strings.TrimSpace(strings.ReplaceAll(local, ".", ""))
}

// foldDomain works label by label, so that one label that IDNA refuses (an
// underscore, say) does not leave the others as they were spelt. It returns ""
// for text that cannot be a domain.
func foldDomain(domain string) string {
	if strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") {
		return foldLiteral(domain)
	}
	if isASCII(domain) {
		domain = strings.ToLower(domain)
	} else {
		labels := strings.Split(domain, ".")
		for i, l := range labels {
			labels[i] = foldLabel(l)
		}
		domain = strings.Join(labels, ".")
	}
	domain = strings.TrimRight(domain, ".")
	if domain == "" || domain[0] == '.' || strings.ContainsFunc(domain, notInDomain) {
		return ""
	}
	return domain
}

// foldLiteral keeps an address literal (RFC 5321 §4.1.3), lower-cased.
func foldLiteral(domain string) string {
	for i := 1; i < len(domain)-1; i++ {
		if c := domain[i]; c != ':' && !isDomainByte(c) || c >= utf8.RuneSelf {
			return ""
		}
	}
	if len(domain) == 2 {
		return ""
	}
	return strings.ToLower(domain)
}

// foldLabel returns the A-label of an international label, and the lower-cased
// label where IDNA has none.
func foldLabel(l string) string {
	if !isASCII(l) {
		l = strings.ToValidUTF8(l, "\uFFFD")
		if a, err := idna.Lookup.ToASCII(l); err == nil {
			return a
		}
		l = norm.NFC.String(strings.ToLower(norm.NFC.String(l)))
	}
	return strings.ToLower(l)
}

func notInDomain(r rune) bool {
	return r < utf8.RuneSelf && !isDomainByte(byte(r)) || unicode.IsControl(r) || unicode.IsSpace(r)
}

// FoldGuard folds a key (a result of Fold) further, for guards that would
// rather refuse than leak: what follows a "+" in the local part does not count
// at any domain.
func FoldGuard(key string) string {
	plus := strings.IndexByte(key, '+')
	at := strings.LastIndexByte(key, '@')
	if plus <= 0 || at < plus {
		return key
	}
	return key[:plus] + key[at:]
}

// Domain returns the domain of a key; "" when it has none.
func Domain(key string) string {
	at := strings.LastIndexByte(key, '@')
	if at < 0 {
		return ""
	}
	return key[at+1:]
}

// isLocalByte tells whether c may stand in a dot-atom (RFC 5322 §3.2.3, RFC
// 6532 §3.2). The quote ' is left out: it is legal, but people also put it
// around addresses, so it takes the careful way.
func isLocalByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z':
		return true
	case c >= utf8.RuneSelf:
		return true
	}
	switch c {
	case '.', '-', '_', '+', '=', '!', '#', '$', '%', '&', '*', '/', '?', '^', '{', '|', '}', '~':
		return true
	}
	return false
}

// isDomainByte tells whether c may stand in a domain name. The underscore is
// illegal in one (RFC 1123 §2.1) and found in some.
func isDomainByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z':
		return true
	}
	return c == '.' || c == '-' || c == '_' || c >= utf8.RuneSelf
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
