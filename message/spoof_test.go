package message_test

import (
	"encoding/base64"
	"mime"
	"slices"
	"strings"
	"testing"

	"mailsyncd/message"
)

// spoofNames are display names that look like the address of a candidate.
func spoofNames(victim string) map[string]string {
	return map[string]string{
		"the address":                      victim,
		"the address in angle brackets":    "<" + victim + ">",
		"name and address":                 "Cand <" + victim + ">",
		"address and a second address":     victim + ", x@y.example",
		"an address that closes a bracket": victim + ">, <x@y.example",
		"mailto":                           "mailto:" + victim,
		"the address in single quotes":     "'" + victim + "'",
		"the address in brackets":          "[" + victim + "]",
		"a group":                          "Team: " + victim + ";",
		"upper case":                       strings.ToUpper(victim),
		"words and the address":            "on behalf of " + victim,
		"the address and words":            victim + " via the portal",
		"a route":                          "@" + victim + ":x",
	}
}

// spoofForms put such a name where only a name may stand, beside the address
// of the real sender.
func spoofForms(name string) map[string]string {
	const evil = " <evil@evil.example>"
	q := mime.QEncoding.Encode("utf-8", "ü "+name)
	b := "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="
	quoted := `"` + strings.ReplaceAll(name, `"`, `\"`) + `"`
	comment := "(" + strings.NewReplacer("(", `\(`, ")", `\)`).Replace(name) + ")"
	return map[string]string{
		"in quotes":                        quoted + evil,
		"in quotes, folded":                quoted + "\r\n" + evil,
		"in quotes, without a space":       quoted + strings.TrimSpace(evil),
		"in quotes between words":          "A " + quoted + " B" + evil,
		"in quotes with escaped quotes":    `"\"` + name + `\""` + evil,
		"in two quoted strings":            quoted + " " + quoted + evil,
		"in a comment before":              comment + evil,
		"in a comment behind":              evil + " " + comment,
		"in a comment behind a bare one":   "evil@evil.example " + comment,
		"in a comment inside the brackets": "<" + comment + "evil@evil.example>",
		"in a comment in front of the @":   "<evil" + comment + "@evil.example>",
		"in a nested comment":              "(a " + comment + " b)" + evil,
		"Q-encoded":                        q + evil,
		"B-encoded":                        b + evil,
		"B-encoded twice":                  b + " " + b + evil,
		"B-encoded in quotes":              `"` + b + `"` + evil,
		"encoded without encoding":         "=?utf-8?Q?" + strings.ReplaceAll(name, " ", "_") + "?=" + evil,
		"B-encoded behind a bare address":  "evil@evil.example " + b,
		"quoted behind a bare address":     "evil@evil.example " + quoted,
		"quoted as the name of a group":    quoted + ": evil@evil.example;",
		"in quotes in a group":             "Team: " + quoted + evil + ";",
		"in quotes behind angle brackets":  evil + " " + quoted,
	}
}

// TestSpoofs: whatever a display name says, only the address in its place
// counts.
func TestSpoofs(t *testing.T) {
	const victim = "cand@victim.example"
	cases := 0
	for what, name := range spoofNames(victim) {
		for where, value := range spoofForms(name) {
			cases++
			for _, field := range []string{"From", "To"} {
				h := message.Parse([]byte(field + ": " + value + "\r\n"))
				got := keys(slices.Concat(h.From, h.To))
				if !slices.Equal(got, []string{"evil@evil.example"}) {
					t.Errorf("%s %s in %s: %q gives %q", what, where, field, value, got)
				}
			}
		}
	}
	if cases < 200 {
		t.Errorf("only %d cases", cases)
	}
}

// TestSpoofsByHand are forms that do not come out of a table.
func TestSpoofsByHand(t *testing.T) {
	for _, row := range []struct{ name, value string }{
		{"an address without quotes as name", "cand@victim.example <evil@evil.example>"},
		{"words and an address as name", "Cand cand@victim.example <evil@evil.example>"},
		{"quotes inside quotes around an address", `"Cand <cand@victim.example> "Joe" x" <evil@evil.example>`},
		{"a percent route", "<cand%victim.example@evil.example>"},
		{"two at signs", "cand@victim.example@evil.example, evil@evil.example"},
		{"two at signs in brackets", "<cand@victim.example@evil.example>, evil@evil.example"},
		{"a domain that goes on", "<cand@victim.example=x>, evil@evil.example"},
		{"an address behind the real one", "<evil@evil.example> cand@victim.example"},
		{"a group named like an address", "cand@victim.example: evil@evil.example;"},
		{"a name cut by an encoded quote", "=?utf-8?Q?=22_<cand@victim.example>_=22?= <evil@evil.example>"},
		{"an encoded-word with line breaks", "=?utf-8?B?" + base64.StdEncoding.EncodeToString(
			[]byte("x\r\nFrom: cand@victim.example\r\n")) + "?= <evil@evil.example>"},
		{"a lone carriage return", "evil@evil.example (x)\rTo: (cand@victim.example)"},
		{"raw ISO-2022-JP that holds brackets", "\x1b$B<cand@victim.example>!!\x1b(B <evil@evil.example>"},
	} {
		h := message.Parse([]byte("From: " + row.value + "\r\n"))
		for _, k := range keys(h.From) {
			if k == "cand@victim.example" {
				t.Errorf("%s: %q gives the victim", row.name, row.value)
			}
		}
	}
}

// TestCutFieldGivesNothingOutOfAnOpenQuote: what the closing quote or
// parenthesis would have made of the text before it is beyond the limit.
func TestCutFieldGivesNothingOutOfAnOpenQuote(t *testing.T) {
	for _, opening := range []string{`"`, "("} {
		value := "a@x.example, " + opening + strings.Repeat("x, <cand@victim.example>, ", 4000)
		h := message.Parse([]byte("To: " + value + "\r\n"))
		if got := keys(h.To); !slices.Equal(got, []string{"a@x.example"}) {
			t.Errorf("%s: %d addresses are read", opening, len(got))
		}
	}
}

// TestCutFieldGivesNoHalfAddress: half of the last address of a field that is
// too long could be somebody's.
func TestCutFieldGivesNoHalfAddress(t *testing.T) {
	for shift := range 60 {
		value := strings.Repeat("a", shift) + "@b.example" + strings.Repeat(", cand@victim.example.org", 2700)
		h := message.Parse([]byte("To: " + value + "\r\n"))
		for _, a := range h.To[1:] {
			if a.Key != "cand@victim.example.org" {
				t.Fatalf("with %d letters before: %q", shift, a.Key)
			}
		}
		if !slices.Equal(h.Problems, []string{"to: cut"}) && shift > 0 {
			t.Fatalf("with %d letters before: problems %q", shift, h.Problems)
		}
	}
}
