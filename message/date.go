package message

import (
	"strings"
	"time"
)

// dateReader reads a Date field (RFC 5322 §3.3, §4.3) by the look of its
// pieces rather than by layouts: a number with colons is a time, a word a
// month, a sign and four digits a zone. That reads what net/mail reads, and
// dates without a zone, with foreign or wrong weekdays, of ctime and ISO 8601.
type dateReader struct {
	day, month, year int // not seen: 0, 0, -1
	clock            bool
	hour, min, sec   int
	zone             bool
	offset           int // seconds east of UTC
	am, pm           bool
}

// readDate returns the date in UTC. A date without a zone, or with one that
// RFC 5322 §4.3 does not name, is taken as UTC, as the RFC says: guessing would
// make the identity of a message depend on the machine.
func readDate(s string) (time.Time, bool) {
	d := dateReader{year: -1}
	for s != "" {
		var piece string
		piece, s = cutPiece(s)
		if piece == "" || d.weekday(piece, s) {
			continue
		}
		if !d.piece(piece) {
			return time.Time{}, false
		}
	}
	return d.time()
}

// cutPiece takes the next piece off s, without white space, commas and
// comments; "" when a comment or a separator stood there.
func cutPiece(s string) (piece, rest string) {
	switch s[0] {
	case ' ', ',':
		return "", s[1:]
	case '(':
		return "", s[commentLen(s):]
	}
	end := 1
	for end < len(s) && s[end] != ' ' && s[end] != ',' && s[end] != '(' {
		end++
	}
	return s[:end], s[end:]
}

// weekday tells that a piece is the day of the week: a word with a comma behind
// it, before any number. "Mar," is Tuesday in some languages, not March.
func (d *dateReader) weekday(piece, rest string) bool {
	return d.day == 0 && d.year < 0 && !isDigit(piece[0]) && strings.HasPrefix(rest, ",")
}

// commentLen is the length of the comment that s begins with; all of s when it
// is not closed.
func commentLen(s string) int {
	if end := closeComment(s, 0); end >= 0 {
		return end + 1
	}
	return len(s)
}

// piece takes one piece in; false when it makes the date unreadable.
func (d *dateReader) piece(p string) bool {
	c := p[0]
	switch {
	case (c == '+' || c == '-') && d.clock:
		return d.numericZone(p)
	case isDigit(c) && isClock(p):
		return d.time24(p)
	case isDigit(c) && strings.IndexByte(p, '-') > 0:
		return d.dashed(p)
	case isDigit(c):
		return d.number(p)
	}
	d.word(p)
	return true
}

// isClock tells a time ("15:04", "15.04.05") from other numbers.
func isClock(p string) bool {
	for i := 0; i < len(p) && i < 3; i++ {
		if p[i] == ':' || p[i] == '.' && strings.IndexByte(p[i+1:], '.') > 0 {
			return true
		}
	}
	return false
}

// time24 reads hh:mm, hh:mm:ss and hh:mm:ss.fff, with a zone glued to it or
// not. A second of 60 is a leap second.
func (d *dateReader) time24(p string) bool {
	if d.clock {
		return false
	}
	d.clock = true
	var ok bool
	if d.hour, p, ok = digits(p, 2); !ok || d.hour > 23 {
		return false
	}
	if d.min, p, ok = digits(skip(p, ":."), 2); !ok || d.min > 59 {
		return false
	}
	if p != "" && (p[0] == ':' || p[0] == '.') {
		if d.sec, p, ok = digits(p[1:], 2); !ok || d.sec > 60 {
			return false
		}
	}
	if p != "" && (p[0] == '.' || p[0] == ',') {
		p = strings.TrimLeft(p[1:], "0123456789")
	}
	if p == "" {
		return true
	}
	return d.piece(p)
}

// numericZone reads +hhmm, +hh:mm and +hh. One that is out of range is nobody's
// zone and counts as UTC.
func (d *dateReader) numericZone(p string) bool {
	sign := 1
	if p[0] == '-' {
		sign = -1
	}
	h, rest, ok := digits(p[1:], 2)
	if !ok {
		return false
	}
	m := 0
	if rest != "" {
		if m, rest, ok = digits(skip(rest, ":"), 2); !ok || rest != "" {
			return false
		}
	}
	if !d.zone && h <= 14 && m <= 59 {
		d.offset = sign * (h*3600 + m*60)
	}
	d.zone = true
	return true
}

// dashed reads 2006-01-02, with T and a time behind it or not, and 2-Jan-2006.
func (d *dateReader) dashed(p string) bool {
	part := strings.SplitN(p, "-", 3)
	if len(part) < 3 || part[1] == "" || part[2] == "" {
		return false
	}
	if len(part[0]) != 4 {
		return !strings.Contains(part[2], "-") && d.piece(part[0]) && d.piece(part[1]) && d.piece(part[2])
	}
	var ok bool
	if !d.number(part[0]) {
		return false
	}
	if d.month, p, ok = digits(part[1], 2); !ok || p != "" {
		return false
	}
	if d.day, p, ok = digits(part[2], 2); !ok || p == "" {
		return ok
	}
	p = skip(p, "Tt")
	return p == "" || d.piece(p)
}

// number takes a day or a year. The year may have two or three digits: RFC
// 5322 §4.3. More numbers than that are passed over.
func (d *dateReader) number(p string) bool {
	p = strings.TrimSuffix(p, ".")
	n, rest, ok := digits(p, 4)
	if !ok || rest != "" {
		return false
	}
	switch {
	case d.day == 0 && len(p) <= 2:
		d.day = n
	case d.year >= 0 || len(p) < 2:
	case len(p) == 2 && n < 50:
		d.year = 2000 + n
	case len(p) < 4:
		d.year = 1900 + n
	default:
		d.year = n
	}
	return true
}

// word takes a month, a zone or a half of the day; it passes over weekdays and
// everything else.
func (d *dateReader) word(p string) {
	p = strings.ToLower(p)
	if m := monthOf(p); m > 0 && d.month == 0 {
		d.month = m
		return
	}
	switch {
	case p == "am" || p == "pm":
		d.am, d.pm = p == "am", p == "pm"
	case d.zone || !d.clock:
	case len(p) > 3 && (p[3] == '+' || p[3] == '-') && (p[:3] == "gmt" || p[:3] == "utc"):
		d.numericZone(p[3:])
	default:
		d.offset = 3600 * zoneHours(p)
	}
}

// monthOf knows the months of RFC 5322, and the German ones that differ.
func monthOf(p string) int {
	const english = "janfebmaraprmayjunjulaugsepoctnovdec"
	if len(p) < 3 {
		return 0
	}
	switch p[:3] {
	case "mä", "mrz": // "mä" has three bytes
		return 3
	case "mai":
		return 5
	case "okt":
		return 10
	case "dez":
		return 12
	}
	if i := strings.Index(english, p[:3]); i >= 0 && i%3 == 0 {
		return i/3 + 1
	}
	return 0
}

// zoneHours knows the zones that RFC 5322 §4.3 names; all others count as UTC.
func zoneHours(p string) int {
	switch p {
	case "edt":
		return -4
	case "est", "cdt":
		return -5
	case "cst", "mdt":
		return -6
	case "mst", "pdt":
		return -7
	case "pst":
		return -8
	}
	return 0
}

// time puts the pieces together.
func (d *dateReader) time() (time.Time, bool) {
	if d.day < 1 || d.month < 1 || d.month > 12 || d.year < 0 {
		return time.Time{}, false
	}
	month := time.Month(d.month)
	if time.Date(d.year, month, d.day, 0, 0, 0, 0, time.UTC).Day() != d.day {
		return time.Time{}, false // 30 February
	}
	switch {
	case d.pm && d.hour < 12:
		d.hour += 12
	case d.am && d.hour == 12:
		d.hour = 0
	}
	t := time.Date(d.year, month, d.day, d.hour, d.min, d.sec, 0, time.UTC)
	return t.Add(-time.Duration(d.offset) * time.Second), true
}

// digits reads a number of at least one and at most limit digits.
func digits(p string, limit int) (n int, rest string, ok bool) {
	i := 0
	for i < len(p) && i < limit && isDigit(p[i]) {
		n = n*10 + int(p[i]-'0')
		i++
	}
	return n, p[i:], i > 0
}

// skip drops the first byte of p when it is one of set.
func skip(p, set string) string {
	if p != "" && strings.IndexByte(set, p[0]) >= 0 {
		return p[1:]
	}
	return p
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
