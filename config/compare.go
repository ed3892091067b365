package config

import (
	"reflect"
	"slices"
)

// Changes is what a reload brings.
type Changes struct {
	// Added, Removed and Changed are ids of mailboxes, sorted. A mailbox counts
	// as changed when its own keys or the defaults it uses did; moving it to
	// another line or file changes nothing.
	Added, Removed, Changed []string
	// Settings are the paths of all other keys that changed ("webhook.url").
	Settings []string
	// Restart are those of Settings that have no effect before a restart.
	Restart []string
}

// Empty tells that nothing changed.
func (c Changes) Empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed)+len(c.Settings) == 0
}

// Compare lists what differs between two configurations. Files that they name
// may have changed beside: a Watcher tells that.
func Compare(from, to *Config) Changes {
	var c Changes
	before := byID(from.Mailboxes)
	for id, m := range byID(to.Mailboxes) {
		was, known := before[id]
		switch {
		case !known:
			c.Added = append(c.Added, id)
		case !sameMailbox(was, m):
			c.Changed = append(c.Changed, id)
		}
		delete(before, id)
	}
	for id := range before {
		c.Removed = append(c.Removed, id)
	}
	slices.Sort(c.Added)
	slices.Sort(c.Removed)
	slices.Sort(c.Changed)
	c.compareSettings("", reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem())
	return c
}

func byID(mailboxes []Mailbox) map[string]*Mailbox {
	m := make(map[string]*Mailbox, len(mailboxes))
	for i := range mailboxes {
		m[mailboxes[i].ID] = &mailboxes[i]
	}
	return m
}

// sameMailbox compares all but the place in the file. A list that is missing
// and one that is empty mean the same.
func sameMailbox(a, b *Mailbox) bool {
	return a.ID == b.ID && a.Address == b.Address && a.User == b.User &&
		a.Interval == b.Interval && a.Provider == b.Provider && a.IMAP == b.IMAP && a.Gmail == b.Gmail &&
		slices.Equal(a.Aliases, b.Aliases) && slices.Equal(a.IgnoreFolders, b.IgnoreFolders)
}

// compareSettings goes through the keys of a section. Defaults, include and
// what lists mailboxes are left out: what they bring about is in the mailboxes.
func (c *Changes) compareSettings(section string, from, to reflect.Value) {
	for f := range fields(from.Type()) {
		key := join(section, f.Tag.Get("yaml"))
		a, b := from.FieldByIndex(f.Index), to.FieldByIndex(f.Index)
		switch {
		case key == "defaults" || key == "include" || key == "mailboxes" || key == "mailboxes_from_users":
		case f.Type.Kind() == reflect.Struct:
			c.compareSettings(key, a, b)
		case !sameSetting(a, b):
			c.Settings = append(c.Settings, key)
			if f.Tag.Get("reload") == "restart" {
				c.Restart = append(c.Restart, key)
			}
		}
	}
}

func sameSetting(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
