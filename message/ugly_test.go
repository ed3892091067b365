package message_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/message"
)

// ugly is one header as it is found in real life and what must be read in it.
type ugly struct {
	name string
	raw  string
	from []string // keys
	id   string
	refs []string // nil: not looked at
	date string   // RFC 3339; "": must not be readable
}

const (
	usualDate = "2023-01-02T15:04:05+01:00"
	usualTail = "Date: Mon, 02 Jan 2023 15:04:05 +0100\r\nSubject: s\r\nMessage-ID: <1@x.example>\r\n"
)

// written is a header in which only From is odd.
func written(name, from string, keys ...string) ugly {
	return ugly{name, "From: " + from + "\r\n" + usualTail, keys, "1@x.example", nil, usualDate}
}

// around is a header with one plain sender whose form as a whole is odd.
func around(name, raw string) ugly {
	return ugly{name, strings.ReplaceAll(raw, "USUAL", usualTail), []string{"ann@cand.example"}, "1@x.example", nil, usualDate}
}

// numbered is a header in which only Message-ID is odd.
func numbered(name, field, id string) ugly {
	raw := "From: ann@cand.example\r\n" + field + "Date: Mon, 02 Jan 2023 15:04:05 +0100\r\n"
	return ugly{name, raw, []string{"ann@cand.example"}, id, nil, usualDate}
}

// referring is a header in which only References is odd.
func referring(name, field string, refs ...string) ugly {
	return ugly{name, "From: ann@cand.example\r\nReferences: " + field + "\r\n" + usualTail,
		[]string{"ann@cand.example"}, "1@x.example", refs, usualDate}
}

// dated is a header in which only Date is odd.
func dated(name, field, date string) ugly {
	return ugly{name, "From: ann@cand.example\r\nMessage-ID: <1@x.example>\r\nDate: " + field + "\r\n",
		[]string{"ann@cand.example"}, "1@x.example", nil, date}
}

func uglySenders() []ugly {
	const ann, bob = "ann@cand.example", "bob@cand.example"
	return []ugly{
		written("a plain name", "Ann Müller <ann@cand.example>", ann),
		written("a Q-encoded name", "=?UTF-8?Q?Ann_M=C3=BCller?= <ann@cand.example>", ann),
		written("a comma encoded in the name", "=?UTF-8?Q?M=C3=BCller=2C_Ann?= <ann@cand.example>", ann),
		written("a comma left raw in an encoded name", "=?UTF-8?Q?M=C3=BCller,_Ann?= <ann@cand.example>", ann),
		written("a space left raw in an encoded name", "=?UTF-8?Q?M=C3=BCller Ann?= <ann@cand.example>", ann),
		written("a name in GB2312", "=?gb2312?B?1cXI/Q==?= <ann@cand.example>", ann),
		written("a name in ISO-2022-JP", "=?ISO-2022-JP?B?GyRCOzNFRBsoQg==?= <ann@cand.example>", ann),
		written("a name in an unknown charset", "=?x-unknown?Q?Ann?= <ann@cand.example>", ann),
		written("a name in broken base64", "=?UTF-8?B?!!!?= <ann@cand.example>", ann),
		written("an encoded name in quotes", `"=?UTF-8?Q?M=C3=BCller?=" <ann@cand.example>`, ann),
		written("the whole address in an encoded-word", "=?UTF-8?Q?Ann_M=C3=BCller_<ann@cand.example>?=", ann),
		written("a raw Latin-1 name", "Ann M\xfcller <ann@cand.example>", ann),
		written("a raw Latin-1 name in quotes", "\"Ann M\xfcller\" <ann@cand.example>", ann),
		written("a raw UTF-8 name in quotes", `"Ann Müller" <ann@cand.example>`, ann),
		written("a raw GBK name", "\xd5\xc5\xc8\xfd <ann@cand.example>", ann),
		written("a group", "Team: Ann <ann@cand.example>, bob@cand.example;", ann, bob),
		written("an empty group", "undisclosed-recipients:;"),
		written("two senders", "ann@cand.example, Bob <bob@cand.example>", ann, bob),
		written("a list with semicolons", "ann@cand.example; Bob <bob@cand.example>", ann, bob),
		written("a comma too many at the end", "ann@cand.example, bob@cand.example,", ann, bob),
		written("a comma too many in the middle", "ann@cand.example,, bob@cand.example", ann, bob),
		written("something else between two addresses", "ann@cand.example, not an address, bob@cand.example", ann, bob),
		written("no comma between two addresses", "Ann <ann@cand.example> Bob <bob@cand.example>", ann, bob),
		written("an international domain", "Ann <ann@müller.example>", "ann@xn--mller-kva.example"),
		written("an international domain as A-label", "Ann <ann@xn--mller-kva.example>", "ann@xn--mller-kva.example"),
		written("an international local part", "Ann <änn@cand.example>", "änn@cand.example"),
		written("comments inside the address", "ann(work)@(home)cand.example (Ann Miller)", ann),
		written("nested comments", `(a (b) \) c) ann@cand.example (Ann)`, ann),
		written("an obsolete route", "Ann <@relay1.example,@relay2.example:ann@cand.example>", ann),
		written("spaces around the @", "Ann <ann @ cand.example>", ann),
		written("spaces inside the angle brackets", "Ann < ann@cand.example >", ann),
		written("a fold inside the address", "Ann\r\n Very\r\n\tLong <ann\r\n @cand.example>", ann),
		written("a fold with a blank line", "Ann\r\n \r\n <ann@cand.example>", ann),
		written("a quote that is not closed", `"Ann <ann@cand.example>`, ann),
		written("quotes inside quotes", `"John "Johnny" Doe" <ann@cand.example>`, ann),
		written("an address as name", "ann@old.example <ann@cand.example>", ann),
		written("an address as quoted name", `"ann@old.example" <ann@cand.example>`, ann),
		written("dots in the name", "A. B. Müller <ann@cand.example>", ann),
		written("parentheses and brackets in the name", "Ann (HR) Müller [ext] <ann@cand.example>", ann),
		written("a colon in the name", "Re: Ann <ann@cand.example>", ann),
		written("two pairs of angle brackets", "Ann <<ann@cand.example>>", ann),
		written("mailto", "Ann <mailto:ann@cand.example>", ann),
		written("an address in single quotes as name", "'ann@cand.example' <ann@cand.example>", ann),
		written("no closing angle bracket", "Ann <ann@cand.example", ann),
		written("a dot before the @", "<ann.@docomo.example>", "ann.@docomo.example"),
		written("two dots in a row", "a..nn@docomo.example", "a..nn@docomo.example"),
		written("a quoted local part", `"ann b"@cand.example`, "ann b@cand.example"),
		written("a dot behind the domain", "ann@cand.example.", ann),
		written("an underscore in the domain", "ann@my_host.cand.example", "ann@my_host.cand.example"),
		written("an address literal", "ann@[192.0.2.1]", "ann@[192.0.2.1]"),
		written("upper case", "ANN@CAND.EXAMPLE", ann),
		written("a tag", "ann+jobs@cand.example", "ann+jobs@cand.example"),
		written("an X.400 local part", "/G=Ann/S=M/O=X/@cand.example", "/g=ann/s=m/o=x/@cand.example"),
		written("NUL in the name", "An\x00n <ann@cand.example>", ann),
		written("a control character in the name", "An\x01n <ann@cand.example>", ann),
		written("no domain", "root"),
		written("empty angle brackets", "<>"),
		written("an empty field", ""),
		written("words behind the address", "Ann <ann@cand.example> via LinkedIn", ann),
		written("a victim's address as name", `"cand@victim.example" <evil@evil.example>`, "evil@evil.example"),
		written("an encoded name that decodes to addresses",
			"=?utf-8?B?YW5uQHZpY3RpbS5kZT4sIDxldmlsQGV2aWwuZGU+?= <ann@cand.example>", ann),
	}
}

func uglyHeaders() []ugly {
	return []ugly{
		{"no From", usualTail, nil, "1@x.example", nil, usualDate},
		{"two From fields", "From: ann@cand.example\r\nFrom: bob@cand.example\r\n" + usualTail,
			[]string{"ann@cand.example", "bob@cand.example"}, "1@x.example", nil, usualDate},
		around("a space before the colon", "From : ann@cand.example\r\nUSUAL"),
		around("names in lower case", "from: ann@cand.example\r\ndate: Mon, 02 Jan 2023 15:04:05 +0100\r\nmessage-id: <1@x.example>\r\n"),
		around("a line without a colon", "From: ann@cand.example\r\nthis line has no colon\r\nUSUAL"),
		around("a first line without a colon", "this line has no colon\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("the From line of an mbox", "From ann@cand.example Mon Jan  2 15:04:05 2023\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("a quoted From line of an mbox", ">From ann@cand.example Mon Jan  2 15:04:05 2023\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("a first line that is folded", " folded first line\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("a field name with a raw 8-bit letter", "X-\xfcber: x\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("lines that end in LF", strings.ReplaceAll("From: ann@cand.example\r\n"+usualTail, "\r\n", "\n")),
		numbered("no Message-ID", "", ""),
		numbered("a Message-ID without angle brackets", "Message-ID: abc@x.example\r\n", "abc@x.example"),
		numbered("a Message-ID without @", "Message-ID: <abc.x.example>\r\n", "abc.x.example"),
		numbered("a Message-ID with two @", "Message-ID: <abc@x@x.example>\r\n", "abc@x@x.example"),
		numbered("a Message-ID in square brackets", "Message-ID: <[abc@x.example]>\r\n", "[abc@x.example]"),
		numbered("a folded Message-ID", "Message-ID:\r\n <AM0PR01MB1234@eur.prod.example>\r\n", "AM0PR01MB1234@eur.prod.example"),
		referring("References with a comma", "<a@x>, <b@x>", "a@x", "b@x"),
		referring("References without a space", "<a@x><b@x>", "a@x", "b@x"),
		referring("References with broken ids", "<a@x> <brok en@x> <b@x> <no-at> <c@x>", "a@x", "b@x", "no-at", "c@x"),
		referring("References that end inside an id", "<a@x> <b@x> <cut-of", "a@x", "b@x"),
		referring("References with a phrase and a comment", "Message of Monday <a@x> (comment) <b@x>", "a@x", "b@x"),
	}
}

func uglyDates() []ugly {
	return []ugly{
		dated("a year of two digits", "Mon, 02 Jan 23 15:04:05 +0100", usualDate),
		dated("no zone", "Mon, 02 Jan 2023 15:04:05", "2023-01-02T15:04:05Z"),
		dated("the name of a zone", "Mon, 02 Jan 2023 15:04:05 CET", "2023-01-02T15:04:05Z"),
		dated("a zone in a comment", "Mon, 02 Jan 2023 15:04:05 +0100 (CET)", usualDate),
		dated("a weekday that is none", "Xxx, 02 Jan 2023 15:04:05 +0100", usualDate),
		dated("a date in ISO 8601", "2023-01-02T15:04:05+01:00", usualDate),
		dated("a date of ctime", "Mon Jan  2 15:04:05 2023", "2023-01-02T15:04:05Z"),
		dated("a German weekday", "Mo, 02 Jan 2023 15:04:05 +0100", usualDate),
		dated("a word instead of a date", "yesterday", ""),
		dated("the year 1900", "Mon, 02 Jan 1900 15:04:05 +0100", ""),
		dated("a colon in the zone", "Mon, 02 Jan 2023 15:04:05 +01:00", usualDate),
	}
}

func uglySizes() []ugly {
	var recipients, fields strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&recipients, ",\r\n user%05d@some.example.org", i)
		fmt.Fprintf(&fields, "X-H%d: some value here\r\n", i)
	}
	return []ugly{
		around("References of 1 MB", "From: ann@cand.example\r\nUSUALReferences: "+strings.Repeat("<aaaaaaaaaaaaaaaa@xxxx>\r\n ", 40_000)+"\r\n"),
		around("a line of 1 MB", "X-Junk: "+strings.Repeat("x", 1_000_000)+"\r\nFrom: ann@cand.example\r\nUSUAL"),
		around("20,000 recipients", "From: ann@cand.example\r\nUSUALTo: a@b.example"+recipients.String()+"\r\n"),
		around("20,000 fields", fields.String()+"From: ann@cand.example\r\nUSUAL"),
	}
}

// TestUglyHeaders holds the parser to 98 headers of which net/mail loses the
// sender in 36.
func TestUglyHeaders(t *testing.T) {
	rows := slices.Concat(uglySenders(), uglyHeaders(), uglyDates(), uglySizes())
	if len(rows) != 98 {
		t.Errorf("the table has %d rows, want 98", len(rows))
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { row.check(t, message.Parse([]byte(row.raw))) })
	}
}

func (u ugly) check(t *testing.T, h message.Header) {
	t.Helper()
	if got := keys(h.From); !slices.Equal(got, u.from) {
		t.Errorf("From is %q, want %q", got, u.from)
	}
	if h.MessageID != u.id {
		t.Errorf("Message-ID is %q, want %q", h.MessageID, u.id)
	}
	if u.refs != nil && !slices.Equal(h.References, u.refs) {
		t.Errorf("References are %q, want %q", h.References, u.refs)
	}
	var want time.Time
	if u.date != "" {
		want, _ = time.Parse(time.RFC3339, u.date)
	}
	if !h.Date.Equal(want) {
		t.Errorf("Date is %v, want %v", h.Date, want)
	}
}

// keys are the keys of a list; nil for an empty one.
func keys(list []message.Address) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.Key)
	}
	return out
}
