package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// The checks of single values return what is wrong and what to do, "" when
// nothing is. None of them repeats an address.

var (
	placeholder = regexp.MustCompile(`\{[A-Za-z_]+\}`)
	mailboxID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$`)
)

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// wrongAddress checks a bare mail address (RFC 5321 §4.1.2, without quoted
// local parts: no recruiter has one, and a typo looks like one).
func wrongAddress(address string) string {
	at := strings.LastIndexByte(address, '@')
	switch {
	case strings.ContainsAny(address, "<>"):
		return "is not a bare address; write it without a name and angle brackets"
	case at < 0:
		return "is not a mail address, it has no @; write local@domain"
	case at == 0:
		return "is not a mail address, nothing stands before the @; to mean a domain use company.domains"
	case at > 64:
		return "is not a mail address, over 64 bytes stand before the @; write local@domain"
	case strings.ContainsAny(address[:at], " \t@,;:\"()[]\\"):
		return "is not a mail address; one address an item, without spaces and quotes"
	}
	if wrongDomain(address[at+1:]) != "" {
		return "is not a mail address, what follows the @ is not a domain; write local@domain"
	}
	return ""
}

func wrongDomain(domain string) string {
	switch {
	case strings.HasPrefix(domain, "@"):
		return "is not a domain; write it without the @"
	case strings.Contains(domain, "@"):
		return "is an address, not a domain; write what follows the @"
	case strings.Contains(domain, "*"):
		return "is not a domain; name each domain, there are no wildcards"
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err != nil || !dnsLengths(ascii) {
		return "is not a domain; write it like example.com"
	}
	return ""
}

// dnsLengths checks the limits of RFC 1035 §2.3.4, with no empty label.
func dnsLengths(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return len(domain) <= 253
}

// wrongHost checks a host name or an IP address.
func wrongHost(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	if strings.Contains(host, "://") {
		return quote(host) + " is a URL; write only the host name"
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return quote(host) + " holds a port; write the host here and the number at port"
	}
	// Names inside a container network often hold underscores, which the
	// rules for host names forbid.
	ascii, err := idna.Lookup.ToASCII(strings.ReplaceAll(host, "_", "x"))
	if err != nil || !dnsLengths(strings.TrimSuffix(ascii, ".")) {
		return quote(host) + " is not a host name or an IP address; write it like imap.example.com"
	}
	return ""
}

// isLoopbackHost tells that a host leads to this machine whatever DNS says.
func isLoopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// foldAddress brings the spellings of one mailbox together: domains in IDNA
// form, cases folded, and Gmail's dots and tags, which do not count there.
func foldAddress(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return strings.ToLower(address)
	}
	local, domain := strings.ToLower(address[:at]), strings.ToLower(address[at+1:])
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		domain = ascii
	}
	if domain == "gmail.com" || domain == "googlemail.com" {
		local, _, _ = strings.Cut(local, "+")
		local, domain = strings.ReplaceAll(local, ".", ""), "gmail.com"
	}
	return local + "@" + domain
}

// wrongListen checks a listen address, host:port.
func wrongListen(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return quote(listen) + " is not host:port; write it like 127.0.0.1:9464, or \"\" to serve no metrics"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return quote(listen) + " has no port from 0 to 65535 behind the colon; write it like 127.0.0.1:9464"
	}
	if host != "" && wrongHost(host) != "" {
		return quote(listen) + " has no host name or IP address before the colon; write it like 127.0.0.1:9464"
	}
	return ""
}

// wrongLinkTemplate checks the template of a mail's link.
func wrongLinkTemplate(template string) string {
	const place = "{message_id}"
	if !strings.Contains(template, place) {
		return "has no {message_id}; put it where the mail's Message-ID belongs"
	}
	rest := strings.ReplaceAll(template, place, "")
	if p := placeholder.FindString(rest); p != "" {
		return "holds the unknown placeholder " + p + "; only {message_id} is known"
	}
	u, err := url.Parse(rest)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "is not a URL; begin it with https:// and a host"
	}
	return ""
}
