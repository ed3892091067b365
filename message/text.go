package message

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/japanese"
)

// ---- raw text ----------------------------------------------------------

// tidy tells that clean would change nothing: printable ASCII, no run of
// spaces. Nearly every field is.
func tidy(s string) bool {
	space := true // none at the start either
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && space {
			return false
		}
		space = c == ' '
	}
	return !space || s == ""
}

// clean makes text that can be shown and compared: valid UTF-8, no control
// characters, each run of white space one space. Bytes that are not UTF-8 are
// read as Windows-1252, which is what they mostly are, one by one, so that one
// wrong name does not spoil the addresses beside it.
func clean(s string) string {
	if tidy(s) {
		return s
	}
	s = unJIS(s)
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	space := false
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			r = charmap.Windows1252.DecodeByte(s[i])
		}
		i += n
		switch {
		case isSpace(r):
			space = true
			continue
		case r < ' ' || 0x7f <= r && r < 0xa0: // C0, DEL, C1
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}

// isSpace includes the line separators of Unicode: nothing that we hand on may
// break a line.
func isSpace(r rune) bool {
	switch r {
	case ' ', '\t', '\r', '\n', '\v', '\f', '\u2028', '\u2029':
		return true
	}
	return false
}

// unJIS decodes raw ISO-2022-JP (RFC 1468), in which old Japanese mailers write
// headers without encoded-words: its kanji are pairs of ASCII bytes, "<" and
// "@" among them. Text that does not end in ASCII, as RFC 1468 wants it, is
// left alone: it would swallow whatever follows.
func unJIS(s string) string {
	last := strings.LastIndex(s, "\x1b(")
	if last < 0 || !strings.Contains(s[:last], "\x1b$") || strings.Contains(s[last:], "\x1b$") {
		return s
	}
	if !isASCII(s) {
		return s
	}
	d, err := japanese.ISO2022JP.NewDecoder().String(s)
	if err != nil {
		return s
	}
	return d
}

// clip cuts s to at most n bytes at the border of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimRight(s[:n], " ")
}

// ---- encoded-words -----------------------------------------------------

// word is one encoded-word (RFC 2047 §2) inside a text.
type word struct {
	charset string
	base64  bool
	text    string
	end     int // index behind the closing "?="
}

// maxCharset bounds the name of a charset; the longest registered ones have 45.
const maxCharset = 60

// wordAt reads the encoded-word that begins at s[i:] with "=?". It is lenient
// in what the text may hold (raw spaces, commas, angle brackets: mailers that
// do not encode them exist), but another "=?" before the closing "?=" means
// that this one was never closed. That also makes a pass over a text linear:
// no byte is looked at twice for want of a "?=".
func wordAt(s string, i int) (w word, ok bool) {
	i += len("=?")
	end := min(len(s), i+maxCharset)
	q := strings.IndexByte(s[min(i, end):end], '?')
	if q <= 0 || len(s) < i+q+len("?Q??=") || s[i+q+2] != '?' {
		return w, false
	}
	w.charset = s[i : i+q]
	switch s[i+q+1] {
	case 'b', 'B':
		w.base64 = true
	case 'q', 'Q':
	default:
		return w, false
	}
	start := i + q + len("?Q?")
	for j := start; ; j++ {
		q := strings.IndexByte(s[j:], '?')
		if q < 0 || j+q+1 >= len(s) {
			return w, false
		}
		j += q
		if s[j+1] == '=' {
			w.text, w.end = s[start:j], j+len("?=")
			return w, true
		}
		if s[j-1] == '=' && j > start {
			return w, false
		}
	}
}

// bytes undoes the transfer encoding; what is broken in it is left out.
func (w word) bytes() []byte {
	if w.base64 {
		return unbase64(w.text)
	}
	return unQ(w.text)
}

// unbase64 decodes up to the first byte that is not of the alphabet. Padding
// and white space are not looked at.
func unbase64(s string) []byte {
	digits := make([]byte, 0, len(s))
	for i := 0; i < len(s) && (isBase64(s[i]) || s[i] == '=' || s[i] == ' '); i++ {
		if isBase64(s[i]) {
			digits = append(digits, s[i])
		}
	}
	if len(digits)%4 == 1 {
		digits = digits[:len(digits)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(digits)))
	n, _ := base64.RawStdEncoding.Decode(out, digits)
	return out[:n]
}

func isBase64(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '+' || c == '/'
}

// unQ decodes the Q encoding (RFC 2047 §4.2). "=" without two digits stays.
func unQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// decodeText decodes the encoded-words of an unstructured text or display name and
// cleans the result. What cannot be decoded stays as it came.
func decodeText(s string) string {
	if !strings.Contains(s, "=?") {
		return clean(s)
	}
	d := decoder{}
	d.run(s)
	return clean(d.out.String())
}

// decoder joins the bytes of neighbouring encoded-words of one charset before
// it converts them: mailers cut characters of several bytes in two, although
// RFC 2047 §5 forbids it.
type decoder struct {
	out     strings.Builder
	charset string
	pending []byte
	inWords bool // the text just before is an encoded-word
}

func (d *decoder) run(s string) {
	for s != "" {
		k := strings.Index(s, "=?")
		if k < 0 {
			break
		}
		w, ok := wordAt(s, k)
		if !ok {
			d.plain(s[:k+2])
			s = s[k+2:]
			continue
		}
		if gap := s[:k]; !d.inWords || strings.Trim(gap, " \t\r\n") != "" {
			d.plain(gap) // white space between encoded-words goes: RFC 2047 §6.2
		}
		d.word(w, s[k:w.end])
		s = s[w.end:]
	}
	d.plain(s)
}

func (d *decoder) plain(s string) {
	d.flush()
	d.out.WriteString(s)
	d.inWords = false
}

func (d *decoder) word(w word, raw string) {
	b := w.bytes()
	if len(b) == 0 && w.text != "" {
		d.plain(raw)
		return
	}
	cs, _, _ := strings.Cut(strings.ToLower(w.charset), "*") // RFC 2231 §5: a language may follow
	if cs != d.charset {
		d.flush()
	}
	d.charset, d.inWords = cs, true
	d.pending = append(d.pending, b...)
}

func (d *decoder) flush() {
	if len(d.pending) > 0 {
		d.out.WriteString(fromCharset(d.charset, d.pending))
	}
	d.pending = d.pending[:0]
}

// fromCharset converts to UTF-8. An unknown charset is read as UTF-8 with
// Windows-1252 in it: whatever it was, its ASCII survives.
func fromCharset(name string, b []byte) string {
	e := charsetNamed(name)
	if e == nil {
		return string(b) // clean repairs what is not UTF-8
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return string(b)
	}
	return string(out)
}

// charsetNamed returns nil for UTF-8, ASCII and the unknown. WHATWG's index
// knows the names that mailers use, but for these.
func charsetNamed(name string) encoding.Encoding {
	switch name {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return nil
	case "cp932":
		name = "shift_jis"
	case "cp936":
		name = "gbk"
	case "cp949":
		name = "euc-kr"
	case "cp950":
		name = "big5"
	case "latin-1":
		name = "iso-8859-1"
	case "iso-2022-kr", "iso-2022-cn", "iso-2022-cn-ext", "hz-gb-2312", "replacement":
		return nil // WHATWG decodes these to nothing
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		return nil
	}
	return e
}
