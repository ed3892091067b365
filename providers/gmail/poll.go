package gmail

import (
	"context"
	"slices"
	"time"

	"google.golang.org/api/gmail/v1"

	"mailsyncd/providers"
)

// maxListings bounds the history pages of one page of ours: pages may be empty
// and still go on.
const maxListings = 20

// poll lists the changes since the cursor's history id and reads the mails they
// name. done tells that everything up to the end of the listing is decided.
func (s *session) poll(ctx context.Context, page *pageOf, c *cursor, w providers.Window) (done bool, err error) {
	if c.List == nil {
		if err := s.tryAgain(ctx, page, c); err != nil {
			return false, err
		}
		c.List = &listing{}
	}
	for range maxListings {
		if page.full() {
			return false, nil
		}
		if len(c.List.Pending) == 0 && !c.List.atEnd() {
			cause, err := s.listHistory(ctx, c)
			if cause != "" {
				return true, s.restart(ctx, page, c, w, cause)
			}
			if err != nil {
				return false, s.keep(page, err)
			}
		}
		if err := s.readPending(ctx, page, c); err != nil {
			return false, err
		}
		if len(c.List.Pending) == 0 && c.List.atEnd() {
			c.History, c.List = c.List.Upto, nil
			if s.listed {
				return true, nil
			}
			// A listing that an earlier session began says nothing of what came
			// since, and a poll must have seen all that was there when it began.
			c.List = &listing{}
		}
	}
	return false, nil
}

// atEnd tells that the last page has been listed.
func (l *listing) atEnd() bool { return l.Upto != 0 && l.Token == "" }

// keep lets a page that brought something stand when a later call fails: the
// failure meets the next page at its beginning.
func (s *session) keep(page *pageOf, err error) error {
	if page.spent == 0 {
		return err
	}
	page.stopped = true
	return nil
}

// listHistory lists one page of changes. cause is not empty when the position
// is lost. A page token that the server no longer takes begins the listing
// again; what is read twice is dropped by whoever reads the pages.
func (s *session) listHistory(ctx context.Context, c *cursor) (cause string, err error) {
	h, err := s.p.history(ctx, c.History, c.List.Token)
	if isKind(err, kindBadCall) && c.List.Token != "" {
		c.List = &listing{}
		h, err = s.p.history(ctx, c.History, "")
	}
	switch {
	case isKind(err, kindGone):
		return "history expired", nil
	case isKind(err, kindBadCall):
		return "history id refused", nil
	case err != nil:
		return "", err
	}
	if h.HistoryId == 0 {
		return "", classed(providers.ClassServer, "asking Gmail for %s: the answer names no history id", CallHistory)
	}
	if c.List.Upto == 0 {
		if h.HistoryId < c.History {
			return "history went back", nil // another mailbox under the same address
		}
		c.List.Upto, s.listed = h.HistoryId, true
	}
	c.List.Token = h.NextPageToken
	c.List.Pending = s.changed(h.History)
	return "", nil
}

// changed lists the mails that may be new: added ones, and those that lost a
// label which kept them out. The labels that come along are a hint to save a
// call where they say Spam or draft; often they do not come.
func (s *session) changed(records []*gmail.History) []string {
	seen := map[string]bool{}
	var ids []string
	take := func(m *gmail.Message) {
		if m != nil && validID(m.Id) && !seen[m.Id] {
			seen[m.Id] = true
			ids = append(ids, m.Id)
		}
	}
	for _, h := range records {
		for _, a := range h.MessagesAdded {
			if a.Message != nil && !s.keptOut(a.Message.LabelIds) {
				take(a.Message)
			}
		}
		for _, r := range h.LabelsRemoved {
			if s.keptOut(r.LabelIds) {
				take(r.Message)
			}
		}
	}
	return ids
}

// keptOut tells whether one of the labels is known to be left out.
func (s *session) keptOut(labels []string) bool {
	if slices.ContainsFunc(labels, func(id string) bool { return slices.Contains(systemIgnored, id) }) {
		return true
	}
	_, ignored := s.p.knownLabels(labels)
	return ignored
}

// readPending reads the listed mails until the page is full.
func (s *session) readPending(ctx context.Context, page *pageOf, c *cursor) error {
	n := min(len(c.List.Pending), page.room())
	if n == 0 {
		return nil
	}
	rest, _, err := s.readInto(ctx, page, c.List.Pending[:n], &c.Retry, nil)
	c.List.Pending = append(rest, c.List.Pending[n:]...)
	return err
}

// tryAgain asks for mails that the server did not hand out before.
func (s *session) tryAgain(ctx context.Context, page *pageOf, c *cursor) error {
	now := time.Now()
	ids := c.Retry.due(now, page.room())
	if len(ids) == 0 {
		return nil
	}
	if _, _, err := s.readInto(ctx, page, ids, &c.Retry, nil); err != nil {
		return err
	}
	var dropped int
	c.Retry, dropped = c.Retry.expire(now)
	s.p.notices.Tell("mail_given_up", "mails are given up that Gmail lists but has not handed out for two weeks", dropped)
	return nil
}

// restart walks the window again, from a position that is read before. A walk
// that was under way reaches back further than the window, perhaps: then so
// does the new one.
func (s *session) restart(ctx context.Context, page *pageOf, c *cursor, w providers.Window, cause string) error {
	history, err := s.verify(ctx)
	if err != nil {
		return err
	}
	since := w.Since
	if since.IsZero() {
		since = time.Unix(c.Since, 0)
	}
	if c.Walk != nil && c.Walk.since().Before(since) {
		since = c.Walk.since()
	}
	c.History, c.List, c.Walk = history, nil, newWalk(since, time.Now())
	page.Reset = cause
	return nil
}
