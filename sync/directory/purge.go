package dirsync

import (
	"cmp"
	"context"
	"slices"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// planPurge finds when the first missing record is due.
func (k *Keeper) planPurge() {
	k.nextPurge = time.Time{}
	for _, since := range k.missing {
		if due := since.Add(k.cfg.MissingGrace); k.nextPurge.IsZero() || due.Before(k.nextPurge) {
			k.nextPurge = due
		}
	}
}

// purgeMissing purges what was missing for the whole grace, as long as the last
// file was a complete snapshot of its kind: one without an end line, or without
// the kind, does not show that a record is still missing.
func (k *Keeper) purgeMissing(ctx context.Context) error {
	if k.nextPurge.IsZero() || time.Now().Before(k.nextPurge) {
		return nil
	}
	due := k.dueForPurge(time.Now())
	if len(due) == 0 {
		return nil
	}
	begun := time.Now()
	r := k.begin(0)
	r.reason = "missing"
	for _, key := range due {
		if err := r.purgeOne(ctx, key); err != nil {
			return err
		}
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	k.logRound("directory_purged", r.tally, time.Since(begun))
	return nil
}

// dueForPurge lists the records by kind and ref.
func (k *Keeper) dueForPurge(now time.Time) (due []store.RowKey) {
	for key, since := range k.missing {
		if k.meta.Complete[directory.Kind(key.Kind)] && !now.Before(since.Add(k.cfg.MissingGrace)) {
			due = append(due, key)
		}
	}
	slices.SortFunc(due, func(a, b store.RowKey) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Ref, b.Ref))
	})
	return due
}

// purgeOne purges one missing record. Its rev is not kept: being absent is not
// a statement of the ATS, and a record that comes back as it was is welcome.
func (r *round) purgeOne(ctx context.Context, key store.RowKey) error {
	old, err := r.k.fetch(ctx, directory.Kind(key.Kind), key.Ref)
	if err != nil || !old.Live() || !old.Missing {
		return err
	}
	r.tally.Purged++
	gone := directory.Record{Kind: old.Kind, Ref: old.Ref, Deleted: true}
	return r.settle(ctx, old, directory.Stored{Record: gone, Source: directory.SourceFile})
}
