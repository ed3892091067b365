package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// reach says how freely an address may be dialled.
type reach int

const (
	reachPublic  reach = iota // any
	reachPrivate              // only when webhook.allow_networks lists it
	reachNever                // not even then
)

// network is one block of addresses that is not the public internet.
type network struct {
	prefix netip.Prefix
	reach  reach
	name   string
}

// special lists the blocks of the IANA special-purpose registries (RFC 6890)
// that a webhook must not reach by accident, and the addresses at which clouds
// hand out credentials: whoever controls the DNS name of the webhook, or an ATS
// form that sets it, would otherwise have mailsyncd read them. The most specific
// block decides, so a metadata address inside a private block stays refused.
var special = [...]network{
	{netip.MustParsePrefix("0.0.0.0/8"), reachNever, "an unspecified address"},            // RFC 1122 §3.2.1.3
	{netip.MustParsePrefix("10.0.0.0/8"), reachPrivate, "a private address"},              // RFC 1918
	{netip.MustParsePrefix("100.64.0.0/10"), reachPrivate, "a carrier's private address"}, // RFC 6598
	{netip.MustParsePrefix("100.100.100.200/32"), reachNever, "a cloud metadata address"}, // Alibaba
	{netip.MustParsePrefix("127.0.0.0/8"), reachPrivate, "a loopback address"},            // RFC 1122
	{netip.MustParsePrefix("168.63.129.16/32"), reachNever, "a cloud metadata address"},   // Azure
	{netip.MustParsePrefix("169.254.0.0/16"), reachNever, "a link-local address"},         // RFC 3927; 169.254.169.254 is in it
	{netip.MustParsePrefix("172.16.0.0/12"), reachPrivate, "a private address"},           // RFC 1918
	{netip.MustParsePrefix("192.0.0.0/24"), reachPrivate, "a reserved address"},           // RFC 6890
	{netip.MustParsePrefix("192.0.0.192/32"), reachNever, "a cloud metadata address"},     // Oracle
	{netip.MustParsePrefix("192.0.2.0/24"), reachPrivate, "a documentation address"},      // RFC 5737
	{netip.MustParsePrefix("192.168.0.0/16"), reachPrivate, "a private address"},          // RFC 1918
	{netip.MustParsePrefix("198.18.0.0/15"), reachPrivate, "a benchmark address"},         // RFC 2544
	{netip.MustParsePrefix("198.51.100.0/24"), reachPrivate, "a documentation address"},   // RFC 5737
	{netip.MustParsePrefix("203.0.113.0/24"), reachPrivate, "a documentation address"},    // RFC 5737
	{netip.MustParsePrefix("224.0.0.0/4"), reachNever, "a multicast address"},             // RFC 5771
	{netip.MustParsePrefix("240.0.0.0/4"), reachNever, "a reserved address"},              // RFC 1112
	{netip.MustParsePrefix("255.255.255.255/32"), reachNever, "the broadcast address"},    // RFC 919

	{netip.MustParsePrefix("::/128"), reachNever, "an unspecified address"},             // RFC 4291
	{netip.MustParsePrefix("::1/128"), reachPrivate, "a loopback address"},              // RFC 4291
	{netip.MustParsePrefix("64:ff9b:1::/48"), reachPrivate, "a local NAT64 address"},    // RFC 8215
	{netip.MustParsePrefix("100::/64"), reachPrivate, "a discard address"},              // RFC 6666
	{netip.MustParsePrefix("2001::/23"), reachPrivate, "a reserved address"},            // RFC 2928, Teredo among them
	{netip.MustParsePrefix("2001:db8::/32"), reachPrivate, "a documentation address"},   // RFC 3849
	{netip.MustParsePrefix("3fff::/20"), reachPrivate, "a documentation address"},       // RFC 9637
	{netip.MustParsePrefix("5f00::/16"), reachPrivate, "a segment-routing address"},     // RFC 9602
	{netip.MustParsePrefix("fc00::/7"), reachPrivate, "a private address"},              // RFC 4193
	{netip.MustParsePrefix("fd00:ec2::/112"), reachNever, "a cloud metadata address"},   // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), reachNever, "a cloud metadata address"}, // Google
	{netip.MustParsePrefix("fe80::/10"), reachNever, "a link-local address"},            // RFC 4291
	{netip.MustParsePrefix("fec0::/10"), reachPrivate, "a site-local address"},          // RFC 3879
	{netip.MustParsePrefix("ff00::/8"), reachNever, "a multicast address"},              // RFC 4291
}

// BlockedError says that the webhook's name led to an address that is not
// dialled.
type BlockedError struct {
	Addr    netip.Addr // as dialled
	What    string     // "a private address"
	Allowed bool       // listing it in webhook.allow_networks would allow it
}

func (e *BlockedError) Error() string {
	if !e.Allowed {
		return fmt.Sprintf("webhook.url leads to %v, %s, which is never dialled: point it at the ATS", e.Addr, e.What)
	}
	p := netip.PrefixFrom(e.Addr, e.Addr.BitLen())
	return fmt.Sprintf("webhook.url leads to %v, %s: if the ATS really is there, add %q or its network to webhook.allow_networks", e.Addr, e.What, p)
}

// guard decides which addresses may be dialled. It stands at the socket, after
// the name was resolved, so a name that changes its answer between check and
// use gains nothing.
type guard struct {
	allow []netip.Prefix
	// clear tells that posts go out without TLS: then only to loopback and
	// private addresses, never over the internet.
	clear bool
}

// control is a net.Dialer's ControlContext.
func (g guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dialled address is not an IP address: %w", err)
	}
	return g.check(ap.Addr())
}

// check refuses addr unless it is public or listed.
func (g guard) check(addr netip.Addr) error {
	addr = unwrap(addr)
	n, ok := specialNetwork(addr)
	if !ok && g.clear {
		return fmt.Errorf("webhook.url leads to %v, a public address, without TLS: write https", addr)
	}
	if !ok || n.reach == reachPrivate && g.lists(addr) {
		return nil
	}
	return &BlockedError{Addr: addr, What: n.name, Allowed: n.reach == reachPrivate}
}

func (g guard) lists(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Contains(addr)
	})
}

// specialNetwork returns the smallest special block that holds addr.
func specialNetwork(addr netip.Addr) (network, bool) {
	var best network
	found := false
	for _, n := range special {
		if n.prefix.Contains(addr) && (!found || n.prefix.Bits() > best.prefix.Bits()) {
			best, found = n, true
		}
	}
	return best, found
}

// unwrap gives the IPv4 address that an IPv6 address only carries: mapped
// (RFC 4291 §2.5.5.2), compatible (§2.5.5.1), NAT64 (RFC 6052 §2.1) and 6to4
// (RFC 3056 §2). Dialling the carrier reaches the carried.
func unwrap(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("").Unmap()
	if addr.Is4() {
		return addr
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case compatible.Contains(addr) && !addr.IsUnspecified() && !addr.IsLoopback():
		return netip.AddrFrom4([4]byte(b[12:16]))
	default:
		return addr
	}
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)
