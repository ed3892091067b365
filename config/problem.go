package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	File string // as it was named by the operator or a glob
	Line int    // from 1; 0 when the file could not be read
	Key  string // path of the key, "mailboxes[2].imap.host"; empty for the file as a whole
	Text string // what is wrong, "; ", what to do
}

// String is the line an operator reads: file:line: key: what is wrong; what to do.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Text)
	return b.String()
}

// Error is a configuration that cannot be used, with everything that is wrong
// with it.
type Error struct {
	Problems []Problem // at least one
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// quote prints a value of the configuration in an error, cut so that a
// mistakenly pasted file does not fill the screen.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
