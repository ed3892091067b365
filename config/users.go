package config

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// User is a user of the directory, as mailboxes_from_users asks for it.
type User struct {
	Ref       string
	Addresses []string
}

// WithUsers returns the configuration with a mailbox for each user whom
// mailboxes_from_users names, in order of refs, behind those that stand in
// files. Mailboxes that an earlier WithUsers made are replaced.
//
// Two users with one address cannot both have the mailbox: the first by ref has
// it. skipped counts the others.
func (c *Config) WithUsers(users []User) (with *Config, skipped int) {
	made := *c
	made.Mailboxes = slices.DeleteFunc(slices.Clone(c.Mailboxes), func(m Mailbox) bool { return m.FromUser })
	taken, ids := claimed(made.Mailboxes)
	users = slices.Clone(users)
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.Ref, b.Ref) })
	for _, u := range users {
		m, ok := c.mailboxOf(u)
		switch {
		case !ok || taken["user "+u.Ref] == configuredHere || anyConfigured(taken, m.Addresses()):
			continue
		case taken[m.Address] == madeOfUser:
			skipped++
			continue
		}
		if ids[m.ID] {
			m.ID = hashedID(u.Ref)
		}
		m.Gmail.place(m.ID, m.Address)
		taken[m.Address] = madeOfUser
		made.Mailboxes = append(made.Mailboxes, m)
	}
	made.index()
	return &made, skipped
}

// Who has an address.
const (
	configuredHere = 1 + iota
	madeOfUser
)

// claimed lists the addresses and users of the mailboxes that stand in files,
// and their ids.
func claimed(mailboxes []Mailbox) (taken map[string]int, ids map[string]bool) {
	taken, ids = map[string]int{}, map[string]bool{}
	for i := range mailboxes {
		m := &mailboxes[i]
		ids[m.ID] = true
		for _, a := range m.Addresses() {
			taken[foldAddress(a)] = configuredHere
		}
		if m.User != "" {
			taken["user "+m.User] = configuredHere // an address holds no space
		}
	}
	return taken, ids
}

func anyConfigured(taken map[string]int, addresses []string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool { return taken[foldAddress(a)] == configuredHere })
}

// mailboxOf makes a user's mailbox: its first address in the domain, the others
// as aliases.
func (c *Config) mailboxOf(u User) (Mailbox, bool) {
	domain := strings.ToLower(c.MailboxesFromUsers.Domain)
	at := slices.IndexFunc(u.Addresses, func(a string) bool { return wrongAddress(a) == "" && inDomain(a, domain) })
	if domain == "" || at < 0 {
		return Mailbox{}, false
	}
	address := foldAddress(u.Addresses[at])
	m := Mailbox{
		ID: u.Ref, Address: address, User: u.Ref, Interval: c.Sync.Interval,
		IgnoreFolders: c.Defaults.IgnoreFolders, Gmail: c.MailboxesFromUsers.Gmail,
		Provider: ProviderGmail, FromUser: true, File: c.File, Line: c.lines["mailboxes_from_users"],
	}
	for _, a := range u.Addresses {
		if a = foldAddress(a); a != address && !slices.Contains(m.Aliases, a) {
			m.Aliases = append(m.Aliases, a)
		}
	}
	if !mailboxID.MatchString(u.Ref) {
		m.ID = hashedID(u.Ref)
	}
	return m, true
}

func inDomain(address, domain string) bool {
	folded := foldAddress("x@" + domain)
	return strings.HasSuffix(foldAddress(address), folded[1:]) && !strings.Contains(address, "/")
}

// hashedID is the id of a user's mailbox whose ref cannot be one.
func hashedID(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return "user-" + hex.EncodeToString(sum[:8])
}

// index makes byID anew.
func (c *Config) index() {
	c.byID = make(map[string]int, len(c.Mailboxes))
	for i := range c.Mailboxes {
		c.byID[c.Mailboxes[i].ID] = i
	}
}
