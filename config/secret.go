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
// is empty. Compare with Equal, not ==.
type Secret struct {
	// value is behind a pointer because fmt calls no methods on unexported
	// fields of other structs: there it prints the pointer instead.
	value *string
}

// NewSecret wraps a value that did not come from a file.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the value. Call it where the secret is used, nowhere else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsEmpty tells that there is no secret.
func (s Secret) IsEmpty() bool { return s.Reveal() == "" }

// Equal compares in a time that does not depend on the values.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(t.Reveal())) == 1
}

// Lines splits a secret file of several lines (the current secret, then the
// previous one), leaving out empty lines.
func (s Secret) Lines() []Secret {
	var lines []Secret
	for line := range strings.Lines(s.Reveal()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, NewSecret(line))
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
