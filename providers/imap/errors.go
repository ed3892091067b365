package imap

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/providers"
	"mailsyncd/providers/imap/wire"
)

// classed makes an error of a class; format and args as for fmt.Errorf.
func classed(class providers.Class, format string, args ...any) error {
	return &providers.ClassError{Class: class, Err: fmt.Errorf(format, args...)}
}

// maxForeign cuts what servers say in an error text.
const maxForeign = 160

// foreign quotes a server's text for an error message. Words with an @ and very
// long words go: servers repeat addresses and, in the worst case, credentials.
func foreign(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		switch {
		case strings.Contains(w, "@"):
			words[i] = "[address]"
		case len(w) > 40:
			words[i] = "[…]"
		}
	}
	text = strings.Join(words, " ")
	if len(text) > maxForeign {
		text = strings.ToValidUTF8(text[:maxForeign], "") + "…"
	}
	return strconv.Quote(strings.ToValidUTF8(text, "?"))
}

// throttleWords are what servers say when they mean "later", lower case. They
// count even in answer to LOGIN: a throttled login is not a wrong password.
var throttleWords = [...]string{
	"too many", "throttl", "suggested backoff", "server unavailable", "try again later",
	"rate limit", "temporarily", "temporary", "maximum number of connections",
	"connection limit", "exceeded", "server busy", "unusual",
}

// isThrottled tells whether a refusal means "later" (RFC 5530 §3, RFC 9051 §7.1).
func isThrottled(code, text string) bool {
	switch strings.ToUpper(code) {
	case "LIMIT", "INUSE", "UNAVAILABLE", "THROTTLED", "SERVERBUG":
		return true
	case "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED":
		return false
	}
	text = strings.ToLower(text)
	for _, w := range throttleWords {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// backoff is how servers name the length of a pause: Microsoft says "Suggested
// Backoff Time: 299910 milliseconds", others "retry in 600 seconds".
var backoff = regexp.MustCompile(`(?i)(?:suggested backoff time:?|(?:re)?try(?: again)? (?:in|after))\s*(\d{1,12})\s*(milliseconds?|ms|seconds?|s|minutes?|min|hours?|h)?\b`)

// maxBackoff caps a pause that a server asks for: its clock may be off, ours
// decides when to look again.
const maxBackoff = 6 * time.Hour

// askedPause reads the pause out of a text; 0 when it names none.
func askedPause(text string) time.Duration {
	m := backoff.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0
	}
	unit := time.Second
	switch u := strings.ToLower(m[2]); {
	case strings.HasPrefix(u, "mi") && !strings.HasPrefix(u, "mil"):
		unit = time.Minute
	case strings.HasPrefix(u, "mil"), u == "ms", u == "" && n >= 10_000:
		unit = time.Millisecond
	case strings.HasPrefix(u, "h"):
		unit = time.Hour
	}
	if n > int64(maxBackoff/unit) {
		return maxBackoff
	}
	return time.Duration(n) * unit
}

func throttled(text string) error {
	return &providers.ThrottledError{
		After: askedPause(text),
		Err:   fmt.Errorf("the server said %s; it will be tried again by itself", foreign(text)),
	}
}

// byeError is a server that ends the session of its own accord (RFC 9051 §7.1.5).
func byeError(text string) error {
	code, text := splitCode(text)
	if isThrottled(code, text) {
		return throttled(text)
	}
	return classed(providers.ClassServer, "the server ended the session: %s", foreign(text))
}

// splitCode cuts "[CODE …] text".
func splitCode(s string) (code, text string) {
	s = strings.TrimSpace(s)
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if c, t, ok := strings.Cut(inner, "]"); ok {
			code, _, _ = strings.Cut(c, " ")
			return code, strings.TrimSpace(t)
		}
	}
	return "", s
}

// refusal returns the NO or BAD that err is; nil when it is something else.
func refusal(err error) *imap.Error {
	var e *imap.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// why gives an error of a command its class. What ended the connection counts
// more than what the library made of it.
func (s *session) why(doing string, err error) error {
	if err == nil {
		return nil
	}
	if e := refusal(err); e != nil && s.conn.Err() == nil {
		if isThrottled(string(e.Code), e.Text) {
			return throttled(e.Text)
		}
		return classed(providers.ClassServer, "%s: the server refused: %s", doing, foreign(e.Text))
	}
	if bye := s.conn.Bye(); bye != "" {
		return byeError(bye)
	}
	cause := s.conn.Err()
	switch {
	case cause == nil:
		cause = err
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, cause)
	case errors.Is(cause, wire.ErrProtocol):
		return classed(providers.ClassServer, "%s: %w", doing, cause)
	case errors.Is(cause, wire.ErrRefused):
		return classed(providers.ClassConfig, "%s: %w", doing, cause)
	}
	var known *providers.ClassError
	if errors.As(err, &known) {
		return err
	}
	if s.conn.Err() == nil {
		return classed(providers.ClassServer, "%s: the answer cannot be understood", doing)
	}
	return classed(providers.ClassNetwork, "%s: %w", doing, cause)
}

// loginHints are refusals that an operator or user can end, by a word of the
// text (lower case).
var loginHints = [...]struct{ word, hint string }{
	{"authenticated but not connected", "the login is right, but this account has no right to this mailbox, or the mailbox does not exist; grant it IMAP access"},
	{"enable imap", "switch IMAP on in the settings of the mailbox"},
	{"imap access", "switch IMAP on in the settings of the mailbox"},
	{"web login required", "log in once with a browser and confirm the access"},
	{"application-specific", "make an application-specific password and use it here"},
	{"app password", "make an app password and use it here"},
	{"unsafe login", "the provider does not know this program: allow third-party clients in the settings of the mailbox"},
}

// loginError gives a refused login its class: throttled first, since a throttled
// login says nothing about the credential; then the credential.
func (s *session) loginError(err error) error {
	e := refusal(err)
	var challenge *challengeError
	switch {
	case errors.As(err, &challenge):
		return challenge.classify()
	case e == nil || s.conn.Err() != nil:
		return s.why("logging in", err)
	}
	text := e.Text
	if alerts := s.conn.Alerts(); len(alerts) > 0 {
		_, alert := splitCode(alerts[len(alerts)-1])
		text += " " + alert
	}
	if isThrottled(string(e.Code), text) {
		return throttled(text)
	}
	return refusedLogin(e, text)
}

func refusedLogin(e *imap.Error, text string) error {
	low := strings.ToLower(text)
	for _, h := range loginHints {
		if strings.Contains(low, h.word) {
			return fmt.Errorf("%w: %s; the server said %s", providers.ErrUnauthorized, h.hint, foreign(text))
		}
	}
	switch {
	case e.Code == "PRIVACYREQUIRED":
		return classed(providers.ClassConfig, "the server takes no login without TLS; set tls to implicit or starttls")
	case e.Code == "EXPIRED":
		return fmt.Errorf("%w: the password has expired; set a new one", providers.ErrUnauthorized)
	case e.Code == "AUTHORIZATIONFAILED", e.Code == "CONTACTADMIN", e.Code == "NOPERM":
		return fmt.Errorf("%w: this account may not open this mailbox; ask the mail administrator; the server said %s", providers.ErrUnauthorized, foreign(text))
	case e.Type == imap.StatusResponseTypeBad && e.Code == "":
		return classed(providers.ClassServer, "the server did not understand the login: %s", foreign(text))
	}
	return fmt.Errorf("%w: check the user name and the password or token; the server said %s", providers.ErrUnauthorized, foreign(text))
}
