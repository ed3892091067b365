package proptest_test

import (
	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/webhook"
)

// bug is a planted fault: wrappers between the parts. The zero bug is none.
type bug struct {
	name      string
	finds     []kind
	store     func(*world, mailbox.Store) mailbox.Store
	directory func(*world, store.Directory) store.Directory
	outbox    func(*world, store.Outbox) store.Outbox
	poster    func(*world, webhook.Poster) webhook.Poster
	opener    func(*world, string, providers.Opener) providers.Opener
}
