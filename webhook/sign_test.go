package webhook_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsyncd/webhook"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	currentSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	previousSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// The vector is the one that the Standard Webhooks libraries share.
func TestTheKnownVector(t *testing.T) {
	got := webhook.Sign(secrets(t, currentSecret), "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature is %q, want %q", got, want)
	}
}

func TestEachActiveSecretVerifiesBySomebodyElsesLibrary(t *testing.T) {
	const id, body = "evt_1", `{"type":"webhook.test"}`
	now := time.Now()
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", webhook.Sign(secrets(t, currentSecret+"\n"+previousSecret), id, now, []byte(body)))
	for name, secret := range map[string]string{"current": currentSecret, "previous": previousSecret} {
		if err := verifier(t, secret).Verify([]byte(body), h); err != nil {
			t.Errorf("a receiver with the %s secret refuses: %v", name, err)
		}
	}
	if verifier(t, "whsec_"+strings.Repeat("AAAA", 8)).Verify([]byte(body), h) == nil {
		t.Error("a receiver with another secret accepts")
	}
	if verifier(t, currentSecret).Verify([]byte(body+" "), h) == nil {
		t.Error("a changed body is accepted")
	}
}

func TestSecretFiles(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		n          int
		says       string // of the error, if n is 0
	}{
		{"one secret", currentSecret, 1, ""},
		{"one secret and a newline", currentSecret + "\n", 1, ""},
		{"two secrets with blank lines and carriage returns", "\r\n" + currentSecret + "\r\n\r\n" + previousSecret + "\r\n", 2, ""},
		{"an empty file", "\n \n", 0, "no secret in it"},
		{"three secrets", strings.Repeat(currentSecret+"\n", 3), 0, "more than two"},
		{"a secret without its prefix", currentSecret[6:], 0, `line 1: a secret begins with "whsec_"`},
		{"a broken previous secret", currentSecret + "\nwhsec_???", 0, "line 2: the secret is not base64"},
		{"a secret without padding", "whsec_" + strings.Repeat("A", 34), 0, "not base64 (with padding)"},
		{"a secret that is too short", "whsec_AAAA", 0, "has 3 bytes, needed are 24 to 64"},
		{"a secret that is too long", "whsec_" + strings.Repeat("AAAA", 22), 0, "has 66 bytes"},
	} {
		got, err := webhook.ParseSecrets([]byte(tt.file))
		switch {
		case tt.n > 0 && (err != nil || len(got) != tt.n):
			t.Errorf("%s gave %d secrets and %v, want %d", tt.name, len(got), err, tt.n)
		case tt.n == 0 && (err == nil || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%s gave error %v, want one that says %q", tt.name, err, tt.says)
		case err != nil && strings.Contains(err.Error(), "???"):
			t.Errorf("%s: the error quotes the secret: %v", tt.name, err)
		}
	}
}

func TestASecretNeverPrints(t *testing.T) {
	s := secrets(t, currentSecret)[0]
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("configured", "secret", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %d %x", s, s, s, s, s, s), log.String()} {
		if !strings.Contains(text, "[redacted]") || strings.Contains(text, "MfKQ") || strings.Contains(text, "49 242") {
			t.Errorf("a secret printed as %q", text)
		}
	}
}

// FuzzParseSecrets holds that no file breaks the parser and that what it accepts
// signs.
func FuzzParseSecrets(f *testing.F) {
	f.Add([]byte(currentSecret + "\n" + previousSecret))
	f.Add([]byte("whsec_"))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := webhook.ParseSecrets(file)
		if err == nil && (len(got) < 1 || len(got) > 2) {
			t.Fatalf("%d secrets", len(got))
		}
		if sig := webhook.Sign(got, "evt_1", time.Unix(1, 0), nil); strings.Count(sig, "v1,") != len(got) {
			t.Errorf("%d secrets signed %q", len(got), sig)
		}
	})
}

func secrets(t testing.TB, file string) []webhook.Secret {
	t.Helper()
	s, err := webhook.ParseSecrets([]byte(file))
	if err != nil {
		t.Fatalf("reading secrets: %v", err)
	}
	return s
}

func verifier(t testing.TB, secret string) *standardwebhooks.Webhook {
	t.Helper()
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatalf("making a verifier: %v", err)
	}
	return v
}
