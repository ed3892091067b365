package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Secrets keeps what logs a mailbox in and does not stand in a file: an OAuth
// refresh token. Values are sealed like everything else and are never listed.
type Secrets interface {
	// Secret returns a secret of a mailbox; nil when none is kept under the name.
	Secret(ctx context.Context, mailbox, name string) ([]byte, error)
	// SetSecret replaces it; durable when it returns. The value is 1 to MaxSecret
	// bytes.
	SetSecret(ctx context.Context, mailbox, name string, value []byte) error
	// DropSecrets erases all secrets of a mailbox. What was there counts as an
	// erasure that waits for the file to be rewritten (Eraser); where nothing was,
	// nothing is written.
	DropSecrets(ctx context.Context, mailbox string, now time.Time) error
}

// MaxSecret is the longest secret, in bytes. Google's refresh tokens have up to
// 512.
const MaxSecret = 16 << 10

// CheckSecret says what is wrong with a secret that SetSecret is asked to keep;
// every implementation asks it first. It does not repeat the value.
func CheckSecret(mailbox, name string, value []byte) error {
	switch {
	case mailbox == "" || name == "":
		return errors.New("a secret needs a mailbox and a name")
	case len(value) == 0:
		return errors.New("an empty secret is not kept")
	case len(value) > MaxSecret:
		return fmt.Errorf("a secret of %d bytes is longer than the %d that are kept", len(value), MaxSecret)
	}
	return nil
}
