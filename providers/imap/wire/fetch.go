package wire

import (
	"bytes"
	"time"
)

// fetch cuts a FETCH response into items and hands the row to the sink. A row
// without a UID belongs to nobody; one without a header or an arrival is
// another client's flag update (RFC 9051 §7.5.2), which may come at any time,
// also before the row that was asked for.
func (c *Conn) fetch(b []byte) {
	b = bytes.TrimLeft(b, " ")
	if len(b) == 0 || b[0] != '(' {
		return
	}
	var row Row
	for b = b[1:]; ; {
		b = bytes.TrimLeft(b, " ")
		if len(b) == 0 {
			return // the list did not end: not a row
		}
		if b[0] == ')' {
			break
		}
		name, rest, ok := token(b, 1)
		if !ok {
			return
		}
		val, rest, ok := token(rest, c.opt.Limits.Nesting)
		if !ok {
			return
		}
		c.item(&row, name, val)
		b = rest
	}
	if row.UID != 0 && (row.HasHeader || row.TooLong || !row.Arrival.IsZero()) {
		c.opt.Sink.Row(row)
	}
}

// item takes one item of a row. Sections other than the header are ignored: a
// server that sends a body nobody asked for does not get it read.
func (c *Conn) item(row *Row, name, val []byte) {
	switch {
	case fold(name, "UID"):
		row.UID, _ = number(val)
	case fold(name, "INTERNALDATE"):
		if v, ok := text(val); ok {
			row.Arrival = internalDate(v)
		}
	case len(name) > len("BODY[HEADER") && fold(name[:len("BODY[HEADER")], "BODY[HEADER"):
		c.header(row, val)
	case fold(name, "X-GM-THRID"):
		if isAtom(val) {
			row.Thread = string(val)
		}
	case fold(name, "THREADID"):
		// RFC 8474 §5.2: a parenthesised id, or NIL.
		if id := bytes.Trim(val, "() "); val[0] == '(' && isAtom(id) {
			row.Thread = string(id)
		}
	}
}

// header takes the header block; NIL is none.
func (c *Conn) header(row *Row, val []byte) {
	if c.tooLong {
		row.TooLong = true
		return
	}
	if v, ok := text(val); ok {
		row.Header, row.HasHeader = v, true
	}
}

func fold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		ch := b[i]
		if 'a' <= ch && ch <= 'z' {
			ch -= 'a' - 'A'
		}
		if ch != s[i] {
			return false
		}
	}
	return true
}

// internalDate reads a date-time such as "17-Jul-1996 02:44:25 -0700" (RFC 9051
// §9), the day also with one digit. It is zero for anything else and for years
// that no mail has.
func internalDate(b []byte) time.Time {
	b = bytes.TrimSpace(b)
	if len(b) == 25 {
		b = append(append(make([]byte, 0, 26), '0'), b...)
	}
	if len(b) != 26 || b[2] != '-' || b[6] != '-' || b[11] != ' ' || b[14] != ':' || b[17] != ':' || b[20] != ' ' {
		return time.Time{}
	}
	day, ok1 := digits(b[0:2])
	year, ok2 := digits(b[7:11])
	hour, ok3 := digits(b[12:14])
	minute, ok4 := digits(b[15:17])
	sec, ok5 := digits(b[18:20])
	zh, ok6 := digits(b[22:24])
	zm, ok7 := digits(b[24:26])
	month := month(b[3:6])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) || month == 0 || year < 1970 || year > 9999 {
		return time.Time{}
	}
	if day < 1 || day > 31 || hour > 23 || minute > 59 || sec > 60 || zh > 23 || zm > 59 {
		return time.Time{}
	}
	offset := (zh*60 + zm) * 60
	switch b[21] {
	case '-':
		offset = -offset
	case '+':
	default:
		return time.Time{}
	}
	return time.Date(year, month, day, hour, minute, sec, 0, time.UTC).Add(-time.Duration(offset) * time.Second)
}

func digits(b []byte) (n int, ok bool) {
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

func month(b []byte) time.Month {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for m := range 12 {
		if bytes.EqualFold(b, []byte(names[3*m:3*m+3])) {
			return time.Month(m + 1)
		}
	}
	return 0
}
