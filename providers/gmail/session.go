package gmail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// session is one pass over the mailbox. It holds no connection: the transport
// does.
type session struct {
	p      *Provider
	closed bool

	// at is the cursor of the last page of Next; polled tells that the history is
	// listed up to its end since a page last said that no more follows. A walk
	// that fills many pages is not interrupted by a poll before each.
	at     providers.Cursor
	polled bool
	// listed tells that this session began a listing of the history.
	listed bool
}

// prepare looks once a day whose account this is, and which labels there are.
func (s *session) prepare(ctx context.Context) error {
	s.p.mu.Lock()
	fresh := time.Since(s.p.verified) < verifyEvery
	s.p.mu.Unlock()
	if fresh {
		return nil
	}
	if _, err := s.verify(ctx); err != nil {
		return err
	}
	return s.readLabels(ctx)
}

// verify compares the account behind the credential with the mailbox, and
// returns the history id of now.
func (s *session) verify(ctx context.Context) (uint64, error) {
	prof, err := s.p.profile(ctx)
	if err != nil {
		return 0, err
	}
	if message.Fold(prof.EmailAddress) != message.Fold(s.p.cfg.Address) {
		return 0, errOtherAccount
	}
	if prof.HistoryId == 0 {
		return 0, classed(providers.ClassServer, "asking Gmail for %s: the answer names no history id", CallProfile)
	}
	s.p.mu.Lock()
	s.p.verified = time.Now()
	s.p.mu.Unlock()
	return prof.HistoryId, nil
}

var errOtherAccount = fmt.Errorf("%w: it opens another account than this mailbox's; log in as the mailbox's own user and connect it again, or write the account's primary address into the configuration", providers.ErrUnauthorized)

// enter begins a call.
func (s *session) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reading the mailbox: %w", err)
	}
	if s.closed {
		return errors.New("the session is closed")
	}
	return nil
}

// Start reads the history id, before anything is listed.
func (s *session) Start(ctx context.Context, since time.Time) (providers.Cursor, error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	history, err := s.verify(ctx)
	if err != nil {
		return "", err
	}
	return encode(&cursor{
		Version: cursorVersion, History: history, Since: since.Unix(), Walk: newWalk(since, time.Now()),
	}), nil
}

// Next polls the history, then goes on with a walk of the window if one is
// under way: new mail comes first, and the history stays young however long
// the walk takes.
func (s *session) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	if err := s.enter(ctx); err != nil {
		return providers.Page{}, err
	}
	c, err := decodeCursor(cur)
	if err != nil {
		return providers.Page{}, err
	}
	if cur != s.at {
		s.polled, s.listed = false, false
	}
	page := &pageOf{size: s.p.cfg.PageSize}
	if err := s.advance(ctx, page, c, w); err != nil {
		return providers.Page{}, err
	}
	page.Next = encode(c)
	s.at, s.polled = page.Next, s.polled && page.More
	return page.finish(), nil
}

func (s *session) advance(ctx context.Context, page *pageOf, c *cursor, w providers.Window) error {
	if !s.polled {
		done, err := s.poll(ctx, page, c, w)
		if err != nil {
			return err
		}
		if s.polled = done; !done {
			page.More = true
			return nil
		}
	}
	if c.Walk == nil {
		return nil
	}
	done, err := s.walkOn(ctx, page, c.Walk, &c.Retry, s.candidates())
	if err != nil {
		return err
	}
	if done {
		c.Walk = nil
	}
	page.More = !done
	return nil
}

// Search walks old mail. In search mode the server is asked for the addresses;
// else every header of the window is read.
func (s *session) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	if err := s.enter(ctx); err != nil {
		return providers.Page{}, err
	}
	now := time.Now()
	c, err := decodeOld(cur, q.Since, now)
	if err != nil {
		return providers.Page{}, err
	}
	page := &pageOf{size: s.p.cfg.PageSize}
	addresses := q.Addresses
	if len(addresses) == 0 {
		addresses = nil // all
	}
	done, err := s.walkOn(ctx, page, c.Old, &c.Retry, addresses)
	if err != nil {
		return providers.Page{}, err
	}
	if done {
		if done, err = s.lastCall(ctx, page, c, now); err != nil {
			return providers.Page{}, err
		}
	}
	page.More, page.Next = !done, encode(c)
	return page.finish(), nil
}

// lastCall comes back, at the end of a walk, to the mails that could not be
// read. done tells that none is left.
func (s *session) lastCall(ctx context.Context, page *pageOf, c *oldCursor, now time.Time) (done bool, err error) {
	ids, wait := c.Retry.lastCall(now, page.room())
	if len(ids) == 0 && wait > 0 {
		if page.spent > 0 {
			return false, nil
		}
		return false, &providers.ThrottledError{After: wait, Err: errors.New("some mails of this walk are not handed out yet; they are tried again")}
	}
	if _, _, err := s.readInto(ctx, page, ids, &c.Retry, nil); err != nil {
		return false, err
	}
	var dropped int
	c.Retry, dropped = c.Retry.expireOld()
	s.p.notices.Tell("mail_given_up", "mails are given up that Gmail lists but has not handed out", dropped)
	return len(c.Retry) == 0, nil
}

// Close ends the session.
func (s *session) Close() error {
	s.closed = true
	return nil
}

// pageOf is a page that is being filled.
type pageOf struct {
	providers.Page
	size int
	// spent counts the mails that were asked for: what bounds a page is its cost,
	// also when most of it is dropped.
	spent int
	// stopped tells that a failure ended the page early; what it brought counts.
	stopped bool
}

func (p *pageOf) room() int  { return max(0, p.size-p.spent) }
func (p *pageOf) full() bool { return p.stopped || p.room() == 0 }

// finish sorts the mails, oldest first: a walk reads them newest first.
func (p *pageOf) finish() providers.Page {
	slices.SortStableFunc(p.Messages, func(a, b providers.Message) int {
		return cmp.Or(a.Arrival.Compare(b.Arrival), cmp.Compare(a.Ref, b.Ref))
	})
	return p.Page
}
