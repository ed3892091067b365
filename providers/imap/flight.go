package imap

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/imap/wire"
)

// sink takes rows and search results from the goroutine that reads.
//
// Commands leave in advance, also for folders that are not open yet, and a
// server answers them in order (RFC 9051 §5.5). So what comes belongs to the
// folder whose opening was answered last and to the oldest search without an
// answer; UIDs alone do not tell, since every folder has the same ones.
type sink struct {
	mu       sync.Mutex
	opening  int       // folders whose opening was sent
	opened   int       // of those, how many were answered
	air      []*flight // FETCHes of headers under way
	searches []*search // SEARCHes without an answer, oldest first
	listing  bool      // a FETCH without headers is under way
	listed   []listedRow
}

// open notes that a folder is about to be opened.
func (k *sink) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opening++
}

// Ended moves on to the next folder or search.
func (k *sink) Ended(verb string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch verb {
	case "EXAMINE", "SELECT":
		k.opened++
	case "UID SEARCH":
		if len(k.searches) == 0 {
			return
		}
		if k.searches[0].left--; k.searches[0].left == 0 {
			k.searches = k.searches[1:]
		}
	}
}

// listedRow is a row of a FETCH that asked for no header.
type listedRow struct {
	uid     uint32
	arrival time.Time
}

// Row gives a row to the flight that asked for it. Any other is dropped: a
// server may report what other clients do at any time.
func (k *sink) Row(r wire.Row) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !r.HasHeader && !r.TooLong {
		if k.listing {
			k.listed = append(k.listed, listedRow{r.UID, r.Arrival})
		}
		return
	}
	for _, fl := range k.air {
		if fl.turn == k.opened && fl.take(r) {
			return
		}
	}
}

// Found keeps the numbers of a SEARCH response; a server may split its answer.
func (k *sink) Found(uids []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.searches) > 0 {
		k.searches[0].found = append(k.searches[0].found, uids...)
	}
}

// flight is one FETCH of headers under way, and then its rows.
type flight struct {
	folder string
	prefix string   // of the Refs: validity and a dot
	uids   []uint32 // asked for, rising
	rows   []fetched
	cmd    *imapclient.FetchCommand
	turn   int // of the folder, see sink
	// next is the UID below which everything is decided once this flight is.
	next uint32
	// since is the window outside of which mail is dropped; zero: none is.
	since time.Time
	// narrow, when narrowed, are the UIDs that exist, of a flight that left
	// before they were known.
	narrow   []uint32
	narrowed bool
	// who makes this a flight that reads address fields only; named are the mails
	// in which it found somebody. Nil: it reads headers.
	who   *wanted
	named []uint32
	asked uint32 // see chunk
}

type fetched struct {
	ok  bool
	msg providers.Message
}

// take parses a row where it lies in the read buffer; false when this flight
// did not ask for it or has it.
func (fl *flight) take(r wire.Row) bool {
	i, ok := slices.BinarySearch(fl.uids, r.UID)
	if !ok || fl.rows[i].ok {
		return false
	}
	if r.TooLong {
		return true // it stays missing, and the rescue asks for the beginning of it
	}
	h := message.Parse(r.Header)
	if fl.who != nil {
		fl.rows[i].ok = true
		if fl.who.mayBeIn(&h) {
			fl.named = append(fl.named, r.UID)
		}
		return true
	}
	fl.rows[i] = fetched{ok: true, msg: providers.Message{
		Ref:        ref(fl.prefix, r.UID, fl.folder),
		Folder:     fl.folder,
		Arrival:    r.Arrival,
		ThreadHint: r.Thread,
		Header:     h,
	}}
	return true
}

// forget drops what came.
func (fl *flight) forget() {
	clear(fl.rows)
	fl.named = nil
}

// ref names a mail: UIDVALIDITY.UID.folder.
func ref(prefix string, uid uint32, folder string) string {
	b := make([]byte, 0, len(prefix)+11+len(folder))
	b = append(b, prefix...)
	b = strconv.AppendUint(b, uint64(uid), 10)
	b = append(b, '.')
	return string(append(b, folder...))
}

// headerFields is what is asked of every mail; never ENVELOPE, which lacks
// References and which servers get wrong for odd addresses.
func headerFields() *imap.FetchItemBodySection {
	return &imap.FetchItemBodySection{
		Specifier: imap.PartSpecifierHeader, HeaderFields: message.FieldNames[:], Peek: true,
	}
}

// wholeHeader is the second try: some servers lose single fields in
// HEADER.FIELDS, or fail altogether. The bound keeps one absurd header harmless.
func wholeHeader() *imap.FetchItemBodySection {
	return &imap.FetchItemBodySection{
		Specifier: imap.PartSpecifierHeader, Peek: true,
		Partial: &imap.SectionPartial{Offset: 0, Size: 256 << 10},
	}
}

// launch sends the FETCH of a flight and returns at once.
func (s *session) launch(fl *flight, section *imap.FetchItemBodySection) {
	fl.rows = make([]fetched, len(fl.uids))
	s.sink.mu.Lock()
	fl.turn = s.sink.opening
	s.sink.air = append(s.sink.air, fl)
	s.sink.mu.Unlock()
	fl.cmd = s.client.Fetch(uidSet(fl.uids), &imap.FetchOptions{
		UID: true, InternalDate: fl.who == nil, BodySection: []*imap.FetchItemBodySection{section},
	})
}

// land waits for the end of a flight. No row counts before that.
func (s *session) land(fl *flight) error {
	err := fl.cmd.Close()
	s.sink.mu.Lock()
	s.sink.air = slices.DeleteFunc(s.sink.air, func(f *flight) bool { return f == fl })
	s.sink.mu.Unlock()
	s.p.cfg.Meter.Request("fetch", providers.Result(err))
	return err
}

// uidSet compresses rising UIDs to ranges.
func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		set.AddRange(imap.UID(uids[i]), imap.UID(uids[j]))
		i = j + 1
	}
	return set
}

// search is what is asked of the server's SEARCH for one span: one command, or
// several whose results add up.
type search struct {
	cmds  []*imapclient.SearchCommand
	in    span
	dated bool // it looked for the window of the span, not only for what exists

	// Of the sink.
	left  int // commands without an answer
	found []uint32
}

func (s *session) startSearch(in span, criteria ...*imap.SearchCriteria) *search {
	q := &search{in: in, left: len(criteria)}
	s.sink.mu.Lock()
	s.sink.searches = append(s.sink.searches, q)
	s.sink.mu.Unlock()
	for _, c := range criteria {
		q.cmds = append(q.cmds, s.client.UIDSearch(c, nil))
	}
	return q
}

// wait returns what was found in the span, rising and without repeats. A server
// may answer with more than was asked: "n:*" always names the last mail (RFC
// 9051 §6.4.9).
func (q *search) wait(s *session) ([]uint32, error) {
	var failed error
	for _, cmd := range q.cmds {
		_, err := cmd.Wait()
		s.p.cfg.Meter.Request("search", providers.Result(err))
		if err != nil && failed == nil {
			failed = err
		}
	}
	if failed != nil {
		return nil, failed
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	uids := slices.Clone(q.found)
	uids = slices.DeleteFunc(uids, func(u uint32) bool { return u < q.in.lo || u >= q.in.hi })
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

func (sp span) set() imap.UIDSet {
	var set imap.UIDSet
	set.AddRange(imap.UID(sp.lo), imap.UID(sp.hi-1))
	return set
}

// exists finds the mails of a span, whatever their date.
func exists(sp span) *imap.SearchCriteria {
	return &imap.SearchCriteria{UID: []imap.UIDSet{sp.set()}}
}

// arrived and imported together find the mails of a span that belong to its
// window. SINCE counts whole days in the server's time zone (RFC 9051 §6.4.4),
// so a day is added. Date counts as well as arrival, for mail that was imported
// with the wrong one; servers must open old mails to know it, so only those are
// asked about that did not arrive within the window.
func arrived(sp span) *imap.SearchCriteria {
	c := exists(sp)
	c.Since = sp.since.UTC().AddDate(0, 0, -1)
	return c
}

func imported(sp span) *imap.SearchCriteria {
	c := exists(sp)
	c.Before = sp.since.UTC().AddDate(0, 0, -1)
	c.SentSince = c.Before
	return c
}

// samples is how many arrivals are looked at before a window is searched for.
const samples = 16

// sampleSet is some UIDs spread over a span, and "*", the newest mail.
func sampleSet(sp span) imap.UIDSet {
	var set imap.UIDSet
	step := max(1, (sp.hi-sp.lo)/samples)
	for uid := sp.lo; uid < sp.hi && sp.hi-uid > step; uid += step {
		set.AddNum(imap.UID(uid))
	}
	set.AddNum(0)
	return set
}

// newestSet is "*", the mail with the highest UID.
func newestSet() imap.UIDSet {
	var set imap.UIDSet
	set.AddNum(0)
	return set
}

// startListing asks for numbers and arrivals only: to sample a folder, and in
// place of SEARCH with a server that refuses it or lies.
func (s *session) startListing(set imap.UIDSet) (wait func() ([]listedRow, error)) {
	s.sink.mu.Lock()
	s.sink.listing, s.sink.listed = true, nil
	s.sink.mu.Unlock()
	cmd := s.client.Fetch(set, &imap.FetchOptions{UID: true, InternalDate: true})
	return func() ([]listedRow, error) {
		err := cmd.Close()
		s.p.cfg.Meter.Request("fetch", providers.Result(err))
		s.sink.mu.Lock()
		defer s.sink.mu.Unlock()
		s.sink.listing = false
		return s.sink.listed, err
	}
}
