package message_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailsyncd/message"
)

func parse(lines ...string) message.Header {
	return message.Parse([]byte(strings.Join(lines, "\r\n") + "\r\n"))
}

func TestOrdinaryHeader(t *testing.T) {
	h := message.Parse([]byte(ordinary))
	if h.MessageID != "CAJv3kZ9yQ0p7wqkS6jJ2b8mP4Q1x@mail.example.net" || len(h.InReplyTo) != 1 || len(h.References) != 2 {
		t.Errorf("ids are %q, %q, %q", h.MessageID, h.InReplyTo, h.References)
	}
	if want := (message.Address{Name: "Rita Keller", Addr: "rita.keller@example.com", Key: "rita.keller@example.com"}); len(h.To) != 1 || h.To[0] != want {
		t.Errorf("To is wrong: %q", keys(h.To))
	}
	if got := keys(h.Cc); !slices.Equal(got, []string{"bernd.vogel@example.com", "hiring@example.com"}) {
		t.Errorf("Cc is %q", got)
	}
	if h.Subject != "Re: Interview for the position as a machine setter" {
		t.Errorf("Subject is %q", h.Subject)
	}
	if !h.ListUnsubscribe || h.ListID || h.ListPost || h.AutoSubmitted || h.Precedence != "normal" || h.Problems != nil {
		t.Errorf("list facts, Precedence %q or Problems %q are wrong", h.Precedence, h.Problems)
	}
}

func TestEveryFieldIsReadFromItsOwnName(t *testing.T) {
	h := parse("From: a@x.example", "Sender: b@x.example", "Reply-To: c@x.example",
		"To: d@x.example", "Cc: e@x.example", "Bcc: f@x.example", "Resent-To: g@x.example", "X-From: h@x.example")
	got := keys(slices.Concat(h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc))
	if want := "[a@x.example b@x.example c@x.example d@x.example e@x.example f@x.example]"; fmt.Sprint(got) != want {
		t.Errorf("addresses are %v, want %v", got, want)
	}
}

// FieldNames is what providers ask for; a name that is not read would be paid
// for in every row, and one that is read but not asked for never comes.
func TestFieldNamesAreWhatIsRead(t *testing.T) {
	for _, name := range message.FieldNames {
		h := message.FromFields([]message.Field{{Name: strings.ToLower(name), Value: "<a@x.example>"}})
		if reflect.DeepEqual(h, message.Header{}) {
			t.Errorf("%s is not read", name)
		}
	}
}

func TestFieldsThatComeTwice(t *testing.T) {
	h := parse("To: a@x.example", "References: <1@x>", "Subject: first", "Message-ID: nonsense", "To: b@x.example",
		"Message-ID: <m@x>", "Message-ID: <n@x>", "References: <2@x>", "Subject: second", "Precedence: list", "Precedence: bulk",
		"Auto-Submitted: no", "Auto-Submitted: auto-replied")
	if got := keys(h.To); !slices.Equal(got, []string{"a@x.example", "b@x.example"}) {
		t.Errorf("To is %q: all should count", got)
	}
	if !slices.Equal(h.References, []string{"1@x", "2@x"}) {
		t.Errorf("References are %q: all should count", h.References)
	}
	if h.MessageID != "m@x" || h.Subject != "first" || h.Precedence != "list" {
		t.Errorf("Message-ID %q, Subject %q, Precedence %q: the first usable should count", h.MessageID, h.Subject, h.Precedence)
	}
	if !h.AutoSubmitted {
		t.Error("one Auto-Submitted that is not no should count")
	}
}

func TestSplitting(t *testing.T) {
	for _, row := range []struct{ name, raw, subject string }{
		{"CRLF", "Subject: a\r\n b\r\n", "a b"},
		{"LF", "Subject: a\n b\n", "a b"},
		{"CR CR LF", "Subject: a\r\r\n b\r\r\n", "a b"},
		{"no end of line", "Subject: a", "a"},
		{"a lone CR is white space", "Subject: a\rFrom: b", "a From: b"},
		{"NUL goes", "Sub\x00ject: x\r\nSubject: a\x00b", "ab"},
		{"a byte order mark goes", "\xef\xbb\xbfSubject: a", "a"},
		{"a tab folds", "Subject:\r\n\ta", "a"},
		{"folds of white space only", "Subject: a\r\n \r\n\t\r\n b", "a b"},
		{"empty lines at the start", "\r\n\r\nSubject: a", "a"},
		{"the body is not read", "X: y\r\n\r\nSubject: body\r\n", ""},
		{"the body is not read after a line that is no field", "junk\r\nX: y\r\n\r\nSubject: body\r\n", ""},
		{"a fold of a field nobody reads", "Subject: a\r\nX: y\r\n z\r\n", "a"},
		{"a line that lost its indentation hides nothing behind it", "Subject: a\r\nlost\r\n b\r\n", "a b"},
		{"no name", ": x\r\nSubject: a", "a"},
		{"an empty field is passed over for a full one", "Subject:\r\nSubject: a", "a"},
		{"nothing", "", ""},
	} {
		if got := message.Parse([]byte(row.raw)).Subject; got != row.subject {
			t.Errorf("%s: the subject is %q, want %q", row.name, got, row.subject)
		}
	}
}

func TestText(t *testing.T) {
	for _, row := range []struct{ name, raw, want string }{
		{"Q encoding", "=?utf-8?Q?Gespr=C3=A4ch_um_10?=", "Gespräch um 10"},
		{"B encoding", "=?utf-8?B?R2VzcHLDpGNo?=", "Gespräch"},
		{"B encoding without padding", "=?utf-8?B?R2Vz?= =?utf-8?B?cHI?=", "Gespr"},
		{"B encoding with a broken end", "=?utf-8?B?R2VzcHI!!?=", "Gespr"},
		{"a language in the charset", "=?utf-8*de?Q?Gespr=C3=A4ch?=", "Gespräch"},
		{"white space between encoded-words goes", "=?utf-8?Q?a?= \r\n =?utf-8?Q?b?=", "ab"},
		{"white space beside text stays", "=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"},
		{"a character cut in two words", "=?utf-8?Q?Gespr=C3?= =?utf-8?Q?=A4ch?=", "Gespräch"},
		{"ISO-8859-1", "=?iso-8859-1?q?Gespr=E4ch?=", "Gespräch"},
		{"ISO-8859-15", "=?ISO-8859-15?Q?=A4?=", "€"},
		{"Shift_JIS", "=?shift_jis?B?jlKTYw==?=", "山田"},
		{"ISO-2022-JP", "=?ISO-2022-JP?B?GyRCOzNFRBsoQg==?=", "山田"},
		{"raw ISO-2022-JP", "\x1b$B;3ED\x1b(B", "山田"},
		{"KOI8-R", "=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"GB2312", "=?gb2312?B?1cXI/Q==?=", "张三"},
		{"an unknown charset keeps its ASCII", "=?x-klingon?Q?Qapla=27?=", "Qapla'"},
		{"UTF-8 under a wrong name", "=?us-ascii?Q?Gespr=C3=A4ch?=", "Gespräch"},
		{"broken UTF-8 is read as Windows-1252", "=?utf-8?Q?Gespr=E4ch?=", "Gespräch"},
		{"raw Windows-1252", "\x93Gespr\xe4ch\x94", "“Gespräch”"},
		{"raw UTF-8", "Gespräch", "Gespräch"},
		{"an encoded-word without an end", "=?utf-8?Q?abc", "=?utf-8?Q?abc"},
		{"an encoded-word without an end before a good one", "=?utf-8?Q?abc =?utf-8?Q?=41?=", "=?utf-8?Q?abc A"},
		{"an unknown encoding", "=?utf-8?X?abc?=", "=?utf-8?X?abc?="},
		{"an equals sign without digits", "=?utf-8?Q?a=ZZ=4?=", "a=ZZ=4"},
		{"control characters", "a\x01b\x7fc", "abc"},
		{"encoded control characters", "=?utf-8?Q?a=01=1B[31mb=C2=9Bc?=", "a[31mbc"},
		{"encoded line breaks", "=?utf-8?Q?a=0D=0ABcc:_b=E2=80=A8c?=", "a Bcc: b c"},
		{"white space in runs", "a  b\t\tc  ", "a b c"},
		{"nothing but white space", " \t ", ""},
	} {
		if got := parse("Subject: " + row.raw).Subject; got != row.want {
			t.Errorf("%s: %q is read as %q, want %q", row.name, row.raw, got, row.want)
		}
	}
}

func TestListFacts(t *testing.T) {
	h := parse("List-Id: <a.example>", "List-Post: NO", "List-Unsubscribe:", "Precedence: Bulk (really)")
	if !h.ListID || !h.ListPost || !h.ListUnsubscribe || h.Precedence != "bulk" {
		t.Errorf("read as %v %v %v %q", h.ListID, h.ListPost, h.ListUnsubscribe, h.Precedence)
	}
	for value, want := range map[string]bool{
		"no": false, "No (a person)": false, "": false, "auto-generated": true,
		"auto-replied; owner-email=a@x.example": true, "AUTO-NOTIFIED": true,
	} {
		if got := parse("Auto-Submitted: " + value).AutoSubmitted; got != want {
			t.Errorf("Auto-Submitted %q is read as %v", value, got)
		}
	}
}

func TestProblems(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       []string
	}{
		{"a field that is fine", "From: a@x.example", nil},
		{"an empty field", "From:", nil},
		{"an empty group", "To: undisclosed-recipients:;", nil},
		{"no address", "From: root", []string{"from: no address"}},
		{"the null path", "From: <>", []string{"from: no address"}},
		{"one of two entries", "To: a@x.example, root", []string{"to: part unreadable"}},
		{"one of two fields", "To: a@x.example\r\nTo: root", []string{"to: part unreadable"}},
		{"an id that is none", "Message-ID: none", []string{"message-id: unreadable"}},
		{"References that are none", "References: none", []string{"references: unreadable"}},
		{"a date", "Date: tomorrow", []string{"date: unreadable"}},
		{"the same twice", "Sender: x\r\nSender: y", []string{"sender: no address"}},
	} {
		if got := parse(row.line).Problems; !slices.Equal(got, row.want) {
			t.Errorf("%s: problems are %q, want %q", row.name, got, row.want)
		}
	}
}

func TestFieldLimit(t *testing.T) {
	h := parse("To: "+strings.Repeat("a@x.example, ", 10_000), "Cc: b@x.example")
	if len(h.To) < 5000 || len(h.To) > 5100 {
		t.Errorf("%d addresses of a long field were read", len(h.To))
	}
	if len(h.Cc) != 1 {
		t.Error("a long field hides the field behind it")
	}
	if !slices.Equal(h.Problems, []string{"to: cut"}) {
		t.Errorf("problems are %q", h.Problems)
	}
}

func TestLongReferencesKeepBothEnds(t *testing.T) {
	var ids []string
	for i := range 20_000 {
		ids = append(ids, fmt.Sprintf("<%05d@x.example>", i))
	}
	for name, sep := range map[string]string{"folded": "\r\n ", "in one line": " "} {
		h := parse("References: " + strings.Join(ids, sep))
		refs := h.References
		if refs[0] != "00000@x.example" || refs[len(refs)-1] != "19999@x.example" {
			t.Errorf("%s: they begin with %q and end with %q", name, refs[0], refs[len(refs)-1])
		}
		if size := len(strings.Join(refs, "<> ")); size > message.MaxField {
			t.Errorf("%s: %d bytes are kept", name, size)
		}
		for _, id := range refs {
			if len(id) != len("00000@x.example") {
				t.Errorf("%s: %q is made of two halves", name, id)
			}
		}
		if !slices.Equal(h.Problems, []string{"references: cut"}) {
			t.Errorf("%s: problems are %q", name, h.Problems)
		}
	}
}

func TestBlockLimit(t *testing.T) {
	junk := strings.Repeat("X-Junk: "+strings.Repeat("x", 90)+"\r\n", message.MaxBlock/100)
	h := parse("To: a@x.example\r\n"+junk+"Subject: cut", "To: b@x.example")
	if got := keys(h.To); !slices.Equal(got, []string{"a@x.example"}) || !slices.Contains(h.Problems, "header: cut") {
		t.Errorf("To is %q, problems %q", got, h.Problems)
	}
	// The block ends inside the domain of an address.
	raw := "X: " + strings.Repeat("x", message.MaxBlock-30) + "\r\nTo: a@x.example, b@x.example"
	if got := keys(message.Parse([]byte(raw)).To); !slices.Equal(got, []string{"a@x.example"}) {
		t.Errorf("of a field cut by the limit %q is read", got)
	}
	h = message.Parse([]byte("To: a@x.example\r\n\r\n" + junk + junk))
	if h.Problems != nil {
		t.Errorf("a long body gives problems %q", h.Problems)
	}
}

func TestBoundsOfWhatIsKept(t *testing.T) {
	long := strings.Repeat("ü", 20_000)
	h := parse("From: \""+long+"\" <a@x.example>", "Subject: "+long, "Date: "+long, "Precedence: "+long,
		strings.Repeat("Cc: "+strings.Repeat("a@b,", 10_000)+"\r\n", 5)+"To: b@x.example")
	if len(h.From[0].Name) > 1<<10 || len(h.Subject) > 4<<10 || len(h.RawDate) > 200 || len(h.Precedence) > 40 {
		t.Errorf("lengths are %d, %d, %d, %d", len(h.From[0].Name), len(h.Subject), len(h.RawDate), len(h.Precedence))
	}
	if len(h.Cc) != 20_000 || !slices.Contains(h.Problems, "cc: too many") || len(h.To) != 1 {
		t.Errorf("%d addresses in Cc, %d in To, problems %q", len(h.Cc), len(h.To), h.Problems)
	}
}

func TestFromFieldsReadsAsParse(t *testing.T) {
	for _, u := range slices.Concat(uglySenders(), uglyDates()) {
		lines := strings.Split(strings.TrimSuffix(u.raw, "\r\n"), "\r\n")
		var fields []message.Field
		for _, line := range lines {
			if line[0] == ' ' || line[0] == '\t' {
				fields[len(fields)-1].Value += "\r\n" + line
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			fields = append(fields, message.Field{Name: strings.ToLower(name), Value: value})
		}
		if got, want := message.FromFields(fields), message.Parse([]byte(u.raw)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read differently from fields", u.name)
		}
	}
}

func TestHeaderKeepsNothingOfTheBuffer(t *testing.T) {
	raw := []byte(ordinary)
	want := message.Parse([]byte(ordinary))
	h := message.Parse(raw)
	for i := range raw {
		raw[i] = 'x'
	}
	if !reflect.DeepEqual(h, want) {
		t.Error("the header changed with the buffer it was read from")
	}
}

// TestNothingPersonalIsPrinted: most mail matches nobody, and a log line that
// was written by mistake must not leak it.
func TestNothingPersonalIsPrinted(t *testing.T) {
	h := parse("From: Secret Name <secret@x.example>", "Subject: secret")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("mail", "header", h, "address", h.From[0], "pointer", &h)
	out := fmt.Sprintf("%v %+v %#v %s %v %#v", h, h, h, h, &h, h.From[0]) + fmt.Sprint(h.From) + log.String()
	if strings.Contains(strings.ToLower(out), "secret") {
		t.Errorf("printed %q", out)
	}
}

// The cost of a first sync is the cost of this header.
func TestOrdinaryHeaderAllocatesLittle(t *testing.T) {
	raw := []byte(ordinary)
	// The text, the addresses, the ids of In-Reply-To and References, and one
	// to spare.
	if n := testing.AllocsPerRun(100, func() { message.Parse(raw) }); n > 5 {
		t.Errorf("Parse allocates %v times", n)
	}
}
