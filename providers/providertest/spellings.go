package providertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// sought are the addresses that RunSpellings searches for.
var sought = [...]string{"ann.maier@example.net", "anngm@gmail.com", "jürgen@bücher.example", "bob@example.org"}

// spellings are ways in which senders write one of them, and people who only
// look like them.
var spellings = [...]string{
	"ann.maier@example.net", "Ann Maier <Ann.Maier@EXAMPLE.net>", "<ann.maier@example.net.>",
	"ann.maier @ example . net", "ann.maier(home)@example.net", `"ann.maier"@example.net`, `"ann\.maier"@example.net`,
	"ann.maier@\r\n example.net", "Ann\r\n\t<ann.maier@example.net>", "ann.maier@example.net (Ann Maier)",
	"Team: ann.maier@example.net, x@example.com;", "nobody, ann.maier@example.net", "ann.maier@example.net; x@example.com",
	"=?utf-8?q?ann=2Emaier=40example=2Enet?=", "=?utf-8?b?YW5uLm1haWVyQGV4YW1wbGUubmV0?=",
	"=?utf-8?q?Ann_=C3=84?= <ann.maier@example.net>", "'ann.maier@example.net'", "mailto:ann.maier@example.net",
	"Ann <ann.maier@example.net", "<<ann.maier@example.net>>", "\xe4nn <ann.maier@example.net>",
	"ann.gm@gmail.com", "a.n.n.g.m+jobs@GoogleMail.com", "anngm@gmail.com",
	"jürgen@bücher.example", "Jürgen <JÜRGEN@xn--bcher-kva.example>", "bob@ｅxample.org", "Bob <bob@example.org>",
	"joann.maier@example.net", "ann.maier@example.network", "ann-maier@example.net", "Ann.Maier at example.net",
	`"ann.maier@example.net" <x@example.com>`, "x@example.com",
}

// spelled makes a header that may name somebody, in one field or two.
func spelled(rnd *rand.Rand, id string) string {
	fields := []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "FROM", "to"}
	var b strings.Builder
	if rnd.IntN(8) > 0 {
		b.WriteString("From: Nobody <nobody@example.com>\r\n")
	}
	for range 1 + rnd.IntN(2) {
		fmt.Fprintf(&b, "%s: %s\r\n", fields[rnd.IntN(len(fields))], spellings[rnd.IntN(len(spellings))])
	}
	fmt.Fprintf(&b, "Subject: ann.maier@example.net\r\nMessage-ID: <%s>\r\nDate: %s\r\n\r\nbody\r\n", id, recently().Format(time.RFC1123Z))
	return b.String()
}

// names tells whether an address field of a header names one of keys.
func names(h *message.Header, keys []string) bool {
	lists := [][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc}
	return slices.ContainsFunc(slices.Concat(lists...), func(a message.Address) bool { return slices.Contains(keys, a.Key) })
}

// RunSpellings holds a provider to more than Run does: that its search for
// addresses finds them however a header spells them. It compares the search with
// the walk over everything: who arrives first, mail or candidate, must not decide
// what is delivered. A provider that leaves the search to its server cannot
// promise that.
func RunSpellings(t *testing.T, s Server) {
	const mails, seed = 120, 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	for i := range mails {
		folder := []string{"INBOX", "Sent"}[i%2]
		s.Deliver(t, folder, spelled(rnd, fmt.Sprintf("s%03d@x", i)), recently())
	}
	mb := open(t, s)
	everything := search(t, mb, providers.Query{Since: window().Since}, "")
	for _, addr := range sought {
		keys := []string{message.Fold(addr)}
		got := found(search(t, mb, providers.Query{Since: window().Since, Addresses: keys}, ""))
		due := 0
		for _, p := range everything {
			for _, m := range p.Messages {
				if !names(&m.Header, keys) {
					continue
				}
				if due++; !slices.Contains(got, m.Header.MessageID) {
					t.Errorf("seed %d: the search for address %d of the list misses %s", seed, slices.Index(sought[:], addr)+1, m.Header.MessageID)
				}
			}
		}
		if due < 3 {
			t.Errorf("only %d mails name address %d: the test proves nothing", due, slices.Index(sought[:], addr)+1)
		}
	}
}
