package message_test

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/message"
)

func id(lines ...string) string {
	h := parse(lines...)
	return h.ID()
}

// TestIDIsWhatItsCommentSays hashes by hand. Receivers hold these ids for
// years: if this test fails, the code is wrong, not the test.
func TestIDIsWhatItsCommentSays(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		items []string
	}{
		{"with Message-ID",
			[]string{"Message-ID: <a1@mail.example.net>", "From: Z <z@x.example>, N <Nora@Example.net>, nora@example.net",
				"Date: Sat, 21 Nov 2026 10:59:40 +0100", "To: rita@example.com", "Subject: s"},
			[]string{"mailsyncd message identity 1", "a1@mail.example.net", "2", "nora@example.net", "z@x.example", "1795255180"}},
		{"without Message-ID",
			[]string{"From: nora@example.net", "Date: Sat, 21 Nov 2026 10:59:40 +0100", "To: rita@example.com", "Subject: a  b"},
			[]string{"mailsyncd message identity 1", "", "1", "nora@example.net", "1795255180", "1", "rita@example.com", "0", "ab"}},
		{"without a readable date", []string{"Message-ID: <m>", "Date: some day"},
			[]string{"mailsyncd message identity 1", "m", "0", "?someday"}},
		{"without anything", []string{"Subject:"},
			[]string{"mailsyncd message identity 1", "", "0", "?", "0", "0", ""}},
	} {
		var b strings.Builder
		for _, item := range row.items {
			b.WriteByte(byte(len(item))) // a varint below 128
			b.WriteString(item)
		}
		sum := sha256.Sum256([]byte(b.String()))
		want := "msg_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:16])[:26])
		if got := id(row.lines...); got != want {
			t.Errorf("%s: the id is %s, want %s", row.name, got, want)
		}
	}
}

func TestIDIsTheSameForCopies(t *testing.T) {
	base := []string{"From: Nora <nora@example.net>", "Date: Sat, 21 Nov 2026 10:59:40 +0100",
		"To: rita@example.com, bob@example.com", "Cc: c@example.com", "Subject: Interview with a long subject"}
	for _, row := range []struct {
		name  string
		lines []string
	}{
		{"fields in another order", []string{base[4], base[2], base[3], base[1], base[0]}},
		{"folded by another server", []string{"From: Nora\r\n\t<nora@example.net>", base[1], "To: rita@example.com,\r\n bob@example.com",
			base[3], "Subject: Interview with a\r\n\t long subject"}},
		{"recipients in another order", []string{base[0], base[1], "To: bob@example.com, Rita <RITA@example.com>", base[3], base[4]}},
		{"the date in another zone", []string{base[0], "Date: 21 Nov 2026 09:59:40 +0000", base[2], base[3], base[4]}},
		{"the name encoded anew", []string{"From: =?utf-8?Q?Nora?= <nora@example.net>", base[1], base[2], base[3], base[4]}},
		{"the subject encoded anew", []string{base[0], base[1], base[2], base[3], "Subject: =?utf-8?Q?Interview_with_a_long_subject?="}},
		{"with Bcc, as the sender keeps it", append(slices.Clone(base), "Bcc: hidden@example.com")},
		{"with trace fields", append([]string{"Received: from x", "X-Spam: no"}, base...)},
	} {
		for _, mid := range []string{"", "Message-ID: <m@example.net>"} {
			if got, want := id(append(row.lines, mid)...), id(append(slices.Clone(base), mid)...); got != want {
				t.Errorf("%s, %q: the id differs", row.name, mid)
			}
		}
	}
}

func TestIDTellsMessagesApart(t *testing.T) {
	const mid, who, when = "Message-ID: <m@x>", "From: a@x.example", "Date: 21 Nov 2026 09:59:40 +0000"
	all := [][]string{
		{mid, who, when},
		{"Message-ID: <M@x>", who, when},
		{mid, "From: b@x.example", when},
		{mid, "From: a@x.example, b@x.example", when},
		{mid, who, "Date: 21 Nov 2026 09:59:41 +0000"},
		{mid, who, "Date: 1795255180"},
		{mid, who},
		{who, when},
		{who, when, "To: t@x.example"},
		{who, when, "Cc: t@x.example"},
		{who, when, "Subject: t@x.example"},
		{who, when, "To: t@x.example", "Subject: ü"},
		{who, when, "To: t@x.example", "Subject: ä"},
		{when, "To: t@x.example"},
	}
	seen := map[string][]string{}
	for _, lines := range all {
		got := id(lines...)
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q have one id", lines, other)
		}
		seen[got] = lines
	}
}

func TestIDDoesNotLookAtRecipientsBesideAMessageID(t *testing.T) {
	if id("Message-ID: <m>", "To: a@x.example", "Subject: s") != id("Message-ID: <m>", "Subject: [list] s") {
		t.Error("a list that changes the subject makes another message")
	}
}

func refs(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%d@x", i))
	}
	return out
}

func TestThreadIDs(t *testing.T) {
	for _, row := range []struct {
		name string
		h    message.Header
		want []string
		root string
	}{
		{"a first mail", message.Header{MessageID: "m"}, []string{"m"}, "m"},
		{"an answer", message.Header{MessageID: "m", InReplyTo: []string{"p"}}, []string{"m", "p"}, "p"},
		{"an answer to an answer", message.Header{MessageID: "m", InReplyTo: []string{"p"}, References: []string{"r", "p"}}, []string{"m", "p", "r"}, "r"},
		{"a mail that refers to itself", message.Header{MessageID: "m", References: []string{"m", "m"}}, []string{"m"}, "m"},
		{"50 references", message.Header{MessageID: "m", References: refs(50)}, append([]string{"m"}, refs(50)...), "0@x"},
		{"51 references", message.Header{MessageID: "m", References: refs(51)}, slices.Concat([]string{"m"}, refs(10), refs(51)[11:]), "0@x"},
		{"many of all", message.Header{MessageID: "m", InReplyTo: refs(30), References: refs(500)},
			slices.Concat([]string{"m"}, refs(10), refs(500)[460:]), "0@x"},
	} {
		if got := row.h.ThreadIDs(); !slices.Equal(got, row.want) {
			t.Errorf("%s: ids are %q, want %q", row.name, got, row.want)
		}
		if got := row.h.Root(); got != row.root {
			t.Errorf("%s: the root is %q, want %q", row.name, got, row.root)
		}
	}
}

func TestAMailWithoutMessageIDStandsForItself(t *testing.T) {
	h := message.Header{Date: time.Unix(1e9, 0)}
	if got := h.ThreadIDs(); !slices.Equal(got, []string{h.ID()}) || h.Root() != h.ID() {
		t.Errorf("ids are %q, root %q", got, h.Root())
	}
}

func TestIDsInFields(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       []string
	}{
		{"a phrase of MH", `In-Reply-To: Message from "Ann" <Ann@X.example> of Monday <1@x.example>`, []string{"1@x.example"}},
		{"two ids", "In-Reply-To: <1@x> <2@x>", []string{"1@x", "2@x"}},
		{"an id without angle brackets", "In-Reply-To: 1@x", []string{"1@x"}},
		{"spaces inside the angle brackets", "In-Reply-To: < 1@x >", []string{"1@x"}},
		{"angle brackets in angle brackets", "In-Reply-To: <<1@x>>", []string{"1@x"}},
		{"an id longer than a line", "In-Reply-To: <" + strings.Repeat("x", 999) + "> <1@x>", []string{"1@x"}},
		{"a word", "In-Reply-To: nothing", nil},
		{"a control character in an id", "In-Reply-To: <1\x01@x>", []string{"1@x"}},
		{"raw Latin-1 in an id", "In-Reply-To: <\xfc@x>", []string{"ü@x"}},
	} {
		h := parse("To: ann@x.example", row.line)
		if got := h.InReplyTo; !slices.Equal(got, row.want) {
			t.Errorf("%s: read as %q, want %q", row.name, got, row.want)
		}
	}
}
