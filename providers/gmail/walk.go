package gmail

import (
	"context"
	"slices"
	"time"

	"mailsyncd/providers"
)

const (
	// readAtOnce is how many mails of a walk are read before it is asked whether
	// the window is behind it.
	readAtOnce = 25
	// oldRun is how many mails in a row must be older than the window for the walk
	// to end. Gmail lists by its own date of acceptance; a little disorder must
	// not hide anything.
	oldRun = 50
)

// candidates are the addresses by which the window may be walked; nil: read
// every header.
func (s *session) candidates() []string {
	if s.p.cfg.Mode != ModeSearch || s.p.cfg.Candidates == nil {
		return nil
	}
	if c := s.p.cfg.Candidates(); c != nil {
		return c
	}
	return []string{}
}

// walkOn goes on with a walk over old mail until the page is full or the walk
// is done.
func (s *session) walkOn(ctx context.Context, page *pageOf, w *walk, retry *retries, addresses []string) (done bool, err error) {
	terms, byAddress := s.terms(addresses)
	w.choose(byAddress)
	if ids := retry.crowded(page.room()); len(ids) > 0 {
		if _, _, err := s.readInto(ctx, page, ids, retry, nil); err != nil {
			return false, err
		}
	}
	for range maxListings {
		if len(w.Pending) == 0 && w.nextPart(terms) {
			return true, nil
		}
		if page.full() {
			return false, nil
		}
		if len(w.Pending) == 0 {
			if err := s.listWalk(ctx, w, terms); err != nil {
				return false, s.keep(page, err)
			}
		}
		if err := s.readWalk(ctx, page, w, retry); err != nil {
			return false, err
		}
	}
	return false, nil
}

// choose decides how to walk, by address or all, when the walk begins. A walk
// by address that can no longer be one (the mode changed, the list outgrew what
// is worth asking for) begins again: a position of the one means nothing to the
// other.
func (w *walk) choose(byAddress bool) {
	switch {
	case !w.Listed && w.Part == "":
		if w.ByAddress != byAddress {
			w.anew() // a place in the one listing is none in the other
		}
		w.ByAddress = byAddress
	case w.ByAddress && !byAddress:
		*w = walk{Since: w.Since, Begun: w.Begun, Read: w.Read}
	}
}

// nextPart moves on when a listing is at its end: to the next group of
// addresses, or done. The group ended where it did when it was listed, however
// the addresses changed since.
func (w *walk) nextPart(terms []term) (done bool) {
	atEnd := w.Listed && w.Token == ""
	if !w.ByAddress {
		return atEnd
	}
	if atEnd {
		w.anew()
		w.Part, w.Upto, w.Query = w.Upto, "", ""
	}
	return !w.Listed && len(group(terms, w.Part)) == 0
}

// listWalk lists one page of ids. A page token that the server no longer takes
// begins the listing again.
func (s *session) listWalk(ctx context.Context, w *walk, terms []term) error {
	query, ok := w.query(terms)
	if !ok {
		w.Listed, w.Token = true, ""
		return nil
	}
	list, err := s.p.list(ctx, query, w.Token, false)
	if isKind(err, kindBadCall) && w.Token != "" {
		w.restart()
		list, err = s.p.list(ctx, query, "", false)
	}
	if err != nil {
		return err
	}
	w.take(idsOf(list.Messages), list.NextPageToken)
	return nil
}

// query returns what to ask for. When the addresses of a group changed in the
// middle of its listing, the token belongs to another query, and the group
// begins again; false when none of them is left.
func (w *walk) query(terms []term) (string, bool) {
	if !w.ByAddress {
		return "", true
	}
	g := group(terms, w.Part)
	if len(g) == 0 {
		return "", false
	}
	query := addressQuery(g, w.since())
	if sum := mark(query); sum != w.Query {
		w.anew()
		w.Query, w.Upto = sum, g[len(g)-1].mark
	}
	return query, true
}

// readWalk reads listed mails until the page is full or the window is behind.
func (s *session) readWalk(ctx context.Context, page *pageOf, w *walk, retry *retries) error {
	for len(w.Pending) > 0 && !page.full() {
		n := min(len(w.Pending), page.room(), readAtOnce)
		rest, read, err := s.readInto(ctx, page, w.Pending[:n], retry, w.wants)
		if err != nil {
			return err
		}
		w.Read += read
		w.wasRead(without(w.Pending[:n], rest))
		w.Pending = append(rest, w.Pending[n:]...)
		if !w.ByAddress && w.Old >= oldRun {
			w.Pending, w.Token = nil, ""
		}
	}
	return nil
}

// without are ids but for some.
func without(ids, some []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(some, id) })
}

// wants tells whether a mail belongs to the window: by arrival or by Date.
func (w *walk) wants(m *providers.Message) bool {
	since := w.since()
	if !m.Arrival.IsZero() {
		w.Reached = m.Arrival.Unix()
	}
	if outside(m.Arrival, since) && outside(m.Header.Date, since) && !(m.Arrival.IsZero() && m.Header.Date.IsZero()) {
		w.Old++
		return false
	}
	w.Old = 0
	return true
}

func outside(t, since time.Time) bool { return t.IsZero() || t.Before(since) }
