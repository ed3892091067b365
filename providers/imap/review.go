package imap

import (
	"errors"
	"slices"

	"mailsyncd/providers"
)

// review is one run of Search: a walk over the old mail of the watched folders,
// in a fixed order and with a cursor of its own.
type review struct {
	s   *session
	q   providers.Query
	who *wanted
	at  providers.Cursor
	cur oldCursor

	jobs []*folder
	f    *folder
	r    *reader
	stop uint32
}

func (s *session) startReview(q providers.Query, cur providers.Cursor) (*review, error) {
	c, err := decodeOld(cur)
	if err != nil {
		return nil, err
	}
	if err := s.listOnce(); err != nil {
		return nil, err
	}
	w := &review{s: s, q: q, who: want(q.Addresses), at: cur, cur: c}
	for _, f := range s.dir.watched {
		if !(f.status.counted && f.status.messages == 0) && f.key() >= c.Key {
			w.jobs = append(w.jobs, f)
		}
	}
	return w, nil
}

// asks tells whether this is the walk of a query.
func (w *review) asks(q providers.Query) bool {
	return w.q.Since.Equal(q.Since) && slices.Equal(w.q.Addresses, q.Addresses)
}

// listOnce lists the folders unless this session has: mail that is newer than
// the list is new mail, not old.
func (s *session) listOnce() error {
	if s.dir.all != nil {
		return nil
	}
	return s.list()
}

func (w *review) page() (providers.Page, error) {
	var page providers.Page
	if err := w.s.fill(&page, w); err != nil {
		return providers.Page{}, err
	}
	page.Next = w.cur.encode()
	w.at = page.Next
	return page, nil
}

// next implements stepper.
func (w *review) next(*providers.Page) (*reader, error) {
	for w.r == nil && len(w.jobs) > 0 {
		w.f, w.jobs = w.jobs[0], w.jobs[1:]
		r, err := w.s.open(w.f, w.want)
		if errors.Is(err, errFolder) {
			continue
		}
		if err != nil {
			return nil, err
		}
		w.r = r
	}
	return w.r, nil
}

// want goes on in the folder of the cursor, and begins the others.
func (w *review) want(validity, next uint32) []span {
	w.stop = next
	sp := span{lo: 1, hi: next, since: w.q.Since, who: w.who, ask: true}
	if w.f.key() == w.cur.Key && validity == w.cur.Validity && validity != 0 {
		sp.lo, sp.ask = max(1, w.cur.Next), false
	}
	if sp.lo >= next {
		return nil
	}
	return []span{sp}
}

// took implements stepper.
func (w *review) took(c chunk) error {
	w.move(c.next)
	w.cur.Asked = c.asked
	return nil
}

// done implements stepper.
func (w *review) done() error {
	w.move(w.stop)
	w.r = nil
	return nil
}

func (w *review) move(next uint32) {
	w.cur = oldCursor{Version: cursorVersion, Key: w.f.key(), Validity: w.r.validity, Next: next}
}

// isWatched tells whether walks take a folder.
func (d directory) isWatched(f *folder) bool { return slices.Contains(d.watched, f) }
