package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Kind says what an attempt means. The values are label values of
// mailsyncd_webhook_attempts_total.
type Kind string

// The kinds of a result.
const (
	Accepted        Kind = "accepted"         // any 2xx: the event is the ATS's now
	EndpointFailure Kind = "endpoint_failure" // the endpoint would refuse any event
	EventFailure    Kind = "event_failure"    // the endpoint refused this event
	Throttled       Kind = "throttled"        // the endpoint asked for a pause
	Gone            Kind = "gone"             // 410: the endpoint wants nothing any more
)

// maxRetryAfter bounds what an endpoint may ask for: a typing error in a header
// must not switch delivery off for a year.
const maxRetryAfter = 24 * time.Hour

// Result is the outcome of one attempt.
type Result struct {
	Kind Kind
	// Code is the status ("204") or the class of a failure without one
	// ("timeout", "dns", "refused", "tls", "blocked", "secret", "network"). It
	// is kept with the event.
	Code string
	// After is how long a Throttled endpoint asked to wait, at most 24 h; zero
	// when it did not say.
	After time.Duration
	// Err says what happened and what to do; nil when accepted. It holds
	// nothing of the event, of the secret or of the answer.
	Err error
}

// failure is a result without a status.
func failure(code string, err error) Result {
	return Result{Kind: EndpointFailure, Code: code, Err: err}
}

// classify turns a status and its header into a result. What no rule names is
// the endpoint's failure: the courier finds out by itself when it was the
// event's, because then the endpoint accepts others.
func classify(status int, h http.Header, now time.Time) Result {
	r := Result{Kind: EndpointFailure, Code: strconv.Itoa(status)}
	after, asked := retryAfter(h.Get("Retry-After"), now)
	switch {
	case status >= 200 && status <= 299:
		r.Kind = Accepted
		return r
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && asked:
		r.Kind, r.After = Throttled, after
	case status == http.StatusGone:
		r.Kind = Gone
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		r.Kind = EventFailure
	}
	r.Err = fmt.Errorf("the endpoint answered %d: %s", status, advice(status))
	return r
}

// advice says what an operator does about a status.
func advice(status int) string {
	switch {
	case status >= 300 && status <= 399:
		return "redirects are not followed, put the final address into webhook.url"
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		return "the receiver does not accept this event, compare it with `mailsyncd schema` and look into the receiver's log"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "the receiver does not accept the signature, compare webhook.secret_file with its secret and check both clocks"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return "check the path of webhook.url"
	case status == http.StatusGone:
		return "the receiver wants no more events; when it does again, run `mailsyncd webhook resume`"
	case status == http.StatusRequestEntityTooLarge:
		return "raise the receiver's limit on request bodies to 5 MB"
	case status == http.StatusUnsupportedMediaType:
		return "the receiver must take application/json"
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return "it asks for a pause and gets it"
	default:
		return "look into the receiver's log"
	}
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3): seconds or a date. It tells
// whether the header was there and readable; a time that has passed is zero.
func retryAfter(value string, now time.Time) (after time.Duration, ok bool) {
	if value == "" {
		return 0, false
	}
	if digits(value) {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
