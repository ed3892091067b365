// Package bolt keeps mailsyncd's state in one bbolt file.
//
// bbolt gives one writer at a time, readers that never wait for it, and a
// commit that power loss leaves whole or undone. What it does not give, this
// package adds: values are sealed, because bbolt has no checksums and the file
// holds personal data; bucket keys are keyed hashes or numbers, because keys
// cannot be sealed; the file is created under another name, because only a
// created file survives power loss; and opening walks all pages first, because
// bbolt trusts them to the point of crashing.
//
// The schema stands in schema.go, how values are sealed in seal.go. Each method
// of store.Store is one transaction; the few that commit in pieces say so in
// the contract.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"mailsyncd/store"
)

// Options say which file to open and how.
type Options struct {
	// Path of the file; it is created when it does not exist. Its directory
	// must exist and be writable.
	Path string
	// Keys open the file; see LoadKeys.
	Keys Keys
	// MaxEvents is how many undelivered events fill the outbox; 0: no limit.
	MaxEvents int
	// MinFreeBytes is the free space of the disk below which the outbox takes
	// nothing more; 0: no limit.
	MinFreeBytes uint64
	// Notify is called after a commit that gave the courier something to do. It
	// must not block and not call the store.
	Notify func()
	// Logger hears of damage found while running; nil: nobody.
	Logger *slog.Logger
	// LockTimeout is how long Open waits for another process to let go of the
	// file; 0: 3 seconds.
	LockTimeout time.Duration
	// Epoch is the epoch of a new store's streams; 0: the Unix time in seconds,
	// so that a store built again later has a higher one.
	Epoch uint64
	// ActivationLog bounds the activations kept; 0: 200,000, some 20 MB.
	ActivationLog int
	// FreeBytes tells the free space of the disk that holds a directory; nil:
	// as the system says.
	FreeBytes func(dir string) (uint64, error)
}

// withDefaults fills in what zero fields stand for.
func (o Options) withDefaults() Options {
	if o.Notify == nil {
		o.Notify = func() {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 3 * time.Second
	}
	if o.Epoch == 0 {
		o.Epoch = uint64(time.Now().Unix())
	}
	if o.ActivationLog == 0 {
		o.ActivationLog = 200_000
	}
	if o.FreeBytes == nil {
		o.FreeBytes = freeBytes
	}
	return o
}

// freeBytes asks the system for what an unprivileged process may still write.
func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

// Store is an open file. Its methods may be called from any goroutine.
type Store struct {
	opts Options
	ring *ring
	// base is the epoch the store was made in, epochs all there were. began tells
	// that this process's own has begun; writing guards it.
	base   uint64
	epochs atomic.Pointer[epochs]
	began  bool
	// file is the open file. A rewrite puts another one in its place; readers
	// that have the old one finish there.
	file atomic.Pointer[bolt.DB]

	// writing is held over a whole write transaction and what memory must
	// change together with it (the ring during a rotation, the file at the end
	// of a rewrite).
	writing sync.Mutex
	// rebuilding lets one rotation or one rewrite run at a time: a rotation
	// changes every row, so a rewrite beside it would copy them all twice.
	rebuilding sync.Mutex
	// touched are the rows written since a rewrite last caught up; nil while
	// none runs. Guarded by writing.
	touched map[rowID]struct{}
	// closing tells long work to stop at its next piece.
	closing atomic.Bool
	// step is called at the named steps of a rewrite; tests kill, fail and
	// write there.
	step func(name string) error
	// broken is set once a commit failed in a way that leaves the file's state
	// unknown, or damage was hit: every later call returns it.
	broken atomic.Pointer[UnusableError]
	// mailboxes are the rows that every pass reads.
	mailboxes kept[store.Mailbox]
	// scanned counts rows read since resident pages were given back.
	scanned atomic.Int64
}

var _ store.Store = (*Store)(nil)

// Close waits for running transactions and closes the file; a rewrite or a
// rotation stops at its next piece. After damage was hit it does nothing but say
// so: bbolt may hold its locks for ever then, and the end of the process closes
// the file.
func (s *Store) Close() error {
	s.closing.Store(true)
	if e := s.broken.Load(); e != nil && e.Reason == Corrupt {
		return e
	}
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if e := s.broken.Load(); e != nil && e.Reason == Corrupt {
		return e
	}
	return s.file.Load().Close()
}

// Path returns the file's path.
func (s *Store) Path() string { return s.opts.Path }

// view runs f in a read transaction. f must not call the store.
func (s *Store) view(ctx context.Context, f func(t *tx) error) (err error) {
	if err := s.usable(ctx); err != nil {
		return err
	}
	defer s.rescue(&err)()
	for {
		db := s.file.Load()
		err := db.View(func(btx *bolt.Tx) error {
			t := newTx(s, btx)
			return t.result(f(t))
		})
		if !errors.Is(err, berrors.ErrDatabaseNotOpen) || db == s.file.Load() {
			return err
		}
		// A rewrite closed the file between the two lines: read the new one.
	}
}

// update runs f in a write transaction and commits it if f wrote anything.
// Whatever f or the transaction reports as an error leaves nothing behind.
func (s *Store) update(ctx context.Context, f func(t *tx) error) error {
	t, err := s.write(ctx, f)
	if err == nil && t.appended > 0 {
		s.opts.Notify()
	}
	return err
}

func (s *Store) write(ctx context.Context, f func(t *tx) error) (t *tx, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	defer s.rescue(&err)()
	btx, err := s.file.Load().Begin(true)
	if err != nil {
		return nil, fmt.Errorf("store: beginning a transaction: %w", err)
	}
	defer func() { _ = btx.Rollback() }() // does nothing after a commit
	t = newTx(s, btx)
	if err := t.result(f(t)); err != nil {
		return nil, err
	}
	t.saveCounters()
	if err := t.result(nil); err != nil || !t.dirty {
		return t, err
	}
	if err := s.committed(btx.Commit()); err != nil {
		return t, err
	}
	if t.epochs != nil {
		s.epochs.Store(t.epochs)
		s.began = true
	}
	return t, nil
}

// committed judges a commit. Only lack of space leaves the file as it was for
// sure: after any other failed write or sync nobody knows what reached the
// disk, and the one safe answer is to stop and open the file again.
func (s *Store) committed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", store.ErrDiskLow, err)
	}
	return s.breakOff(&UnusableError{
		Reason: Medium, Path: s.opts.Path, What: "a write failed", Err: err,
		Mend: "check the disk and the file's permissions, then start mailsyncd again",
	})
}

func (s *Store) breakOff(e *UnusableError) error {
	s.broken.CompareAndSwap(nil, e)
	return s.broken.Load()
}

var errClosed = errors.New("the store is closed")

func (s *Store) usable(ctx context.Context) error {
	if e := s.broken.Load(); e != nil {
		return e
	}
	if s.closing.Load() {
		return errClosed
	}
	return ctx.Err()
}

// rescue turns a panic over damaged pages into an error, page faults of the
// mapped file included (a file cut short while it is open). Use:
//
//	defer s.rescue(&err)()
func (s *Store) rescue(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			s.opts.Logger.Error("store damaged", "event", "store_damaged", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			*err = s.breakOff(&UnusableError{
				Reason: Corrupt, Path: s.opts.Path, What: fmt.Sprintf("its pages are damaged (%v)", p), Mend: restoreBackup,
			})
		}
	}
}

// Writable implements store.Store.
func (s *Store) Writable(ctx context.Context) error {
	return s.update(ctx, func(t *tx) error {
		var mark uint64
		t.getJSON(bMeta, []byte(kMark), &mark)
		t.putJSON(bMeta, []byte(kMark), mark+1)
		return nil
	})
}

// Room implements store.Store.
func (s *Store) Room(ctx context.Context) error {
	return s.view(ctx, func(t *tx) error { return t.room() })
}

// room returns ErrFull when the outbox takes nothing more.
func (t *tx) room() error {
	c, o := t.counters(), &t.s.opts
	if o.MaxEvents > 0 && c.Pending+c.Held >= o.MaxEvents {
		return store.ErrFull
	}
	if o.MinFreeBytes == 0 {
		return nil
	}
	free, err := o.FreeBytes(filepath.Dir(o.Path))
	if err != nil {
		return fmt.Errorf("asking for free disk space: %w", err)
	}
	if free < o.MinFreeBytes {
		return store.ErrDiskLow
	}
	return nil
}

// Stats implements store.Store.
func (s *Store) Stats(ctx context.Context) (st store.Stats, err error) {
	err = s.view(ctx, func(t *tx) error {
		c := t.counters()
		st = store.Stats{
			Epoch: s.epochs.Load().newest(), Pending: c.Pending, Held: c.Held, Dead: c.Dead, Delivered: c.Delivered,
			Candidates: c.Candidates, Jobs: c.Jobs, Users: c.Users,
			Messages: c.Messages, Pairs: c.Pairs, Threads: c.Threads, Purges: c.Purges,
			Bytes: t.Size(), RotationDue: t.has(bMeta, []byte(kRotation)) || s.ring.rotationDue(),
		}
		if no, ok := t.firstNo(bPending); ok {
			e, _ := t.event(no)
			st.OldestAt = e.Created.time()
		}
		return nil
	})
	return st, err
}
