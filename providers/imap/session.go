package imap

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsyncd/providers"
	"mailsyncd/providers/imap/wire"
)

// session is one connection, logged in. After any error of the connection every
// call fails; the caller closes it and opens another at the next pass.
type session struct {
	p      *Provider
	conn   *wire.Conn
	client *imapclient.Client
	sink   sink

	introduced bool // ID and NAMESPACE were sent
	plainList  bool // LIST with RETURN was refused
	noSearch   bool // SEARCH was refused or lied
	selected   bool // a folder is open
	namespaces *imap.NamespaceData
	dir        directory
	counted    atomic.Bool // the bytes are in the metrics

	// walkedBlind are the folders without UIDVALIDITY whose window this session
	// has walked: once a session.
	walkedBlind map[string]bool

	main *poll // the walk of Next that is under way
	old  *review
}

var _ providers.Mailbox = (*session)(nil)

// Start needs no server: the folders are met by the first Next.
func (s *session) Start(ctx context.Context, since time.Time) (providers.Cursor, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c := cursor{Version: cursorVersion, Since: since.Unix()}
	return c.encode(), nil
}

// enter begins a call: it binds the connection to ctx and grants the server a
// fresh measure of data.
func (s *session) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.conn.Err() != nil {
		return nil, s.why("using the connection", errNoAnswer)
	}
	s.conn.Renew()
	return s.conn.Bind(ctx), nil
}

// Next returns the page after cur. See poll.
func (s *session) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return providers.Page{}, err
	}
	defer leave()
	if s.main == nil || s.main.at != cur {
		s.settle()
		if s.main, err = s.startPoll(cur, w); err != nil {
			return providers.Page{}, err
		}
	}
	page, err := s.main.page()
	if err != nil || !page.More {
		s.settle()
	}
	return page, err
}

// Search returns the page after cur of a walk over old mail: of every mail since
// q.Since, or of those that may name one of q.Addresses. See wanted.
func (s *session) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return providers.Page{}, err
	}
	defer leave()
	if s.old == nil || s.old.at != cur || !s.old.asks(q) {
		s.settle()
		if s.old, err = s.startReview(q, cur); err != nil {
			return providers.Page{}, err
		}
	}
	page, err := s.old.page()
	if err != nil || !page.More {
		s.settle()
	}
	return page, err
}

// settle ends the walks under way and takes what was asked for in advance, so
// that no answer is left that could be taken for another's.
func (s *session) settle() {
	if s.main != nil && s.main.r != nil {
		s.main.r.abandon()
	}
	if s.old != nil && s.old.r != nil {
		s.old.r.abandon()
	}
	s.main, s.old = nil, nil
}

// Close says LOGOUT and does not wait for the answer.
func (s *session) Close() error {
	_ = s.conn.Close()
	_ = s.client.Close() // waits for the reading goroutine, which has nothing to wait for any more
	if s.counted.CompareAndSwap(false, true) {
		s.p.cfg.Meter.Octets(s.conn.Octets())
	}
	return nil
}

// stepper is a walk over folders: what differs between new mail and old.
type stepper interface {
	// next returns the reader of the folder at hand, opened when it is a new one;
	// nil at the end of the walk.
	next(page *providers.Page) (*reader, error)
	// took notes what a chunk decided.
	took(c chunk) error
	// done notes that the folder at hand is read to its end.
	done() error
}

// pageChunks bounds how many full chunks are read for one page, where few of
// their mails go onto it: the position must not stand still for long.
const pageChunks = 10

// fill collects chunks until the page is full or the walk ends.
func (s *session) fill(page *providers.Page, w stepper) error {
	for read := 0; ; {
		r, err := w.next(page)
		if err != nil || r == nil {
			return err
		}
		n, err := r.ready()
		if err != nil {
			return err
		}
		if n == 0 {
			if err := w.done(); err != nil {
				return err
			}
			continue
		}
		full := len(page.Messages) > 0 && len(page.Messages)+n > s.p.cfg.PageSize
		if full || read > 0 && read+n > pageChunks*s.p.cfg.PageSize {
			page.More = true
			return nil
		}
		read += n
		c, err := r.take()
		if err != nil {
			return err
		}
		if err := w.took(c); err != nil {
			return err
		}
		page.Messages = append(page.Messages, c.msgs...)
		page.Unreadable += len(c.lost)
	}
}

// errFolder is a folder that refuses to be opened: gone since it was listed, or
// not for us.
var errFolder = errors.New("the folder cannot be opened")

// errUnstable is an EXAMINE that does not say what SELECT and STATUS say.
var errUnstable = errors.New("EXAMINE gives another numbering")

// openTries is how often a folder that changes under our hands is opened anew.
const openTries = 3

// open opens a folder and begins to read the spans that want makes of its
// numbering. Where STATUS told the numbering, the first search and FETCH leave
// together with the EXAMINE, and count only if it confirms.
func (s *session) open(f *folder, want func(validity, next uint32) []span) (*reader, error) {
	for range openTries {
		r, err := s.tryOpen(f, want)
		if !errors.Is(err, errUnstable) {
			return r, err
		}
	}
	return nil, errFolder
}

func (s *session) tryOpen(f *folder, want func(validity, next uint32) []span) (*reader, error) {
	selects := s.p.selects.Load()
	uncork := s.conn.Cork()
	cmd := s.startOpen(f, selects)
	st := f.status
	var r *reader
	if st.validity != 0 && st.next != 0 {
		r = s.newReader(f, st.validity, st.messages, want(st.validity, st.next))
		r.begin()
	}
	uncork()
	data, err := cmd.Wait()
	s.p.cfg.Meter.Request("examine", providers.Result(err))
	if err == nil && r != nil && confirms(data, st, selects) {
		return r, nil
	}
	if r != nil {
		r.abandon()
	}
	if err != nil {
		return nil, s.openError(err)
	}
	return s.reopen(f, data, selects, want)
}

func (s *session) startOpen(f *folder, selects bool) *imapclient.SelectCommand {
	s.selected = true
	s.sink.open()
	return s.client.Select(f.name, &imap.SelectOptions{ReadOnly: !selects})
}

// confirms tells whether opening a folder said what its STATUS had said. A
// UIDNEXT above means that mail has arrived since: that is the next poll's.
// Courier's SELECT tells no UIDNEXT, and its STATUS counts mail that gets a UID
// only now: if some of that is gone, mail to come gets UIDs below.
func confirms(data *imap.SelectData, st status, selected bool) bool {
	if data.UIDValidity != st.validity {
		return false
	}
	return uint32(data.UIDNext) >= st.next || selected && data.UIDNext == 0 && data.NumMessages >= st.messages
}

// openError: a plain NO concerns this folder only.
func (s *session) openError(err error) error {
	e := refusal(err)
	if e == nil || s.conn.Err() != nil || isThrottled(string(e.Code), e.Text) {
		return s.why("opening a folder", err)
	}
	return errFolder
}

// reopen deals with a folder whose opening did not confirm its STATUS.
func (s *session) reopen(f *folder, data *imap.SelectData, selects bool, want func(validity, next uint32) []span) (*reader, error) {
	if !selects && data.UIDNext == 0 {
		s.p.selects.Store(true) // as Courier does: its EXAMINE invents numbers
		return nil, errUnstable
	}
	old := f.status
	f.status = status{}
	if err := s.statusOf([]*folder{f}); err != nil {
		return nil, err
	}
	if f.status.validity == old.validity && old.next != 0 {
		// Some servers show an open folder as it was and count in STATUS what came
		// since. Below the first UIDNEXT everything is shown, or gone.
		f.status.next = min(f.status.next, old.next)
	}
	if !selects && f.status.validity != 0 && f.status.validity != data.UIDValidity && f.status.validity == old.validity {
		s.p.selects.Store(true)
		return nil, errUnstable
	}
	if f.status.validity != data.UIDValidity && f.status.validity != 0 {
		return nil, errUnstable // made anew just now
	}
	next, err := s.uidNext(f, data)
	if err != nil {
		return nil, err
	}
	return s.newReader(f, data.UIDValidity, data.NumMessages, want(data.UIDValidity, next)), nil
}

// uidNext finds the UIDNEXT of the open folder with servers that do not tell it
// everywhere: from SELECT, STATUS, or the newest mail.
func (s *session) uidNext(f *folder, data *imap.SelectData) (uint32, error) {
	if data.UIDNext != 0 {
		return uint32(data.UIDNext), nil
	}
	if f.status.next != 0 {
		return f.status.next, nil
	}
	if data.NumMessages == 0 {
		return 1, nil
	}
	rows, err := s.startListing(newestSet())()
	if err != nil {
		return 0, s.why("reading the newest number", err)
	}
	next := uint32(1)
	for _, row := range rows {
		next = max(next, row.uid+1)
	}
	return next, nil
}

// uidOf reads the UID out of a Ref.
func uidOf(ref string) uint32 {
	_, rest, _ := strings.Cut(ref, ".")
	uid, _, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// cmpRef sorts Refs of one folder by UID.
func cmpRef(a, b string) int {
	return int(int64(uidOf(a)) - int64(uidOf(b)))
}
