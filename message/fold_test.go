package message_test

import (
	"strings"
	"testing"

	"mailsyncd/message"
)

func TestFold(t *testing.T) {
	for _, row := range []struct{ name, addr, key string }{
		{"a plain address is its own key", "nora@example.net", "nora@example.net"},
		{"case does not count", "Nora.Brandt@Example.NET", "nora.brandt@example.net"},
		{"white space around does not count", " nora@example.net\t", "nora@example.net"},
		{"a trailing dot does not count", "nora@example.net.", "nora@example.net"},
		{"a tag counts", "nora+jobs@example.net", "nora+jobs@example.net"},
		{"dots count", "no.ra@example.net", "no.ra@example.net"},
		{"googlemail.com is gmail.com", "nora@GoogleMail.com", "nora@gmail.com"},
		{"dots do not count at Gmail", "No.Ra@gmail.com", "nora@gmail.com"},
		{"tags do not count at Gmail", "nora+a+b@gmail.com", "nora@gmail.com"},
		{"a domain that ends like Gmail is none", "no.ra@notgmail.com", "no.ra@notgmail.com"},
		{"a subdomain of Gmail is none", "no.ra@x.gmail.com", "no.ra@x.gmail.com"},
		{"nothing left at Gmail is no address", "...+x@gmail.com", ""},
		{"quotes do not count", `"nora"@example.net`, "nora@example.net"},
		{"quoted spaces count", `"nora b"@example.net`, "nora b@example.net"},
		{"quoted pairs do not count", `"no\ra"@example.net`, "nora@example.net"},
		{"an international domain", "nora@MÜLLER.example", "nora@xn--mller-kva.example"},
		{"its A-label", "nora@XN--MLLER-KVA.example", "nora@xn--mller-kva.example"},
		{"a wide domain", "nora@ｅｘａｍｐｌｅ.net", "nora@example.net"},
		{"an ideographic dot", "nora@example。net", "nora@example.net"},
		{"ß is not ss", "nora@straße.example", "nora@xn--strae-oqa.example"},
		{"an underscore beside an international label", "nora@my_host.müller.example", "nora@my_host.xn--mller-kva.example"},
		{"an international local part in upper case", "ÄNN@example.net", "änn@example.net"},
		{"a composed and a decomposed letter are one", "a\u0308nn@example.net", "änn@example.net"},
		{"an address literal", "nora@[IPv6:2001:DB8::1]", "nora@[ipv6:2001:db8::1]"},
		{"no local part", "@example.net", ""},
		{"no domain", "nora@", ""},
		{"a dot as domain", "nora@.", ""},
		{"a domain that begins with a dot", "nora@.example.net", ""},
		{"an empty literal", "nora@[]", ""},
		{"no @", "nora", ""},
		{"nothing", "", ""},
		{"two @", "nora@old.example@example.net", ""},
		{"a quoted @", `"nora@old.example"@example.net`, ""},
		{"a list", "a@example.net, b@example.net", ""},
		{"angle brackets", "Nora <nora@example.net>", ""},
		{"a space in the domain", "nora@example net", ""},
		{"a comment in the domain", "nora@(x)example.net", ""},
		{"quotes without content", `""@example.net`, ""},
		{"an absurd length", strings.Repeat("a", 600) + "@example.net", ""},
	} {
		if got := message.Fold(row.addr); got != row.key {
			t.Errorf("%s: Fold(%q) = %q, want %q", row.name, row.addr, got, row.key)
		}
		if got := message.Fold(row.key); got != row.key {
			t.Errorf("%s: folding the key %q again gives %q", row.name, row.key, got)
		}
	}
}

func TestFoldGuard(t *testing.T) {
	for _, row := range []struct{ name, key, want string }{
		{"a tag does not count for guards", "nora+jobs@example.net", "nora@example.net"},
		{"nor do two", "nora+a+b@example.net", "nora@example.net"},
		{"a local part that is all tag stays", "+x@example.net", "+x@example.net"},
		{"without a tag nothing changes", "nora@example.net", "nora@example.net"},
		{"no key stays none", "", ""},
	} {
		if got := message.FoldGuard(row.key); got != row.want {
			t.Errorf("%s: FoldGuard(%q) = %q, want %q", row.name, row.key, got, row.want)
		}
	}
}

func TestDomain(t *testing.T) {
	for key, want := range map[string]string{"nora@example.net": "example.net", "": "", "nora": ""} {
		if got := message.Domain(key); got != want {
			t.Errorf("Domain(%q) = %q, want %q", key, got, want)
		}
	}
}

// The common address must not cost the garbage collector anything: a first
// sync folds a million of them.
func TestFoldOfAPlainAddressAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { message.Fold("nora.brandt@example.net") }); n != 0 {
		t.Errorf("Fold allocates %v times", n)
	}
}
