package config

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const redacted = "[redacted]"

// Secret is a password, token or key. However it is printed, logged or
// encoded, it shows as "[redacted]"; only Reveal gives it away. The zero Secret
// is empty.
type Secret struct{ value string }

// NewSecret wraps a value that did not come from a file.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value. Call it where the secret is used, nowhere else.
func (s Secret) Reveal() string { return s.value }

// IsEmpty tells that there is no secret.
func (s Secret) IsEmpty() bool { return s.value == "" }

// Equal compares in a time that does not depend on the values.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(t.value)) == 1
}

// Lines splits a secret file of several lines (the current secret, then the
// previous one), leaving out empty lines.
func (s Secret) Lines() []Secret {
	var lines []Secret
	for line := range strings.Lines(s.value) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, Secret{line})
		}
	}
	return lines
}

// String hides the secret.
func (Secret) String() string { return redacted }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return redacted }

// Format hides the secret from every other verb: %x would print its bytes.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText hides the secret from JSON, YAML and XML.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
