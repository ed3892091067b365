package gmailtest

import (
	"encoding/json"
	"net/http"
)

// apiError is an answer that is not 200, in Google's form.
type apiError struct {
	code    int
	reason  string
	status  string
	message string
}

var (
	errAuth     = &apiError{401, "authError", "UNAUTHENTICATED", "Invalid Credentials"}
	errScope    = &apiError{403, "insufficientPermissions", "PERMISSION_DENIED", "Request had insufficient authentication scopes."}
	errNoMail   = &apiError{400, "failedPrecondition", "FAILED_PRECONDITION", "Mail service not enabled"}
	errNotFound = &apiError{404, "notFound", "NOT_FOUND", "Requested entity was not found."}
	errRate     = &apiError{403, "rateLimitExceeded", "PERMISSION_DENIED", "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'"}
	err429      = &apiError{429, "rateLimitExceeded", "RESOURCE_EXHAUSTED", "Too many concurrent requests for user"}
)

func badRequest(message string) *apiError {
	return &apiError{400, "badRequest", "INVALID_ARGUMENT", message}
}

func (e *apiError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(e.code)
	detail := map[string]any{"code": e.code, "message": e.message, "status": e.status}
	if e.reason != "" {
		detail["errors"] = []any{map[string]any{"message": e.message, "domain": "global", "reason": e.reason}}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"error": detail}) // the client is gone: nothing to do
}
