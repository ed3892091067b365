package dirsync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// load reads the whole directory from the store and publishes it.
func (k *Keeper) load(ctx context.Context) error {
	revision, state, err := k.cfg.Store.Revision(ctx)
	if err != nil {
		return fmt.Errorf("reading the directory from the store: %w", err)
	}
	l := loading{missing: map[store.RowKey]time.Time{}}
	if l.meta, err = decodeMeta(state); err != nil {
		return err
	}
	if err := l.scan(ctx, k.cfg.Store); err != nil {
		return err
	}
	now, _, err := k.cfg.Store.Revision(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("reading the directory from the store: %w", err)
	case now != revision:
		return fmt.Errorf("reading the directory from the store: %w", store.ErrConflict)
	}
	k.revision, k.meta, k.missing, k.loaded = revision, l.meta, l.missing, true
	k.planPurge()
	k.publish(l.index.Build(revision), true)
	giveBack(k.current.Counts().Candidates)
	k.untold = nil
	if l.meta.Unfinished {
		k.untold = l.index.Suspects()
	}
	if l.diverged {
		return k.heal(ctx)
	}
	return nil
}

// loading is a snapshot on its way out of the store.
type loading struct {
	meta    meta
	index   *directory.Builder
	missing map[store.RowKey]time.Time
	// diverged tells that a candidate's row says active where its jobs say
	// otherwise, or the other way round: a crash came between the two.
	diverged bool
}

func (l *loading) scan(ctx context.Context, st store.Directory) error {
	l.index = directory.NewBuilder(l.meta.Addresses)
	for _, kind := range kinds {
		err := st.ScanRows(ctx, string(kind), nil, func(_ [16]byte, r store.Row) error { return l.add(r) })
		if err != nil {
			return fmt.Errorf("reading the directory from the store: %w", err)
		}
	}
	return nil
}

func (l *loading) add(r store.Row) error {
	s, err := directory.Decode(directory.Kind(r.Kind), r.Ref, r.Value)
	if err != nil {
		return err
	}
	l.index.Replace(directory.Stored{}, s)
	if !s.MissingSince.IsZero() {
		l.missing[store.RowKey{Kind: r.Kind, Ref: r.Ref}] = s.MissingSince
	}
	active, _ := s.Active(l.index.Job)
	l.diverged = l.diverged || !slices.Equal(active, r.Active)
	return nil
}

// heal judges every candidate by the jobs as they are. It leaves the mark of an
// unfinished round: only the next whole round, most likely the same again,
// knows which conflicts are more than a half-written state.
func (k *Keeper) heal(ctx context.Context) error {
	r := k.begin(0)
	r.healing = true
	if err := r.judgeAll(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// judgeAll judges every candidate of the store again.
func (r *round) judgeAll(ctx context.Context) error {
	return r.k.merge(ctx, directory.KindCandidate, feed{}, func(old row, _ *directory.Record) error {
		return r.settle(ctx, old, old.Stored)
	})
}
