package imap

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"mailsyncd/providers"
)

// cursor is the decoded position of the main walk. Its text is JSON:
//
//	{"v":1,"since":1763596800,"folders":{"INBOX":{"validity":17,"next":4711}}}
//
// since is where the first walk began (unix seconds): a folder that appears
// later is walked from there too, because mail may have been moved into it.
type cursor struct {
	Version int               `json:"v"`
	Since   int64             `json:"since"`
	Folders map[string]*place `json:"folders,omitempty"`
}

const cursorVersion = 1

// place is the position in one folder.
type place struct {
	// Validity is UIDVALIDITY; 0 when the server gives none. Then numbers mean
	// nothing from one session to the next, and the window is walked every time.
	Validity uint32 `json:"validity"`
	// Next is the lowest UID that was not taken yet.
	Next uint32 `json:"next"`
	// Until and Since bound a walk of the window that is under way: of the mail
	// with UIDs below Until only that since Since (unix seconds) is taken. Mail
	// from Until on is new, whatever its date.
	Until uint32 `json:"until,omitempty"`
	Since int64  `json:"since,omitempty"`
	// Gaps are mails that the server lists but did not hand out.
	Gaps []gap `json:"gaps,omitempty"`
	// Gone is when the folder was missing first (unix seconds). A folder that
	// comes back within goneFor goes on where it stood.
	Gone int64 `json:"gone,omitempty"`
}

// gap is a range of UIDs, both ends included.
type gap struct {
	Lo    uint32 `json:"lo"`
	Hi    uint32 `json:"hi"`
	Tries int    `json:"tries"`
	First int64  `json:"first"` // unix seconds
	Last  int64  `json:"last"`
}

const (
	goneFor = 30 * 24 * time.Hour
	// A gap is tried at every poll a few times, then daily, then given up: some
	// servers list mails for ever that they lost long ago.
	gapQuickTries = 3
	gapEvery      = 24 * time.Hour
	gapFor        = 14 * 24 * time.Hour
	// maxGaps bounds the list of one folder. A folder with more is not moved over:
	// then it is the server that is broken, not a mail.
	maxGaps = 200
	// maxCursor bounds what is decoded: ten thousand folders with long names.
	maxCursor = 4 << 20
)

func (c *cursor) encode() providers.Cursor {
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
	if !readCursor(text, &c) || c.Version != cursorVersion {
		return nil, providers.ErrCursorExpired
	}
	if c.Folders == nil {
		c.Folders = map[string]*place{}
	}
	for _, p := range c.Folders {
		if p == nil || p.Next == 0 || !gapsOK(p.Gaps) {
			return nil, providers.ErrCursorExpired
		}
	}
	return &c, nil
}

// readCursor reads the JSON of a cursor into v. A field that is not ours means
// that another provider, or a later version, wrote it.
func readCursor(text providers.Cursor, v any) bool {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	return len(text) <= maxCursor && d.Decode(v) == nil && !d.More()
}

func gapsOK(gs []gap) bool {
	return len(gs) <= maxGaps && !slices.ContainsFunc(gs, func(g gap) bool { return g.Lo == 0 || g.Hi < g.Lo })
}

// windowed makes a place whose UIDs below next are walked since a time, and
// everything from next on as new.
func windowed(validity, next uint32, since int64) *place {
	p := &place{Validity: validity, Next: 1}
	if next > 1 {
		p.Until, p.Since = next, since
	}
	return p
}

// taken moves the place: every UID below next is decided.
func (p *place) taken(next uint32) {
	p.Next = max(p.Next, next)
	if p.Next > 1 && p.Next >= p.Until {
		p.Until, p.Since = 0, 0
	}
}

// untouched tells that no UID of a folder was decided yet: then no numbering is
// lost when it changes. Courier makes up another one at every look until somebody
// opens the folder.
func (p *place) untouched() bool { return p.Validity != 0 && p.Next == 1 }

// renumber puts an untouched place under another numbering: what was to be walked
// of a window still is, and what was all new still is.
func (p *place) renumber(validity, next uint32) {
	if p.Since != 0 {
		*p = *again(validity, next, p.Since)
		return
	}
	*p = place{Validity: validity, Next: 1}
}

// again makes the place of a folder whose numbering was lost. It keeps since also
// while the folder shows no mail: a mail store that was unmounted for a moment
// comes back with all of it, under yet another numbering.
func again(validity, next uint32, since int64) *place {
	p := windowed(validity, next, since)
	p.Since = since
	return p
}

// due tells whether a gap is to be tried at now.
func (g gap) due(now time.Time) bool {
	return g.Tries < gapQuickTries || now.Sub(time.Unix(g.Last, 0)) >= gapEvery
}

// span is a range of UIDs to read: lo ≤ uid < hi, since a time (zero: all), of
// mails that name certain addresses (nil: all).
type span struct {
	lo, hi uint32
	since  time.Time
	who    *wanted
	ask    bool // the server may be asked first who names them
}

// isFew tells that a span is worth fetching before it is known what exists: all
// of it counts, and it fits into one chunk.
func (sp span) isFew(limit int) bool { return sp.since.IsZero() && sp.hi-sp.lo <= uint32(limit) }

// uids are all numbers of a span.
func (sp span) uids() []uint32 {
	uids := make([]uint32, sp.hi-sp.lo)
	for i := range uids {
		uids[i] = sp.lo + uint32(i)
	}
	return uids
}

// spans says what is still to read in a folder whose UIDNEXT is next.
func (p *place) spans(next uint32) []span {
	var s []span
	lo := p.Next
	if p.Until > lo {
		s = append(s, span{lo: lo, hi: min(p.Until, next), since: time.Unix(p.Since, 0)})
		lo = p.Until
	}
	if lo < next {
		s = append(s, span{lo: lo, hi: next})
	}
	return slices.DeleteFunc(s, func(s span) bool { return s.lo >= s.hi })
}

// oldCursor is the position of a Search: folders before Key are done, the one
// with Key is done below Next. Asked is the last mail that was handed out ahead
// of its turn; it only tells one such page from the next.
type oldCursor struct {
	Version  int    `json:"v"`
	Key      string `json:"key"`
	Validity uint32 `json:"validity"`
	Next     uint32 `json:"next"`
	Asked    uint32 `json:"asked,omitempty"`
}

func (c oldCursor) encode() providers.Cursor {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return providers.Cursor(b)
}

// decodeOld reads a Search cursor; the empty one begins the walk.
func decodeOld(text providers.Cursor) (oldCursor, error) {
	c := oldCursor{Version: cursorVersion}
	if text == "" {
		return c, nil
	}
	if !readCursor(text, &c) || c.Version != cursorVersion {
		return oldCursor{}, providers.ErrCursorExpired
	}
	return c, nil
}
