package matcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/message"
)

// fakeDirectory is a snapshot made of maps.
type fakeDirectory struct {
	entries map[string][]directory.Entry
	users   map[string]bool
}

func (d fakeDirectory) Lookup(key string) []directory.Entry { return d.entries[key] }
func (d fakeDirectory) OwnAddress(guardKey string) bool     { return d.users[guardKey] }

// candidates builds a directory from lines "ref address… [!why inactive]".
func candidates(t testing.TB, users string, lines ...string) fakeDirectory {
	t.Helper()
	d := fakeDirectory{entries: map[string][]directory.Entry{}, users: map[string]bool{}}
	for _, u := range strings.Fields(users) {
		d.users[message.FoldGuard(fold(t, u))] = true
	}
	for _, line := range lines {
		line, inactive, _ := strings.Cut(line, " !")
		words := strings.Fields(line)
		for _, a := range words[1:] {
			key := fold(t, a)
			d.entries[key] = append(d.entries[key], directory.Entry{Ref: words[0], Inactive: inactive})
		}
	}
	return d
}

// The company of the tables: two recruiters, a pool address that both read, a
// desk that an agency shares, and an applicant from inside.
func company() matcher.Config {
	return matcher.Config{
		Domains:            []string{"example.com", "Bücher-Müller.DE"},
		SharedAddresses:    []string{"desk@agency.test", "front@example.com"},
		InternalApplicants: []string{"nina@example.com", "hr@example.com", "karl.office@example.com"},
		IgnoreFrom:         []string{"NoReply@ats.example.com"},
		MaxRecipients:      4,
		Mailboxes: []matcher.Owner{
			{ID: "rita", Addresses: []string{"rita@example.com", "Rita.Keller@example.com", "pool@partner.test"}},
			{ID: "tom", Addresses: []string{"tom@private.test", "pool@partner.test", "front@example.com"}},
		},
	}
}

func people(t testing.TB) fakeDirectory {
	return candidates(t, "uma@outside.test",
		"nora nora@example.net nora.b@web.test",
		"omar o.mar@gmail.com",
		"twin_a family@home.test",
		"twin_b family@home.test",
		"stan stan@example.net !stopped",
		"clara clara@example.net !jobs_archived",
		"held held@example.net !held",
		"half half@example.net",
		"half rita@example.com", // one good address, one of a recruiter
		"rita rita@example.com",
		"ritatag rita+cv@example.com",
		"alias rita.keller@example.com",
		"uma uma@outside.test",
		"umatag uma+x@outside.test",
		"tom tom@private.test",
		"pool pool@partner.test",
		"sven sven@example.com",
		"sub sara@mail.example.com",
		"idn anna@bücher-müller.de",
		"nina nina@example.com",
		"ninatag nina+x@example.com",
		"desk desk@agency.test",
		"desktag desk+cv@agency.test",
		"front front@example.com",
		"hr hr@example.com",
		"karl karl.office@example.com",
		"smallfirm jobs@small.test",
		"robot noreply@ats.example.com",
	)
}

func fold(t testing.TB, addr string) string {
	t.Helper()
	key := message.Fold(addr)
	if key == "" {
		t.Fatalf("the test's address %q does not fold", addr)
	}
	return key
}

func newMatcher(t testing.TB, cfg matcher.Config) *matcher.Matcher {
	t.Helper()
	m, err := matcher.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var horizon = time.Date(2026, 11, 7, 0, 0, 0, 0, time.UTC)

// mail reads a mail from a line like
//
//	from: nora@example.net; to: rita@example.com, tom@private.test; list-id
//
// with date, arrival, precedence, list-id, list-post, list-unsubscribe and
// ignored beside the address fields. It arrived after the horizon unless it says
// otherwise.
func mail(t testing.TB, line string) matcher.Mail {
	t.Helper()
	h := &message.Header{Date: horizon.Add(time.Hour)}
	m := matcher.Mail{Header: h, Mailbox: "rita", Arrival: horizon.Add(time.Hour), Horizon: horizon}
	for _, part := range strings.Split(line, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "from":
			h.From = append(h.From, addresses(t, value)...)
		case "sender":
			h.Sender = append(h.Sender, addresses(t, value)...)
		case "reply-to":
			h.ReplyTo = append(h.ReplyTo, addresses(t, value)...)
		case "to":
			h.To = append(h.To, addresses(t, value)...)
		case "cc":
			h.Cc = append(h.Cc, addresses(t, value)...)
		case "bcc":
			h.Bcc = append(h.Bcc, addresses(t, value)...)
		case "list-id":
			h.ListID = true
		case "list-post":
			h.ListPost = true
		case "list-unsubscribe":
			h.ListUnsubscribe = true
		case "auto-submitted":
			h.AutoSubmitted = true
		case "precedence":
			h.Precedence = value
		case "date":
			h.Date = moment(t, value)
		case "arrival":
			m.Arrival = moment(t, value)
		case "horizon":
			m.Horizon = moment(t, value)
		case "ignored":
			m.Ignored = true
		default:
			t.Fatalf("the test's mail has an unknown part %q", part)
		}
	}
	return m
}

// moment reads "before", "after", "at" (the horizon) or "unknown".
func moment(t testing.TB, word string) time.Time {
	t.Helper()
	switch word {
	case "before":
		return horizon.Add(-time.Second)
	case "at":
		return horizon
	case "after":
		return horizon.Add(time.Second)
	case "unknown":
		return time.Time{}
	}
	t.Fatalf("the test has an unknown moment %q", word)
	return time.Time{}
}

func addresses(t testing.TB, list string) []message.Address {
	t.Helper()
	var out []message.Address
	for _, a := range strings.Split(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, message.Address{Addr: a, Key: fold(t, a)})
		}
	}
	return out
}

// verdict writes a decision as a line: matches, refusals, direction.
func verdict(d matcher.Decision) string {
	var out []string
	for _, m := range d.Matches {
		out = append(out, fmt.Sprintf("match %s by %s in %s", m.Ref, m.Key, strings.Join(m.Fields, "+")))
	}
	for _, r := range d.Refusals {
		out = append(out, fmt.Sprintf("refuse %s: %s (%s)", r.Ref, r.Guard, r.Detail))
	}
	if d.Direction != "" {
		out = append(out, string(d.Direction))
	}
	return strings.Join(out, "; ")
}

// row is one mail and the whole of what must be decided about it.
type row struct {
	name string
	mail string
	want string
}

func check(t *testing.T, rows []row) {
	t.Helper()
	m, dir := newMatcher(t, company()), people(t)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := verdict(m.Decide(mail(t, r.mail), dir)); got != r.want {
				t.Errorf("mail: %s\ngot:  %s\nwant: %s", r.mail, got, r.want)
			}
		})
	}
}
