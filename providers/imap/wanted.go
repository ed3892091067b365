package imap

import (
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/message"
)

// wanted are the addresses that a walk over old mail looks for.
//
// A server's SEARCH does not decide which mails name them. It looks for a piece
// of text, and no two servers in the same one: raw, decoded, cut into words,
// written anew from what their parser made of it, out of an index that may lag
// behind. A sender who writes "ann (home) @ example.net", encodes the whole
// field, or is a gmail.com address with dots is then not found, and no canary
// tells, since the mail beside it is. The same mail is found when it arrives
// after the candidate, and the order of arrival must not matter.
//
// So every mail of the walk is looked at here, by the parser that reads new
// mail: but of its address fields only, which is a good third of the bytes. Of
// those that name somebody the header is then read whole.
//
// In a walk that turns out to take long the server is asked all the same, for
// the sake of who waits for the answer: what it finds is read first, and the walk
// leaves that out. Nothing rests on this. A server that lies, refuses or takes
// for ever costs one command. Where the walk is quick a search is no gain: a warm
// Dovecot hands out the fields of a mail faster than it looks into them.
type wanted struct {
	keys  map[string]bool // folded
	texts []string        // what a server may be asked for
}

// want is nil, everything, when there is no address or one cannot be compared.
func want(addresses []string) *wanted {
	if len(addresses) == 0 {
		return nil
	}
	w := &wanted{keys: make(map[string]bool, len(addresses))}
	for _, a := range addresses {
		key := message.Fold(a)
		if key == "" {
			return nil
		}
		if !w.keys[key] && isSearchable(key) {
			w.texts = append(w.texts, key)
		}
		w.keys[key] = true
	}
	return w
}

// mayBeIn tells whether a mail names somebody, or may: one without a sender goes
// on, since some servers lose the field and hand it out with the whole header
// only. See mend.
func (w *wanted) mayBeIn(h *message.Header) bool {
	if len(h.From) == 0 && len(h.Sender) == 0 {
		return true
	}
	for _, list := range [...][]message.Address{h.From, h.Sender, h.ReplyTo, h.To, h.Cc, h.Bcc} {
		if slices.ContainsFunc(list, func(a message.Address) bool { return w.keys[a.Key] }) {
			return true
		}
	}
	return false
}

// addressFields is what a walk for addresses asks of every mail.
func addressFields() *imap.FetchItemBodySection {
	return &imap.FetchItemBodySection{
		Specifier:    imap.PartSpecifierHeader,
		HeaderFields: []string{"FROM", "SENDER", "REPLY-TO", "TO", "CC", "BCC"}, Peek: true,
	}
}

// section is what a flight asks for.
func (fl *flight) section() *imap.FetchItemBodySection {
	if fl.who != nil {
		return addressFields()
	}
	return headerFields()
}

// readNamed reads the whole headers of the mails that name somebody. It returns
// what is missing in all.
func (r *reader) readNamed(c *chunk, named, missing []uint32) ([]uint32, error) {
	slices.Sort(named)
	got, err := r.attempt(c, named, headerFields())
	missing = append(missing, without(named, got)...)
	slices.Sort(missing)
	return missing, err
}

const (
	// maxAsked is how many addresses a server is asked for: with more its search
	// takes longer than the walk.
	maxAsked = 20
	// maxCommand bounds the text of one SEARCH, which leaves room for the rest of
	// 8,000 bytes; see maxPageSize.
	maxCommand = 7_000
	// maxSingle bounds how many searches for one key each stand in for one that
	// was refused.
	maxSingle = 12
)

// isSearchable leaves out what servers cannot find by its text: gmail.com, which
// is folded, other scripts, and what would have to be quoted.
func isSearchable(key string) bool {
	odd := func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }
	domain := message.Domain(key)
	return domain != "gmail.com" && !strings.Contains(domain, "xn--") && !strings.ContainsFunc(key, odd)
}

// pace measures a walk for addresses, to tell how long the rest of it will take.
type pace struct {
	begun  time.Time // when the first chunk was there
	chunks int       // since then
}

// paceChunks is how many chunks say how long the others will take. The one before
// them does not count: a server opens its caches with it.
const paceChunks = 2

// rest estimates what n more chunks take; 0 as long as it cannot tell.
func (p *pace) rest(now time.Time, n int) time.Duration {
	if p.begun.IsZero() {
		p.begun = now
		return 0
	}
	if p.chunks++; p.chunks < paceChunks {
		return 0
	}
	return now.Sub(p.begun) / time.Duration(p.chunks) * time.Duration(n)
}

// askAhead asks the server, once a folder, which mails of a walk name somebody,
// when the rest of it would try the caller's patience; they are taken out of the
// queue and read first. landed is the flight that came in.
func (r *reader) askAhead(landed *flight) error {
	who := r.in.who
	if landed.who == nil || !r.in.ask || len(who.texts) == 0 || len(who.keys) > maxAsked {
		return nil
	}
	if r.s.noSearch || r.s.p.deaf.Load() {
		return nil
	}
	size := r.s.p.cfg.PageSize
	if r.pace.rest(time.Now(), (len(r.queue)+size-1)/size) <= r.s.p.cfg.Patience {
		return nil
	}
	r.in.ask = false
	uids, err := r.s.whoNames(r.in, who.texts)
	if err != nil {
		return err
	}
	r.ahead = slices.DeleteFunc(uids, func(u uint32) bool {
		_, ok := slices.BinarySearch(r.queue, u)
		return !ok
	})
	r.queue = without(r.queue, r.ahead)
	return nil
}

// flyAhead reads the next mails ahead of their turn: the position stays.
func (r *reader) flyAhead() {
	n := min(len(r.ahead), r.s.p.cfg.PageSize)
	fl := &flight{
		folder: r.f.name, prefix: r.prefix, uids: r.ahead[:n:n], next: r.at,
		since: r.in.since, asked: r.ahead[n-1],
	}
	r.ahead = r.ahead[n:]
	r.s.launch(fl, fl.section())
	r.air = append(r.air, fl)
}

// whoNames asks in as few commands as possible, then, where that is refused, for
// one key a command: Exchange refuses nested ones. A server that refuses both, or
// on which the session ends, is not asked again: else the walk would come to the
// same place for ever.
func (s *session) whoNames(in span, texts []string) ([]uint32, error) {
	var err error
	for _, criteria := range [][]*imap.SearchCriteria{grouped(in, texts), single(in, texts)} {
		if len(criteria) > maxSingle {
			break
		}
		var uids []uint32
		if uids, err = s.startSearch(in, criteria...).wait(s); err == nil {
			return uids, nil
		}
		e := refusal(err)
		if e == nil || s.conn.Err() != nil {
			s.p.deaf.Store(true)
			return nil, s.why("searching for addresses", err)
		}
		if isThrottled(string(e.Code), e.Text) {
			break
		}
	}
	s.p.deaf.Store(true)
	return nil, nil
}

// addressKeys are the search keys that every server has (RFC 9051 §6.4.4).
// SENDER and REPLY-TO would need HEADER, which some refuse; the walk finds them.
var addressKeys = [...]string{"FROM", "TO", "CC"}

// leaves are all keys for all texts, in the order of the texts.
func leaves(texts []string) []imap.SearchCriteria {
	var out []imap.SearchCriteria
	for _, text := range texts {
		for _, key := range addressKeys {
			out = append(out, imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: key, Value: text}}})
		}
	}
	return out
}

// grouped asks for all texts, in commands of bounded length.
func grouped(in span, texts []string) []*imap.SearchCriteria {
	var out []*imap.SearchCriteria
	for len(texts) > 0 {
		n, size := 0, 0
		for n < len(texts) && (n == 0 || size+textCost(texts[n]) <= maxCommand) {
			size += textCost(texts[n])
			n++
		}
		out = append(out, within(in, anyOf(leaves(texts[:n]))))
		texts = texts[n:]
	}
	return out
}

// textCost is what one text adds to a command: each key with quotes, its
// parentheses and its part of an OR.
func textCost(text string) int { return len(addressKeys) * (len(text) + len(`OR (FROM "") `) + 8) }

// single asks for one key a command.
func single(in span, texts []string) []*imap.SearchCriteria {
	var out []*imap.SearchCriteria
	for _, leaf := range leaves(texts) {
		out = append(out, within(in, leaf))
	}
	return out
}

// anyOf is a balanced tree of ORs, so that nesting stays low.
func anyOf(cs []imap.SearchCriteria) imap.SearchCriteria {
	if len(cs) == 1 {
		return cs[0]
	}
	half := len(cs) / 2
	return imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{anyOf(cs[:half]), anyOf(cs[half:])}}}
}

// within bounds a search to the mails that arrived within a span's window.
func within(in span, c imap.SearchCriteria) *imap.SearchCriteria {
	bound := exists(in)
	if !in.since.IsZero() {
		bound = arrived(in)
	}
	bound.Header, bound.Or = c.Header, c.Or
	return bound
}
