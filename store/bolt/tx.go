package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// tx is a transaction that seals what it writes and opens what it reads.
//
// It keeps its first error, as bufio.Writer does: after one, reads find nothing
// and writes do nothing, and view or update returns it, so that the code
// between can be read as what it does.
type tx struct {
	*bolt.Tx
	s        *Store
	buckets  map[bucket]*bolt.Bucket
	err      error
	dirty    bool
	appended int // events made due: the courier is told after the commit
	count    *counters
	before   counters
	epochs   *epochs // with this process's own, once an event begins it
}

func newTx(s *Store, btx *bolt.Tx) *tx {
	return &tx{Tx: btx, s: s, buckets: map[bucket]*bolt.Bucket{}}
}

// result is the transaction's own error, or err.
func (t *tx) result(err error) error {
	if t.err != nil {
		return t.err
	}
	return err
}

func (t *tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// damaged reports a row that does not read as it was written. The key is a hash
// or a number: it names nobody.
func (t *tx) damaged(b bucket, key []byte, err error) {
	t.fail(corrupt(t.s.opts.Path, fmt.Sprintf("row %x of bucket %q is damaged", key, b), err))
}

// bucket returns an open bucket, nil after an error.
func (t *tx) bucket(b bucket) *bolt.Bucket {
	if open, ok := t.buckets[b]; ok {
		return open
	}
	open := t.Bucket([]byte(b))
	if open == nil {
		t.fail(corrupt(t.s.opts.Path, fmt.Sprintf("bucket %q is missing", b), nil))
		return nil
	}
	open.FillPercent = b.fill()
	t.buckets[b] = open
	return open
}

// get opens a row; ok is false when there is none.
func (t *tx) get(b bucket, key []byte) (plain []byte, ok bool) {
	sealed := t.raw(b, key)
	if sealed == nil {
		return nil, false
	}
	return t.open(b, key, sealed)
}

func (t *tx) raw(b bucket, key []byte) []byte {
	bk := t.bucket(b)
	if bk == nil || t.err != nil {
		return nil
	}
	return bk.Get(key)
}

func (t *tx) open(b bucket, key, sealed []byte) (plain []byte, ok bool) {
	plain, err := t.s.ring.open(b, key, sealed)
	if err != nil {
		t.damaged(b, key, err)
		return nil, false
	}
	return plain, true
}

// has tells whether there is a row, and proves that it opens.
func (t *tx) has(b bucket, key []byte) bool {
	_, ok := t.get(b, key)
	return ok
}

func (t *tx) put(b bucket, key, plain []byte) {
	bk := t.bucket(b)
	if bk == nil || t.err != nil {
		return
	}
	t.dirty = true
	t.s.touch(b, key)
	if err := bk.Put(key, t.s.ring.seal(b, key, plain)); err != nil {
		t.fail(fmt.Errorf("store: writing to bucket %q: %w", b, err))
	}
}

// del deletes a row and tells whether it was there.
func (t *tx) del(b bucket, key []byte) bool {
	if t.raw(b, key) == nil {
		return false
	}
	t.dirty = true
	t.s.touch(b, key)
	if err := t.bucket(b).Delete(key); err != nil {
		t.fail(fmt.Errorf("store: deleting from bucket %q: %w", b, err))
	}
	return true
}

// getJSON reads a row into v and tells whether it was there.
func (t *tx) getJSON(b bucket, key []byte, v any) bool {
	plain, ok := t.get(b, key)
	if !ok {
		return false
	}
	if err := json.Unmarshal(plain, v); err != nil {
		t.damaged(b, key, err)
		return false
	}
	return true
}

func (t *tx) putJSON(b bucket, key []byte, v any) {
	plain, err := json.Marshal(v)
	if err != nil {
		t.fail(fmt.Errorf("store: encoding a row of bucket %q: %w", b, err))
		return
	}
	t.put(b, key, plain)
}

// getNo reads a row that holds a number; 0 when there is none.
func (t *tx) getNo(b bucket, key []byte) uint64 {
	plain, ok := t.get(b, key)
	if !ok {
		return 0
	}
	if len(plain) != 8 {
		t.damaged(b, key, errBadSeal)
		return 0
	}
	return binary.BigEndian.Uint64(plain)
}

func (t *tx) putNo(b bucket, key []byte, no uint64) { t.put(b, key, be8(no)) }

// keys returns the keys that begin with prefix, at most max of them (0: all).
// They are copies: rows may be changed while they are walked through.
func (t *tx) keys(b bucket, prefix []byte, max int) (keys [][]byte) {
	bk := t.bucket(b)
	if bk == nil || t.err != nil {
		return nil
	}
	c := bk.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && k != nil; k, _ = c.Next() {
		if max > 0 && len(keys) == max {
			break
		}
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// firstKey returns the first key that begins with prefix, nil when there is none.
func (t *tx) firstKey(b bucket, prefix []byte) []byte {
	if ks := t.keys(b, prefix, 1); len(ks) == 1 {
		return ks[0]
	}
	return nil
}

// firstNo returns the first row of a bucket keyed by number.
func (t *tx) firstNo(b bucket) (no uint64, ok bool) {
	k := t.firstKey(b, nil)
	if len(k) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(k), true
}

// number reads the number a key begins with; 0 for a key too short to have one.
func number(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

func be8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// join makes a key of parts.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
