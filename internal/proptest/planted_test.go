package proptest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"mailsyncd/directory"
	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/webhook"
)

// ---- between a pass and the store --------------------------------------

// advance is a mailbox.Store with another Advance.
type advance struct {
	mailbox.Store
	do func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error)
}

func (a advance) Advance(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
	return a.do(ctx, w, version, b)
}

func cursorFirst(_ *world, s mailbox.Store) mailbox.Store {
	return advance{s, func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
		if len(b.Messages) == 0 {
			return s.Advance(ctx, w, version, b)
		}
		first := b
		first.Messages, first.Done, first.Mailbox = nil, false, nil
		done, err := s.Advance(ctx, w, version, first)
		if err != nil {
			return done, err
		}
		return s.Advance(ctx, w, done.Version, b)
	}}
}

func messageLedger(_ *world, s mailbox.Store) mailbox.Store {
	return advance{s, func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
		b.Messages = slices.DeleteFunc(slices.Clone(b.Messages), func(m store.Matched) bool {
			_, err := s.Message(ctx, m.ID)
			return err == nil
		})
		return s.Advance(ctx, w, version, b)
	}}
}

func againAlways(_ *world, s mailbox.Store) mailbox.Store {
	return advance{s, func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
		b.Again = true
		return s.Advance(ctx, w, version, b)
	}}
}

func shortTask(_ *world, s mailbox.Store) mailbox.Store {
	return advance{s, func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
		if strings.HasPrefix(w.Task, store.TaskPrefix) {
			b.Done = true
		}
		return s.Advance(ctx, w, version, b)
	}}
}

// earlyRevision keeps a look-back in memory only, once its revision is stored.
func earlyRevision(_ *world, s mailbox.Store) mailbox.Store {
	return advance{s, func(ctx context.Context, w store.Walk, version uint64, b store.Batch) (store.Advanced, error) {
		if w.Task == "lookback" && !b.Done {
			row, err := s.Mailbox(ctx, w.Mailbox)
			if err != nil {
				return store.Advanced{}, err
			}
			row.LookedBack = b.State.Revision
			b.Mailbox, b.Done = &row, true
		}
		return s.Advance(ctx, w, version, b)
	}}
}

// rows is a mailbox.Store with other rows.
type rows struct {
	mailbox.Store
	read func(store.Mailbox) store.Mailbox
}

func (r rows) Mailbox(ctx context.Context, id string) (store.Mailbox, error) {
	row, err := r.Store.Mailbox(ctx, id)
	return r.read(row), err
}

func movingHorizon(_ *world, s mailbox.Store) mailbox.Store {
	return rows{s, func(row store.Mailbox) store.Mailbox {
		if !row.Horizon.IsZero() {
			row.Horizon = time.Now().Add(-backfill)
		}
		return row
	}}
}

// windows is a mailbox.Store that reckons the window from now.
type windows struct{ mailbox.Store }

func lateWindow(_ *world, s mailbox.Store) mailbox.Store { return windows{s} }

func (s windows) Activations(ctx context.Context, after, upTo uint64) ([]store.Activation, bool, error) {
	acts, ok, err := s.Store.Activations(ctx, after, upTo)
	for i := range acts {
		acts[i].Since = time.Now().Add(-backfill)
	}
	return acts, ok, err
}

// dropping drops the main walk of a mailbox that is suspended.
type dropping struct{ mailbox.Store }

func lostCursor(_ *world, s mailbox.Store) mailbox.Store { return dropping{s} }

func (s dropping) SetMailbox(ctx context.Context, m store.Mailbox, e *store.MailboxEvent, now time.Time) error {
	if err := s.Store.SetMailbox(ctx, m, e, now); err != nil || m.State != store.MailboxSuspended {
		return err
	}
	return mailbox.DropCursor(ctx, s.Store, m.ID, now)
}

// ---- between the directory and the store -------------------------------

// changing is a store.Directory with other changes.
type changing struct {
	store.Directory
	change func(ctx context.Context, c *store.Change)
}

func (d changing) Change(ctx context.Context, c store.Change) error {
	d.change(ctx, &c)
	return d.Directory.Change(ctx, c)
}

// row reads a candidate's row without faults.
func (w *world) row(ctx context.Context, d store.Directory, ref string) (row store.Row, ok bool) {
	was := w.quiet.Swap(true)
	defer w.quiet.Store(was)
	row, err := d.Row(ctx, store.RowKey{Kind: "candidate", Ref: ref})
	return row, err == nil
}

// lingering is a store.Directory whose rows still let pages in for candidates
// who do not match any more. The directory itself reads what it wrote.
type lingering struct {
	store.Directory
	w *world
	// from changes a change, and names the candidates it lets linger.
	from func(ctx context.Context, c *store.Change) map[string]bool
}

// stoppedRows misses that a candidate stopped.
func stoppedRows(w *world, d store.Directory) store.Directory {
	return lingering{d, w, func(ctx context.Context, c *store.Change) map[string]bool {
		lingers := map[string]bool{}
		for i, r := range c.Put {
			old, known := w.row(ctx, d, r.Ref)
			if lingers[r.Ref] = known && r.Kind == "candidate" && len(r.Active) == 0; lingers[r.Ref] {
				c.Put[i].Active = old.Active
			}
		}
		return lingers
	}}
}

// purgedRows misses that a candidate was purged: all else of it goes.
func purgedRows(w *world, d store.Directory) store.Directory {
	return lingering{d, w, func(ctx context.Context, c *store.Change) map[string]bool {
		lingers := map[string]bool{}
		for _, r := range c.Put {
			lingers[r.Ref] = false
		}
		for _, p := range c.Purges {
			gone := directory.Stored{Record: directory.Record{Kind: directory.KindCandidate, Ref: p.Ref, Deleted: true, Rev: revOf(p.Rev)}, Source: directory.SourceFile}
			if old, ok := w.row(ctx, d, p.Ref); ok {
				old.Value, lingers[p.Ref] = gone.Encode(), true
				c.Put = append(c.Put, old)
			}
		}
		return lingers
	}}
}

func revOf(text string) directory.Rev {
	rev, _ := directory.ParseRev(text) // "" is no rev
	return rev
}

func (d lingering) Change(ctx context.Context, c store.Change) error {
	c.Put = slices.Clone(c.Put)
	lingers := d.from(ctx, &c)
	before := d.w.revision()
	err := d.Directory.Change(ctx, c)
	if d.w.revision() > before {
		maps.Copy(d.w.lingers, lingers)
	}
	return err
}

func (d lingering) Row(ctx context.Context, k store.RowKey) (store.Row, error) {
	r, err := d.Directory.Row(ctx, k)
	return d.seen(r), err
}

func (d lingering) ScanRows(ctx context.Context, kind string, after *[16]byte, f func([16]byte, store.Row) error) error {
	return d.Directory.ScanRows(ctx, kind, after, func(key [16]byte, r store.Row) error { return f(key, d.seen(r)) })
}

func (d lingering) seen(r store.Row) store.Row {
	if d.w.lingers[r.Ref] {
		r.Active = nil
	}
	return r
}

func onlyNewcomers(w *world, d store.Directory) store.Directory {
	return changing{d, func(ctx context.Context, c *store.Change) {
		c.Activations = slices.DeleteFunc(slices.Clone(c.Activations), func(a store.Activation) bool {
			_, known := w.row(ctx, d, a.Ref)
			return known
		})
	}}
}

// tombless is a store.Directory without tombstones.
type tombless struct{ store.Directory }

func noTombstones(_ *world, d store.Directory) store.Directory { return tombless{d} }

func (tombless) Tombstone(context.Context, string) (store.Tombstone, error) {
	return store.Tombstone{}, store.ErrNotFound
}

// ---- between the courier and the store ---------------------------------

// reading is a store.Outbox whose events read otherwise.
type reading struct {
	store.Outbox
	see func(*store.Event)
}

func (o reading) Due(ctx context.Context, now time.Time, limit int, skip func(uint64) bool) ([]store.Event, time.Time, error) {
	events, next, err := o.Outbox.Due(ctx, now, limit, skip)
	return o.seen(events), next, err
}

func (o reading) Attempt(ctx context.Context, as []store.Attempt) ([]store.Event, error) {
	events, err := o.Outbox.Attempt(ctx, as)
	return o.seen(events), err
}

func (o reading) seen(events []store.Event) []store.Event {
	for i := range events {
		o.see(&events[i])
	}
	return events
}

// seqAgain counts the numbers of a stream from the last start of the process.
func seqAgain(w *world, o store.Outbox) store.Outbox {
	base, from := map[string]uint64{}, uint64(0)
	w.quietly(func() {
		for _, e := range w.events(store.EventFilter{}) {
			base[e.Stream], from = max(base[e.Stream], e.Seq), max(from, e.No)
		}
	})
	return reading{o, func(e *store.Event) {
		if e.No > from {
			e.Seq -= base[e.Stream]
		}
	}}
}

// unnamed is a store.Outbox whose posts in flight name nobody.
type unnamed struct{ store.Outbox }

func unknownFlight(_ *world, o store.Outbox) store.Outbox { return unnamed{o} }

func (o unnamed) Attempt(ctx context.Context, as []store.Attempt) ([]store.Event, error) {
	events, err := o.Outbox.Attempt(ctx, as)
	for i := range events {
		if events[i].Type == store.ThreadMatched {
			events[i].Candidates = nil
		}
	}
	return events, err
}

// noPurges is a store.Outbox that knows of no purge.
type noPurges struct{ store.Outbox }

func overtaking(_ *world, o store.Outbox) store.Outbox { return noPurges{o} }

func (noPurges) PurgesPending(context.Context) ([]string, error) { return nil, nil }

// impatient is a store.Outbox that gives purge events up.
type impatient struct {
	store.Outbox
	mu     sync.Mutex
	purges map[uint64]int // tries
}

func deadPurge(_ *world, o store.Outbox) store.Outbox {
	return &impatient{Outbox: o, purges: map[uint64]int{}}
}

func (o *impatient) Attempt(ctx context.Context, as []store.Attempt) ([]store.Event, error) {
	events, err := o.Outbox.Attempt(ctx, as)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events {
		if e.Type == store.CandidatePurged {
			o.purges[e.No] = e.Tries
		}
	}
	return events, err
}

func (o *impatient) Outcome(ctx context.Context, all []store.Outcome) error {
	o.mu.Lock()
	all = slices.Clone(all)
	for i := range all {
		if all[i].State == store.EventPending && o.purges[all[i].No] >= 3 && !all[i].Refund {
			all[i].State = store.EventDead
		}
	}
	o.mu.Unlock()
	return o.Outbox.Outcome(ctx, all)
}

// uncounting is a store.Outbox that counts no attempt and freezes no body.
type uncounting struct {
	store.Outbox
	mu   sync.Mutex
	read map[uint64]store.Event
}

func uncounted(_ *world, o store.Outbox) store.Outbox {
	return &uncounting{Outbox: o, read: map[uint64]store.Event{}}
}

func (o *uncounting) Due(ctx context.Context, now time.Time, limit int, skip func(uint64) bool) ([]store.Event, time.Time, error) {
	events, next, err := o.Outbox.Due(ctx, now, limit, skip)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events {
		o.read[e.No] = e
	}
	return events, next, err
}

func (o *uncounting) Attempt(_ context.Context, as []store.Attempt) (events []store.Event, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range as {
		e := o.read[a.No]
		e.Body = a.Body
		events = append(events, e)
	}
	return events, nil
}

// ---- between the courier and the ATS -----------------------------------

// posting is a webhook.Poster that is a function.
type posting func(ctx context.Context, id string, body []byte) webhook.Result

func (p posting) Post(ctx context.Context, id string, body []byte) webhook.Result {
	return p(ctx, id, body)
}

func anyAnswer(_ *world, p webhook.Poster) webhook.Poster {
	return posting(func(ctx context.Context, id string, body []byte) webhook.Result {
		r := p.Post(ctx, id, body)
		if r.Kind == webhook.EventFailure || r.Kind == webhook.EndpointFailure {
			r = webhook.Result{Kind: webhook.Accepted, Code: r.Code}
		}
		return r
	})
}

func freshIDs(_ *world, p webhook.Poster) webhook.Poster {
	return posting(func(ctx context.Context, id string, body []byte) webhook.Result {
		return p.Post(ctx, fmt.Sprint(id, time.Now().UnixNano()), body)
	})
}

func freshBodies(_ *world, p webhook.Poster) webhook.Poster {
	return posting(func(ctx context.Context, id string, body []byte) webhook.Result {
		return p.Post(ctx, id, bytes.Replace(body, []byte(`"schema":1`), fmt.Appendf(nil, `"schema":1,"at":%d`, time.Now().UnixNano()), 1))
	})
}

// unstripped posts the first body of an event for ever.
func unstripped(_ *world, p webhook.Poster) webhook.Poster {
	var mu sync.Mutex
	first := map[string][]byte{}
	return posting(func(ctx context.Context, id string, body []byte) webhook.Result {
		mu.Lock()
		if first[id] == nil {
			first[id] = body
		}
		body = first[id]
		mu.Unlock()
		return p.Post(ctx, id, body)
	})
}

// ---- between a pass and the mail server --------------------------------

// session is a providers.Mailbox with another start and other pages.
type session struct {
	providers.Mailbox
	start func(since time.Time) time.Time
	next  func(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error)
}

func (s session) Start(ctx context.Context, since time.Time) (providers.Cursor, error) {
	if s.start != nil {
		since = s.start(since)
	}
	return s.Mailbox.Start(ctx, since)
}

func (s session) Next(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
	if s.next != nil {
		return s.next(ctx, cur, w)
	}
	return s.Mailbox.Next(ctx, cur, w)
}

// opening is a providers.Opener of changed sessions.
type opening struct {
	providers.Opener
	change func(providers.Mailbox) session
}

func (o opening) Open(ctx context.Context) (providers.Mailbox, error) {
	m, err := o.Opener.Open(ctx)
	if err != nil {
		return nil, err
	}
	return o.change(m), nil
}

func unreadMail(_ *world, _ string, o providers.Opener) providers.Opener {
	return opening{o, func(m providers.Mailbox) session {
		return session{Mailbox: m, next: func(ctx context.Context, cur providers.Cursor, w providers.Window) (providers.Page, error) {
			page, err := m.Next(ctx, cur, w)
			if err == nil && page.More && len(page.Messages) > 1 {
				page.Messages = page.Messages[:len(page.Messages)-1]
			}
			return page, err
		}}
	}}
}

func skippedGap(_ *world, _ string, o providers.Opener) providers.Opener {
	return opening{o, func(m providers.Mailbox) session {
		from := func() time.Time { return time.Now().Add(-backfill) }
		return session{
			Mailbox: m,
			start:   func(time.Time) time.Time { return from() },
			next: func(ctx context.Context, cur providers.Cursor, _ providers.Window) (providers.Page, error) {
				return m.Next(ctx, cur, providers.Window{Since: from()})
			},
		}
	}}
}

// startsNow begins like a mailbox that was never read, but without a backfill.
func startsNow(w *world, box string, o providers.Opener) providers.Opener {
	return opening{o, func(m providers.Mailbox) session {
		return session{Mailbox: m, start: func(since time.Time) time.Time {
			if w.model.boxes[box].firstDone.IsZero() {
				return since
			}
			return time.Now()
		}}
	}}
}

// ---- between the Gmail provider and Gmail ------------------------------

// lyingWire is a transport whose answers a planted bug changes.
type lyingWire struct {
	http.RoundTripper
	change func(*http.Response)
}

func (l lyingWire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		l.change(resp)
	}
	return resp, err
}

// rewrite changes the fields of a JSON answer. One that was cut stays as it is.
func rewrite(resp *http.Response, change func(map[string]any)) {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(err)))
		return
	}
	var fields map[string]any
	if json.Unmarshal(body, &fields) == nil {
		change(fields)
		body, _ = json.Marshal(fields) // it was JSON
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

func rescuedUnseen(resp *http.Response) {
	rewrite(resp, func(fields map[string]any) {
		records, _ := fields["history"].([]any)
		for _, r := range records {
			delete(r.(map[string]any), "labelsRemoved")
		}
	})
}

func firstPageOnly(resp *http.Response) {
	rewrite(resp, func(fields map[string]any) { delete(fields, "nextPageToken") })
}

func brokenIsGone(resp *http.Response) {
	body, err := io.ReadAll(resp.Body)
	if resp.Body = io.NopCloser(bytes.NewReader(body)); err != nil && strings.Contains(resp.Request.URL.Path, "/messages/") {
		resp.StatusCode, resp.Status = http.StatusNotFound, "404 Not Found"
		resp.Body = io.NopCloser(strings.NewReader(`{"error":{"code":404}}`))
	}
}
