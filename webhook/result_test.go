package webhook_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"mailsyncd/webhook"
)

func TestWhatAStatusMeans(t *testing.T) {
	for _, tt := range []struct {
		status     int
		retryAfter string
		want       webhook.Kind
		after      time.Duration
	}{
		{200, "", webhook.Accepted, 0},
		{201, "", webhook.Accepted, 0},
		{202, "60", webhook.Accepted, 0},
		{204, "", webhook.Accepted, 0},
		{299, "", webhook.Accepted, 0},

		{300, "", webhook.EndpointFailure, 0},
		{301, "", webhook.EndpointFailure, 0},
		{302, "", webhook.EndpointFailure, 0},
		{307, "", webhook.EndpointFailure, 0},
		{401, "", webhook.EndpointFailure, 0},
		{403, "", webhook.EndpointFailure, 0},
		{404, "", webhook.EndpointFailure, 0},
		{405, "", webhook.EndpointFailure, 0},
		{408, "", webhook.EndpointFailure, 0},
		{415, "", webhook.EndpointFailure, 0},
		{418, "", webhook.EndpointFailure, 0},
		{500, "", webhook.EndpointFailure, 0},
		{502, "60", webhook.EndpointFailure, 0},
		{503, "", webhook.EndpointFailure, 0},
		{503, "soon", webhook.EndpointFailure, 0},
		{599, "", webhook.EndpointFailure, 0},

		{400, "", webhook.EventFailure, 0},
		{413, "", webhook.EventFailure, 0},
		{422, "", webhook.EventFailure, 0},

		{429, "", webhook.Throttled, 0},
		{429, "120", webhook.Throttled, 2 * time.Minute},
		{429, "soon", webhook.Throttled, 0},
		{503, "120", webhook.Throttled, 2 * time.Minute},
		{503, "0", webhook.Throttled, 0},

		{410, "", webhook.Gone, 0},
	} {
		h := http.Header{}
		if tt.retryAfter != "" {
			h.Set("Retry-After", tt.retryAfter)
		}
		got := webhook.Classify(tt.status, h, at(10, 0, 0, 0))
		if got.Kind != tt.want || got.After != tt.after {
			t.Errorf("%d with Retry-After %q is %s after %v, want %s after %v", tt.status, tt.retryAfter, got.Kind, got.After, tt.want, tt.after)
		}
		if accepted := got.Kind == webhook.Accepted; accepted != (got.Err == nil) {
			t.Errorf("%d is %s with error %v", tt.status, got.Kind, got.Err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := at(10, 0, 0, 0)
	for _, tt := range []struct {
		what, value string
		after       time.Duration
		ok          bool
	}{
		{"nothing", "", 0, false},
		{"seconds", "90", 90 * time.Second, true},
		{"no seconds", "0", 0, true},
		{"exactly a day", "86400", 24 * time.Hour, true},
		{"more than a day", "86401", 24 * time.Hour, true},
		{"more than fits", "99999999999999999999999999", 24 * time.Hour, true},
		{"a date", "Sat, 21 Nov 2026 10:05:00 GMT", 5 * time.Minute, true},
		{"a date of the old form", "Saturday, 21-Nov-26 10:05:00 GMT", 5 * time.Minute, true},
		{"a date that has passed", "Fri, 20 Nov 2026 10:05:00 GMT", 0, true},
		{"a date next year", "Sun, 21 Nov 2027 10:05:00 GMT", 24 * time.Hour, true},
		{"a negative number", "-5", 0, false},
		{"a fraction", "1.5", 0, false},
		{"a word", "tomorrow", 0, false},
	} {
		if after, ok := webhook.RetryAfter(tt.value, now); after != tt.after || ok != tt.ok {
			t.Errorf("%s: %q is %v, %v, want %v, %v", tt.what, tt.value, after, ok, tt.after, tt.ok)
		}
	}
}

// FuzzRetryAfter holds that no header asks for more than a day or less than
// nothing.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"1", "86401", "Sat, 21 Nov 2026 10:05:00 GMT", "-1", "1e9", strings.Repeat("9", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if after, ok := webhook.RetryAfter(value, at(10, 0, 0, 0)); after < 0 || after > 24*time.Hour || !ok && after != 0 {
			t.Errorf("%q is %v, %v", value, after, ok)
		}
	})
}

func TestTheScheduleIsTheContracts(t *testing.T) {
	want := []time.Duration{
		0, 5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
	var total time.Duration
	got := webhook.RetryDelays()
	if len(got) != len(want) {
		t.Fatalf("%d delays, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("delay before try %d is %v, want %v", i+1, got[i], want[i])
		}
		total += got[i]
	}
	if total != 75*time.Hour+36*time.Minute+5*time.Second {
		t.Errorf("the schedule spans %v, its comment says 75 h 36 m 5 s", total)
	}
	if longest := want[len(want)-1] * 6 / 5; webhook.LongestDelay != longest {
		t.Errorf("the longest delay is %v, want %v", webhook.LongestDelay, longest)
	}
}
