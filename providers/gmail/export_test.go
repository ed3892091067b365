package gmail

import (
	"net/http"
	"net/url"
	"testing"

	"google.golang.org/api/gmail/v1"

	"mailsyncd/providers"
)

// What the tests of the outside need of the inside.

const (
	MaskProfile = maskProfile
	MaskLabels  = maskLabels
	MaskHistory = maskHistory
	MaskList    = maskList
	MaskGet     = maskGet
)

// Gate is the round-tripper that refuses what reads more than headers.
func Gate(t testing.TB, base string, next http.RoundTripper) http.RoundTripper {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return &gate{base: u, next: next}
}

// GatedService is the generated client just as the provider has it.
func GatedService(t testing.TB, base string, next http.RoundTripper) *gmail.Service {
	t.Helper()
	svc, err := newService(Config{Endpoint: base, Transport: next, Credential: fixed("token")})
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

// DecodeCursor and DecodeOld read cursors and write them again.
func DecodeCursor(text providers.Cursor) (providers.Cursor, error) {
	c, err := decodeCursor(text)
	if err != nil {
		return "", err
	}
	return encode(c), nil
}
