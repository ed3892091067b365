package dirsync

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailsyncd/directory"
)

// MaxAtomic is the number of records that one Put takes all or not at all; more
// go in steps of as many.
const MaxAtomic = 2 * batchRows

// putBatches is how many batches a step of a Put may fill: its own records, and
// as many candidates again that its jobs open or close.
const putBatches = 4

// ErrNotFound says that the directory has no such record.
var ErrNotFound = errors.New("the directory has no such record")

// Put upserts records; it is never a snapshot, so nothing is missing because it
// is not among them, and an end line among them counts for nothing. Records
// older than what is known are dropped and counted.
//
// All or nothing for up to MaxAtomic records. Beyond, Put goes in steps, and an
// error says how many records were taken; putting all again is harmless.
func (k *Keeper) Put(ctx context.Context, records []directory.Record) (Tally, error) {
	records, err := arrange(records)
	if err != nil {
		return Tally{}, err
	}
	var total Tally
	err = k.enter(ctx, func(ctx context.Context) error {
		begun, taken := time.Now(), 0
		for chunk := range slices.Chunk(records, MaxAtomic) {
			t, err := k.putChunk(ctx, chunk)
			if err != nil && taken > 0 {
				err = fmt.Errorf("after %d of %d records: %w", taken, len(records), err)
			}
			if err != nil {
				return err
			}
			total, taken = total.plus(t), taken+len(chunk)
		}
		k.logRound("directory_put", total, time.Since(begun))
		return nil
	})
	return total, err
}

func (t Tally) plus(o Tally) Tally {
	return Tally{
		Added: t.Added + o.Added, Changed: t.Changed + o.Changed, Unchanged: t.Unchanged + o.Unchanged,
		Deleted: t.Deleted + o.Deleted, Stale: t.Stale + o.Stale, Mixed: t.Mixed + o.Mixed,
		Missing: t.Missing + o.Missing, Purged: t.Purged + o.Purged, Activated: t.Activated + o.Activated,
	}
}

// arrange drops end lines, refuses a ref that is named twice, and brings the
// records into the order of a round: users, jobs, candidates.
func arrange(records []directory.Record) ([]directory.Record, error) {
	type name struct {
		kind directory.Kind
		ref  string
	}
	seen := map[name]bool{}
	var kept []directory.Record
	for _, rec := range records {
		if rec.Kind == directory.KindEnd {
			continue
		}
		n := name{rec.Kind, rec.Ref}
		if seen[n] {
			return nil, fmt.Errorf("%s %q is named twice; keep one of the two", rec.Kind, rec.Ref)
		}
		seen[n] = true
		kept = append(kept, rec)
	}
	slices.SortStableFunc(kept, func(a, b directory.Record) int {
		return cmp.Compare(slices.Index(kinds[:], a.Kind), slices.Index(kinds[:], b.Kind))
	})
	return kept, nil
}

// putChunk is the round of one step.
func (k *Keeper) putChunk(ctx context.Context, records []directory.Record) (Tally, error) {
	rows := make([]row, len(records))
	for i, rec := range records {
		var err error
		if rows[i], err = k.fetch(ctx, rec.Kind, rec.Ref); err != nil {
			return Tally{}, err
		}
		if _, v := directory.Reduce(rows[i].Stored, rec, directory.SourcePut); v == directory.Mixed {
			return Tally{}, fmt.Errorf("the rev of %s %q is a time where it was an integer, or the other way round; keep one form (to change it, delete the record and put it once without a rev)", rec.Kind, rec.Ref)
		}
	}
	r := k.begin(0)
	r.limit = putBatches * k.batchRows // above a step, so that it is one commit
	if k.cfg.File == "" {
		r.meta.Ready = true // without a file this is the whole directory
	}
	if err := r.put(ctx, rows, records); err != nil {
		return Tally{}, err
	}
	return r.tally, r.finish(ctx)
}

// put takes records over, users and jobs first.
func (r *round) put(ctx context.Context, rows []row, records []directory.Record) error {
	for i, rec := range records {
		if rec.Kind == directory.KindCandidate && r.jobs {
			return r.putAndJudge(ctx, records[i:])
		}
		if err := r.reduce(ctx, rows[i], rec, directory.SourcePut); err != nil {
			return err
		}
	}
	if r.jobs {
		return r.judgeAll(ctx)
	}
	return nil
}

// putAndJudge takes candidates over and judges all others by the new jobs.
func (r *round) putAndJudge(ctx context.Context, records []directory.Record) error {
	order := r.k.cfg.Store.RowOrder(string(directory.KindCandidate))
	f := feed{record: func(e entry) (directory.Record, error) { return records[e.place], nil }}
	for i, rec := range records {
		f.entries = append(f.entries, entry{key: order(rec.Ref), place: uint64(i)})
	}
	slices.SortFunc(f.entries, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	return r.k.merge(ctx, directory.KindCandidate, f, func(old row, in *directory.Record) error {
		if in == nil {
			return r.settle(ctx, old, old.Stored)
		}
		return r.reduce(ctx, old, *in, directory.SourcePut)
	})
}

// Delete removes a record for an operator: a candidate is purged at once. A
// record with the same rev does not bring it back; a higher one does, and one
// without a rev by Put or by the next reading of the file. ErrNotFound when
// there is none.
func (k *Keeper) Delete(ctx context.Context, kind directory.Kind, ref string) error {
	return k.enter(ctx, func(ctx context.Context) error {
		begun := time.Now()
		old, err := k.fetch(ctx, kind, ref)
		if err != nil {
			return err
		}
		if !old.Live() {
			return fmt.Errorf("%s %q: %w", kind, ref, ErrNotFound)
		}
		r := k.begin(0)
		r.reason = "operator"
		gone := directory.Record{Kind: kind, Ref: ref, Deleted: true}
		if err := r.put(ctx, []row{old}, []directory.Record{gone}); err != nil {
			return err
		}
		if err := r.finish(ctx); err != nil {
			return err
		}
		k.logRound("directory_deleted", r.tally, time.Since(begun))
		return nil
	})
}

// ErrNothingHeld says that there is nothing to approve.
var ErrNothingHeld = errors.New("nothing is held under that name; `mailsyncd status` shows what is")

// Approve releases the held sweeps: the file is read again, and what it lacks
// goes, as long as it is no more than what was held. address is for addresses
// that are held one by one; there are none yet.
func (k *Keeper) Approve(ctx context.Context, address string) error {
	return k.enter(ctx, func(ctx context.Context) error {
		if address != "" || len(k.meta.Held) == 0 {
			return ErrNothingHeld
		}
		approved := map[directory.Kind]int{}
		for kind, held := range k.meta.Held {
			approved[kind] = held.Missing
		}
		if err := k.report(ctx, k.reload(ctx, approved)); err != nil {
			return err
		}
		for _, held := range k.meta.held() {
			return fmt.Errorf("the file lacks more now than what was held: %d of %d records of kind %s; look at it and approve again", held.Missing, held.Total, held.Kind)
		}
		return nil
	})
}
