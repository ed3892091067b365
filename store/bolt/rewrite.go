package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"mailsyncd/store"
)

// bbolt never gives a page back and never clears one: what a purge deleted stays
// in free pages, sealed but there, until they happen to be written again. So the
// file is rewritten, while everything else goes on:
//
//	begin    from here on writers note which rows they touch
//	copy     all rows, as they lie there sealed, into FILE.rewrite, in pieces of
//	         a few megabytes, each from a read transaction of its own (one long
//	         one would keep the file from growing, and so stop the writers)
//	catch up copy the touched rows again, until few are left
//	replace  with writers waiting: the last touched rows, fsync, rename, fsync
//	         of the directory, and the new file is the store
//	erase    once the last reader let go of the old file: overwrite it
//
// A row is right in the end whatever the pieces saw: nobody touched it after
// begin, then its copy is what it was; or somebody did, then it is copied again
// from what stands last.
//
// Killed before the rename, the store is the old file; after it, the new one. A
// second name, FILE.erase, keeps the old file in reach until it is overwritten:
// the next Open goes on with that.

// Steps of a rewrite, as tests know them.
const (
	stepBegun     = "begun"
	stepCopied    = "copied"
	stepCaughtUp  = "caught up"
	stepSynced    = "synced"
	stepLinked    = "linked"
	stepRenamed   = "renamed"
	stepReplaced  = "replaced"
	stepReleased  = "released"
	stepOverwrite = "overwriting"
	stepErased    = "erased"
)

const (
	copyPiece = 4 << 20 // bytes copied in one transaction
	// copyFill leaves some room in the new file's pages: full ones would split
	// at the first writes.
	copyFill = 0.9
	// applyPiece is how many touched rows are copied again in one transaction.
	applyPiece = 5000
	// fewTouched rows are copied while writers wait: some milliseconds. A rewrite
	// that has not come down to as few after maxRounds takes what is left.
	fewTouched = 500
	maxRounds  = 20
	// manyTouched rows are caught up with before more is copied, so that the note
	// of them stays small.
	manyTouched = 100_000
)

// rowID names a row.
type rowID struct {
	bucket bucket
	key    string
}

// touch notes that a row was written, for a rewrite under way. A note of a
// transaction that is rolled back does no harm: the row is copied once more.
func (s *Store) touch(b bucket, key []byte) {
	if s.touched != nil {
		s.touched[rowID{b, string(key)}] = struct{}{}
	}
}

// takeTouched returns the rows touched so far and begins a new note.
func (s *Store) takeTouched() map[rowID]struct{} {
	s.writing.Lock()
	defer s.writing.Unlock()
	touched := s.touched
	s.touched = map[rowID]struct{}{}
	return touched
}

func (s *Store) manyTouched() bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	return len(s.touched) > manyTouched
}

func (s *Store) at(step string) error {
	if s.step == nil {
		return nil
	}
	return s.step(step)
}

// rewriting is one rewrite in progress.
type rewriting struct {
	*Store
	path string // of the store, with no symbolic link in it
	db   *bolt.DB
}

func (w *rewriting) draft() string { return w.path + ".rewrite" }

// Rewrite implements store.Eraser. It needs as much free disk space as the file
// is long.
func (s *Store) Rewrite(ctx context.Context, now time.Time) error {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	if err := s.rewrite(ctx, now); err != nil {
		return fmt.Errorf("rewriting the store file: %w", err)
	}
	return nil
}

func (s *Store) rewrite(ctx context.Context, now time.Time) error {
	path, err := filepath.EvalSymlinks(s.opts.Path)
	if err != nil {
		return err
	}
	if err := errors.Join(s.clearAway(), s.roomForCopy(ctx, filepath.Dir(path))); err != nil {
		return err
	}
	w := &rewriting{Store: s, path: path}
	old, err := w.build(ctx, now)
	if err != nil {
		return errors.Join(diskLow(err), w.giveUp())
	}
	return w.eraseOld(old)
}

// roomForCopy fails when the disk does not hold the store twice.
func (s *Store) roomForCopy(ctx context.Context, dir string) error {
	free, err := s.opts.FreeBytes(dir)
	if err != nil {
		return fmt.Errorf("asking for free disk space: %w", err)
	}
	return s.view(ctx, func(t *tx) error {
		if need := uint64(t.Size()) + s.opts.MinFreeBytes; free < need {
			return fmt.Errorf("it takes %d bytes of free disk space, there are %d: %w", need, free, store.ErrDiskLow)
		}
		return nil
	})
}

// diskLow names the error that asks for disk space.
func diskLow(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrDiskLow, err)
	}
	return err
}

// build makes the new file and puts it in the old one's place, which it returns.
func (w *rewriting) build(ctx context.Context, now time.Time) (old *replaced, err error) {
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	if err := w.copyAll(ctx); err != nil {
		return nil, err
	}
	if err := w.catchUp(ctx); err != nil {
		return nil, err
	}
	if err := w.look(); err != nil {
		return nil, err
	}
	// Looking took its time; from here on only the last few rows are missing.
	if err := w.catchUp(ctx); err != nil {
		return nil, err
	}
	return w.replace(ctx, now)
}

// begin notes which erasures the rewrite will have done, lets writers note what
// they touch, and opens the new file.
func (w *rewriting) begin(ctx context.Context) error {
	err := w.update(ctx, func(t *tx) error {
		row := t.erasure()
		row.Pending += row.Later
		if row.Oldest == 0 {
			row.Oldest = row.LaterOldest
		}
		row.Later, row.LaterOldest = 0, 0
		t.putJSON(bMeta, []byte(kErasure), row)
		w.touched = map[rowID]struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	w.db, err = openFile(w.draft(), w.opts.LockTimeout, func(f *os.File) error { return f.Truncate(0) })
	if err != nil {
		return err
	}
	// One fsync at the end is enough; bbolt still makes one whenever the file
	// grows, which keeps what the last one has to write small.
	w.db.NoSync = true
	return w.at(stepBegun)
}

// giveUp leaves the store as it is, after a rewrite that failed.
func (w *rewriting) giveUp() error {
	w.writing.Lock()
	w.touched = nil
	w.writing.Unlock()
	var err error
	if w.db != nil {
		err = w.db.Close()
	}
	second := w.path + eraseSuffix
	if sameFile(second, w.path) { // it was not replaced: the name alone goes
		err = errors.Join(err, os.Remove(second))
	}
	return errors.Join(err, removeDurably(w.draft()))
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// copyAll copies all rows, bucket by bucket.
func (w *rewriting) copyAll(ctx context.Context) error {
	for _, b := range append(sealedBuckets(), bKeys) {
		if err := w.copyBucket(ctx, b); err != nil {
			return err
		}
	}
	return w.at(stepCopied)
}

func (w *rewriting) copyBucket(ctx context.Context, b bucket) error {
	for from, more := []byte(nil), true; more; {
		var rows []sealedRow
		err := w.view(ctx, func(t *tx) error {
			rows, more = t.rowsFrom(b, from)
			w.giveBack(t, len(rows))
			return nil
		})
		if err == nil {
			err = w.put(b, rows)
		}
		if err == nil && w.manyTouched() {
			err = w.apply(ctx, w.takeTouched())
		}
		if err != nil {
			return err
		}
		if more {
			from = append(rows[len(rows)-1].key, 0) // the least key greater
		}
	}
	return nil
}

// rowsFrom returns rows from a key on, up to copyPiece bytes of them, and whether
// there are more.
func (t *tx) rowsFrom(b bucket, from []byte) (rows []sealedRow, more bool) {
	bk := t.bucket(b)
	if bk == nil {
		return nil, false
	}
	c := bk.Cursor()
	size := 0
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if size >= copyPiece {
			return rows, true
		}
		rows = append(rows, sealedRow{append([]byte{}, k...), append([]byte{}, v...)})
		size += len(k) + len(v)
	}
	return rows, false
}

// put writes rows to the new file; one without a value is deleted.
func (w *rewriting) put(b bucket, rows []sealedRow) error {
	return w.db.Update(func(btx *bolt.Tx) error {
		bk, err := btx.CreateBucketIfNotExists([]byte(b))
		if err != nil {
			return err
		}
		bk.FillPercent = copyFill
		for _, row := range rows {
			if row.sealed == nil {
				err = bk.Delete(row.key)
			} else {
				err = bk.Put(row.key, row.sealed)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// catchUp copies the touched rows again until few are left, and makes the new
// file durable so far.
func (w *rewriting) catchUp(ctx context.Context) error {
	for range maxRounds {
		touched := w.takeTouched()
		if err := w.apply(ctx, touched); err != nil {
			return err
		}
		if err := w.db.Sync(); err != nil {
			return err
		}
		if len(touched) <= fewTouched {
			break
		}
	}
	return w.at(stepCaughtUp)
}

// apply brings touched rows of the new file to what they are now.
func (w *rewriting) apply(ctx context.Context, touched map[rowID]struct{}) error {
	piece := make(map[bucket][]sealedRow)
	n := 0
	flush := func() error {
		err := w.read(ctx, piece)
		for b, rows := range piece {
			if err == nil {
				err = w.put(b, rows)
			}
		}
		clear(piece)
		n = 0
		return err
	}
	for id := range touched {
		piece[id.bucket] = append(piece[id.bucket], sealedRow{key: []byte(id.key)})
		if n++; n == applyPiece {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// read fills in what rows hold now; nil for those that are gone.
func (w *rewriting) read(ctx context.Context, piece map[bucket][]sealedRow) error {
	return w.view(ctx, func(t *tx) error {
		for b, rows := range piece {
			for i := range rows {
				if v := t.raw(b, rows[i].key); v != nil {
					rows[i].sealed = append([]byte{}, v...)
				}
			}
		}
		return nil
	})
}

// look walks the new file's pages as Open would: what does not stand up is not
// put in the place of a file that does.
func (w *rewriting) look() error {
	f, err := os.Open(w.draft())
	if err != nil {
		return err
	}
	return errors.Join(examine(f), f.Close())
}

// replaced is the file that a rewrite put another one in the place of.
type replaced struct {
	db *bolt.DB
	// file is another handle on it, to overwrite it by: db closes its own.
	file *os.File
}

// replace puts the new file in the place of the old one while writers wait. The
// last transaction of the old file is in it; the next one goes to the new.
func (w *rewriting) replace(ctx context.Context, now time.Time) (*replaced, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if err := w.finish(ctx, now); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(w.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := w.rename(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	old := &replaced{db: w.file.Swap(w.db), file: file}
	w.touched = nil
	w.db = nil // the store's now
	return old, nil
}

// finish makes the new file whole and durable.
func (w *rewriting) finish(ctx context.Context, now time.Time) error {
	if err := w.apply(ctx, w.touched); err != nil {
		return err
	}
	err := w.db.Update(func(btx *bolt.Tx) error {
		t := newTx(w.Store, btx)
		row := t.erasure()
		row.Pending, row.Oldest, row.Rewritten = 0, 0, stampOf(now)
		t.putJSON(bMeta, []byte(kErasure), row)
		return t.err
	})
	if err != nil {
		return err
	}
	if err := w.db.Sync(); err != nil {
		return err
	}
	w.db.NoSync = false
	return w.at(stepSynced)
}

// rename gives the old file its second name and the new one the store's. A file
// system without hard links goes without: there a kill leaves the old file's
// bytes to the disk, unlinked.
func (w *rewriting) rename() error {
	err := os.Link(w.path, w.path+eraseSuffix)
	if err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	if err := w.at(stepLinked); err != nil {
		return err
	}
	if err := os.Rename(w.draft(), w.path); err != nil {
		return err
	}
	// Until the directory is on the disk, a power loss may bring back the old
	// file, without what is written from now on. Should that fail, nothing more
	// may be written.
	if err := errors.Join(w.at(stepRenamed), syncDir(filepath.Dir(w.path))); err != nil {
		return w.breakOff(&UnusableError{
			Reason: Medium, Path: w.path, What: "its directory could not be written", Err: err,
			Mend: "check the disk, then start mailsyncd again",
		})
	}
	return nil
}

// ---- what waits for a rewrite ------------------------------------------

// erasureRow is meta/erasure. Erasures are counted as later ones until a rewrite
// begins: one that runs already may have copied what they erase.
type erasureRow struct {
	Pending     int   `json:"pending,omitempty"`
	Oldest      stamp `json:"oldest,omitempty"`
	Later       int   `json:"later,omitempty"`
	LaterOldest stamp `json:"later_oldest,omitempty"`
	Rewritten   stamp `json:"rewritten,omitempty"`
}

func (t *tx) erasure() (row erasureRow) {
	t.getJSON(bMeta, []byte(kErasure), &row)
	return row
}

// erased counts an erasure that leaves bytes in free pages.
func (t *tx) erased(now time.Time) {
	row := t.erasure()
	if row.Later++; row.LaterOldest == 0 {
		row.LaterOldest = stampOf(now)
	}
	t.putJSON(bMeta, []byte(kErasure), row)
}

// Erasure implements store.Eraser.
func (s *Store) Erasure(ctx context.Context) (e store.Erasure, err error) {
	err = s.view(ctx, func(t *tx) error {
		row := t.erasure()
		oldest := row.Oldest
		if oldest == 0 {
			oldest = row.LaterOldest
		}
		e = store.Erasure{Pending: row.Pending + row.Later, Oldest: oldest.time(), LastRewrite: row.Rewritten.time()}
		return nil
	})
	return e, err
}
