package matcher_test

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/message"
)

// worlds is how many random companies are tried, each with mailsEach mails. A
// failure prints the seed of its world: start the loop there to see it again.
const (
	worlds    = 2000
	mailsEach = 40
)

// The generator draws from few names, so that addresses collide all the time.
var (
	someLocals  = []string{"ann", "bob", "cy", "dee", "jobs", "hr", "no-reply", "ann+x", "bob+cv", "Ann", "eve", "fay", "gil"}
	someDomains = []string{"corp.test", "sub.corp.test", "gmail.com", "googlemail.com", "home.test", "second.test"}
	someRefs    = []string{"c1", "c2", "c3", "c4", "c5"}
)

type dice struct{ *rand.Rand }

func (d dice) pick(from []string) string { return from[d.IntN(len(from))] }

func (d dice) address() string { return d.pick(someLocals) + "@" + d.pick(someDomains) }

func (d dice) addresses(most int) []string {
	out := make([]string, d.IntN(most+1))
	for i := range out {
		out[i] = d.address()
	}
	return out
}

func (d dice) config() matcher.Config {
	cfg := matcher.Config{
		SharedAddresses: d.addresses(2), InternalApplicants: d.addresses(2), IgnoreFrom: d.addresses(1),
		MaxRecipients: d.IntN(5),
	}
	for range d.IntN(2) {
		cfg.Domains = append(cfg.Domains, d.pick(someDomains))
	}
	for _, id := range []string{"m1", "m2"} {
		cfg.Mailboxes = append(cfg.Mailboxes, matcher.Owner{ID: id, Addresses: d.addresses(2)})
	}
	return cfg
}

func (d dice) directory() fakeDirectory {
	dir := fakeDirectory{entries: map[string][]directory.Entry{}, users: map[string]bool{}}
	for _, a := range d.addresses(2) {
		dir.users[message.FoldGuard(message.Fold(a))] = true
	}
	for _, ref := range someRefs {
		inactive := ""
		if d.IntN(4) == 0 {
			inactive = "stopped"
		}
		keys := map[string]bool{}
		for _, a := range d.addresses(4) {
			keys[message.Fold(a)] = true
		}
		for key := range keys {
			dir.entries[key] = append(dir.entries[key], directory.Entry{Ref: ref, Inactive: inactive})
		}
	}
	return dir
}

func (d dice) field(most int) []message.Address {
	var out []message.Address
	for _, a := range d.addresses(most) {
		out = append(out, message.Address{Addr: a, Key: message.Fold(a)})
	}
	return out
}

func (d dice) time() time.Time {
	return [...]time.Time{{}, horizon.Add(-time.Hour), horizon, horizon.Add(time.Hour), horizon.Add(2 * time.Hour)}[d.IntN(5)]
}

func (d dice) rarely() bool { return d.IntN(12) == 0 }

func (d dice) mail() matcher.Mail {
	h := &message.Header{
		From: d.field(2), Sender: d.field(1), ReplyTo: d.field(1), To: d.field(4), Cc: d.field(3), Bcc: d.field(1),
		ListID: d.rarely(), ListPost: d.rarely(), ListUnsubscribe: d.IntN(3) == 0, Date: d.time(),
	}
	if d.rarely() {
		h.Precedence = d.pick([]string{"bulk", "list", "junk", "normal"})
	}
	return matcher.Mail{Header: h, Mailbox: d.pick([]string{"m1", "m2"}), Arrival: d.time(), Horizon: d.time(), Ignored: d.rarely()}
}

// shuffled returns the mail with the addresses of each field in another order.
func (d dice) shuffled(m matcher.Mail) matcher.Mail {
	h := *m.Header
	for _, f := range []*[]message.Address{&h.From, &h.Sender, &h.ReplyTo, &h.To, &h.Cc, &h.Bcc} {
		*f = slices.Clone(*f)
		d.Shuffle(len(*f), func(i, j int) { (*f)[i], (*f)[j] = (*f)[j], (*f)[i] })
	}
	m.Header = &h
	return m
}

// tightened returns the configuration with one more value that guards, or one
// exception less. Mailboxes are left alone: another owner refuses more
// candidates, but also vouches for more mail with List-Unsubscribe.
func (d dice) tightened(cfg matcher.Config) matcher.Config {
	switch d.IntN(5) {
	case 0:
		cfg.Domains = append(slices.Clone(cfg.Domains), d.pick(someDomains))
	case 1:
		cfg.SharedAddresses = append(slices.Clone(cfg.SharedAddresses), d.address())
	case 2:
		cfg.IgnoreFrom = append(slices.Clone(cfg.IgnoreFrom), d.address())
	case 3:
		if cfg.MaxRecipients != 1 { // 0 is no limit at all
			cfg.MaxRecipients = max(cfg.MaxRecipients, 6) - 5
		}
	case 4:
		if n := len(cfg.InternalApplicants); n > 0 {
			cfg.InternalApplicants = cfg.InternalApplicants[:n-1]
		}
	}
	return cfg
}

func TestPropertiesHoldInRandomCompanies(t *testing.T) {
	matched, refused := 0, map[matcher.Guard]int{}
	for seed := range uint64(worlds) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		cfg, dir := d.config(), d.directory()
		m, tight := newMatcher(t, cfg), newMatcher(t, d.tightened(cfg))
		for range mailsEach {
			in := d.mail()
			got := m.Decide(in, dir)
			matched += len(got.Matches)
			for _, r := range got.Refusals {
				refused[r.Guard]++
			}
			wantEqual(t, seed, "deciding twice", m.Decide(in, dir), got)
			wantEqual(t, seed, "another order of addresses", m.Decide(d.shuffled(in), dir), got)
			other := in
			other.Mailbox = "elsewhere"
			wantEqual(t, seed, "another mailbox", m.Decide(other, dir), got)
			wantSpec(t, seed, got, spec{cfg, dir, in})
			wantFewer(t, seed, tight.Decide(in, dir), got)
			if t.Failed() {
				return
			}
		}
	}
	if matched < worlds || len(refused) != len(matcher.Guards) {
		t.Errorf("the generator is too tame: %d matches, refusals %v", matched, refused)
	}
}

func wantEqual(t *testing.T, seed uint64, what string, got, want matcher.Decision) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("seed %d: %s changed the decision:\n%s\n%s", seed, what, verdict(want), verdict(got))
	}
}

// wantFewer checks that tightening took nothing but matches away.
func wantFewer(t *testing.T, seed uint64, tight, loose matcher.Decision) {
	t.Helper()
	before := map[string][]string{}
	for _, m := range loose.Matches {
		before[m.Ref] = m.Fields
	}
	for _, m := range tight.Matches {
		for _, f := range m.Fields {
			if !slices.Contains(before[m.Ref], f) {
				t.Errorf("seed %d: tightening added %s in %s:\n%s\n%s", seed, m.Ref, f, verdict(loose), verdict(tight))
			}
		}
	}
}

// wantSpec compares the decision with the contract written down a second time,
// slowly and plainly.
func wantSpec(t *testing.T, seed uint64, got matcher.Decision, s spec) {
	t.Helper()
	matches, refusals := map[string]string{}, map[string]bool{}
	for _, m := range got.Matches {
		matches[m.Ref] = strings.Join(m.Fields, "+")
		if why := s.private(m.Key); why != "" {
			t.Errorf("seed %d: %s matched by an address that is %s", seed, m.Ref, why)
		}
		if message.Fold(m.Address) != m.Key {
			t.Errorf("seed %d: %s shows %q for key %q", seed, m.Ref, m.Address, m.Key)
		}
	}
	for _, r := range got.Refusals {
		refusals[r.Ref+" "+r.Key+" "+string(r.Guard)] = true
	}
	wantMatches, wantRefusals := s.decide()
	if !maps.Equal(matches, wantMatches) {
		t.Errorf("seed %d: matches %v, the contract says %v", seed, matches, wantMatches)
	}
	if !maps.Equal(refusals, wantRefusals) {
		t.Errorf("seed %d: refusals %v, the contract says %v", seed, refusals, wantRefusals)
	}
}
