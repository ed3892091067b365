package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"mailsyncd/store"
)

// FaultKind says how an operation goes wrong.
type FaultKind int

// The faults. A caller cannot tell them apart, and must be right after both.
const (
	NoFault            FaultKind = iota
	Failed                       // nothing was persisted and the caller got an error
	FailedButPersisted           // all was persisted and the caller got an error
)

// ErrFault is what an operation hit by a fault returns.
var ErrFault = errors.New("the medium failed")

// ErrClosed is what a handle returns once it was closed or reopened.
var ErrClosed = errors.New("the store is closed")

// MemoryOptions set up a memory store. The zero value is a store without limits
// or faults.
type MemoryOptions struct {
	// MaxEvents is how many undelivered events fill the outbox; 0: no limit.
	MaxEvents int
	// Epoch is the epoch of all streams; 0: 1.
	Epoch uint64
	// Notify is called after a commit that gave the courier something to do.
	Notify func()
	// Fault is asked before each operation, by the name of its method.
	Fault func(op string) FaultKind
	// DiskLow is asked where an implementation would look at the free space.
	DiskLow func() bool
	// ActivationLog bounds the activations kept; 0: 200,000.
	ActivationLog int
}

// Memory is a store in maps: the model that the suite holds the other
// implementations to, and the store of tests that want faults. It makes every
// promise of package store but durability and sealing; it looks for no speed
// beyond what a test of some ten thousand events needs.
type Memory struct {
	opts MemoryOptions
	s    *state

	mu     sync.Mutex
	closed bool
}

var _ store.Store = (*Memory)(nil)

// state is what survives Reopen.
type state struct {
	mu sync.Mutex

	epoch, lastNo uint64
	walks         map[store.Walk]store.WalkState
	mailboxes     map[string]store.Mailbox
	secrets       map[memSecret][]byte
	notes         map[string][]byte

	messages  map[string]*memMessage  // by msg_ id
	threads   []*memThread            // in order of age
	threadIDs map[string]*memThread   // by thr_ id
	links     map[memLink]*memThread  // (candidate, id of a mail) → thread
	seqs      map[string]uint64       // last seq of a stream
	events    map[uint64]*store.Event // by position
	order     []uint64                // positions, rising
	open      map[string][]uint64     // stream → its pending and held events, in order of seq
	rows      map[store.RowKey]store.Row
	acts      []store.Activation
	floor     uint64 // activations up to this revision may be missing
	tombs     map[string]store.Tombstone
	revision  uint64
	meta      []byte
	endpoint  store.Endpoint
	purges    int
	mark      int
	ages      int
	woken     int // counts what the courier was woken for
	lastTask  int
	tasks     []*memTask             // oldest first
	skeletons map[uint64]memSkeleton // by position: events that were erased
	erasure   store.Erasure
}

// memMessage is one message of the ledger.
type memMessage struct {
	thread   *memThread
	holdings []store.Holding
	pairs    []store.Pair
	entered  map[string]time.Time // by candidate
	last     uint64               // the last event that carries it
	again    uint64               // the latest task that delivered it again
}

// memThread is one thread; into is set once it became an alias.
type memThread struct {
	id       string
	age      int
	into     *memThread
	messages []string
}

type memLink struct{ candidate, id string }

// root follows the aliases.
func (t *memThread) root() *memThread {
	for t.into != nil {
		t = t.into
	}
	return t
}

// NewMemory makes an empty memory store.
func NewMemory(o MemoryOptions) *Memory {
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	if o.ActivationLog == 0 {
		o.ActivationLog = 200_000
	}
	return &Memory{opts: o, s: &state{
		epoch:     o.Epoch,
		walks:     map[store.Walk]store.WalkState{},
		mailboxes: map[string]store.Mailbox{},
		secrets:   map[memSecret][]byte{},
		notes:     map[string][]byte{},
		messages:  map[string]*memMessage{},
		threadIDs: map[string]*memThread{},
		links:     map[memLink]*memThread{},
		seqs:      map[string]uint64{},
		events:    map[uint64]*store.Event{},
		open:      map[string][]uint64{},
		rows:      map[store.RowKey]store.Row{},
		tombs:     map[string]store.Tombstone{},
		skeletons: map[uint64]memSkeleton{},
	}}
}

// Reopen closes the handle as a crash would and returns a new one on the same
// state.
func (m *Memory) Reopen() *Memory {
	_ = m.Close()
	return &Memory{opts: m.opts, s: m.s}
}

// Close ends the handle; the state stays for Reopen.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// do runs one operation under the lock and plays the faults. f must either do
// all or return an error before it changed anything.
func (m *Memory) do(ctx context.Context, op string, f func(s *state) error) error {
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fault := NoFault
	if m.opts.Fault != nil {
		fault = m.opts.Fault(op)
	}
	if fault == Failed {
		return fmt.Errorf("%s: %w", op, ErrFault)
	}
	if err := m.commit(f); err != nil {
		return err
	}
	if fault == FailedButPersisted {
		return fmt.Errorf("%s: %w", op, ErrFault)
	}
	return nil
}

// commit runs f and wakes the courier if that gave it something to do, also
// where the caller will think that it failed: the events are there.
func (m *Memory) commit(f func(s *state) error) error {
	m.s.mu.Lock()
	before := m.s.woken
	err := f(m.s)
	woken := m.s.woken > before
	m.s.mu.Unlock()
	if woken && m.opts.Notify != nil {
		m.opts.Notify()
	}
	return err
}

func (m *Memory) diskLow() bool { return m.opts.DiskLow != nil && m.opts.DiskLow() }

// ---- walks and mailboxes -----------------------------------------------

// Walk implements store.Walks.
func (m *Memory) Walk(ctx context.Context, w store.Walk) (st store.WalkState, err error) {
	err = m.do(ctx, "Walk", func(s *state) error {
		st = s.walks[w]
		st.Addresses = slices.Clone(st.Addresses)
		if t := s.task(w.Task); t != nil && st.Version > 0 {
			st.Addresses = slices.Clone(t.Addresses)
		}
		return nil
	})
	return st, err
}

// Mailbox implements store.Walks.
func (m *Memory) Mailbox(ctx context.Context, id string) (mb store.Mailbox, err error) {
	err = m.do(ctx, "Mailbox", func(s *state) error {
		mb = s.mailboxes[id]
		mb.ID = id
		return nil
	})
	return mb, err
}

// Mailboxes implements store.Store.
func (m *Memory) Mailboxes(ctx context.Context) (all []store.Mailbox, err error) {
	err = m.do(ctx, "Mailboxes", func(s *state) error {
		for _, mb := range s.mailboxes {
			all = append(all, mb)
		}
		slices.SortFunc(all, func(a, b store.Mailbox) int { return strings.Compare(a.ID, b.ID) })
		return nil
	})
	return all, err
}

// SetMailbox implements store.Walks.
func (m *Memory) SetMailbox(ctx context.Context, mb store.Mailbox, e *store.MailboxEvent, now time.Time) error {
	return m.do(ctx, "SetMailbox", func(s *state) error {
		s.mailboxes[mb.ID] = roundMailbox(mb)
		if e != nil {
			data := *e
			data.Since = ms(data.Since)
			s.append(store.MailboxStateEvent, "mailbox:"+mb.ID, nil, &store.EventData{Mailbox: &data}, now)
		}
		return nil
	})
}

// ForgetMailbox implements store.Store.
func (m *Memory) ForgetMailbox(ctx context.Context, id string, now time.Time) error {
	return m.do(ctx, "ForgetMailbox", func(s *state) error {
		if s.knows(id) {
			s.erased(now)
		}
		s.dropOwed(id, now)
		s.dropSecrets(id)
		delete(s.mailboxes, id)
		for w := range s.walks {
			if w.Mailbox == id {
				delete(s.walks, w)
			}
		}
		for msg, row := range s.messages {
			row.holdings = slices.DeleteFunc(row.holdings, func(h store.Holding) bool { return h.ID == id })
			if len(row.holdings) == 0 {
				s.removeMessage(msg)
			}
		}
		s.sweepThreads()
		return nil
	})
}

// Activations implements store.Walks.
func (m *Memory) Activations(ctx context.Context, after, upTo uint64) (acts []store.Activation, ok bool, err error) {
	err = m.do(ctx, "Activations", func(s *state) error {
		if ok = after >= s.floor; !ok {
			return nil
		}
		for _, a := range s.acts {
			if a.Revision > after && a.Revision <= upTo {
				acts = append(acts, a)
			}
		}
		return nil
	})
	return acts, ok, err
}

// ---- directory ---------------------------------------------------------

// Revision implements store.Directory.
func (m *Memory) Revision(ctx context.Context) (rev uint64, meta []byte, err error) {
	err = m.do(ctx, "Revision", func(s *state) error {
		rev, meta = s.revision, slices.Clone(s.meta)
		return nil
	})
	return rev, meta, err
}

// Row implements store.Directory.
func (m *Memory) Row(ctx context.Context, k store.RowKey) (r store.Row, err error) {
	err = m.do(ctx, "Row", func(s *state) error {
		row, ok := s.rows[k]
		if !ok {
			return fmt.Errorf("%s row: %w", k.Kind, store.ErrNotFound)
		}
		r = cloneRow(row)
		return nil
	})
	return r, err
}

// RowOrder implements store.Directory. It is a plain hash, not a keyed one:
// this store hides nothing.
func (m *Memory) RowOrder(kind string) func(ref string) [16]byte {
	return func(ref string) (key [16]byte) {
		h := fnv.New128a()
		_, _ = h.Write([]byte(kind + "\x00" + ref))
		h.Sum(key[:0])
		return key
	}
}

// ScanRows implements store.Directory.
func (m *Memory) ScanRows(ctx context.Context, kind string, after *[16]byte, f func(key [16]byte, r store.Row) error) error {
	type keyed struct {
		key [16]byte
		row store.Row
	}
	var all []keyed
	order := m.RowOrder(kind)
	err := m.do(ctx, "ScanRows", func(s *state) error {
		for k, r := range s.rows {
			key := order(k.Ref)
			if k.Kind == kind && (after == nil || compareKeys(key, *after) > 0) {
				all = append(all, keyed{key, cloneRow(r)})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b keyed) int { return compareKeys(a.key, b.key) })
	for _, k := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(k.key, k.row); err != nil {
			return err
		}
	}
	return nil
}

// Tombstone implements store.Directory.
func (m *Memory) Tombstone(ctx context.Context, ref string) (t store.Tombstone, err error) {
	err = m.do(ctx, "Tombstone", func(s *state) error {
		var ok bool
		if t, ok = s.tombs[ref]; !ok {
			return fmt.Errorf("tombstone: %w", store.ErrNotFound)
		}
		return nil
	})
	return t, err
}

// Change implements store.Directory.
func (m *Memory) Change(ctx context.Context, c store.Change) error {
	return m.do(ctx, "Change", func(s *state) error {
		if c.From != s.revision {
			return fmt.Errorf("directory change from revision %d at %d: %w", c.From, s.revision, store.ErrConflict)
		}
		s.revision++
		addresses := map[string]bool{}
		for _, p := range c.Purges {
			s.purge(p, c.Now, addresses)
		}
		s.restartWalks(addresses)
		for _, k := range c.Delete {
			delete(s.rows, k)
		}
		for _, ref := range c.Clear {
			delete(s.tombs, ref)
		}
		for _, r := range c.Put {
			s.rows[store.RowKey{Kind: r.Kind, Ref: r.Ref}] = cloneRow(r)
		}
		for _, a := range c.Activations {
			a.Revision, a.Since = s.revision, ms(a.Since)
			s.acts = append(s.acts, a)
		}
		s.trimActivations(m.opts.ActivationLog)
		for _, e := range c.Events {
			var refs []string
			if e.Candidate != "" {
				refs = []string{e.Candidate}
			}
			s.append(e.Type, "directory", refs, &store.EventData{Directory: &e}, c.Now)
		}
		if c.Meta != nil {
			s.meta = slices.Clone(c.Meta)
		}
		return nil
	})
}

// trimActivations drops the oldest whole revisions until at most max are left.
func (s *state) trimActivations(max int) {
	for len(s.acts) > max {
		s.floor = s.acts[0].Revision
		s.acts = slices.DeleteFunc(s.acts, func(a store.Activation) bool { return a.Revision <= s.floor })
	}
}

// ---- the whole ---------------------------------------------------------

// Writable implements store.Store.
func (m *Memory) Writable(ctx context.Context) error {
	return m.do(ctx, "Writable", func(s *state) error {
		s.mark++
		return nil
	})
}

// Room implements store.Store.
func (m *Memory) Room(ctx context.Context) error {
	return m.do(ctx, "Room", m.room)
}

func (m *Memory) room(s *state) error {
	if m.diskLow() {
		return store.ErrDiskLow
	}
	waiting := 0
	for _, nos := range s.open {
		waiting += len(nos)
	}
	if m.opts.MaxEvents > 0 && waiting >= m.opts.MaxEvents {
		return store.ErrFull
	}
	return nil
}

// Stats implements store.Store.
func (m *Memory) Stats(ctx context.Context) (st store.Stats, err error) {
	err = m.do(ctx, "Stats", func(s *state) error {
		st.Epoch, st.Purges, st.Messages = s.epoch, s.purges, len(s.messages)
		for _, no := range s.order {
			countEvent(&st, s.events[no])
		}
		for k := range s.rows {
			switch k.Kind {
			case "candidate":
				st.Candidates++
			case "job":
				st.Jobs++
			case "user":
				st.Users++
			}
		}
		for _, row := range s.messages {
			st.Pairs += len(row.pairs)
		}
		for _, t := range s.threads {
			if t.into == nil {
				st.Threads++
			}
		}
		return nil
	})
	return st, err
}

func countEvent(st *store.Stats, e *store.Event) {
	switch e.State {
	case store.EventPending:
		if st.Pending++; st.Pending == 1 {
			st.OldestAt = e.Created
		}
	case store.EventHeld:
		st.Held++
	case store.EventDead:
		st.Dead++
	case store.EventDelivered:
		st.Delivered++
	}
}

// ---- small things ------------------------------------------------------

// ms brings a time to what the store keeps: UTC, whole milliseconds.
func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func roundMailbox(m store.Mailbox) store.Mailbox {
	m.Since, m.RetryAt, m.Horizon = ms(m.Since), ms(m.RetryAt), ms(m.Horizon)
	m.LastSuccess, m.LastAudit = ms(m.LastSuccess), ms(m.LastAudit)
	return m
}

func cloneRow(r store.Row) store.Row {
	r.Value, r.Active = slices.Clone(r.Value), slices.Clone(r.Active)
	return r
}

func compareKeys(a, b [16]byte) int {
	return bytes.Compare(a[:], b[:])
}
