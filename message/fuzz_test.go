package message_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"mailsyncd/message"
)

// checkHeader states what is true of every header, whatever it was read from.
func checkHeader(t *testing.T, h message.Header) {
	t.Helper()
	checkText(t, "Subject", h.Subject, 4<<10)
	checkText(t, "RawDate", h.RawDate, 200)
	checkText(t, "Precedence", h.Precedence, 40)
	for _, id := range slices.Concat([]string{h.MessageID}, h.InReplyTo, h.References) {
		checkText(t, "an id", id, 998)
	}
	for _, ids := range [][]string{h.InReplyTo, h.References} {
		if slices.Contains(ids, "") || len(ids) > 20_000 {
			t.Errorf("ids are empty or too many: %d", len(ids))
		}
	}
	for _, list := range [][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		checkAddresses(t, list)
	}
	checkProblems(t, h.Problems)
	checkIdentity(t, &h)
}

// checkText: valid UTF-8 in one line, without control characters, bounded.
func checkText(t *testing.T, what, s string, limit int) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.ContainsAny(s, "\u2028\u2029") {
		t.Errorf("%s is no clean text: %q", what, s)
	}
	if len(s) > limit {
		t.Errorf("%s has %d bytes, want at most %d", what, len(s), limit)
	}
	if strings.Trim(s, " ") != s {
		t.Errorf("%s has spaces around it: %q", what, s)
	}
}

func checkAddresses(t *testing.T, list []message.Address) {
	t.Helper()
	if len(list) > 20_000 {
		t.Errorf("%d addresses", len(list))
	}
	for _, a := range list {
		checkText(t, "a name", a.Name, 1<<10)
		checkText(t, "an address", a.Addr, 512)
		checkText(t, "a key", a.Key, 512)
		if a.Key == "" || message.Fold(a.Addr) != a.Key || message.Fold(a.Key) != a.Key {
			t.Errorf("address %q has key %q, which folds to %q", a.Addr, a.Key, message.Fold(a.Key))
		}
		if message.Domain(a.Key) == "" || message.FoldGuard(message.FoldGuard(a.Key)) != message.FoldGuard(a.Key) {
			t.Errorf("key %q has no domain or does not fold for guards", a.Key)
		}
	}
}

// checkProblems: a closed set of codes, each once. They become text that
// operators see, so no byte of a mail may stand in one.
func checkProblems(t *testing.T, problems []string) {
	t.Helper()
	kinds := []string{"cut", "no address", "part unreadable", "too many", "unreadable", "absurd"}
	for i, p := range problems {
		field, kind, _ := strings.Cut(p, ": ")
		known := field == "header" || slices.Contains(message.FieldNames[:], strings.ToUpper(field))
		if !known || !slices.Contains(kinds, kind) || slices.Contains(problems[:i], p) {
			t.Errorf("problems are %q", problems)
		}
	}
}

func checkIdentity(t *testing.T, h *message.Header) {
	t.Helper()
	if id := h.ID(); len(id) != len("msg_")+26 || id != h.ID() {
		t.Errorf("the id is %q", id)
	}
	ids := h.ThreadIDs()
	if len(ids) == 0 || len(ids) > 61 || h.Root() == "" || ids[0] != h.MessageID && ids[0] != h.ID() {
		t.Errorf("%d thread ids, root %q", len(ids), h.Root())
	}
	if !slices.Contains(ids, h.Root()) {
		t.Errorf("the root is none of the thread's ids: %q", h.Root())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(ordinary))
	for _, u := range slices.Concat(uglySenders(), uglyHeaders(), uglyDates()) {
		f.Add([]byte(u.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := string(raw)
		checkHeader(t, message.Parse(raw))
		if string(raw) != before {
			t.Error("the buffer was changed")
		}
	})
}

func FuzzAddressList(f *testing.F) {
	for _, u := range uglySenders() {
		value, _, _ := strings.Cut(strings.TrimPrefix(u.raw, "From: "), "\r\nDate:")
		f.Add(value)
	}
	for _, shape := range hostile {
		f.Add(strings.Repeat(shape.unit, 5))
	}
	for _, value := range spoofForms("cand@victim.example") {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := message.FromFields([]message.Field{{Name: "to", Value: value}})
		checkHeader(t, h)
		// A good address in a field of its own is never lost.
		h = message.FromFields([]message.Field{{Name: "to", Value: value}, {Name: "to", Value: "Ann <ann@cand.example>"}})
		if len(h.To) < 20_000 && h.To[len(h.To)-1].Key != "ann@cand.example" {
			t.Error("the field behind it was not read")
		}
	})
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{
		"Nora@Example.net", `"a b"@x.example`, "a.b+c@googlemail.com", "ä@müller.example", "a@[1.2.3.4]", "a@xn--a.b",
		"İ@x.example", "a.\u0301@gmail.com", "a@\u2126.example", "a@x。", `"\"a\""@x`, " a @ b ", "a@b@c", "K@x.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		key := message.Fold(addr)
		if key == "" {
			return
		}
		checkText(t, "a key", key, 512)
		if again := message.Fold(key); again != key {
			t.Errorf("Fold(%q) = %q, which folds to %q", addr, key, again)
		}
		local := strings.TrimSuffix(key, "@"+message.Domain(key))
		if local == "" || local == key || message.Domain(key) == "" || strings.Contains(local, "@") {
			t.Errorf("Fold(%q) = %q has no local part or no domain", addr, key)
		}
		if guard := message.FoldGuard(key); message.Domain(guard) != message.Domain(key) || message.FoldGuard(guard) != guard {
			t.Errorf("FoldGuard(%q) = %q", key, guard)
		}
	})
}

// FuzzGoodAddressSurvives puts anything between two good entries of a list,
// whose own quotes and comments are closed: they must both be found.
func FuzzGoodAddressSurvives(f *testing.F) {
	for _, s := range []string{"root", "<", "a@", "=?utf-8?Q?", "[", "@[", ":", "<@", "mailto:", "\xff", "a b c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rubbish string) {
		if strings.ContainsAny(rubbish, "\"()\\;,\x1b") || len(rubbish) > 1000 {
			return // these may swallow what follows, by the grammar
		}
		h := message.FromFields([]message.Field{{Name: "to", Value: "Ann <ann@cand.example>, " + rubbish + ", Bob <bob@cand.example>"}})
		got := keys(h.To)
		if !slices.Contains(got, "ann@cand.example") || !slices.Contains(got, "bob@cand.example") {
			t.Errorf("%q hides one: %q", rubbish, got)
		}
	})
}

// TestWorkGrowsWithLength compares what reading 4n bytes of each hostile shape
// allocates with what n bytes do: a list built again for each entry, or a text
// copied for each word, would show.
func TestWorkGrowsWithLength(t *testing.T) {
	for _, shape := range hostile {
		allocs := func(n int) float64 {
			raw := everywhere(shape.unit, n)
			return testing.AllocsPerRun(1, func() { message.Parse(raw) })
		}
		small, large := allocs(8<<10), allocs(32<<10)
		if large > 4.5*small+100 {
			t.Errorf("%s: 8 KiB allocate %v times, 32 KiB %v times", shape.name, small, large)
		}
	}
}

// TestHostileShapesGiveCleanHeaders holds the shapes of the benchmark to what
// is true of every header.
func TestHostileShapesGiveCleanHeaders(t *testing.T) {
	for _, shape := range hostile {
		t.Run(shape.name, func(t *testing.T) { checkHeader(t, message.Parse(everywhere(shape.unit, 16<<10))) })
	}
}
