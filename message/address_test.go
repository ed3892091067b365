package message_test

import (
	"slices"
	"strings"
	"testing"

	"mailsyncd/message"
)

// show writes addresses as "Name|addr|key".
func show(list []message.Address) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.Name+"|"+a.Addr+"|"+a.Key)
	}
	return out
}

func TestAddresses(t *testing.T) {
	for _, row := range []struct{ name, value, want string }{
		{"a bare address", "Ann@X.example", "|Ann@X.example|ann@x.example"},
		{"a name in words", "Ann Müller <ann@x.example>", "Ann Müller|ann@x.example|ann@x.example"},
		{"a name in quotes", `"Müller, Ann" <ann@x.example>`, "Müller, Ann|ann@x.example|ann@x.example"},
		{"a name with escaped quotes", `"Ann \"A\" M" <ann@x.example>`, `Ann "A" M|ann@x.example|ann@x.example`},
		{"a name in single quotes", "'Ann' <ann@x.example>", "Ann|ann@x.example|ann@x.example"},
		{"an apostrophe in the local part", "o'brien@x.example", "|o'brien@x.example|o'brien@x.example"},
		{"an address in single quotes", "'ann@x.example'", "|ann@x.example|ann@x.example"},
		{"a name in a comment", "ann@x.example (Ann Müller)", "Ann Müller|ann@x.example|ann@x.example"},
		{"an encoded name in a comment", "ann@x.example (=?utf-8?Q?M=C3=BCller?=)", "Müller|ann@x.example|ann@x.example"},
		{"a name in parentheses stays", "Ann (HR) <ann@x.example>", "Ann (HR)|ann@x.example|ann@x.example"},
		{"a name cut in two encoded-words", "=?utf-8?Q?M=C3?= =?utf-8?Q?=BCller?= <ann@x.example>", "Müller|ann@x.example|ann@x.example"},
		{"an encoded-word in quotes", `"=?utf-8?Q?M=C3=BCller?=" <ann@x.example>`, "Müller|ann@x.example|ann@x.example"},
		{"a quoted local part keeps its quotes for showing", `"ann b"@x.example`, `|"ann b"@x.example|ann b@x.example`},
		{"an encoded-word in front of a bare address", "=?utf-8?Q?Ann?= ann@x.example", "|ann@x.example|ann@x.example"},
		{"a whole field encoded", "=?utf-8?B?QW5uIDxhbm5AeC5leGFtcGxlPg==?=", "Ann|ann@x.example|ann@x.example"},
		{"a whole field encoded that holds two", "=?utf-8?B?YUB4LmV4YW1wbGUsIGJAeC5leGFtcGxl?=", ""},
		{"a whole field in quotes", `"ann@x.example"`, "|ann@x.example|ann@x.example"},
		{"a whole field in quotes beside an empty address", `"ann@x.example" <>`, ""},
		{"addresses that a broken encoding shows", "=?utf-8?Q?A <a@x.example>, B <b@x.example>?=",
			"=?utf-8?Q?A|a@x.example|a@x.example B|b@x.example|b@x.example"},
		{"a name with a backslash in front of the address", `Ann \<ann@x.example>`, `Ann|ann@x.example|ann@x.example`},
		{"an escaped comma in a name", `M\, Ann <ann@x.example>`, `M, Ann|ann@x.example|ann@x.example`},
		{"raw Latin-1 beside an international address", "M\xfcller <a@x.example>, <änn@x.example>",
			"Müller|a@x.example|a@x.example |änn@x.example|änn@x.example"},
		{"no comma between bare addresses", "a@x.example b@x.example", "|a@x.example|a@x.example |b@x.example|b@x.example"},
		{"a list inside angle brackets", "<a@x.example, b@x.example>", "|a@x.example|a@x.example |b@x.example|b@x.example"},
		{"a name inside the angle brackets", "<Ann ann@x.example>", "|ann@x.example|ann@x.example"},
		{"an address as name inside the angle brackets", "<ann@old.example ann@x.example>", "|ann@x.example|ann@x.example"},
		{"a title with a dot in front of a bare address", "Dr. ann@x.example", "|ann@x.example|ann@x.example"},
		{"obsolete spaces around dots", "ann . b @ x . example", "|ann.b@x.example|ann.b@x.example"},
		{"a missing bracket hides nobody", "Ann <ann@x.example, Bob <b@x.example>", "Ann|ann@x.example|ann@x.example Bob|b@x.example|b@x.example"},
		{"a stray quote hides nobody", `"Ann <ann@x.example>, "Bob" <b@x.example>`, "Ann|ann@x.example|ann@x.example Bob|b@x.example|b@x.example"},
		{"a stray quote in brackets hides nobody", `<"ann@x.example>, "Bob" <b@x.example>`, "|ann@x.example|ann@x.example Bob|b@x.example|b@x.example"},
		{"a stray parenthesis hides nobody", "Ann (HR <ann@x.example>, Bob (IT) <b@x.example>",
			"Ann (HR|ann@x.example|ann@x.example Bob (IT)|b@x.example|b@x.example"},
		{"an unclosed encoded-word hides nobody", "=?utf-8?Q?Ann <ann@x.example>, =?utf-8?Q?Bob?= <b@x.example>",
			"=?utf-8?Q?Ann|ann@x.example|ann@x.example Bob|b@x.example|b@x.example"},
		{"a broken group hides nobody", "Team: a@x.example, Other: b@x.example", "|a@x.example|a@x.example |b@x.example|b@x.example"},
		{"two groups", "A: a@x.example;, B: b@x.example;", "|a@x.example|a@x.example |b@x.example|b@x.example"},
		{"an IPv6 literal", "ann@[IPv6:2001:db8::1]", "|ann@[IPv6:2001:db8::1]|ann@[ipv6:2001:db8::1]"},
		{"a literal without an end", "ann@[192.0.2.1, b@x.example", "|b@x.example|b@x.example"},
		{"parameters of mailto", "<mailto:ann@x.example?subject=x>", "|ann@x.example|ann@x.example"},
		{"a half of an address", "ann@, @x.example, b@x.example", "|b@x.example|b@x.example"},
		{"an address too long to be one", strings.Repeat("a", 600) + "@x.example, b@x.example", "|b@x.example|b@x.example"},
	} {
		h := parse("To: " + row.value)
		if got := strings.Join(show(h.To), " "); got != row.want {
			t.Errorf("%s: %q is read as %q, want %q", row.name, row.value, got, row.want)
		}
	}
}

// TestNothingHidesTheAddressesBesideIt puts each piece of rubbish before and
// behind two good addresses.
func TestNothingHidesTheAddressesBesideIt(t *testing.T) {
	const a, b = "Ann <ann@cand.example>", "bob@cand.example"
	for _, rubbish := range []string{
		"", " ", "root", "<>", "<<>>", "@", "a@", "@b", "a@b@c", "not an address", "a b@", "Name <", "Name >", "a@b..",
		"<a b c>", "=?utf-8?Q?", "=?utf-8?Q?x?=", "=?", "?=", `\`, `\\`, "(x)", ")", "a (b) c", `"x"`, `""`, "'", "[", "]", "[x]",
		"a@[", "a@[x]", "\x01", "\xff", "ü", "a@ü", "undisclosed:", "x:y:z", strings.Repeat("x", 5000), "<" + strings.Repeat("@a", 500) + ">",
	} {
		for _, value := range []string{
			rubbish + ", " + a + ", " + b,
			a + ", " + rubbish + ", " + b,
			a + ", " + b + ", " + rubbish,
			a + "; " + rubbish + "; " + b,
		} {
			got := keys(parse("To: " + value).To)
			for _, want := range []string{"ann@cand.example", "bob@cand.example"} {
				if !slices.Contains(got, want) {
					t.Errorf("%q hides %s: %q", value, want, got)
				}
			}
		}
	}
}
