package gmail_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	api "google.golang.org/api/gmail/v1"
	"google.golang.org/api/googleapi"

	"mailsyncd/providers/gmail"
)

// sent notes what leaves the process.
type sent struct{ requests []*http.Request }

func (s *sent) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests = append(s.requests, r)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
}

// doer is any call of the generated client.
type doer[T any] interface {
	Do(...googleapi.CallOption) (T, error)
}

func do[T any](c doer[T]) error { _, err := c.Do(); return err }

// Every other way that the generated client has to read, or to change anything,
// is refused before it leaves the process.
func TestGateRefusesEveryOtherCall(t *testing.T) {
	var out sent
	svc := gmail.GatedService(t, "https://gmail.test/", &out)
	u := svc.Users
	tests := []struct {
		name string
		err  error
	}{
		{"a whole message", do(u.Messages.Get("me", "a1"))},
		{"format full", do(u.Messages.Get("me", "a1").Format("full"))},
		{"format raw", do(u.Messages.Get("me", "a1").Format("raw"))},
		{"metadata without a mask: it holds a snippet", do(u.Messages.Get("me", "a1").Format("metadata"))},
		{"metadata with the snippet in the mask", do(u.Messages.Get("me", "a1").Format("metadata").Fields("id,snippet"))},
		{"our mask without a format", do(u.Messages.Get("me", "a1").Fields(gmail.MaskGet))},
		{"our mask with format full", do(u.Messages.Get("me", "a1").Format("full").Fields(gmail.MaskGet))},
		{"our mask twice, another first", do(u.Messages.Get("me", "a1").Format("metadata").Fields("*", gmail.MaskGet))},
		{"a header that nobody needs", do(u.Messages.Get("me", "a1").Format("metadata").MetadataHeaders("X-Secret").Fields(gmail.MaskGet))},
		{"another user's message", do(u.Messages.Get("boss@example.com", "a1").Format("metadata").Fields(gmail.MaskGet))},
		{"an id that is a path", do(u.Messages.Get("me", "a1/attachments/b").Format("metadata").Fields(gmail.MaskGet))},
		{"an attachment", do(u.Messages.Attachments.Get("me", "a1", "b"))},
		{"a thread, with its snippets", do(u.Threads.Get("me", "a1"))},
		{"a list of threads", do(u.Threads.List("me"))},
		{"a list of messages without a mask", do(u.Messages.List("me"))},
		{"a draft", do(u.Drafts.Get("me", "a1"))},
		{"history without a mask", do(u.History.List("me").StartHistoryId(1))},
		{"history of deletions", do(u.History.List("me").StartHistoryId(1).HistoryTypes("messageDeleted").Fields(gmail.MaskHistory))},
		{"the vacation text", do(u.Settings.GetVacation("me"))},
		{"filters", do(u.Settings.Filters.List("me"))},
		{"changing labels", do(u.Messages.Modify("me", "a1", &api.ModifyMessageRequest{}))},
		{"trashing", do(u.Messages.Trash("me", "a1"))},
		{"deleting", u.Messages.Delete("me", "a1").Do()},
		{"sending", do(u.Messages.Send("me", &api.Message{}))},
		{"watching", do(u.Watch("me", &api.WatchRequest{}))},
	}
	for _, tt := range tests {
		if tt.err == nil || !strings.Contains(tt.err.Error(), "refused to send a call") {
			t.Errorf("%s: %v, want it refused", tt.name, tt.err)
		}
	}
	if len(out.requests) != 0 {
		t.Errorf("%d requests left the process", len(out.requests))
	}
}

func TestGateStaysAtItsHost(t *testing.T) {
	var out sent
	gate := gmail.Gate(t, "https://gmail.test/base/", &out)
	for _, u := range []string{
		"https://evil.test/base/gmail/v1/users/me/profile?fields=emailAddress,historyId",
		"http://gmail.test/base/gmail/v1/users/me/profile?fields=emailAddress,historyId",
		"https://gmail.test/gmail/v1/users/me/profile?fields=emailAddress,historyId",
		"https://gmail.test/base/batch/gmail/v1",
		"https://gmail.test/base/upload/gmail/v1/users/me/messages",
		"https://gmail.test/base/gmail/v1/users/me/messages/a%2Fb?format=metadata&fields=" + url.QueryEscape(gmail.MaskGet),
	} {
		if _, err := gate.RoundTrip(request(t, u)); err == nil {
			t.Errorf("%s was let through", u)
		}
	}
	if _, err := gate.RoundTrip(request(t, "https://gmail.test/base/gmail/v1/users/me/profile?fields=emailAddress,historyId")); err != nil || len(out.requests) != 1 {
		t.Errorf("the profile is refused: %v", err)
	}
}

func request(t testing.TB, u string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, u, nil)
	if err != nil {
		t.Skip("not a request") // only a fuzzer makes such
	}
	return r
}

// Whatever URL comes: what passes asks for headers only.
func FuzzGate(f *testing.F) {
	const base = "https://gmail.test/"
	f.Add("gmail/v1/users/me/messages/a1", "format=metadata&fields="+url.QueryEscape(gmail.MaskGet))
	f.Add("gmail/v1/users/me/messages/a1", "format=metadata&format=full&fields="+url.QueryEscape(gmail.MaskGet))
	f.Add("gmail/v1/users/me/messages", "q=x&fields="+url.QueryEscape(gmail.MaskList))
	f.Add("gmail/v1/users/me/messages/../threads/a1", "fields=*")
	f.Add("gmail/v1/users/me/messages/a1;x", "%66ormat=full&fields=id;format=raw")
	masks := []string{gmail.MaskGet, gmail.MaskList, gmail.MaskHistory, gmail.MaskProfile, gmail.MaskLabels}
	f.Fuzz(func(t *testing.T, path, query string) {
		var out sent
		u := &url.URL{Scheme: "https", Host: "gmail.test", Path: "/" + path, RawQuery: query}
		r := request(t, u.String())
		if _, err := gmail.Gate(t, base, &out).RoundTrip(r); err != nil {
			return
		}
		q := out.requests[0].URL.Query()
		isGet := strings.Contains(out.requests[0].URL.Path, "/messages/")
		switch {
		case !slices.Contains(masks, q.Get("fields")) || len(q["fields"]) != 1:
			t.Errorf("passed without one of our masks: %q", q["fields"])
		case isGet && !slices.Equal(q["format"], []string{"metadata"}):
			t.Errorf("passed with the formats %q", q["format"])
		case strings.Contains(query, ";"):
			t.Error("a semicolon passed: servers disagree on what it separates")
		}
	})
}

func TestMasksHoldNoBody(t *testing.T) {
	for _, m := range []string{gmail.MaskGet, gmail.MaskList, gmail.MaskHistory, gmail.MaskProfile, gmail.MaskLabels} {
		for _, bad := range []string{"snippet", "body", "raw", "parts", "*", "filename"} {
			if strings.Contains(m, bad) {
				t.Errorf("the mask %s holds %s", m, bad)
			}
		}
	}
}

func TestRefusedCallIsClassedAsOurFault(t *testing.T) {
	var out sent
	_, err := gmail.Gate(t, "https://gmail.test/", &out).RoundTrip(request(t, "https://gmail.test/gmail/v1/users/me/messages/a1?q=nora@example.net"))
	if err == nil || strings.Contains(err.Error(), "nora") {
		t.Errorf("the refusal is %v", err)
	}
	if errors.Is(err, context.Canceled) {
		t.Error("the refusal looks like a cancelled call")
	}
}
