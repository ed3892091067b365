package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Problem is an error as it travels: application/problem+json (RFC 9457 §3.1).
// The interfaces return one, made by the functions below, when the caller can
// do something about it; the client returns the one it was sent.
type Problem struct {
	// Type is left out, which means about:blank: Status says it all (§4.2.1).
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong and what to do. Never an address or a subject.
	Detail string `json:"detail"`
	// Errors are the single faults where there are several: the lines of a
	// configuration that was refused.
	Errors []string `json:"errors,omitempty"`
}

// Error is the detail.
func (p *Problem) Error() string { return p.Detail }

func problem(status int, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// NotFound says that what was named is not there.
func NotFound(format string, args ...any) *Problem {
	return problem(http.StatusNotFound, format, args...)
}

// Conflict says that the present state forbids the call.
func Conflict(format string, args ...any) *Problem {
	return problem(http.StatusConflict, format, args...)
}

// Invalid says that what was sent cannot be used.
func Invalid(format string, args ...any) *Problem {
	return problem(http.StatusUnprocessableEntity, format, args...)
}

// Unavailable says that it cannot be done now, and may be later.
func Unavailable(format string, args ...any) *Problem {
	return problem(http.StatusServiceUnavailable, format, args...)
}

// With adds single faults to a problem.
func (p *Problem) With(faults ...string) *Problem {
	p.Errors = append(p.Errors, faults...)
	return p
}

// badRequest says that the call itself is wrong: its query or its JSON.
func badRequest(format string, args ...any) *Problem {
	return problem(http.StatusBadRequest, format, args...)
}

// asProblem turns any error into one that can be sent.
func asProblem(err error) *Problem {
	var p *Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes; send it in parts", tooLarge.Limit)
	default:
		return problem(http.StatusInternalServerError, "%v", err)
	}
}

// writeProblem sends an error.
func writeProblem(w http.ResponseWriter, err error) {
	p := asProblem(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller has gone; nobody is left to tell
}
