package matcher_test

import (
	"slices"
	"strings"
	"time"

	"mailsyncd/matcher"
	"mailsyncd/message"
)

// spec is the contract's table of guards, written down a second time without
// any thought of speed, as the oracle of the property test.
type spec struct {
	cfg  matcher.Config
	dir  fakeDirectory
	mail matcher.Mail
}

func guardKey(spelled string) string { return message.FoldGuard(message.Fold(spelled)) }

// listed tells whether one of the spelled addresses is the key's, tags aside.
func listed(spelled []string, key string) bool {
	return slices.ContainsFunc(spelled, func(s string) bool { return guardKey(s) == message.FoldGuard(key) })
}

func (s spec) owners(key string) (mailboxes int) {
	for _, o := range s.cfg.Mailboxes {
		if listed(o.Addresses, key) {
			mailboxes++
		}
	}
	return mailboxes
}

func (s spec) own(key string) bool {
	return s.owners(key) > 0 || s.dir.users[message.FoldGuard(key)]
}

func (s spec) atCompany(key string) bool {
	return slices.ContainsFunc(s.cfg.Domains, func(d string) bool {
		return message.Domain(key) == message.Domain(message.Fold("x@"+d))
	})
}

func (s spec) staff(key string) bool {
	excepted := slices.ContainsFunc(s.cfg.InternalApplicants, func(a string) bool { return message.Fold(a) == key })
	return s.atCompany(key) && !excepted
}

func (s spec) shared(key string) bool {
	local, _, _ := strings.Cut(message.FoldGuard(key), "@")
	role := slices.Contains([]string{"jobs", "hr", "no-reply"}, local) // the roles the generator knows
	return listed(s.cfg.SharedAddresses, key) || role && s.atCompany(key) || s.owners(key) >= 2
}

// private says why an address must never be a candidate's.
func (s spec) private(key string) string {
	switch {
	case s.own(key):
		return "a mailbox's or user's own"
	case s.staff(key):
		return "staff"
	case s.shared(key):
		return "shared"
	}
	return ""
}

func (s spec) has(ref, key string) bool {
	for _, e := range s.dir.entries[key] {
		if e.Ref == ref {
			return true
		}
	}
	return false
}

func (s spec) bulk(ref string) bool {
	h := s.mail.Header
	if h.ListID || h.ListPost || slices.Contains([]string{"bulk", "list", "junk"}, h.Precedence) {
		return true
	}
	if !h.ListUnsubscribe {
		return false
	}
	for _, a := range h.From {
		if owner := s.own(a.Key) && !s.shared(a.Key); !owner && !s.has(ref, a.Key) {
			return true
		}
	}
	return len(h.From) == 0
}

func (s spec) fanOut() bool {
	seen := map[string]bool{}
	for _, a := range slices.Concat(s.mail.Header.To, s.mail.Header.Cc) {
		seen[a.Key] = true
	}
	return s.cfg.MaxRecipients > 0 && len(seen) > s.cfg.MaxRecipients
}

func (s spec) ignoredSender() bool {
	return slices.ContainsFunc(s.mail.Header.From, func(a message.Address) bool { return listed(s.cfg.IgnoreFrom, a.Key) })
}

func (s spec) old() bool {
	known := slices.DeleteFunc([]time.Time{s.mail.Arrival, s.mail.Header.Date}, time.Time.IsZero)
	if s.mail.Horizon.IsZero() || len(known) == 0 {
		return false
	}
	return !slices.ContainsFunc(known, func(t time.Time) bool { return !t.Before(s.mail.Horizon) })
}

// refusals are the guards that refuse one address of one candidate.
func (s spec) refusals(ref, key, inactive string) []matcher.Guard {
	var out []matcher.Guard
	for guard, refuses := range map[matcher.Guard]bool{
		matcher.GuardOwnAddress:    s.own(key),
		matcher.GuardStaffDomain:   s.staff(key),
		matcher.GuardSharedAlias:   s.shared(key),
		matcher.GuardBulk:          s.bulk(ref),
		matcher.GuardFanOut:        s.fanOut(),
		matcher.GuardIgnoredSender: s.ignoredSender(),
		matcher.GuardInactive:      inactive != "",
		matcher.GuardIgnoredFolder: s.mail.Ignored,
		matcher.GuardHorizon:       s.old(),
	} {
		if refuses {
			out = append(out, guard)
		}
	}
	return out
}

// decide returns fields by candidate, and refusals as "ref key guard".
func (s spec) decide() (matches map[string]string, refused map[string]bool) {
	matches, refused = map[string]string{}, map[string]bool{}
	h := s.mail.Header
	for i, field := range [][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		name := []string{"from", "sender", "reply_to", "to", "cc", "bcc"}[i]
		for _, a := range field {
			for _, e := range s.dir.entries[a.Key] {
				no := s.refusals(e.Ref, a.Key, e.Inactive)
				for _, g := range no {
					refused[e.Ref+" "+a.Key+" "+string(g)] = true
				}
				if fields := matches[e.Ref]; len(no) == 0 && !slices.Contains(strings.Split(fields, "+"), name) {
					matches[e.Ref] = strings.TrimPrefix(fields+"+"+name, "+")
				}
			}
		}
	}
	return matches, refused
}
