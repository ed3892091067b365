package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"mailsyncd/config"
)

// page collects what a command shows a person. Much of it comes from mail
// servers and from the ATS, so every cell is cleaned: a terminal obeys control
// characters.
type page struct {
	now time.Time
	buf bytes.Buffer
}

func newPage(now time.Time) *page { return &page{now: now} }

// line writes one line; arguments that are strings are cleaned.
func (p *page) line(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clean(s)
		}
	}
	fmt.Fprintf(&p.buf, format+"\n", args...)
}

// table writes rows under a heading, columns aligned.
func (p *page) table(heading []string, rows [][]string) {
	w := tabwriter.NewWriter(&p.buf, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, orDash(clean(cell)))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
}

// facts writes names and values, leaving out values that are empty.
func (p *page) facts(pairs ...string) {
	w := tabwriter.NewWriter(&p.buf, 0, 8, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", pairs[i], clean(pairs[i+1]))
		}
	}
	_ = w.Flush() // into memory
}

func (p *page) writeTo(w io.Writer) error {
	_, err := w.Write(p.buf.Bytes())
	return err
}

// when writes a time as its distance from now; "" for none.
func (p *page) when(t time.Time) string {
	switch d := t.Sub(p.now); {
	case t.IsZero():
		return ""
	case d > 0:
		return "in " + about(d)
	default:
		return about(-d) + " ago"
	}
}

// exactly writes a time with its distance; "" for none.
func (p *page) exactly(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + p.when(t) + ")"
}

// about rounds a duration to its two largest units.
func about(d time.Duration) string {
	const day = 24 * time.Hour
	unit := time.Second
	switch {
	case d >= day:
		unit = time.Hour
	case d >= time.Hour:
		unit = time.Minute
	}
	return config.FormatDuration(d.Round(unit))
}

// clean makes foreign text safe to show in a cell: no control characters, valid
// UTF-8, at most 200 bytes.
func clean(s string) string { return cleaned(s, 200) }

// cleanLine is clean for a whole line, whose end says what to do.
func cleanLine(s string) string { return cleaned(s, 2000) }

func cleaned(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count writes a number with its noun: "1 mailbox", "3 mailboxes".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
