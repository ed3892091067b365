package imap

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/providers"
)

// reader reads spans of the open folder in order, chunk by chunk. While one
// chunk is worked on, the next is under way.
type reader struct {
	s        *session
	f        *folder
	prefix   string // of Refs
	validity uint32
	messages uint32 // in the folder
	spans    []span
	in       span     // the current one
	queue    []uint32 // found in the current span, not asked for yet
	ahead    []uint32 // the same, and to be read before the queue
	at       uint32   // everything below was asked for, the mails ahead aside
	air      []*flight
	pace     pace
	rows     []listedRow // sampled arrivals of the current span

	searching *search                     // under way
	sampling  func() ([]listedRow, error) // goes with searching, for a window
	budget    int                         // FETCHes that the rescue of a chunk may still spend
}

// chunk is what one flight brought.
type chunk struct {
	msgs  []providers.Message
	next  uint32   // everything below is decided
	lost  []uint32 // listed, but not handed out
	asked uint32   // the last UID of a chunk that was read ahead of its turn; else 0
}

const (
	// maxFound bounds the UIDs that one SEARCH may list: 300,000 are 3 MB of answer.
	maxFound = 300_000
	// maxListed does the same for the FETCH that stands in for SEARCH, of which
	// every row is a response.
	maxListed = 20_000
	// largeFolder is from how many mails on a search for a window costs more than
	// the round trip that tells whether it is needed.
	largeFolder = 2_000
	// rescueBudget is how many FETCHes one chunk may spend on isolating mails that
	// a server will not hand out: one bad mail of 500 takes about twenty.
	rescueBudget = 200
	// hopeless is how many lost mails, with none that came, mean that it is not the
	// mails that are broken. Then the position stays where it is.
	hopeless = 20
)

func (s *session) newReader(f *folder, validity uint32, messages uint32, spans []span) *reader {
	if messages > maxFound {
		spans = split(spans, maxFound)
	}
	return &reader{
		s: s, f: f, validity: validity, messages: messages, spans: spans, budget: rescueBudget,
		prefix: strconv.FormatUint(uint64(validity), 10) + ".",
	}
}

// split cuts spans into pieces of at most width UIDs.
func split(spans []span, width uint32) []span {
	var out []span
	for _, sp := range spans {
		for sp.hi-sp.lo > width {
			piece := sp
			piece.hi = sp.lo + width
			out = append(out, piece)
			sp.lo = piece.hi
		}
		out = append(out, sp)
	}
	return out
}

// begin sends what can be sent before the folder is known to be open.
func (r *reader) begin() {
	if len(r.spans) > 0 && !r.s.noSearch {
		r.survey()
	}
}

// survey searches the next span. With few new mails their FETCH goes with it, so
// that news cost one round trip. In a large folder, where looking for a window
// is dear, it asks first what exists and when some of it arrived.
func (r *reader) survey() {
	sp := r.spans[0]
	r.spans = r.spans[1:]
	r.in = sp
	if !sp.since.IsZero() && r.messages < largeFolder {
		r.searchWindow(sp)
	} else {
		r.searching = r.s.startSearch(sp, exists(sp))
	}
	if sp.isFew(r.s.p.cfg.PageSize) {
		r.fly(sp.uids(), sp.hi)
		return
	}
	r.sampling = r.s.startListing(sampleSet(sp))
}

// searchWindow searches out what belongs to the window of a span.
func (r *reader) searchWindow(sp span) {
	r.searching = r.s.startSearch(sp, arrived(sp), imported(sp))
	r.searching.dated = true
}

func (r *reader) fly(uids []uint32, next uint32) {
	fl := &flight{folder: r.f.name, prefix: r.prefix, uids: uids, next: next, since: r.in.since, who: r.in.who}
	r.at = next
	r.s.launch(fl, fl.section())
	r.air = append(r.air, fl)
}

// abandon waits for what is under way and throws it away.
func (r *reader) abandon() {
	if r.searching != nil {
		_, _ = r.searching.wait(r.s)
		r.searching = nil
	}
	if r.sampling != nil {
		_, _ = r.sampling()
		r.sampling = nil
	}
	for _, fl := range r.air {
		_ = r.s.land(fl)
	}
	r.air, r.queue, r.ahead, r.spans = nil, nil, nil, nil
}

// ready makes sure that a chunk is under way and returns how many mails it may
// hold, at least 1; 0 when everything is read.
func (r *reader) ready() (int, error) {
	for {
		if err := r.plan(); err != nil {
			return 0, err
		}
		switch {
		case r.searching != nil: // what it finds is planned next
		case len(r.air) > 0:
			// Of a flight that left with its search the rows count, even if the search
			// finds nothing: it may lie.
			return max(1, r.air[0].size()), nil
		case r.waiting():
			r.launchNext()
		case len(r.spans) == 0:
			return 0, nil
		}
	}
}

// waiting tells whether mails are known that were not asked for yet.
func (r *reader) waiting() bool { return len(r.ahead)+len(r.queue) > 0 }

// plan finds the mails of the next span when the one before is used up.
func (r *reader) plan() error {
	if r.searching != nil {
		q := r.searching
		r.searching = nil
		return r.found(q)
	}
	if len(r.air) > 0 || r.waiting() || len(r.spans) == 0 {
		return nil
	}
	if r.s.noSearch {
		return r.planListing()
	}
	uncork := r.s.conn.Cork()
	r.survey()
	uncork()
	return nil
}

// found takes the result of a search. Where a server refuses it, or leaves out
// what belongs in, everything is listed instead. What exists in a window is
// searched again by date, unless nearly all of it lies within: then the search
// would cost more than the few headers that it saves.
func (r *reader) found(q *search) error {
	uids, err := q.wait(r.s)
	rows, errRows := r.sample()
	switch {
	case err != nil && (refusal(err) == nil || r.s.conn.Err() != nil):
		return r.s.why("searching a folder", err)
	case errRows != nil:
		return errRows
	case err != nil, lies(uids, rows, q):
		r.s.noSearch = true
		r.s.p.notices.Tell("search_unusable", "the server's search cannot be used; all headers are read instead", 1)
		r.drop()
		r.spans = append([]span{q.in}, r.spans...)
		return nil
	case !q.in.since.IsZero() && !q.dated && !mostlyInside(rows, q.in):
		r.rows = rows
		r.searchWindow(q.in)
		return nil
	}
	r.settleOn(uids)
	return nil
}

// settleOn makes uids what is read of the span. A flight that left before they
// were known keeps only those.
func (r *reader) settleOn(uids []uint32) {
	if len(r.air) == 0 {
		r.queue = uids
		return
	}
	r.air[0].narrow = uids
	r.air[0].narrowed = true
}

// drop gives up the flight that left with a search which turned out useless.
func (r *reader) drop() {
	for _, fl := range r.air {
		_ = r.s.land(fl)
	}
	r.air = nil
}

// sample returns the arrivals that were asked for with a search; those of the
// first search serve the second as well.
func (r *reader) sample() ([]listedRow, error) {
	rows := r.rows
	r.rows = nil
	if r.sampling == nil {
		return rows, nil
	}
	rows, err := r.sampling()
	r.sampling = nil
	if err != nil && (refusal(err) == nil || r.s.conn.Err() != nil) {
		return nil, r.s.why("reading arrivals", err)
	}
	return rows, nil
}

// mostlyInside tells whether nearly all sampled mails of a span arrived within
// its window.
func mostlyInside(rows []listedRow, in span) bool {
	n, inside := 0, 0
	for _, row := range rows {
		if row.uid < in.lo || row.uid >= in.hi {
			continue
		}
		if n++; !row.arrival.Before(in.since) {
			inside++
		}
	}
	return n >= samples/2 && inside*10 >= n*9
}

// lies tells whether a search left out sampled mails that belong into its answer:
// without this proof an empty answer would be worth nothing. One that was
// expunged between the two answers is no lie, so it takes most of them.
func lies(uids []uint32, rows []listedRow, q *search) bool {
	due, missing := 0, 0
	for _, row := range rows {
		if row.uid < q.in.lo || row.uid >= q.in.hi {
			continue
		}
		if q.dated && !row.arrival.After(q.in.since.Add(48*time.Hour)) {
			continue
		}
		due++
		if _, ok := slices.BinarySearch(uids, row.uid); !ok {
			missing++
		}
	}
	return missing*2 > due
}

// planListing lists the next span without SEARCH. Which of its mails belong to
// the window is seen when their headers are there.
func (r *reader) planListing() error {
	r.spans = split(r.spans, maxListed)
	sp := r.spans[0]
	r.spans = r.spans[1:]
	r.s.conn.Renew()
	uids, err := r.s.listSpan(sp)
	if err != nil {
		return err
	}
	r.in, r.queue = sp, uids
	return nil
}

// listSpan returns the UIDs that exist in a span.
func (s *session) listSpan(sp span) ([]uint32, error) {
	rows, err := s.startListing(sp.set())()
	if err != nil {
		return nil, s.why("listing the mails of a folder", err)
	}
	var uids []uint32
	for _, row := range rows {
		if row.uid >= sp.lo && row.uid < sp.hi {
			uids = append(uids, row.uid)
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// launchNext asks for the next mails: those to be read ahead, then the queue.
func (r *reader) launchNext() {
	if len(r.ahead) > 0 {
		r.flyAhead()
		return
	}
	n := min(len(r.queue), r.s.p.cfg.PageSize)
	uids := r.queue[:n:n]
	r.queue = r.queue[n:]
	next := r.in.hi
	if len(r.queue) > 0 {
		next = uids[n-1] + 1
	}
	r.fly(uids, next)
}

// take returns the chunk that ready announced, every mail of it handed out,
// gone, or named in lost. Before it waits it sends the request for the next.
func (r *reader) take() (chunk, error) {
	r.budget = rescueBudget
	fl := r.air[0]
	if len(r.air) == 1 && r.waiting() {
		r.launchNext()
	}
	err := r.s.land(fl)
	r.air = r.air[1:]
	if err != nil && !r.s.mayRescue(err) {
		return chunk{}, r.s.why("reading headers", err)
	}
	if err != nil {
		fl.forget() // rows of a failed FETCH do not count
	}
	c := chunk{next: fl.next, asked: fl.asked}
	var missing []uint32
	c.msgs, missing = fl.sort()
	if len(fl.named) > 0 {
		if missing, err = r.readNamed(&c, fl.named, missing); err != nil {
			return chunk{}, err
		}
	}
	if len(missing) > 0 {
		if err := r.rescueMissing(&c, missing); err != nil {
			return chunk{}, err
		}
	}
	if len(c.msgs) == 0 && len(c.lost) > hopeless {
		return chunk{}, classed(providers.ClassServer, "the server lists %d mails of one folder and hands out none of them; have the folder repaired on the server", len(c.lost))
	}
	if err := r.mend(&c, fl.since); err != nil {
		return chunk{}, err
	}
	return c, r.askAhead(fl)
}

// takeWhole returns the news of a folder that was searched and fetched in one
// flight, if they need no second look, for which the folder would have to be
// open still.
func (r *reader) takeWhole() (c chunk, whole bool, err error) {
	uids, err := r.searching.wait(r.s)
	r.searching = nil
	fl := r.air[0]
	r.air = nil
	if errLand := r.s.land(fl); err == nil {
		err = errLand
	}
	if err != nil {
		if refusal(err) == nil || r.s.conn.Err() != nil {
			return c, false, r.s.why("reading news", err)
		}
		return c, false, nil
	}
	fl.narrow, fl.narrowed = uids, true
	var missing []uint32
	c.next = fl.next
	c.msgs, missing = fl.sort()
	return c, len(missing) == 0 && !slices.ContainsFunc(c.msgs, isBare), nil
}

// mayRescue tells whether a failed FETCH is worth asking in pieces: the server
// refused, and not because it wants a pause. UNAVAILABLE is what some say about
// single mails (RFC 5530 §3).
func (s *session) mayRescue(err error) bool {
	e := refusal(err)
	if e == nil || s.conn.Err() != nil {
		return false
	}
	switch e.Code {
	case imap.ResponseCodeUnavailable, imap.ResponseCodeServerBug, imap.ResponseCodeInUse:
		return !isThrottled("", e.Text)
	}
	return !isThrottled(string(e.Code), e.Text)
}

// sort parts the rows that came from the UIDs that should have come and did
// not. A UID that search did not list and that has no row does not exist.
func (fl *flight) sort() (msgs []providers.Message, missing []uint32) {
	if fl.who == nil {
		msgs = make([]providers.Message, 0, len(fl.rows))
	}
	for i := range fl.rows {
		if fl.rows[i].ok && fl.who == nil {
			msgs = append(msgs, fl.rows[i].msg)
		} else if !fl.rows[i].ok && fl.expected(fl.uids[i]) {
			missing = append(missing, fl.uids[i])
		}
	}
	return msgs, missing
}

// size is how many mails a flight can bring.
func (fl *flight) size() int {
	if fl.narrowed {
		return len(fl.narrow)
	}
	return len(fl.uids)
}

func (fl *flight) expected(uid uint32) bool {
	if !fl.narrowed {
		return true
	}
	_, ok := slices.BinarySearch(fl.narrow, uid)
	return ok
}

var errNoAnswer = errors.New("no answer")
