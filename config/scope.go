package config

import (
	"slices"
	"strings"
	"time"
)

// scope is where the keys of one section may have been said: in a file under a
// prefix and, for a mailbox, else in the main file's defaults. It lets a check
// speak of "imap.host" and still point at the line to mend.
type scope struct {
	src      *source
	prefix   string
	defaults *source // nil: there is no second place
}

// sub is the scope of a section inside this one.
func (s scope) sub(key string) scope {
	s.prefix = join(s.prefix, key)
	return s
}

func (s scope) saidHere(key string) bool {
	_, ok := s.src.lines[join(s.prefix, key)]
	return ok
}

func (s scope) saidInDefaults(key string) bool {
	if s.defaults == nil {
		return false
	}
	_, ok := s.defaults.lines["defaults."+key]
	return ok
}

func (s scope) said(key string) bool { return s.saidHere(key) || s.saidInDefaults(key) }

// fail reports a problem where the key was said: here, in the defaults, or
// nowhere, which is the fault of this section. It says nothing of a key that
// is already known to be wrong.
func (s scope) fail(key, format string, args ...any) {
	src, path := s.src, join(s.prefix, key)
	if s.defaults != nil && !s.saidHere(key) {
		inDefaults := "defaults." + key
		if s.defaults.hasFailed(inDefaults) {
			return
		}
		if s.saidInDefaults(key) {
			src, path = s.defaults, inDefaults
		}
	}
	if !src.hasFailed(path) {
		src.fail(src.line(path), path, format, args...)
	}
}

// required reports an empty value; it tells whether there is one.
func (s scope) required(key, value, mend string) bool {
	if value == "" {
		s.fail(key, "is missing; %s", mend)
	}
	return value != ""
}

func (s scope) oneOf(key, value string, legal ...string) {
	if !slices.Contains(legal, value) {
		s.fail(key, "%s is not one of them; write %s", quote(value), strings.Join(legal, " or "))
	}
}

func (s scope) atLeast(key string, value, least int) {
	if value < least {
		s.fail(key, "%d is too small; write at least %d", value, least)
	}
}

func (s scope) between(key string, value, least, most int) {
	if value < least || value > most {
		s.fail(key, "%d is out of range; write %d to %d", value, least, most)
	}
}

// lasts reports a duration out of its range.
func (s scope) lasts(key string, value, least, most time.Duration) {
	if value < least || value > most {
		s.fail(key, "%s is out of range; write %s to %s",
			FormatDuration(value), FormatDuration(least), FormatDuration(most))
	}
}

// plain reports a placeholder in a path that belongs to no mailbox.
func (s scope) plain(key, path string) {
	if p := placeholder.FindString(path); p != "" {
		s.fail(key, "%s has no meaning here, only in a mailbox's imap block and its defaults; write the path", p)
	}
}

// each reports the items of a list that check finds wrong. Items are mail
// addresses and names of people's making: they are not repeated in the text.
func (s scope) each(key string, items []string, check func(string) string) {
	for i, item := range items {
		if wrong := check(item); wrong != "" {
			s.fail(index(key, i), "%s", wrong)
		}
	}
}
