package gmail

import (
	"encoding/json"
	"slices"
	"time"

	"mailsyncd/providers"
)

// cursor is the decoded position of the main walk. Its text is JSON:
//
//	{"v":1,"history":"4711","since":1763596800}
//
// and, while work is under way, also a listing of the history, a walk of the
// window, and mails that are tried again. It holds ids of mails and times, and
// never an address: what is erased elsewhere must not live on here.
type cursor struct {
	Version int `json:"v"`
	// History is the id up to which every change is decided, or listed in List.
	// It is read before any listing begins, so that no listing leaves a hole.
	History uint64 `json:"history,string"`
	// Since is where the first walk began (unix seconds).
	Since int64    `json:"since"`
	List  *listing `json:"list,omitempty"`
	Walk  *walk    `json:"walk,omitempty"`
	Retry retries  `json:"retry,omitempty"`
}

// oldCursor is the position of a Search:
//
//	{"v":1,"old":{…}}
type oldCursor struct {
	Version int     `json:"v"`
	Old     *walk   `json:"old"`
	Retry   retries `json:"retry,omitempty"`
}

// listing is a listing of the history that is under way.
type listing struct {
	// Upto is the mailbox's history id as the first page told it: what History
	// becomes at the end. Later pages may tell a newer one, behind changes that
	// this listing does not hold.
	Upto uint64 `json:"upto,string"`
	// Token asks for the next page; empty when there is none.
	Token string `json:"token,omitempty"`
	// Pending are ids that were listed and not read yet.
	Pending []string `json:"pending,omitempty"`
}

// walk is a walk over old mail that is under way.
type walk struct {
	// Since bounds it (unix seconds).
	Since int64 `json:"since"`
	// ByAddress tells that the server is asked for the mails of addresses, in
	// groups. Addresses stand as marks: hashes, in whose order the groups are
	// made. Part is the last mark of which all is listed, Upto the last one of the
	// group at hand, Query a hash of its query: a page token belongs to a query.
	ByAddress bool   `json:"by_address,omitempty"`
	Part      string `json:"part,omitempty"`
	Upto      string `json:"upto,omitempty"`
	Query     string `json:"query,omitempty"`
	// Listed tells that the listing (of this group) has begun, Token where its
	// next page begins; a listing that has begun and has no Token is at its end.
	Listed  bool     `json:"listed,omitempty"`
	Token   string   `json:"token,omitempty"`
	Pending []string `json:"pending,omitempty"`
	// Last are the ids that were read last, in the order of the listing. When a
	// page token is refused and the listing begins again, it goes on behind them.
	Last  []string `json:"last,omitempty"`
	Place place    `json:"place,omitempty"`
	// Old counts how many mails in a row were older than Since.
	Old int `json:"old,omitempty"`
	// Read counts the mails read, Begun is when the walk began, Reached the
	// arrival of the oldest mail so far (unix seconds): for Progress.
	Read    int   `json:"read,omitempty"`
	Begun   int64 `json:"begun"`
	Reached int64 `json:"reached,omitempty"`
}

const (
	cursorVersion = 1
	// maxPending bounds the ids of one list answer: 500 asked for, and a history
	// record may name several.
	maxPending = 20_000
	// maxCursor bounds what is decoded.
	maxCursor = 1 << 20
	// maxID bounds an id of the server; today's have 16 digits.
	maxID = 128
)

func newWalk(since, now time.Time) *walk { return &walk{Since: since.Unix(), Begun: now.Unix()} }

func (w *walk) since() time.Time { return time.Unix(w.Since, 0) }

// place says whether a listing that began again has come to what is not read yet.
type place int

const (
	atPlace place = iota // everything listed is to be read
	looking              // nothing that was read has come by yet
	passing              // what comes by was read
)

// restart begins the listing at hand again. Reading costs four times as much as
// listing five hundred, so what was read already is passed over.
func (w *walk) restart() {
	w.Listed, w.Token, w.Pending, w.Place = false, "", nil, atPlace
	if len(w.Last) > 0 {
		w.Place = looking
	}
}

// anew begins a listing of which nothing was read.
func (w *walk) anew() {
	w.Last, w.Old = nil, 0
	w.restart()
}

// keepLast is how many ids Last holds: one of them will not have been deleted.
const keepLast = 20

// wasRead notes ids that were read, in the order of the listing.
func (w *walk) wasRead(ids []string) {
	w.Last = append(slices.Clone(w.Last), ids...)
	w.Last = w.Last[max(0, len(w.Last)-keepLast):]
}

// take takes a page of the listing. A listing that began again and ends without
// anything that was read begins once more, and all of it is read. A mail that came
// into the listing before the place meanwhile comes by the history.
func (w *walk) take(ids []string, token string) {
	w.Listed, w.Token, w.Pending = true, token, ids
	if w.Place == atPlace {
		return
	}
	n := len(ids) // how many of them are behind us
	for n > 0 && !slices.Contains(w.Last, ids[n-1]) {
		n--
	}
	switch {
	case n > 0:
		w.Pending, w.Place = ids[n:], passing
	case w.Place == looking && token == "":
		w.anew()
	case w.Place == looking:
		w.Pending = nil
	}
	if len(w.Pending) > 0 {
		w.Place = atPlace
	}
}

func encode(c any) providers.Cursor {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return providers.Cursor(b)
}

// decodeCursor reads a cursor back; ErrCursorExpired for anything that this
// version did not write.
func decodeCursor(text providers.Cursor) (*cursor, error) {
	var c cursor
	if len(text) > maxCursor || json.Unmarshal([]byte(text), &c) != nil || c.Version != cursorVersion ||
		c.History == 0 || !c.Walk.valid() || !c.Retry.valid() ||
		c.List != nil && !validIDs(c.List.Pending) {
		return nil, providers.ErrCursorExpired
	}
	return &c, nil
}

// decodeOld reads a Search cursor; the empty one begins the walk.
func decodeOld(text providers.Cursor, since, now time.Time) (*oldCursor, error) {
	if text == "" {
		return &oldCursor{Version: cursorVersion, Old: newWalk(since, now)}, nil
	}
	var c oldCursor
	if len(text) > maxCursor || json.Unmarshal([]byte(text), &c) != nil || c.Version != cursorVersion ||
		c.Old == nil || !c.Old.valid() || !c.Retry.valid() {
		return nil, providers.ErrCursorExpired
	}
	return &c, nil
}

func (w *walk) valid() bool {
	return w == nil || validIDs(w.Pending) && validIDs(w.Last) && w.Old >= 0 && w.Read >= 0
}

func validIDs(ids []string) bool {
	for _, id := range ids {
		if !validID(id) {
			return false
		}
	}
	return len(ids) <= maxPending
}

// validID accepts what may stand in a path. Ids are the server's, but a path is
// not a place for trust.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, r := range id {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '-', r == '_':
		default:
			return false
		}
	}
	return true
}

// Progress says how far a walk over old mail has come.
type Progress struct {
	// Read counts the mails read so far.
	Read int
	// Done is the share of the window that is read, between 0 and 1. Mail is
	// read newest first, so time tells it; a walk by address does not know it
	// and says 0.
	Done float64
	// Left estimates the mails that are still to be read; 0 when unknown.
	Left int
}

// ProgressOf reads the progress of the walk in a cursor, of Next or of Search;
// false when none is under way or the cursor is not this provider's.
func ProgressOf(cur providers.Cursor) (Progress, bool) {
	w := walkOf(cur)
	if w == nil {
		return Progress{}, false
	}
	p := Progress{Read: w.Read}
	if window := w.Begun - w.Since; !w.ByAddress && w.Reached != 0 && window > 0 {
		p.Done = min(1, max(0, float64(w.Begun-w.Reached)/float64(window)))
	}
	if p.Done > 0 {
		p.Left = int(float64(w.Read) * (1 - p.Done) / p.Done)
	}
	return p, true
}

func walkOf(cur providers.Cursor) *walk {
	if c, err := decodeCursor(cur); err == nil {
		return c.Walk
	}
	if cur == "" {
		return nil
	}
	if c, err := decodeOld(cur, time.Time{}, time.Time{}); err == nil {
		return c.Old
	}
	return nil
}
