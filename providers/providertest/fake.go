package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// Op names one kind of call on the fake.
type Op string

// The calls that a Fault may fail and that Calls counts.
const (
	OpOpen   Op = "open"
	OpStart  Op = "start"
	OpNext   Op = "next"
	OpSearch Op = "search"
	OpFind   Op = "find"
	OpClose  Op = "close"
)

// Ops lists every Op in the order of a pass.
var Ops = [...]Op{OpOpen, OpStart, OpNext, OpSearch, OpFind, OpClose}

// Mail is one mail as a test delivers it.
type Mail struct {
	Header message.Header
	// Raw, if not empty, is a mail or header block that Header is parsed from.
	Raw string
	// Arrival is what the server says; zero: it does not say.
	Arrival    time.Time
	Labels     []string
	ThreadHint string
	Link       string
	// Unreadable makes the server list the mail without handing it out, until
	// Repair.
	Unreadable bool
}

// Fake is a mail server with one mailbox, in memory. It obeys the contract as
// a good provider does, numbers mail as IMAP does (a move gives a new number,
// a renumbered folder a new validity), and fails when a test tells it to. Its
// methods may be called from any goroutine, also while a session is open.
//
// The zero value is not usable; NewFake makes one.
type Fake struct {
	mu       sync.Mutex
	folders  map[string]*folder
	validity uint32
	pageSize int
	fault    func(Op) error
	calls    map[Op]int
	sessions int
	expired  bool
}

type folder struct {
	validity uint32
	next     uint32 // UIDNEXT
	ignored  bool
	rows     []row // rising uid
}

type row struct {
	uid uint32
	Mail
}

var _ providers.Opener = (*Fake)(nil)

// NewFake makes a server with an empty INBOX and Sent, and with Junk and Trash
// that walks leave out. Its pages hold at most 3 messages, so that a handful of
// mails already makes a walk of several pages.
func NewFake() *Fake {
	f := &Fake{folders: map[string]*folder{}, pageSize: 3, calls: map[Op]int{}}
	for _, name := range []string{"INBOX", "Sent", "Junk", "Trash"} {
		f.folder(name)
	}
	f.folders["Junk"].ignored = true
	f.folders["Trash"].ignored = true
	return f
}

// folder returns the folder of that name and makes it when it is missing.
func (f *Fake) folder(name string) *folder {
	if f.folders[name] == nil {
		f.validity++
		f.folders[name] = &folder{validity: f.validity, next: 1}
	}
	return f.folders[name]
}

// SetPageSize bounds the messages of a page; n is at least 1.
func (f *Fake) SetPageSize(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pageSize = max(1, n)
}

// SetFault makes every call ask fault first and fail with its error; nil ends
// it. fault is called with the fake's lock held and must not call the fake.
func (f *Fake) SetFault(fault func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// FailNth returns a fault that fails the n-th call of op from now on, counted
// from 1, and no other.
func FailNth(op Op, n int, err error) func(Op) error {
	return func(got Op) error {
		if got != op {
			return nil
		}
		if n--; n == 0 {
			return err
		}
		return nil
	}
}

// ErrCut is a connection that broke in the middle of an answer.
var ErrCut = &providers.ClassError{
	Class: providers.ClassNetwork,
	Err:   errors.New("the connection broke in the middle of an answer"),
}

// Throttled is the answer of a server that asks for a pause.
func Throttled(after time.Duration) error {
	return &providers.ThrottledError{After: after, Err: errors.New("too many requests")}
}

// Calls counts the calls of op so far, failed ones included.
func (f *Fake) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Sessions counts the sessions that are open now: 0 after every pass.
func (f *Fake) Sessions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions
}

// Deliver puts a mail into a folder, which is made when it is missing, and
// returns its Ref.
func (f *Fake) Deliver(name string, m Mail) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deliver(name, m)
}

func (f *Fake) deliver(name string, m Mail) string {
	if m.Raw != "" {
		head, _, _ := strings.Cut(m.Raw, "\r\n\r\n")
		m.Header, m.Raw = message.Parse([]byte(head+"\r\n\r\n")), ""
	}
	fo := f.folder(name)
	uid := fo.next
	fo.next++
	fo.rows = append(fo.rows, row{uid: uid, Mail: m})
	return ref(name, fo.validity, uid)
}

// Move moves the mail that Ref names into a folder and returns its new Ref, or
// "" when there is no such mail any more. It keeps its arrival, as MOVE and
// COPY do (RFC 9051 §6.4.7).
func (f *Fake) Move(ref, to string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.take(ref)
	if !ok {
		return ""
	}
	return f.deliver(to, r.Mail)
}

// Delete removes the mail that Ref names; it tells whether there was one.
func (f *Fake) Delete(ref string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.take(ref)
	return ok
}

// Repair makes an Unreadable mail readable.
func (f *Fake) Repair(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fo, i := f.locate(ref); fo != nil {
		fo.rows[i].Unreadable = false
	}
}

// Renumber gives a folder a new validity and its mails new numbers, as a server
// does whose index was lost.
func (f *Fake) Renumber(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fo := f.folder(name)
	f.validity++
	fo.validity, fo.next = f.validity, 1
	for i := range fo.rows {
		fo.rows[i].uid = fo.next
		fo.next++
	}
}

// Rename gives a folder another name; its mails keep their numbers. It does
// nothing when from is missing or to exists.
func (f *Fake) Rename(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.folders[from] == nil || f.folders[to] != nil {
		return
	}
	f.folders[to] = f.folders[from]
	delete(f.folders, from)
}

// RemoveFolder removes a folder with its mail.
func (f *Fake) RemoveFolder(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.folders, name)
}

// Ignore makes walks leave a folder out, or take it again.
func (f *Fake) Ignore(name string, ignored bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.folder(name).ignored = ignored
}

// Expire makes the next Next answer providers.ErrCursorExpired, once.
func (f *Fake) Expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expired = true
}

// Mails returns what the watched folders hold now, in the order of a walk.
func (f *Fake) Mails() []providers.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ms []providers.Message
	for _, name := range f.watched() {
		fo := f.folders[name]
		for _, r := range fo.rows {
			ms = append(ms, r.message(name, fo))
		}
	}
	return ms
}

// watched lists the folders that walks take, INBOX and Sent first.
func (f *Fake) watched() []string {
	var names []string
	for name, fo := range f.folders {
		if !fo.ignored {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(walkKey(a), walkKey(b))
	})
	return names
}

// walkKey sorts folder names into the order of a walk.
func walkKey(name string) string {
	switch name {
	case "INBOX":
		return "0"
	case "Sent":
		return "1"
	}
	return "2" + name
}

func (f *Fake) take(ref string) (row, bool) {
	fo, i := f.locate(ref)
	if fo == nil {
		return row{}, false
	}
	r := fo.rows[i]
	fo.rows = slices.Delete(fo.rows, i, i+1)
	return r, true
}

func (f *Fake) locate(ref string) (*folder, int) {
	name, validity, uid := parseRef(ref)
	fo := f.folders[name]
	if fo == nil || fo.validity != validity {
		return nil, 0
	}
	i := slices.IndexFunc(fo.rows, func(r row) bool { return r.uid == uid })
	if i < 0 {
		return nil, 0
	}
	return fo, i
}

func ref(name string, validity, uid uint32) string {
	return fmt.Sprintf("%s/%d/%d", name, validity, uid)
}

func parseRef(s string) (name string, validity, uid uint32) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return "", 0, 0
	}
	v, _ := strconv.ParseUint(parts[1], 10, 32)
	u, _ := strconv.ParseUint(parts[2], 10, 32)
	return parts[0], uint32(v), uint32(u)
}

func (r row) message(name string, fo *folder) providers.Message {
	return providers.Message{
		Ref: ref(name, fo.validity, r.uid), Folder: name, Labels: r.Labels,
		Arrival: r.Arrival, ThreadHint: r.ThreadHint, Link: r.Link,
		Ignored: fo.ignored, Header: r.Header,
	}
}

// since tells whether a mail belongs to a window: arrival or Date after since,
// or neither known.
func (r row) since(since time.Time) bool {
	if r.Arrival.IsZero() && r.Header.Date.IsZero() {
		return true
	}
	return !r.Arrival.Before(since) || !r.Header.Date.Before(since)
}

// call counts op and asks the fault. The caller holds f.mu.
func (f *Fake) call(ctx context.Context, op Op) error {
	f.calls[op]++
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.fault != nil {
		return f.fault(op)
	}
	return nil
}

// Open opens a session.
func (f *Fake) Open(ctx context.Context) (providers.Mailbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call(ctx, OpOpen); err != nil {
		return nil, err
	}
	f.sessions++
	return &session{f: f}, nil
}

// session is one open session. Only closed is its own state: everything else
// is the server's, so that two sessions see one mailbox.
type session struct {
	f      *Fake
	closed bool
}

// version marks the fake's cursors.
const version = 1

// position is the fake's cursor: per folder what was taken.
type position struct {
	Version int                  `json:"v"`
	Since   int64                `json:"since"` // unix milliseconds
	Folders map[string]*folderAt `json:"folders"`
}

type folderAt struct {
	Validity uint32 `json:"validity"`
	Next     uint32 `json:"next"`
	// Until bounds a walk of the window: mails below it count only from Since on.
	Until uint32   `json:"until,omitempty"`
	Since int64    `json:"since,omitempty"`
	Gaps  []uint32 `json:"gaps,omitempty"`
}

func (p position) cursor() providers.Cursor {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of numbers and strings always marshals
	}
	return providers.Cursor(b)
}

func decode(cur providers.Cursor) (position, error) {
	var p position
	if json.Unmarshal([]byte(cur), &p) != nil || p.Version != version {
		return p, providers.ErrCursorExpired
	}
	if p.Folders == nil {
		p.Folders = map[string]*folderAt{}
	}
	return p, nil
}

// Start begins the first walk at since.
func (s *session) Start(ctx context.Context, since time.Time) (providers.Cursor, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if err := s.call(ctx, OpStart); err != nil {
		return "", err
	}
	return position{Version: version, Since: since.UnixMilli(), Folders: map[string]*folderAt{}}.cursor(), nil
}

func (s *session) call(ctx context.Context, op Op) error {
	if err := s.f.call(ctx, op); err != nil {
		return err
	}
	if s.closed {
		return errors.New("providertest: call on a closed session")
	}
	return nil
}

// Next returns the page after cur.
func (s *session) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if err := s.call(ctx, OpNext); err != nil {
		return providers.Page{}, err
	}
	if s.f.expired {
		s.f.expired = false
		return providers.Page{}, providers.ErrCursorExpired
	}
	p, err := decode(cur)
	if err != nil {
		return providers.Page{}, err
	}
	return s.f.next(p, w), nil
}

// next walks the watched folders from p until the page is full.
func (f *Fake) next(p position, w providers.Window) providers.Page {
	var page providers.Page
	for _, name := range f.watched() {
		fo := f.folders[name]
		at, reset := f.place(p, name, fo, w)
		if reset != "" {
			page.Reset = reset
		}
		f.retry(&page, name, fo, at)
		f.read(&page, name, fo, at)
	}
	page.Next = p.cursor()
	return page
}

// place finds where the walk of a folder stands: where it stood, or at the
// start of the window when the numbering changed.
func (f *Fake) place(p position, name string, fo *folder, w providers.Window) (at *folderAt, reset string) {
	at = p.Folders[name]
	switch {
	case at == nil:
		at = &folderAt{Validity: fo.validity, Next: 1, Until: fo.next, Since: p.Since}
	case at.Validity != fo.validity:
		at = &folderAt{Validity: fo.validity, Next: 1, Until: fo.next, Since: w.Since.UnixMilli()}
		reset = "validity changed"
	}
	p.Folders[name] = at
	return at, reset
}

// retry tries the mails again that could not be read before.
func (f *Fake) retry(page *providers.Page, name string, fo *folder, at *folderAt) {
	var still []uint32
	for _, uid := range at.Gaps {
		i := slices.IndexFunc(fo.rows, func(r row) bool { return r.uid == uid })
		switch {
		case i < 0: // deleted meanwhile
		case fo.rows[i].Unreadable:
			still = append(still, uid)
			page.Unreadable++
		default:
			page.Messages = append(page.Messages, fo.rows[i].message(name, fo))
		}
	}
	at.Gaps = still
}

// read takes new mail until the page is full.
func (f *Fake) read(page *providers.Page, name string, fo *folder, at *folderAt) {
	for _, r := range fo.rows {
		if r.uid < at.Next || r.uid < at.Until && !r.since(time.UnixMilli(at.Since)) {
			continue
		}
		if len(page.Messages) >= f.pageSize {
			page.More = true
			return
		}
		at.Next = r.uid + 1
		if r.Unreadable {
			at.Gaps = append(at.Gaps, r.uid)
			page.Unreadable++
			continue
		}
		page.Messages = append(page.Messages, r.message(name, fo))
	}
	at.Next, at.Until, at.Since = max(at.Next, fo.next), 0, 0
}

// Search walks every watched mail since q.Since; it ignores q.Addresses, as the
// contract allows.
func (s *session) Search(ctx context.Context, q providers.Query, cur providers.Cursor) (providers.Page, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if err := s.call(ctx, OpSearch); err != nil {
		return providers.Page{}, err
	}
	p := position{Version: version, Folders: map[string]*folderAt{}}
	if cur != "" {
		var err error
		if p, err = decode(cur); err != nil {
			return providers.Page{}, err
		}
	}
	return s.f.search(p, q), nil
}

func (f *Fake) search(p position, q providers.Query) providers.Page {
	var page providers.Page
	for _, name := range f.watched() {
		fo := f.folders[name]
		at := p.Folders[name]
		if at == nil || at.Validity != fo.validity {
			at = &folderAt{Validity: fo.validity, Next: 1}
			p.Folders[name] = at
		}
		at.Until, at.Since = fo.next, q.Since.UnixMilli()
		f.read(&page, name, fo, at)
	}
	page.Next = p.cursor()
	return page
}

// Find looks in every folder.
func (s *session) Find(ctx context.Context, messageID string) ([]providers.Message, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if err := s.call(ctx, OpFind); err != nil {
		return nil, err
	}
	var ms []providers.Message
	for name, fo := range s.f.folders {
		for _, r := range fo.rows {
			if messageID != "" && r.Header.MessageID == messageID && !r.Unreadable {
				ms = append(ms, r.message(name, fo))
			}
		}
	}
	slices.SortFunc(ms, func(a, b providers.Message) int { return strings.Compare(a.Ref, b.Ref) })
	return ms, nil
}

// Close ends the session; closing twice is fine.
func (s *session) Close() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.f.sessions--
	return s.f.call(context.Background(), OpClose)
}
