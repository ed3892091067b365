package dirsync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// Status is what an operator sees of the directory.
type Status struct {
	// Ready tells that one complete directory has been read: mailboxes are polled.
	Ready    bool
	Revision uint64
	directory.Counts
	// Missing records wait for the end of the grace.
	Missing int
	Held    []HeldSweep
	File    string
	// Complete tells that the file has an end line.
	Complete bool
	// Checked is when the file was last seen to say what the store says.
	Checked time.Time
	// Problem is what is wrong now and the mend, "" when nothing is. No address.
	Problem string
}

// Status returns the state without waiting for a round in progress.
func (k *Keeper) Status() Status { return *k.state.Load() }

// setStatus changes the status; only the holder of the door does.
func (k *Keeper) setStatus(f func(*Status)) {
	st := k.Status()
	f(&st)
	k.state.Store(&st)
}

// showState brings status and metrics up to the keeper's state.
func (k *Keeper) showState() {
	counts := k.current.Counts()
	k.setStatus(func(st *Status) {
		st.Ready, st.Revision, st.Counts = k.meta.Ready, k.revision, counts
		st.Missing, st.Held, st.Complete = len(k.missing), k.meta.held(), len(k.meta.Complete) > 0
	})
	m := k.cfg.Metrics
	m.records.WithLabelValues(string(directory.KindCandidate)).Set(float64(counts.Candidates))
	m.records.WithLabelValues(string(directory.KindJob)).Set(float64(counts.Jobs))
	m.records.WithLabelValues(string(directory.KindUser)).Set(float64(counts.Users))
	m.held.Set(float64(len(k.meta.Held)))
}

// Shown is one record as `directory show` prints it.
type Shown struct {
	directory.Stored
	// Inactive says why a candidate is not matched; "" when it is.
	Inactive string
	// Purged is when the candidate was erased; then only its ref and rev are left.
	Purged time.Time
}

// Show returns what the directory knows under a ref; kind "" means any kind.
// ErrNotFound when that is nothing.
func (k *Keeper) Show(ctx context.Context, kind directory.Kind, ref string) ([]Shown, error) {
	var found []Shown
	for _, each := range kinds {
		if kind != "" && kind != each {
			continue
		}
		s, err := k.showOne(ctx, each, ref)
		switch {
		case err == nil:
			found = append(found, s)
		case !errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("reading the directory from the store: %w", err)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q: %w", ref, ErrNotFound)
	}
	return found, nil
}

func (k *Keeper) showOne(ctx context.Context, kind directory.Kind, ref string) (Shown, error) {
	r, err := k.cfg.Store.Row(ctx, store.RowKey{Kind: string(kind), Ref: ref})
	if errors.Is(err, store.ErrNotFound) && kind == directory.KindCandidate {
		return k.showPurged(ctx, ref)
	}
	if err != nil {
		return Shown{}, err
	}
	s, err := directory.Decode(kind, ref, r.Value)
	return k.shown(s), err
}

// shown judges a record by the newest snapshot's jobs.
func (k *Keeper) shown(s directory.Stored) Shown {
	job := func(string) directory.State { return directory.JobOpen }
	if snapshot := k.Snapshot(); snapshot != nil {
		job = func(ref string) directory.State { state, _ := snapshot.Job(ref); return state }
	}
	_, inactive := s.Active(job)
	return Shown{Stored: s, Inactive: inactive}
}

func (k *Keeper) showPurged(ctx context.Context, ref string) (Shown, error) {
	t, err := k.cfg.Store.Tombstone(ctx, ref)
	if err != nil {
		return Shown{}, err
	}
	rev, err := directory.ParseRev(t.Rev)
	gone := directory.Record{Kind: directory.KindCandidate, Ref: ref, Deleted: true, Rev: rev}
	return Shown{Stored: directory.Stored{Record: gone}, Purged: t.At}, err
}

// Position is a record in a listing; the zero Position is before the first.
type Position struct {
	Kind directory.Kind
	Ref  string
}

// Records calls f for every record of a kind ("" for all kinds) after a
// position, in the store's order, which is no order a person knows. It waits for
// no round: a record that changes meanwhile may be shown as it was or as it is.
func (k *Keeper) Records(ctx context.Context, kind directory.Kind, after Position, f func(Shown) error) error {
	reached := after.Kind == ""
	for _, each := range kinds {
		var from *[16]byte
		if each == after.Kind {
			key := k.cfg.Store.RowOrder(string(each))(after.Ref)
			reached, from = true, &key
		}
		if !reached || kind != "" && kind != each {
			continue
		}
		if err := k.recordsOf(ctx, each, from, f); err != nil {
			return err
		}
	}
	return nil
}

// recordsOf reads in pages, so that a slow reader holds up nobody.
func (k *Keeper) recordsOf(ctx context.Context, kind directory.Kind, after *[16]byte, f func(Shown) error) error {
	for {
		rows, err := k.page(ctx, kind, after, nil)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := f(k.shown(r.Stored)); err != nil {
				return err
			}
		}
		if len(rows) < pageSize {
			return nil
		}
		after = &rows[len(rows)-1].key
	}
}
