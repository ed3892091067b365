package storetest

import (
	"bytes"
	"context"
	"time"

	"mailsyncd/store"
)

// memSecret names a secret.
type memSecret struct{ mailbox, name string }

// Secret implements store.Secrets.
func (m *Memory) Secret(ctx context.Context, mailbox, name string) (value []byte, err error) {
	err = m.do(ctx, "Secret", func(s *state) error {
		value = bytes.Clone(s.secrets[memSecret{mailbox, name}])
		return nil
	})
	return value, err
}

// SetSecret implements store.Secrets.
func (m *Memory) SetSecret(ctx context.Context, mailbox, name string, value []byte) error {
	if err := store.CheckSecret(mailbox, name, value); err != nil {
		return err
	}
	return m.do(ctx, "SetSecret", func(s *state) error {
		s.secrets[memSecret{mailbox, name}] = bytes.Clone(value)
		return nil
	})
}

// DropSecrets implements store.Secrets.
func (m *Memory) DropSecrets(ctx context.Context, mailbox string, now time.Time) error {
	return m.do(ctx, "DropSecrets", func(s *state) error {
		if s.dropSecrets(mailbox) {
			s.erased(now)
		}
		return nil
	})
}

func (s *state) dropSecrets(mailbox string) (any bool) {
	for k := range s.secrets {
		if k.mailbox == mailbox {
			delete(s.secrets, k)
			any = true
		}
	}
	return any
}

func (b *bench) secret(mailbox, name string) string {
	b.Helper()
	value, err := b.Secret(b.ctx, mailbox, name)
	b.must(err, "reading a secret")
	return string(value)
}

func (b *bench) pendingErasures() int {
	b.Helper()
	e, err := b.Erasure(b.ctx)
	b.must(err, "asking what waits for a rewrite")
	return e.Pending
}

var secretTests = []subtest{
	{name: "a secret is kept over a restart, and replaced", run: func(b *bench) {
		value, err := b.Secret(b.ctx, "rita", "token")
		b.must(err, "reading none")
		equal(b, "at first", value == nil, true)
		b.must(b.SetSecret(b.ctx, "rita", "token", []byte("first")), "keeping")
		b.reopen()
		equal(b, "after the restart", b.secret("rita", "token"), "first")
		b.must(b.SetSecret(b.ctx, "rita", "token", []byte("second")), "replacing")
		b.reopen()
		equal(b, "after the next", b.secret("rita", "token"), "second")
	}},
	{name: "secrets of other mailboxes and names are others", run: func(b *bench) {
		for _, k := range []memSecret{{"rita", "token"}, {"rita", "other"}, {"tim", "token"}, {"ritat", "oken"}} {
			b.must(b.SetSecret(b.ctx, k.mailbox, k.name, []byte(k.mailbox+"/"+k.name)), "keeping")
		}
		equal(b, "one", b.secret("rita", "token"), "rita/token")
		b.must(b.DropSecrets(b.ctx, "rita", b.now), "dropping")
		equal(b, "rita's", b.secret("rita", "token")+b.secret("rita", "other"), "")
		equal(b, "others'", b.secret("tim", "token")+b.secret("ritat", "oken"), "tim/tokenritat/oken")
	}},
	{name: "what a caller does with the bytes changes nothing", run: func(b *bench) {
		value := []byte("secret")
		b.must(b.SetSecret(b.ctx, "rita", "token", value), "keeping")
		value[0] = 'X'
		read, err := b.Secret(b.ctx, "rita", "token")
		b.must(err, "reading")
		read[1] = 'X'
		equal(b, "secret", b.secret("rita", "token"), "secret")
	}},
	{name: "nothing and too much are refused, and not repeated", run: func(b *bench) {
		for what, err := range map[string]error{
			"empty":      b.SetSecret(b.ctx, "rita", "token", nil),
			"nobody's":   b.SetSecret(b.ctx, "", "token", []byte("s3cr3t")),
			"nameless":   b.SetSecret(b.ctx, "rita", "", []byte("s3cr3t")),
			"a novel":    b.SetSecret(b.ctx, "rita", "token", bytes.Repeat([]byte("s3cr3t"), store.MaxSecret)),
			"one letter": nil,
		} {
			equal(b, what+": refused", err != nil, what != "one letter")
			equal(b, what+": says it", err != nil && bytes.Contains([]byte(err.Error()), []byte("s3cr3t")), false)
		}
		b.must(b.SetSecret(b.ctx, "rita", "token", bytes.Repeat([]byte("x"), store.MaxSecret)), "keeping the longest")
		equal(b, "kept", len(b.secret("rita", "token")), store.MaxSecret)
	}},
	{name: "a dropped secret waits for the rewrite, and nothing for nothing", run: func(b *bench) {
		b.must(b.DropSecrets(b.ctx, "rita", b.now), "dropping none")
		equal(b, "pending at first", b.pendingErasures(), 0)
		b.must(b.SetSecret(b.ctx, "rita", "token", []byte("secret")), "keeping")
		b.must(b.SetSecret(b.ctx, "tim", "token", []byte("his")), "keeping another")
		b.must(b.DropSecrets(b.ctx, "rita", b.now), "dropping")
		b.must(b.DropSecrets(b.ctx, "rita", b.now), "dropping again")
		equal(b, "pending", b.pendingErasures(), 1)
		b.must(b.Rewrite(b.ctx, b.now), "rewriting")
		b.reopen()
		equal(b, "afterwards", []string{b.secret("rita", "token"), b.secret("tim", "token")}, []string{"", "his"})
	}},
	{name: "forgetting a mailbox erases its secrets", run: func(b *bench) {
		b.must(b.SetSecret(b.ctx, "rita", "token", []byte("secret")), "keeping")
		b.must(b.SetSecret(b.ctx, "tim", "token", []byte("his")), "keeping another")
		b.must(b.ForgetMailbox(b.ctx, "rita", b.now), "forgetting")
		b.reopen()
		equal(b, "secrets", []string{b.secret("rita", "token"), b.secret("tim", "token")}, []string{"", "his"})
		equal(b, "pending", b.pendingErasures(), 1)
	}},
	{name: "a secret outlives its mailbox's rest", run: func(b *bench) {
		b.must(b.SetSecret(b.ctx, "rita", "token", []byte("secret")), "keeping")
		b.must(b.SetMailbox(b.ctx, store.Mailbox{ID: "rita", State: store.MailboxSuspended}, nil, b.now), "suspending")
		b.tick(24 * time.Hour)
		equal(b, "secret", b.secret("rita", "token"), "secret")
	}},
}
