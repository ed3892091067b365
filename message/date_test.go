package message_test

import (
	"net/mail"
	"slices"
	"testing"
	"time"

	"mailsyncd/message"
)

func parseDate(value string) message.Header {
	return message.Parse([]byte("Date: " + value + "\r\n"))
}

func TestDate(t *testing.T) {
	const usual = "2023-01-02T14:04:05Z"
	for _, row := range []struct{ name, value, want string }{
		{"no weekday", "2 Jan 2023 15:04:05 +0100", usual},
		{"no seconds", "Mon, 2 Jan 2023 15:04 +0100", "2023-01-02T14:04:00Z"},
		{"two spaces", "Mon,  2 Jan 2023  15:04:05  +0100", usual},
		{"no space behind the comma", "Mon,2 Jan 2023 15:04:05 +0100", usual},
		{"a fold", "Mon, 2 Jan 2023\r\n 15:04:05 +0100", usual},
		{"comments everywhere", "Mon (x), 2 (y (z)) Jan 2023 15:04:05 +0100 (CET)", usual},
		{"a comment that is not closed", "Mon, 2 Jan 2023 15:04:05 +0100 (CET", usual},
		{"a full month", "Monday, 2 January 2023 15:04:05 +0100", usual},
		{"the month first", "January 2, 2023 15:04:05 +0100", usual},
		{"upper case", "MON, 02 JAN 2023 15:04:05 +0100", usual},
		{"a German month", "Mo, 2. Mär 2023 15:04:05 +0100", "2023-03-02T14:04:05Z"},
		{"mardi, which is no month", "mar., 2 mai 2023 15:04:05 +0100", "2023-05-02T14:04:05Z"},
		{"dots in the time", "Mon, 02 Jan 2023 15.04.05 +0100", usual},
		{"fractions of a second", "2023-01-02T15:04:05.123456+01:00", usual},
		{"ISO 8601 with spaces", "2023-01-02 15:04:05 +0100", usual},
		{"ISO 8601 west of Greenwich", "2023-01-02T09:04:05-05:00", usual},
		{"ISO 8601 in UTC", "2023-01-02T14:04:05Z", usual},
		{"dashes", "02-Jan-2023 15:04:05 +0100", usual},
		{"a zone glued to the time", "Mon, 2 Jan 2023 15:04:05+0100", usual},
		{"a zone of hours only", "Mon, 2 Jan 2023 15:04:05 +01", usual},
		{"GMT", "Mon, 2 Jan 2023 14:04:05 GMT", usual},
		{"UT", "Mon, 2 Jan 2023 14:04:05 UT", usual},
		{"Z", "Mon, 2 Jan 2023 14:04:05 Z", usual},
		{"EST", "Mon, 2 Jan 2023 09:04:05 EST", usual},
		{"PDT", "Mon, 2 Jan 2023 07:04:05 PDT", usual},
		{"a military zone, which nobody gets right", "Mon, 2 Jan 2023 14:04:05 A", usual},
		{"JavaScript", "Mon Jan 02 2023 15:04:05 GMT+0100 (Central European Standard Time)", usual},
		{"date(1)", "Mon Jan  2 14:04:05 UTC 2023", usual},
		{"half-days", "Mon, 2 Jan 2023 3:04:05 PM +0100", usual},
		{"midnight in half-days", "Mon, 2 Jan 2023 12:04:05 AM +0000", "2023-01-02T00:04:05Z"},
		{"a leap second", "Sat, 31 Dec 2016 23:59:60 +0000", "2017-01-01T00:00:00Z"},
		{"a leap day", "Thu, 29 Feb 2024 00:00:00 +0000", "2024-02-29T00:00:00Z"},
		{"a two-digit year before 2000", "Mon, 2 Jan 95 15:04:05 +0000", "1995-01-02T15:04:05Z"},
		{"a three-digit year of a broken clock", "Mon, 2 Jan 123 15:04:05 +0000", "2023-01-02T15:04:05Z"},
		{"a zone that nobody lives in", "Mon, 2 Jan 2023 14:04:05 +9900", usual},
		{"the first second that counts", "Mon, 1 Jan 1990 00:00:00 +0000", "1990-01-01T00:00:00Z"},
		{"no time", "2 Jan 2023", "2023-01-02T00:00:00Z"},
	} {
		h := parseDate(row.value)
		if got := h.Date.Format(time.RFC3339); got != row.want || h.Date.Location() != time.UTC {
			t.Errorf("%s: %q is read as %v, want %s", row.name, row.value, h.Date, row.want)
		}
		if len(h.Problems) != 0 {
			t.Errorf("%s: problems %q", row.name, h.Problems)
		}
	}
}

func TestDateThatCannotBeRead(t *testing.T) {
	for _, row := range []struct{ name, value, problem string }{
		{"30 February", "30 Feb 2023 15:04:05 +0000", "date: unreadable"},
		{"day 0", "0 Jan 2023 15:04:05 +0000", "date: unreadable"},
		{"no year", "2 Jan 15:04:05 +0000", "date: unreadable"},
		{"no month", "2 2023 15:04:05 +0000", "date: unreadable"},
		{"month 13", "2023-13-02T15:04:05Z", "date: unreadable"},
		{"hour 24", "2 Jan 2023 24:04:05 +0000", "date: unreadable"},
		{"minute 60", "2 Jan 2023 23:60:05 +0000", "date: unreadable"},
		{"a date in slashes, of which nobody knows the month", "1/2/2023 15:04:05", "date: unreadable"},
		{"two times", "2 Jan 2023 15:04 16:05", "date: unreadable"},
		{"a word", "tomorrow", "date: unreadable"},
		{"the epoch of a broken clock", "Thu, 1 Jan 1970 00:00:00 +0000", "date: absurd"},
		{"the last second that does not count", "Sun, 31 Dec 1989 23:59:59 +0000", "date: absurd"},
		{"a year that JSON cannot write", "Fri, 31 Dec 9999 23:59:59 -1200", "date: absurd"},
	} {
		h := parseDate(row.value)
		if !h.Date.IsZero() || !slices.Equal(h.Problems, []string{row.problem}) {
			t.Errorf("%s: %q is read as %v with problems %q", row.name, row.value, h.Date, h.Problems)
		}
		if h.RawDate != row.value {
			t.Errorf("%s: RawDate is %q, want %q", row.name, h.RawDate, row.value)
		}
	}
}

func TestRawDateHasItsWhiteSpaceFolded(t *testing.T) {
	h := parseDate("Mon,\r\n\t 2  Jan 2023")
	if h.RawDate != "Mon, 2 Jan 2023" {
		t.Errorf("RawDate is %q", h.RawDate)
	}
}

func TestFirstReadableDateCounts(t *testing.T) {
	h := message.Parse([]byte("Date: tomorrow\r\nDate: 2 Jan 2023 15:04:05 +0000\r\nDate: 3 Jan 2023 15:04:05 +0000\r\n"))
	if h.Date.Day() != 2 || h.RawDate != "tomorrow" {
		t.Errorf("Date is %v, RawDate %q", h.Date, h.RawDate)
	}
}

// FuzzDate holds the reader to net/mail: what that reads with a numeric zone
// and a full year, we read the same.
func FuzzDate(f *testing.F) {
	for _, s := range []string{
		"Mon, 02 Jan 2023 15:04:05 +0100", "2 Jan 2023 15:04 -0700 (x)", "2023-01-02T15:04:05.5+01:00",
		"Mon Jan  2 15:04:05 2023", "2-Jan-23", "3:04 PM 1 May 99 EST", "12.30.2020", "(((", "1-2-", "Mon,",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := message.FromFields([]message.Field{{Name: "date", Value: value}})
		if y := h.Date.Year(); !h.Date.IsZero() && (y < 1990 || y > 9999 || h.Date.Location() != time.UTC) {
			t.Errorf("%q is read as %v", value, h.Date)
		}
		if len(h.RawDate) > 200 {
			t.Errorf("RawDate has %d bytes", len(h.RawDate))
		}
		want, err := mail.ParseDate(value)
		if _, offset := want.Zone(); err != nil || len(h.RawDate) != len(value) || want.Year() < 2000 || want.Year() >= 2050 || offset == 0 ||
			offset > 14*3600 || offset < -14*3600 {
			return
		}
		if !h.Date.Equal(want) {
			t.Errorf("%q is read as %v, net/mail reads %v", value, h.Date, want)
		}
	})
}
