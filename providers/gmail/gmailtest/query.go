package gmailtest

import (
	"strconv"
	"strings"
	"time"
)

// parseQuery reads the part of Gmail's search language that is used here:
// words "operator:value", "-" before one, braces for "or". An unknown operator
// matches nothing, so that a provider which uses one is found out.
func parseQuery(q string) func(*Mail) bool {
	p := &queryParser{words: strings.Fields(strings.NewReplacer("{", " { ", "}", " } ").Replace(q))}
	return p.all("")
}

type queryParser struct{ words []string }

// all reads terms up to a closing word; every one must match.
func (p *queryParser) all(end string) func(*Mail) bool {
	terms := p.list(end)
	return func(m *Mail) bool {
		for _, t := range terms {
			if !t(m) {
				return false
			}
		}
		return true
	}
}

func (p *queryParser) list(end string) []func(*Mail) bool {
	var terms []func(*Mail) bool
	for len(p.words) > 0 {
		w := p.words[0]
		p.words = p.words[1:]
		switch {
		case w == end:
			return terms
		case w == "{":
			any := p.list("}")
			terms = append(terms, func(m *Mail) bool {
				for _, t := range any {
					if t(m) {
						return true
					}
				}
				return false
			})
		default:
			terms = append(terms, word(w))
		}
	}
	return terms
}

func word(w string) func(*Mail) bool {
	if rest, not := strings.CutPrefix(w, "-"); not {
		t := word(rest)
		return func(m *Mail) bool { return !t(m) }
	}
	op, value, ok := strings.Cut(strings.ToLower(w), ":")
	if !ok {
		return func(*Mail) bool { return false }
	}
	switch op {
	case "from", "to", "cc", "bcc":
		return func(m *Mail) bool { return names(m.field(op), value) }
	case "replyto":
		return func(m *Mail) bool { return names(m.field("Reply-To"), value) }
	case "rfc822msgid":
		return func(m *Mail) bool { return strings.Trim(strings.TrimSpace(m.field("Message-ID")), "<>") == value }
	case "in":
		return in(value)
	case "after", "before":
		return dated(op, value)
	}
	return func(*Mail) bool { return false }
}

func in(value string) func(*Mail) bool {
	label := map[string]string{"chats": "CHAT", "drafts": "DRAFT", "draft": "DRAFT", "inbox": "INBOX", "sent": "SENT", "spam": "SPAM", "trash": "TRASH"}[value]
	return func(m *Mail) bool { return label != "" && m.has(label) }
}

// dated takes seconds since 1970 only: dates in words mean midnight in
// California, and nobody should use them.
func dated(op, value string) func(*Mail) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	at := time.Unix(n, 0)
	return func(m *Mail) bool {
		switch {
		case err != nil:
			return false
		case op == "after":
			return !m.Arrival.Before(at)
		}
		return m.Arrival.Before(at)
	}
}

// names tells whether an address field names an address or a domain. Gmail
// searches by whole words: a part of a local part is not found.
func names(field, value string) bool {
	for at := 0; ; {
		i := strings.Index(field[at:], value)
		if i < 0 {
			return false
		}
		i += at
		before, after := i == 0 || edge(field[i-1], true), i+len(value) == len(field) || edge(field[i+len(value)], false)
		if before && after {
			return true
		}
		at = i + 1
	}
}

func edge(c byte, before bool) bool {
	if strings.IndexByte("<>\",;: \t\r\n()", c) >= 0 {
		return true
	}
	return before && (c == '@' || c == '.')
}
