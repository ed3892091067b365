package dirsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// row is what the store knows of a record: nothing (the zero row), a tombstone
// (Deleted, inStore false), or a row.
type row struct {
	directory.Stored
	key     [16]byte
	active  []string // store.Row.Active
	inStore bool
}

func decodeRow(r store.Row) (row, error) {
	s, err := directory.Decode(directory.Kind(r.Kind), r.Ref, r.Value)
	if err != nil {
		return row{}, fmt.Errorf("reading the directory from the store: %w", err)
	}
	return row{Stored: s, active: r.Active, inStore: true}, nil
}

// fetch reads one row, or the tombstone in its place.
func (k *Keeper) fetch(ctx context.Context, kind directory.Kind, ref string) (row, error) {
	r, err := k.cfg.Store.Row(ctx, store.RowKey{Kind: string(kind), Ref: ref})
	switch {
	case err == nil:
		return decodeRow(r)
	case errors.Is(err, store.ErrNotFound):
		return k.tombstone(ctx, kind, ref)
	}
	return row{}, fmt.Errorf("reading the directory from the store: %w", err)
}

// tombstone reads what is left of a purged candidate; the zero row when nothing
// is. Jobs and users leave a row instead.
func (k *Keeper) tombstone(ctx context.Context, kind directory.Kind, ref string) (row, error) {
	if kind != directory.KindCandidate || !k.meta.Purged {
		return row{}, nil
	}
	t, err := k.cfg.Store.Tombstone(ctx, ref)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return row{}, nil
	case err != nil:
		return row{}, fmt.Errorf("reading a tombstone: %w", err)
	}
	rev, err := directory.ParseRev(t.Rev)
	if err != nil {
		return row{}, fmt.Errorf("reading a tombstone: %w", err)
	}
	gone := directory.Record{Kind: kind, Ref: ref, Deleted: true, Rev: rev}
	return row{Stored: directory.Stored{Record: gone, Source: directory.SourceFile}}, nil
}

// pageSize is how many rows are read at a time. Rows are copied out before
// anything is done with them: an embedded store could not grow its file while
// this goroutine holds a read transaction.
const pageSize = 2000

// page reads the rows behind after, at most pageSize; fewer mean that there are
// no more.
func (k *Keeper) page(ctx context.Context, kind directory.Kind, after *[16]byte, into []row) ([]row, error) {
	full := errors.New("page full")
	into = into[:0]
	err := k.cfg.Store.ScanRows(ctx, string(kind), after, func(key [16]byte, r store.Row) error {
		decoded, err := decodeRow(r)
		if err != nil {
			return err
		}
		decoded.key = key
		if into = append(into, decoded); len(into) == pageSize {
			return full
		}
		return nil
	})
	if err != nil && err != full {
		return nil, fmt.Errorf("reading the directory from the store: %w", err)
	}
	return into, nil
}

// feed is what a round brings: records by their place in the store's order.
type feed struct {
	entries []entry // sorted by key
	// record returns the record of an entry; it is asked once for each, in order.
	record func(entry) (directory.Record, error)
}

// visitor is called for each record that the store or the feed knows, in the
// store's order; in is nil for one that the feed does not bring.
type visitor func(old row, in *directory.Record) error

// merge walks the rows of a kind and a feed side by side. The visitor may
// commit changes of the rows it has seen.
func (k *Keeper) merge(ctx context.Context, kind directory.Kind, f feed, visit visitor) error {
	var after *[16]byte
	rows := make([]row, 0, pageSize)
	for {
		var err error
		if rows, err = k.page(ctx, kind, after, rows); err != nil {
			return err
		}
		for _, old := range rows {
			if err := k.mergeRow(ctx, kind, &f, old, visit); err != nil {
				return err
			}
		}
		if len(rows) < pageSize {
			return k.mergeNew(ctx, kind, &f, len(f.entries), visit)
		}
		last := rows[len(rows)-1].key
		after = &last
	}
}

// mergeRow visits the entries that come before a row, and the row with its own.
func (k *Keeper) mergeRow(ctx context.Context, kind directory.Kind, f *feed, old row, visit visitor) error {
	n := 0
	for n < len(f.entries) && bytes.Compare(f.entries[n].key[:], old.key[:]) < 0 {
		n++
	}
	if err := k.mergeNew(ctx, kind, f, n, visit); err != nil {
		return err
	}
	if len(f.entries) == 0 || f.entries[0].key != old.key {
		return visit(old, nil)
	}
	rec, err := f.record(f.entries[0])
	if err != nil {
		return err
	}
	f.entries = f.entries[1:]
	return visit(old, &rec)
}

// mergeNew visits the next n entries, of which the store has no row.
func (k *Keeper) mergeNew(ctx context.Context, kind directory.Kind, f *feed, n int, visit visitor) error {
	for _, e := range f.entries[:n] {
		rec, err := f.record(e)
		if err != nil {
			return err
		}
		old, err := k.tombstone(ctx, kind, rec.Ref)
		if err != nil {
			return err
		}
		if err := visit(old, &rec); err != nil {
			return err
		}
	}
	f.entries = f.entries[n:]
	return nil
}
