package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// secretPrefix begins a symmetric secret (Standard Webhooks 1.0.0, "Signature
// scheme").
const secretPrefix = "whsec_"

// Standard Webhooks asks for 24 to 64 random bytes.
const (
	minSecret = 24
	maxSecret = 64
)

// howToSecret ends every complaint about a secret with the way out of it.
const howToSecret = `make one with: echo "whsec_$(openssl rand -base64 32)"`

// Secret is the key of a signature. It prints as "[redacted]".
type Secret struct{ key []byte }

// Format hides the key from every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// LogValue hides the key from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// ParseSecrets reads the content of a secret file: line 1 is the current secret,
// line 2, if there is one, the previous one, both "whsec_" and base64. Blank
// lines do not count. Errors name the line and never its content.
func ParseSecrets(file []byte) ([]Secret, error) {
	var secrets []Secret
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		s, err := parseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		secrets = append(secrets, s)
	}
	switch {
	case len(secrets) == 0:
		return nil, errors.New("no secret in it; " + howToSecret)
	case len(secrets) > 2:
		return nil, errors.New("more than two secrets: keep the current one in line 1 and the previous one in line 2")
	}
	return secrets, nil
}

func parseSecret(line string) (Secret, error) {
	encoded, ok := strings.CutPrefix(line, secretPrefix)
	if !ok {
		return Secret{}, errors.New(`a secret begins with "whsec_"; ` + howToSecret)
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		// The decoder's error would tell where the secret is broken, and with it
		// a byte of the secret.
		return Secret{}, errors.New("the secret is not base64 (with padding); " + howToSecret)
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return Secret{}, fmt.Errorf("the secret has %d bytes, needed are %d to %d; %s", len(key), minSecret, maxSecret, howToSecret)
	}
	return Secret{key: key}, nil
}

// sign gives the value of webhook-signature: one "v1,…" for each secret,
// separated by spaces, the current secret's first. Signed is
// "id.timestamp.body" with the timestamp in Unix seconds (Standard Webhooks
// 1.0.0, "Signature scheme"). An id must hold no dot.
func sign(secrets []Secret, id string, at time.Time, body []byte) string {
	signatures := make([]string, len(secrets))
	head := id + "." + strconv.FormatInt(at.Unix(), 10) + "."
	for i, s := range secrets {
		mac := hmac.New(sha256.New, s.key)
		mac.Write([]byte(head))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
