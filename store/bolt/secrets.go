package bolt

import (
	"bytes"
	"context"
	"time"

	"mailsyncd/store"
)

// secretKey is the row of one secret.
func (s *Store) secretKey(mailbox, name string) []byte {
	box, key := s.ring.index.key(tMailbox, mailbox), s.ring.index.key(tSecret, name)
	return join(box[:], key[:])
}

// Secret implements store.Secrets.
func (s *Store) Secret(ctx context.Context, mailbox, name string) (value []byte, err error) {
	err = s.view(ctx, func(t *tx) error {
		plain, _ := t.get(bSecrets, s.secretKey(mailbox, name))
		value = bytes.Clone(plain)
		return nil
	})
	return value, err
}

// SetSecret implements store.Secrets.
func (s *Store) SetSecret(ctx context.Context, mailbox, name string, value []byte) error {
	if err := store.CheckSecret(mailbox, name, value); err != nil {
		return err
	}
	return s.update(ctx, func(t *tx) error {
		t.put(bSecrets, s.secretKey(mailbox, name), value)
		return nil
	})
}

// DropSecrets implements store.Secrets.
func (s *Store) DropSecrets(ctx context.Context, mailbox string, now time.Time) error {
	return s.update(ctx, func(t *tx) error {
		if t.dropSecrets(mailbox) {
			t.erased(now)
		}
		return nil
	})
}

// dropSecrets deletes the secrets of a mailbox and tells whether it had any.
func (t *tx) dropSecrets(mailbox string) (any bool) {
	box := t.s.ring.index.key(tMailbox, mailbox)
	for _, key := range t.keys(bSecrets, box[:], 0) {
		any = t.del(bSecrets, key) || any
	}
	return any
}
