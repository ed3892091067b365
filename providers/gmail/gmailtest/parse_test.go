package gmailtest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	const whole = `{"a":1,"b":[{"c":2,"d":{"e":3,"f":4}}],"g":{"c":5}}`
	tests := []struct{ mask, want string }{
		{"", whole},
		{"*", whole},
		{"a", `{"a":1}`},
		{"a,g", `{"a":1,"g":{"c":5}}`},
		{"b/c", `{"b":[{"c":2}]}`},
		{"b(c,d/e)", `{"b":[{"c":2,"d":{"e":3}}]}`},
		{"b/d(f)", `{"b":[{"d":{"f":4}}]}`},
		{"b/c,b/d/e", `{"b":[{"c":2,"d":{"e":3}}]}`},
		{"b,b/c", `{"b":[{"c":2,"d":{"e":3,"f":4}}]}`},
		{"x", `{}`},
	}
	for _, tt := range tests {
		m, err := parseMask(tt.mask)
		if err != nil {
			t.Errorf("%s: %v", tt.mask, err)
			continue
		}
		var v any
		if err := json.Unmarshal([]byte(whole), &v); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(m.apply(v)); err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, want %s", tt.mask, got, tt.want)
		}
	}
	for _, bad := range []string{",", "a,", "a(", "a(b", "a)", "a/", "(a)", "a b", "a/(b)", strings.Repeat("a(", 100)} {
		if _, err := parseMask(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func FuzzMask(f *testing.F) {
	for _, s := range []string{"a,b/c,d(e,f/g)", "*", "((((", "a/b/c/d", "a(b,c),d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMask(s)
		if err != nil {
			return
		}
		var v any = map[string]any{"a": []any{map[string]any{"b": 1.0}}}
		if _, err := json.Marshal(m.apply(v)); err != nil {
			t.Error(err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"{from:a to:b} after:1 -in:chats", "{{{", "}", "-", "--a:b", "from:", ":"} {
		f.Add(s)
	}
	m := ParseMail("From: a@b\r\nTo: c@d\r\n\r\nx")
	f.Fuzz(func(t *testing.T, q string) {
		if yes, no := parseQuery(q)(&m), parseQuery("from:a@b "+q)(&m); no && !yes {
			t.Error("one more condition made a mail match")
		}
	})
}

func FuzzParseMail(f *testing.F) {
	f.Add("A: b\r\n c\r\n\r\nbody")
	f.Fuzz(func(t *testing.T, text string) {
		for _, field := range ParseMail(text).Header {
			if strings.Contains(field.Name, "\n") {
				t.Error("a name holds a line break")
			}
		}
	})
}
