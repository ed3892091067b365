package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"mailsyncd/store"
)

// Open opens the store's file, or makes it when there is none. A file that
// cannot be used gives an *UnusableError; a damaged one is never replaced by an
// empty one.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	if o.Keys.Current.IsZero() {
		return nil, errors.New("opening the store: no key given, make one with `mailsyncd key new FILE`")
	}
	s := &Store{opts: o, ring: newRing()}
	made, err := s.create()
	if err != nil {
		return nil, err
	}
	if !made {
		db, err := openFile(o.Path, o.LockTimeout, examine)
		if err != nil {
			return nil, err
		}
		s.file.Store(db)
	}
	s.began = made // a file that is new has an epoch of its own already
	if err := errors.Join(s.load(), s.clearAway()); err != nil {
		_ = s.file.Load().Close()
		return nil, err
	}
	return s, nil
}

// openFile opens a bbolt file under the lock. prepare sees it first: bbolt maps
// what it is given and trusts it.
func openFile(path string, wait time.Duration, prepare func(*os.File) error) (db *bolt.DB, err error) {
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			_ = file.Close() // lets go of the lock; the mapping stays until the process ends
			db, err = nil, corrupt(path, fmt.Sprintf("its pages are damaged (%v)", p), nil)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      wait,
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := lockedFile(name, flag, mode, wait)
			if err != nil {
				return nil, err
			}
			file = f
			if err := prepare(f); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			return f, nil
		},
	})
	return db, openError(path, err)
}

// openError gives bbolt's own refusals our shape.
func openError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnusable):
		return err
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return corrupt(path, "not a store file, or its head is damaged", err)
	}
	return fmt.Errorf("opening the store: %w", err)
}

// lockedFile opens a file and takes bbolt's lock on it, so that what is read
// before bbolt opens it cannot change. While it waited, a rewrite may have put
// another file under the name: the lock on the old one is worth nothing.
func lockedFile(name string, flag int, mode os.FileMode, wait time.Duration) (*os.File, error) {
	end := time.Now().Add(wait)
	for {
		f, err := os.OpenFile(name, flag, mode)
		if err != nil {
			return nil, err
		}
		if err := lock(f, name, end); err != nil {
			return nil, err
		}
		if same, err := isNamed(f, name); same || err != nil {
			return f, err
		}
		_ = f.Close()
	}
}

// lock takes the lock on an open file, or closes it.
func lock(f *os.File, name string, end time.Time) error {
	for ; ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return errors.Join(fmt.Errorf("locking: %w", err), f.Close())
		case time.Now().After(end):
			return errors.Join(locked(name, f), f.Close())
		}
	}
}

// isNamed tells whether a name still leads to the open file.
func isNamed(f *os.File, name string) (bool, error) {
	named, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	open, err2 := f.Stat()
	return err == nil && err2 == nil && os.SameFile(named, open), errors.Join(err, err2)
}

// create makes the file when there is none, and reports whether it did. bbolt
// is safe against power loss only once its first pages are on the disk, so they
// are written under another name. The lock is held over the rename: a second
// process that wants to create the file finds it there.
func (s *Store) create() (made bool, err error) {
	if exists, err := fileExists(s.opts.Path); exists || err != nil {
		return false, err
	}
	draft := s.opts.Path + ".new"
	db, err := openFile(draft, s.opts.LockTimeout, func(f *os.File) error { return s.prepareDraft(f) })
	if errors.Is(err, errMadeMeanwhile) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.file.Store(db)
	if err := s.publish(draft); err != nil {
		return false, errors.Join(fmt.Errorf("making the store: %w", err), db.Close())
	}
	return true, nil
}

var errMadeMeanwhile = errors.New("another process made the file")

// prepareDraft empties what a crash may have left under the draft's name. It
// runs under the lock and looks again first: while this process waited for the
// lock, the draft may have become the store.
func (s *Store) prepareDraft(f *os.File) error {
	exists, err := fileExists(s.opts.Path)
	switch {
	case err != nil:
		return err
	case exists:
		return errors.Join(errMadeMeanwhile, removeSame(s.opts.Path+".new", f))
	}
	return f.Truncate(0)
}

// removeSame removes a name if it still is the open file.
func removeSame(name string, f *os.File) error {
	if same, err := isNamed(f, name); !same {
		return err
	}
	return os.Remove(name)
}

func (s *Store) publish(draft string) error {
	if err := s.file.Load().Update(s.fill); err != nil {
		return err
	}
	if err := os.Rename(draft, s.opts.Path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.opts.Path))
}

func fileExists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// fill writes an empty store: buckets, schema version, keys, epoch.
func (s *Store) fill(btx *bolt.Tx) error {
	for _, b := range append(sealedBuckets(), bKeys) {
		if _, err := btx.CreateBucket([]byte(b)); err != nil {
			return err
		}
	}
	err := btx.Bucket([]byte(bMeta)).Put([]byte(kSchema), binary.BigEndian.AppendUint32(nil, schemaVersion))
	if err != nil {
		return err
	}
	s.ring.setIndex(newSecret())
	s.ring.add(1, newSecret())
	s.ring.use(1)
	if err := s.ring.save(btx, s.opts.Keys.Current); err != nil {
		return err
	}
	t := newTx(s, btx)
	t.putJSON(bMeta, []byte(kStore), storeRow{Epoch: s.opts.Epoch})
	t.putJSON(bMeta, []byte(kDirectory), directoryRow{})
	t.counters()
	t.putJSON(bMeta, []byte(kCounters), counters{})
	return t.err
}

// load reads what every call needs: schema, keys, epoch. It opens the rows of
// meta, so that a wrong key or a damaged head is found now.
func (s *Store) load() (err error) {
	defer s.rescue(&err)()
	return s.file.Load().View(func(btx *bolt.Tx) error {
		if err := s.checkSchema(btx); err != nil {
			return err
		}
		if err := s.loadKeys(btx); err != nil {
			return err
		}
		t := newTx(s, btx)
		for _, b := range sealedBuckets() {
			t.bucket(b)
		}
		var row storeRow
		if !t.getJSON(bMeta, []byte(kStore), &row) {
			t.damaged(bMeta, []byte(kStore), errMissing)
		}
		all := append(epochs{{Epoch: row.Epoch}}, row.Later...)
		s.base = row.Epoch
		s.epochs.Store(&all)
		for _, key := range t.keys(bMeta, nil, 0) {
			if string(key) != kSchema {
				t.get(bMeta, key)
			}
		}
		return t.err
	})
}

var errMissing = errors.New("the row is missing")

func (s *Store) checkSchema(btx *bolt.Tx) error {
	var raw []byte
	if meta := btx.Bucket([]byte(bMeta)); meta != nil {
		raw = meta.Get([]byte(kSchema))
	}
	if len(raw) != 4 {
		return corrupt(s.opts.Path, "it holds no schema version: not a store of mailsyncd, or damaged", nil)
	}
	switch version := binary.BigEndian.Uint32(raw); {
	case version > schemaVersion:
		return &UnusableError{
			Reason: NewerSchema, Path: s.opts.Path,
			What: fmt.Sprintf("written with schema %d, this mailsyncd knows %d", version, schemaVersion),
			Mend: "run the mailsyncd that wrote it, or a later one",
		}
	case version != schemaVersion:
		return corrupt(s.opts.Path, fmt.Sprintf("schema version %d never existed", version), nil)
	}
	return nil
}

// ---- keys of the file --------------------------------------------------

const (
	kIndexKey = "index"
	kDataKey  = "data|" // and the number, 4 bytes
)

func dataKeyName(no uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte(kDataKey), no))
}

// save wraps all keys of the ring under k.
func (r *ring) save(btx *bolt.Tx, k Key) error {
	b := btx.Bucket([]byte(bKeys))
	if err := b.Put([]byte(kIndexKey), wrap(k, kIndexKey, r.indexSecret)); err != nil {
		return err
	}
	for no, secret := range r.secrets {
		name := dataKeyName(no)
		if err := b.Put([]byte(name), wrap(k, name, secret)); err != nil {
			return err
		}
	}
	return nil
}

// loadKeys opens the file's keys. The data key with the highest number seals.
func (s *Store) loadKeys(btx *bolt.Tx) error {
	b := btx.Bucket([]byte(bKeys))
	if b == nil {
		return corrupt(s.opts.Path, fmt.Sprintf("bucket %q is missing", bKeys), nil)
	}
	err := b.ForEach(func(k, v []byte) error { return s.loadKey(string(k), v) })
	if err != nil {
		return err
	}
	if s.ring.index == nil || len(s.ring.data) == 0 {
		return corrupt(s.opts.Path, fmt.Sprintf("a key is missing from bucket %q", bKeys), nil)
	}
	return nil
}

func (s *Store) loadKey(name string, wrapped []byte) error {
	secret, id, err := unwrap(s.opts.Keys, name, wrapped)
	switch {
	case errors.Is(err, errUnknownKey):
		return s.wrongKey(id)
	case err != nil:
		return corrupt(s.opts.Path, fmt.Sprintf("a key in bucket %q is damaged", bKeys), err)
	}
	if id != s.opts.Keys.Current.ID() {
		s.ring.setRewrap(true)
	}
	no, isData := dataKeyNo(name)
	switch {
	case name == kIndexKey:
		s.ring.setIndex(secret)
	case isData:
		s.ring.add(no, secret)
		s.ring.use(max(no, s.ring.current))
	default:
		return corrupt(s.opts.Path, fmt.Sprintf("bucket %q holds a key of unknown use", bKeys), nil)
	}
	return nil
}

func dataKeyNo(name string) (no uint32, ok bool) {
	if len(name) != len(kDataKey)+4 || name[:len(kDataKey)] != kDataKey {
		return 0, false
	}
	return binary.BigEndian.Uint32([]byte(name[len(kDataKey):])), true
}

func (s *Store) wrongKey(id string) error {
	have := s.opts.Keys.Current.ID()
	if !s.opts.Keys.Previous.IsZero() {
		have += " and " + s.opts.Keys.Previous.ID()
	}
	return &UnusableError{
		Reason: WrongKey, Path: s.opts.Path,
		What: fmt.Sprintf("sealed under key %s, the key file holds %s", id, have),
		Mend: "put the key it was sealed under on line 2 of the key file, or restore the key file",
	}
}
