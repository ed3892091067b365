package admin_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"mailsyncd/admin"
)

// Whatever is sent, the answer is a success or a problem, never a crash.
func FuzzCall(f *testing.F) {
	f.Add("GET", "/v1/deliveries", "state=dead&limit=5", "")
	f.Add("PUT", "/v1/directory/candidate/a%2Fb", "", `{"emails":["a@b"]}`)
	f.Add("POST", "/v1/deliveries/replay", "", `{"ids":["a"],"since":"2026-11-21T00:00:00Z"}`)
	f.Add("POST", "/v1/directory/approve", "", `{"address":"a@b"}`)
	f.Add("DELETE", "/v1//directory/../job", "x=%zz", "{}")
	h := admin.New((&fake{}).config(slog.New(slog.DiscardHandler)))
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Path == "/v1/mailboxes/crash" || u.Path == "/v1/mailboxes/broken" {
			return
		}
		u.RawQuery = query
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code >= http.StatusInternalServerError {
			t.Fatalf("%s %s?%s: %d %s", method, u, query, rec.Code, rec.Body)
		}
		if rec.Code >= http.StatusBadRequest {
			var p admin.Problem
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Detail == "" {
				t.Fatalf("%d without a problem: %s", rec.Code, rec.Body)
			}
		}
	})
}
