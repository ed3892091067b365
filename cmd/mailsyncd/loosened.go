package main

import (
	"slices"
	"strings"

	"mailsyncd/config"
)

// loosened tells that mail which one configuration's guards refused may match
// under another. Then every mailbox walks its window again, as if the
// candidates had become matchable now. It would rather walk once too often: an
// address that is only spelled otherwise counts as another one.
func loosened(before, after *config.Config) bool {
	return lost(before.Company.Domains, after.Company.Domains) ||
		lost(before.Company.SharedAddresses, after.Company.SharedAddresses) ||
		lost(before.Company.IgnoreFrom, after.Company.IgnoreFrom) ||
		lost(after.Company.InternalApplicants, before.Company.InternalApplicants) ||
		moreRecipients(before.Sync.MaxRecipients, after.Sync.MaxRecipients) ||
		ownersChanged(before, after) ||
		readsMore(before, after)
}

// lost tells that a list lacks something it had.
func lost(before, after []string) bool {
	return slices.ContainsFunc(before, func(s string) bool {
		return !slices.ContainsFunc(after, func(other string) bool { return strings.EqualFold(s, other) })
	})
}

// moreRecipients tells that the guard fan_out lets more through; 0 is no limit.
func moreRecipients(before, after int) bool {
	return before != 0 && (after == 0 || after > before)
}

// ownersChanged tells that a mailbox gave an address up: it may be a candidate's
// own now, and one that two mailboxes had is no longer shared. A mailbox that
// comes only tightens what is own; that its mails with List-Unsubscribe count as
// an owner's shows in its own first walk, so the fleet is left alone.
func ownersChanged(before, after *config.Config) bool {
	return lost(owned(before), owned(after))
}

// owned lists the addresses of all mailboxes, each with its mailbox, in order.
func owned(cfg *config.Config) []string {
	var all []string
	for i := range cfg.Mailboxes {
		m := &cfg.Mailboxes[i]
		for _, address := range m.Addresses() {
			all = append(all, strings.ToLower(address)+" "+m.ID)
		}
	}
	slices.Sort(all)
	return all
}

// readsMore tells that a mailbox reads a folder that it left out. A mailbox that
// is new walks its window anyway.
func readsMore(before, after *config.Config) bool {
	return slices.ContainsFunc(after.Mailboxes, func(m config.Mailbox) bool {
		was, known := before.Mailbox(m.ID)
		return known && lost(was.IgnoreFolders, m.IgnoreFolders)
	})
}
