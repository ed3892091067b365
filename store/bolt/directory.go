package bolt

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"mailsyncd/store"
)

// kindTag is the first byte of a row's key and the tag of its hash.
func kindTag(kind string) (byte, error) {
	switch kind {
	case "candidate":
		return tCandidate, nil
	case "job":
		return tJob, nil
	case "user":
		return tUser, nil
	}
	return 0, fmt.Errorf("store: no directory rows of kind %q", kind)
}

func (t *tx) candidate(ref string) hkey { return t.s.ring.index.key(tCandidate, ref) }

// rowKey is the key of a row in bRows; nil, with the transaction failed, for an
// unknown kind.
func (t *tx) rowKey(kind, ref string) []byte {
	tag, err := kindTag(kind)
	if err != nil {
		t.fail(err)
		return nil
	}
	h := t.s.ring.index.key(tag, ref)
	return append([]byte{tag}, h[:]...)
}

// row reads one directory row.
func (t *tx) row(kind, ref string) (store.Row, bool) {
	key := t.rowKey(kind, ref)
	plain, ok := t.get(bRows, key)
	if !ok {
		return store.Row{}, false
	}
	r, err := decodeRow(kind, plain)
	if err != nil {
		t.damaged(bRows, key, err)
	}
	return r, err == nil
}

func (t *tx) directory() (d directoryRow) {
	t.getJSON(bMeta, []byte(kDirectory), &d)
	return d
}

// Revision implements store.Directory.
func (s *Store) Revision(ctx context.Context) (rev uint64, meta []byte, err error) {
	err = s.view(ctx, func(t *tx) error {
		rev = t.directory().Revision
		meta, _ = t.get(bMeta, []byte(kDirState))
		return nil
	})
	return rev, meta, err
}

// Row implements store.Directory.
func (s *Store) Row(ctx context.Context, k store.RowKey) (r store.Row, err error) {
	err = s.view(ctx, func(t *tx) error {
		var ok bool
		if r, ok = t.row(k.Kind, k.Ref); !ok {
			return fmt.Errorf("%s row: %w", k.Kind, store.ErrNotFound)
		}
		return nil
	})
	return r, err
}

// RowOrder implements store.Directory. An unknown kind has no rows; its order
// is that of no kind.
func (s *Store) RowOrder(kind string) func(ref string) [16]byte {
	tag, _ := kindTag(kind)
	return func(ref string) [16]byte { return s.ring.index.key(tag, ref) }
}

// Pieces of a scan.
const (
	scanPiece = 2000    // rows read in one transaction
	residency = 100_000 // rows after which the file's pages are given back
)

type keyedRow struct {
	key [16]byte
	row store.Row
}

// ScanRows implements store.Directory.
func (s *Store) ScanRows(ctx context.Context, kind string, after *[16]byte, f func(key [16]byte, r store.Row) error) error {
	piece := make([]keyedRow, 0, scanPiece)
	for {
		var err error
		if piece, err = s.scanPiece(ctx, kind, after, piece[:0]); err != nil {
			return err
		}
		for _, kr := range piece {
			if err := f(kr.key, kr.row); err != nil {
				return err
			}
		}
		if len(piece) < scanPiece {
			return nil
		}
		after = &[16]byte{}
		*after = piece[len(piece)-1].key
	}
}

// scanPiece reads rows after a key into piece, as many as it has room for.
func (s *Store) scanPiece(ctx context.Context, kind string, after *[16]byte, piece []keyedRow) ([]keyedRow, error) {
	tag, err := kindTag(kind)
	if err != nil {
		return nil, err
	}
	from := []byte{tag}
	if after != nil {
		from = append(append(from, after[:]...), 0) // the least key greater than after
	}
	err = s.view(ctx, func(t *tx) error {
		bk := t.bucket(bRows)
		if bk == nil {
			return nil
		}
		c := bk.Cursor()
		for k, v := c.Seek(from); len(k) == 17 && k[0] == tag && len(piece) < cap(piece); k, v = c.Next() {
			plain, ok := t.open(bRows, k, v)
			if !ok {
				return nil
			}
			r, err := decodeRow(kind, plain)
			if err != nil {
				t.damaged(bRows, k, err)
				return nil
			}
			piece = append(piece, keyedRow{[16]byte(k[1:]), r})
		}
		s.giveBack(t, len(piece))
		return nil
	})
	return piece, err
}

// Tombstone implements store.Directory.
func (s *Store) Tombstone(ctx context.Context, ref string) (ts store.Tombstone, err error) {
	err = s.view(ctx, func(t *tx) error {
		var row tombstoneRow
		cand := t.candidate(ref)
		if !t.getJSON(bTombstones, cand[:], &row) {
			return fmt.Errorf("tombstone: %w", store.ErrNotFound)
		}
		ts = store.Tombstone{Rev: row.Rev, At: row.At.time()}
		return nil
	})
	return ts, err
}

// Change implements store.Directory.
func (s *Store) Change(ctx context.Context, c store.Change) error {
	return s.update(ctx, func(t *tx) error {
		d := t.directory()
		if d.Revision != c.From {
			return fmt.Errorf("directory change from revision %d at %d: %w", c.From, d.Revision, store.ErrConflict)
		}
		d.Revision++
		t.purgeAll(c.Purges, &d, c.Now)
		t.deleteRows(c.Delete)
		for _, ref := range c.Clear {
			cand := t.candidate(ref)
			t.del(bTombstones, cand[:])
		}
		t.putRows(c.Put)
		t.logActivations(&d, c.Activations)
		t.appendDirectory(c)
		if c.Meta != nil {
			t.put(bMeta, []byte(kDirState), c.Meta)
		}
		t.putJSON(bMeta, []byte(kDirectory), d)
		s.giveBack(t, len(c.Put))
		return nil
	})
}

func (t *tx) appendDirectory(c store.Change) {
	for _, e := range c.Events {
		var refs []string
		if e.Candidate != "" {
			refs = []string{e.Candidate}
		}
		t.append(e.Type, "directory", refs, store.EventData{Directory: &e}, c.Now)
	}
}

// putRows writes rows in the order of their keys, which for a run of
// neighbours touches few pages.
func (t *tx) putRows(rows []store.Row) {
	type keyed struct {
		key []byte
		row store.Row
	}
	all := make([]keyed, len(rows))
	for i, r := range rows {
		all[i] = keyed{t.rowKey(r.Kind, r.Ref), r}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return bytes.Compare(a.key, b.key) })
	for _, k := range all {
		if k.key == nil {
			return
		}
		if t.raw(bRows, k.key) == nil {
			*t.kindCount(k.row.Kind)++
		}
		t.put(bRows, k.key, encodeRow(k.row))
	}
}

func (t *tx) deleteRows(keys []store.RowKey) {
	for _, k := range keys {
		if key := t.rowKey(k.Kind, k.Ref); key != nil && t.del(bRows, key) {
			*t.kindCount(k.Kind)--
		}
	}
}

func (t *tx) kindCount(kind string) *int {
	switch kind {
	case "job":
		return &t.counters().Jobs
	case "user":
		return &t.counters().Users
	}
	return &t.counters().Candidates
}
