package matcher

import (
	"errors"
	"fmt"
	"strings"

	"mailsyncd/message"
)

// Matcher decides mails by one configuration. It is never changed after New and
// may be used by any number of goroutines.
type Matcher struct {
	// The keys of these maps are folded: by message.FoldGuard where a hit
	// refuses (a +tag does not get around a guard), by message.Fold where a hit
	// excepts from a guard. The values are as the configuration spells them.
	domains    map[string]string
	shared     map[string]string
	ignoreFrom map[string]string
	applicants map[string]struct{}
	owners     map[string]owner

	maxRecipients int
}

// owner is who receives mail under an address.
type owner struct {
	mailbox string // the first one configured
	several bool   // another mailbox has the address too
}

// New folds a configuration. The error names every entry that cannot be used
// by its place, never by its value.
func New(cfg Config) (*Matcher, error) {
	f := folder{}
	m := &Matcher{
		domains:       f.domains("company.domains", cfg.Domains),
		shared:        f.guards("company.shared_addresses", cfg.SharedAddresses),
		ignoreFrom:    f.guards("company.ignore_from", cfg.IgnoreFrom),
		applicants:    f.exact("company.internal_applicants", cfg.InternalApplicants),
		owners:        f.owners(cfg.Mailboxes),
		maxRecipients: cfg.MaxRecipients,
	}
	if cfg.MaxRecipients < 0 {
		f.problem("sync.max_recipients is negative; use 0 to switch the guard off")
	}
	if err := errors.Join(f.problems...); err != nil {
		return nil, err
	}
	return m, nil
}

// folder folds configured values and collects what cannot be folded, so that an
// operator sees all of it at once.
type folder struct{ problems []error }

func (f *folder) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Errorf(format, args...))
}

// address folds one configured address; "" after noting a problem.
func (f *folder) address(place string, i int, spelled string) string {
	key := message.Fold(spelled)
	if key == "" {
		f.problem("%s[%d] is not an address; write it as name@example.com", place, i)
	}
	return key
}

// domains folds domains the way the domain of an address is folded, so that the
// two can be compared (IDNA, case, a trailing dot).
func (f *folder) domains(place string, spelled []string) map[string]string {
	out := make(map[string]string, len(spelled))
	for i, s := range spelled {
		domain := ""
		if !strings.ContainsAny(s, "@ \t*") {
			domain = message.Domain(message.Fold("x@" + s))
		}
		if domain == "" {
			f.problem("%s[%d] is not a domain; write it as example.com, each subdomain by itself", place, i)
			continue
		}
		out[domain] = s
	}
	return out
}

// guards folds addresses that refuse.
func (f *folder) guards(place string, spelled []string) map[string]string {
	out := make(map[string]string, len(spelled))
	for i, s := range spelled {
		if key := f.address(place, i, s); key != "" {
			out[message.FoldGuard(key)] = s
		}
	}
	return out
}

// exact folds addresses that are excepted from a guard: a +tag of one is not.
func (f *folder) exact(place string, spelled []string) map[string]struct{} {
	out := make(map[string]struct{}, len(spelled))
	for i, s := range spelled {
		if key := f.address(place, i, s); key != "" {
			out[key] = struct{}{}
		}
	}
	return out
}

// owners notes whose address is whose, and which two mailboxes share.
func (f *folder) owners(mailboxes []Owner) map[string]owner {
	out := make(map[string]owner, len(mailboxes))
	for _, m := range mailboxes {
		for i, s := range m.Addresses {
			key := f.address(fmt.Sprintf("address and aliases of mailbox %q", m.ID), i, s)
			if key == "" {
				continue
			}
			guardKey := message.FoldGuard(key)
			o, known := out[guardKey]
			if !known {
				o.mailbox = m.ID
			}
			o.several = o.several || o.mailbox != m.ID
			out[guardKey] = o
		}
	}
	return out
}

// Company tells whether a folded address (message.Fold) is the company's as far
// as the configuration knows: in company.domains, an address or alias of a
// mailbox, or a shared one. Users outside company.domains are known to the
// directory only and do not count here.
func (m *Matcher) Company(key string) bool {
	if _, staff := m.domains[message.Domain(key)]; staff {
		return true
	}
	guardKey := message.FoldGuard(key)
	_, owned := m.owners[guardKey]
	_, shared := m.shared[guardKey]
	return owned || shared
}
