package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// rotatePiece is how many rows a rotation reseals in one commit: some 10 ms in
// which nothing else can be committed.
const rotatePiece = 1000

// rotationRow is how far a rotation came; it is absent when none runs.
type rotationRow struct {
	Target uint32 `json:"target"` // the data key that everything is resealed under
	Bucket bucket `json:"bucket"` // rows before this bucket and key are done
	Key    []byte `json:"key,omitempty"`
}

// Rotate makes the file independent of every key but ks.Current: it wraps the
// file's keys under it, begins a new data key, reseals every row and removes
// the old data keys. Everything else goes on meanwhile. It may be stopped or
// killed anywhere: called again, also after a restart, it goes on where it was.
// Bucket keys stay: the index key is only wrapped anew.
//
// It returns how many rows it resealed, after an error those of the pieces that
// were committed.
func (s *Store) Rotate(ctx context.Context, ks Keys) (resealed int, err error) {
	if ks.Current.IsZero() {
		return 0, errors.New("rotating keys: no key given")
	}
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	if err := s.beginRotation(ctx, ks.Current); err != nil {
		return 0, fmt.Errorf("rotating keys: %w", err)
	}
	for more := true; more; {
		piece := 0
		err := s.update(ctx, func(t *tx) error {
			piece, more = t.rotatePiece()
			return nil
		})
		if err != nil {
			return resealed, fmt.Errorf("rotating keys: %w", err)
		}
		resealed += piece
	}
	s.ring.retire()
	return resealed, nil
}

// beginRotation wraps all keys under k and, unless a rotation is under way,
// makes a new data key the one that seals. From that commit on no row is
// written under the old one, so one pass over the rows is enough.
func (s *Store) beginRotation(ctx context.Context, k Key) error {
	old := s.ring.current
	err := s.update(ctx, func(t *tx) error {
		var at rotationRow
		if !t.getJSON(bMeta, []byte(kRotation), &at) {
			at = rotationRow{Target: old + 1, Bucket: sealedBuckets()[0]}
			s.ring.add(at.Target, newSecret())
			s.ring.use(at.Target)
			t.putJSON(bMeta, []byte(kRotation), at)
		}
		t.dirty = true
		return s.ring.save(t.Tx, k)
	})
	if err != nil {
		return s.undoRotation(old, err)
	}
	s.ring.setRewrap(false)
	return nil
}

// undoRotation goes back to the old data key after a commit that failed for
// sure. (After one whose fate is unknown the store is broken off anyway.)
func (s *Store) undoRotation(old uint32, err error) error {
	if s.broken.Load() == nil && s.ring.current != old {
		s.ring.forget(s.ring.current)
		s.ring.use(old)
	}
	return err
}

// rotatePiece reseals the next rows, or ends the rotation.
func (t *tx) rotatePiece() (resealed int, more bool) {
	var at rotationRow
	if !t.getJSON(bMeta, []byte(kRotation), &at) {
		return 0, false
	}
	all := sealedBuckets()
	i := slices.Index(all, at.Bucket)
	if i < 0 {
		t.damaged(bMeta, []byte(kRotation), errMissing)
		return 0, false
	}
	for seen := 0; i < len(all); i, at.Key = i+1, nil {
		read, sealed := t.reseal(all[i], &at, rotatePiece-seen)
		seen, resealed = seen+read, resealed+sealed
		if seen == rotatePiece || t.err != nil {
			at.Bucket = all[i]
			t.putJSON(bMeta, []byte(kRotation), at)
			return resealed, t.err == nil
		}
	}
	t.endRotation(at.Target)
	return resealed, false
}

// reseal seals the rows of a bucket after at.Key anew, and reads at most max of
// them: fewer are the bucket's end.
func (t *tx) reseal(b bucket, at *rotationRow, max int) (read, sealed int) {
	target := t.s.ring.prefix(at.Target)
	for _, row := range t.rowsAfter(b, at.Key, max) {
		read++
		at.Key = row.key
		if bytes.HasPrefix(row.sealed, target) {
			continue // written since the rotation began
		}
		if plain, ok := t.open(b, row.key, row.sealed); ok {
			t.put(b, row.key, plain)
			sealed++
		}
	}
	return read, sealed
}

type sealedRow struct{ key, sealed []byte }

// rowsAfter returns sealed rows after a key, at most max. They are copies: the
// rows may be about to be written.
func (t *tx) rowsAfter(b bucket, after []byte, max int) (rows []sealedRow) {
	bk := t.bucket(b)
	if bk == nil {
		return nil
	}
	c := bk.Cursor()
	for k, v := c.Seek(after); k != nil && len(rows) < max; k, v = c.Next() {
		if !bytes.Equal(k, after) && !(b == bMeta && string(k) == kSchema) {
			rows = append(rows, sealedRow{bytes.Clone(k), bytes.Clone(v)})
		}
	}
	return rows
}

// endRotation removes the data keys that no row names any more.
func (t *tx) endRotation(target uint32) {
	b := t.Bucket([]byte(bKeys))
	for _, name := range t.keys(bKeys, []byte(kDataKey), 0) {
		if no, ok := dataKeyNo(string(name)); ok && no != target {
			if err := b.Delete(name); err != nil {
				t.fail(err)
			}
		}
	}
	t.del(bMeta, []byte(kRotation))
}

// Check opens every sealed row and reports the first that does not open. It
// reads the whole file; run it in the background. Page structure is checked by
// every Open.
func (s *Store) Check(ctx context.Context) error {
	for _, b := range sealedBuckets() {
		if err := s.checkBucket(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) checkBucket(ctx context.Context, b bucket) error {
	var after []byte
	for read := scanPiece; read == scanPiece; {
		err := s.view(ctx, func(t *tx) error {
			rows := t.rowsAfter(b, after, scanPiece)
			for _, row := range rows {
				t.open(b, row.key, row.sealed)
				after = row.key
			}
			read = len(rows)
			s.giveBack(t, read)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
