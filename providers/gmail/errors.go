package gmail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/api/googleapi"

	"mailsyncd/providers"
)

// classed makes an error of a class; format and args as for fmt.Errorf.
func classed(class providers.Class, format string, args ...any) error {
	return &providers.ClassError{Class: class, Err: fmt.Errorf(format, args...)}
}

// kind says what a failed call means to whoever made it, beside its class.
type kind int

const (
	kindOther   kind = iota
	kindGone         // 404: the mail is deleted, or the history forgotten
	kindBadCall      // 400: the server does not take a parameter (a page token, an id)
	kindBroken       // this answer was broken; another call may well succeed
)

type callError struct {
	kind kind
	err  error
}

func (e *callError) Error() string { return e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

func isKind(err error, k kind) bool {
	var e *callError
	return errors.As(err, &e) && e.kind == k
}

// classify gives the failure of a call its class. What servers say in words is
// left out: they repeat queries and addresses. Status and reason say enough.
func (p *Provider) classify(ctx context.Context, c Call, err error) error {
	var api *googleapi.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("asking Gmail for %s: %w", c, ctx.Err())
	case errors.As(err, &api):
		return p.classifyAnswer(c, api)
	case isClassed(err):
		return unwrapURL(err) // the credential's or the gate's, classed where it arose
	}
	return &callError{brokenKind(err), transportError(c, err)}
}

// isClassed tells whether an error has its class already.
func isClassed(err error) bool {
	var known *providers.ClassError
	var throttled *providers.ThrottledError
	return errors.Is(err, providers.ErrUnauthorized) || errors.As(err, &known) || errors.As(err, &throttled)
}

// unwrapURL takes away what http.Client puts around an error: the URL, with the
// query in it.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// brokenKind tells a broken answer from a connection that does not come about.
func brokenKind(err error) kind {
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &syntax) || errors.As(err, &wrongType) {
		return kindBroken
	}
	return kindOther
}

func transportError(c Call, err error) error {
	err = unwrapURL(err)
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case brokenKind(err) == kindBroken && !errors.Is(err, io.ErrUnexpectedEOF):
		return classed(providers.ClassServer, "asking Gmail for %s: the answer cannot be understood", c)
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &record):
		return classed(providers.ClassTLS, "asking Gmail for %s: %w", c, err)
	case errors.Is(err, context.DeadlineExceeded):
		return classed(providers.ClassNetwork, "asking Gmail for %s: no answer in time", c)
	}
	return classed(providers.ClassNetwork, "asking Gmail for %s: %w", c, netCause(err))
}

// netCause keeps of a network error what is known to hold no mail: its type.
func netCause(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the connection broke in the middle of an answer")
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &op):
		return op
	}
	return errors.New("the connection failed")
}

// classifyAnswer reads an answer that is not 2xx, by reason first: Google uses
// 403 for half a dozen things.
func (p *Provider) classifyAnswer(c Call, e *googleapi.Error) error {
	why := reason(e)
	switch why {
	case "rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded":
		return p.refusedRate(c, e, why)
	case "dailyLimitExceeded", "dailyLimitExceededUnreg":
		p.cfg.Limiter.RefusedProject(dailyPause)
		return &providers.ThrottledError{After: dailyPause, Err: errors.New("the Cloud project has reached its daily limit (dailyLimitExceeded); raise it in the Google Cloud console or wait until it is reset")}
	}
	switch {
	case e.Code == http.StatusTooManyRequests:
		return p.refusedRate(c, e, why)
	case e.Code == http.StatusUnauthorized:
		return fmt.Errorf("%w: Google takes neither the old nor a new access token; connect the mailbox again, or check the service account", providers.ErrUnauthorized)
	case e.Code == http.StatusForbidden:
		return forbidden(why)
	case e.Code == http.StatusNotFound, e.Code == http.StatusGone:
		return &callError{kindGone, classed(providers.ClassServer, "asking Gmail for %s: it is not there (%d)", c, e.Code)}
	case e.Code >= 500:
		return &callError{kindBroken, classed(providers.ClassServer, "asking Gmail for %s: the server failed (%d)", c, e.Code)}
	case e.Code == http.StatusBadRequest && why == "failedPrecondition":
		return fmt.Errorf("%w: Gmail is not switched on for this account (failedPrecondition); give it a licence with Gmail", providers.ErrUnauthorized)
	case e.Code == http.StatusBadRequest:
		return &callError{kindBadCall, classed(providers.ClassServer, "asking Gmail for %s: the server does not take the call (400 %s)", c, why)}
	}
	return classed(providers.ClassServer, "asking Gmail for %s: unexpected answer %d", c, e.Code)
}

// dailyPause is how long a project rests that has spent its day: its owner may
// raise the limit at any time.
const dailyPause = time.Hour

// maxAfter caps a pause that a server asks for.
const maxAfter = 6 * time.Hour

// refusedRate slows the user down, and says for how long nothing is asked.
func (p *Provider) refusedRate(c Call, e *googleapi.Error, why string) error {
	if why == "" {
		why = "429"
	}
	p.lessAtOnce()
	after := p.cfg.Limiter.Refused(p.key, retryAfter(e.Header, time.Now()))
	return &providers.ThrottledError{After: after, Err: fmt.Errorf("asking Gmail for %s: too many calls (%d %s); they are made more slowly now", c, e.Code, why)}
}

// retryAfter reads Retry-After, as seconds or as a date (RFC 9110 §10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return min(maxAfter, time.Duration(min(n, int(maxAfter/time.Second)))*time.Second)
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(maxAfter, t.Sub(now))
	}
	return 0
}

// forbidden is a 403 that needs a person.
func forbidden(why string) error {
	switch why {
	case "accessNotConfigured", "SERVICE_DISABLED":
		return classed(providers.ClassConfig, "the Gmail API is not enabled in the Cloud project (accessNotConfigured); enable it in the Google Cloud console")
	case "domainPolicy":
		return fmt.Errorf("%w: the Workspace administrator does not let apps read mail (domainPolicy); ask for it in the Admin console", providers.ErrUnauthorized)
	case "insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
		return fmt.Errorf("%w: the token lacks a scope (insufficientPermissions); connect the mailbox again, or allow the scope for the service account", providers.ErrUnauthorized)
	}
	return fmt.Errorf("%w: Google forbids it (403 %s); check the account and the project in the Admin console", providers.ErrUnauthorized, why)
}

// reason returns the reason of an answer: a word, or "" when it has none or one
// that is not a plain word.
func reason(e *googleapi.Error) string {
	if len(e.Errors) == 0 {
		return ""
	}
	return word(e.Errors[0].Reason)
}

// word returns a server's word if it is nothing but one: a short run of
// letters, digits and underscores. Such a word may stand in an error text.
func word(s string) string {
	if !validID(s) || len(s) > 40 {
		return ""
	}
	return s
}
