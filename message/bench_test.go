package message_test

import (
	"strings"
	"testing"

	"mailsyncd/message"
)

// ordinary is the header of a recruiter's mail as HEADER.FIELDS brings it: the
// header whose reading sets the cost of a first sync.
const ordinary = "Message-ID: <CAJv3kZ9yQ0p7wqkS6jJ2b8mP4Q1x@mail.example.net>\r\n" +
	"In-Reply-To: <AM0PR01MB1234567890ABCDEF@AM0PR01MB1234.eurprd01.prod.example.com>\r\n" +
	"References: <CAJv3kZ9yQ0p7wqkS6jJ2b8mP4Q1a@mail.example.net>\r\n" +
	" <AM0PR01MB1234567890ABCDEF@AM0PR01MB1234.eurprd01.prod.example.com>\r\n" +
	"Date: Sat, 21 Nov 2026 10:59:40 +0100\r\n" +
	"From: Nora Brandt <nora.brandt@example.net>\r\n" +
	"Sender: Nora Brandt <nora.brandt@example.net>\r\n" +
	"Reply-To: nora.brandt@example.net\r\n" +
	"To: \"Rita Keller\" <rita.keller@example.com>\r\n" +
	"Cc: Bernd Vogel <bernd.vogel@example.com>, hiring@example.com\r\n" +
	"Subject: Re: Interview for the position as a machine setter\r\n" +
	"List-Unsubscribe: <mailto:off@example.net>\r\n" +
	"Precedence: normal\r\n" +
	"Auto-Submitted: no\r\n" +
	"\r\n"

func BenchmarkParse(b *testing.B) {
	raw := []byte(ordinary)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		message.Parse(raw)
	}
}

func BenchmarkFold(b *testing.B) {
	for name, addr := range map[string]string{
		"plain": "nora.brandt@example.net", "upper": "Nora.Brandt@Example.Net",
		"gmail": "nora.brandt+jobs@googlemail.com", "idn": "nora@müller.example",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				message.Fold(addr)
			}
		})
	}
}

func BenchmarkID(b *testing.B) {
	h := message.Parse([]byte(ordinary))
	b.ReportAllocs()
	for b.Loop() {
		h.ID()
	}
}

// hostile are shapes that a sender could write to keep the parser busy. Each
// is repeated to the size wanted.
var hostile = []struct{ name, unit string }{
	{"opening parentheses", "("},
	{"nested comments", "(()"},
	{"closed comments", "(a)"},
	{"closing parentheses", ")"},
	{"quotes", `"`},
	{"quotes with backslashes", `"\"`},
	{"backslashes", `\`},
	{"a quote in front of each address", `"Ann <a@b.c>, `},
	{"stray quotes", `"<a@b>,"c`},
	{"quotes inside angle brackets", `<"a" b`},
	{"opening angle brackets", "<"},
	{"opening angle brackets with quotes", `<"`},
	{"closing angle brackets", ">"},
	{"at signs", "@"},
	{"words with two at signs", "a@b@c "},
	{"routes", "<@a,"},
	{"short addresses", "a@b,"},
	{"short addresses in angle brackets", "<a@b>"},
	{"international domains", "a@ü,"},
	{"international local parts", "ü\u0301@b,"},
	{"long international labels", "a@" + strings.Repeat("ü", 200) + ","},
	{"upper case at Gmail", "A.B+c@GMAIL.com,"},
	{"address literals", "a@[1.2.3.4],"},
	{"literals without an end", "a@["},
	{"colons", ":"},
	{"groups", "a:b@c;"},
	{"commas", ","},
	{"words without address", "a b,"},
	{"spaces around dots", "a . b . c @ d . e "},
	{"openings of encoded-words", "=?"},
	{"encoded-words without an end", "=?utf-8?q?"},
	{"encoded-words with a wrong encoding", "=?utf-8?x?a?="},
	{"short encoded-words", "=?utf-8?q?=41?= "},
	{"empty encoded-words", "=?a?q??="},
	{"encoded-words that change charset", "=?big5?q?a?= =?gbk?q?a?= "},
	{"ISO-2022 switches in encoded-words", "=?iso-2022-jp?b?GyRCGyhCGyRCGyhC?= "},
	{"raw ISO-2022 switches", "\x1b$B\x1b(B"},
	{"raw ISO-2022 without an end", "\x1b$B"},
	{"question marks in an encoded-word", "=?utf-8?q?????"},
	{"raw Latin-1", "\xfc"},
	{"cut UTF-8", "\xe2\x82"},
	{"control characters", "\x01"},
	{"NUL", "\x00"},
	{"folds", "\r\n a"},
	{"empty folds", "\r\n "},
	{"carriage returns", "\r"},
	{"ids", "<a@b>"},
	{"ids without an end", "<a"},
	{"ids in angle brackets", "<<a>"},
	{"digits", "1 "},
	{"months", "Jan "},
	{"dashes", "1-"},
}

// everywhere puts n bytes of one shape into each of the fields that are read
// with most effort, in pieces of the size of a field.
func everywhere(unit string, n int) []byte {
	piece := strings.Repeat(unit, max(1, min(n, message.MaxField)/len(unit)))
	var b strings.Builder
	for _, name := range []string{"From", "To", "Cc", "Subject"} {
		b.WriteString(name + ": " + piece[:min(len(piece), n/4)] + "\r\n")
	}
	return []byte(b.String())
}

// BenchmarkParseWorst reads 256 KiB of each hostile shape; the promise is under
// 100 ms each.
func BenchmarkParseWorst(b *testing.B) {
	const size = 256 << 10
	for _, shape := range hostile {
		b.Run(shape.name, func(b *testing.B) {
			raw := everywhere(shape.unit, size)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				message.Parse(raw)
			}
		})
	}
	for _, name := range []string{"References", "In-Reply-To", "Message-ID", "Date", "Precedence"} {
		b.Run("ids without an end in "+name, func(b *testing.B) {
			raw := []byte(name + ": " + strings.Repeat("<a ", size/3) + "\r\n")
			for b.Loop() {
				message.Parse(raw)
			}
		})
	}
	b.Run("many fields", func(b *testing.B) {
		raw := []byte(strings.Repeat("To: a@b\r\n", size/9))
		for b.Loop() {
			message.Parse(raw)
		}
	})
}
