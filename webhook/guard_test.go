package webhook_test

import (
	"net/netip"
	"strings"
	"testing"

	"mailsyncd/webhook"
)

func TestTheDialGuard(t *testing.T) {
	const free, listed, refused, never = "", "listed", "refused", "never dialled"
	for _, tt := range []struct{ what, addr, allow, want string }{
		{"a public address", "93.184.215.14", "", free},
		{"a public IPv6 address", "2606:2800:21f:cb07::1", "", free},
		{"a public address behind NAT64", "64:ff9b::5db8:d70e", "", free},
		{"a public address that is mapped", "::ffff:93.184.215.14", "", free},
		{"the neighbour of a private block", "172.32.0.1", "", free},
		{"the neighbour of the carrier's block", "100.128.0.1", "", free},

		{"loopback", "127.0.0.1", "", refused},
		{"all of loopback", "127.8.9.1", "", refused},
		{"loopback that is listed", "127.0.0.1", "127.0.0.0/8", listed},
		{"loopback while another network is listed", "127.0.0.1", "10.0.0.0/8", refused},
		{"IPv6 loopback", "::1", "", refused},
		{"IPv6 loopback that is listed", "::1", "::1/128", listed},
		{"mapped loopback", "::ffff:127.0.0.1", "", refused},
		{"mapped loopback that is listed as IPv4", "::ffff:127.0.0.1", "127.0.0.1/32", listed},
		{"loopback that is listed as mapped", "127.0.0.1", "::ffff:127.0.0.0/104", listed},
		{"compatible loopback", "::127.0.0.1", "", refused},
		{"a private address", "10.1.2.3", "", refused},
		{"a private address that is listed", "10.1.2.3", "10.1.0.0/16", listed},
		{"a private address beside the listed network", "10.2.2.3", "10.1.0.0/16", refused},
		{"the second private block", "172.16.0.1", "", refused},
		{"the third private block", "192.168.1.1", "", refused},
		{"a private address behind NAT64", "64:ff9b::a01:203", "", refused},
		{"a private address behind NAT64 that is listed as IPv4", "64:ff9b::a01:203", "10.0.0.0/8", listed},
		{"a private address behind 6to4", "2002:a01:203::1", "", refused},
		{"local NAT64", "64:ff9b:1::1", "", refused},
		{"the carrier's block", "100.64.0.1", "", refused},
		{"the carrier's block that is listed", "100.64.0.1", "100.64.0.0/10", listed},
		{"a unique local address", "fd12:3456::1", "", refused},
		{"a unique local address that is listed", "fd12:3456::1", "fd12:3456::/32", listed},
		{"a site-local address", "fec0::1", "", refused},
		{"a documentation address", "192.0.2.1", "", refused},
		{"an IPv6 documentation address", "2001:db8::1", "", refused},
		{"a benchmark address", "198.18.0.1", "", refused},
		{"a Teredo address", "2001:0:4136:e378::1", "", refused},

		{"link-local", "169.254.1.1", "169.254.0.0/16", never},
		{"the metadata service", "169.254.169.254", "0.0.0.0/0", never},
		{"the mapped metadata service", "::ffff:169.254.169.254", "::/0", never},
		{"the metadata service behind NAT64", "64:ff9b::a9fe:a9fe", "", never},
		{"the metadata service behind 6to4", "2002:a9fe:a9fe::1", "", never},
		{"container credentials", "169.254.170.2", "", never},
		{"Amazon's IPv6 metadata", "fd00:ec2::254", "fd00::/8", never},
		{"Google's IPv6 metadata", "fd20:ce::254", "fd00::/8", never},
		{"Alibaba's metadata", "100.100.100.200", "100.64.0.0/10", never},
		{"Oracle's metadata", "192.0.0.192", "192.0.0.0/24", never},
		{"Azure's wire server", "168.63.129.16", "168.63.129.16/32", never},
		{"IPv6 link-local", "fe80::1", "fe80::/10", never},
		{"IPv6 link-local with a zone", "fe80::1%eth0", "fe80::/10", never},
		{"multicast", "224.0.0.1", "224.0.0.0/4", never},
		{"IPv6 multicast", "ff02::1", "ff00::/8", never},
		{"unspecified", "0.0.0.0", "0.0.0.0/0", never},
		{"this network", "0.1.2.3", "0.0.0.0/0", never},
		{"IPv6 unspecified", "::", "::/0", never},
		{"broadcast", "255.255.255.255", "0.0.0.0/0", never},
		{"the reserved block", "240.0.0.1", "", never},
	} {
		err := webhook.CheckAddr(netip.MustParseAddr(tt.addr), prefixes(tt.allow)...)
		switch {
		case tt.want == free || tt.want == listed:
			if err != nil {
				t.Errorf("%s: refused: %v", tt.what, err)
			}
		case err == nil:
			t.Errorf("%s: dialled", tt.what)
		case tt.want == refused && !strings.Contains(err.Error(), "to webhook.allow_networks"):
			t.Errorf("%s: error %q does not say what to list", tt.what, err)
		case tt.want == never && (!strings.Contains(err.Error(), never) || strings.Contains(err.Error(), "allow_networks")):
			t.Errorf("%s: error %q offers to list what never is dialled", tt.what, err)
		}
	}
}

func TestTheGuardsAdviceIsEnough(t *testing.T) {
	for _, addr := range []string{"10.1.2.3", "fd12::1", "64:ff9b::a01:203", "127.0.0.1", "::1"} {
		a := netip.MustParseAddr(addr)
		err := webhook.CheckAddr(a)
		if err == nil {
			t.Fatalf("%s was dialled", addr)
		}
		_, rest, _ := strings.Cut(err.Error(), `add "`)
		advised, _, _ := strings.Cut(rest, `"`)
		if err := webhook.CheckAddr(a, prefixes(advised)...); err != nil {
			t.Errorf("%s: after following the advice %q: %v", addr, advised, err)
		}
	}
}

func prefixes(list string) (ps []netip.Prefix) {
	if list != "" {
		ps = append(ps, netip.MustParsePrefix(list))
	}
	return ps
}
