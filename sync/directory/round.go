package dirsync

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"mailsyncd/directory"
	"mailsyncd/message"
	"mailsyncd/store"
)

const (
	// batchRows is how many rows one commit takes, few enough that no other
	// writer waits for long.
	batchRows = 1000
	// batchPurges is how many candidates one commit erases: each may have years
	// of threads.
	batchPurges = 50
	// batchActivations is how many addresses one commit activates by name.
	// Beyond it one entry says "anything": a walk over all headers is cheaper
	// than a search for so many, and the log stays short.
	batchActivations = 200
	// maxConflicts is how many conflicts one round tells.
	maxConflicts = 1000
)

// round is one change of the directory on its way from a feed to the store.
type round struct {
	k   *Keeper
	now time.Time
	// index becomes the next snapshot. fresh tells that it began empty, so that
	// unchanged rows have to be put in too.
	index *directory.Builder
	fresh bool
	// meta is the state after the round.
	meta  meta
	batch store.Change
	// limit is the number of rows at which a batch is committed before the
	// round's end.
	limit int
	// before is asked before each commit, to see that the file is still the same;
	// nil for a round that reads none.
	before func() error
	// reason is what a purge event says of a deleted candidate.
	reason string
	// jobs tells that a job opened or closed, so that every candidate has to be
	// judged again; users that a user changed.
	jobs, users bool
	// missing are the records whose grace began or ended (zero time).
	missing map[store.RowKey]time.Time
	// released are addresses that users gave up.
	released []string
	// resumed tells that the round before was not finished; healing that this
	// one only mends what that left.
	resumed, healing bool
	tally            Tally
}

// Tally counts what a round did to records.
type Tally struct {
	Added, Changed, Unchanged, Deleted int
	// Stale records were older than what is known and were dropped. Mixed ones
	// have a rev of another form than what is known, and were dropped too.
	Stale, Mixed int
	// Missing records left the file and do not match any more.
	Missing int
	// Purged candidates were missing for longer than the grace.
	Purged int
	// Activated addresses became matchable.
	Activated int
}

// records counts what a source brought.
func (t Tally) records() int {
	return t.Added + t.Changed + t.Unchanged + t.Deleted + t.Stale + t.Mixed
}

// begin starts a round. expect is the number of addresses to expect in a
// directory that is empty now.
func (k *Keeper) begin(expect int) *round {
	r := &round{
		k: k, now: time.Now(), meta: k.meta.clone(), limit: k.batchRows,
		reason: "deleted", resumed: k.meta.Unfinished, missing: map[store.RowKey]time.Time{},
	}
	if k.current.Counts().Addresses == 0 && expect > batchRows {
		r.index, r.fresh = k.current.Rebuild(expect), true
	} else {
		r.index = k.current.Edit()
	}
	return r
}

// reduce takes one record in.
func (r *round) reduce(ctx context.Context, old row, in directory.Record, src directory.Source) error {
	next, verdict := directory.Reduce(old.Stored, in, src)
	r.count(verdict)
	return r.settle(ctx, old, next)
}

func (r *round) count(v directory.Verdict) {
	switch t := &r.tally; v {
	case directory.Added:
		t.Added++
	case directory.Changed:
		t.Changed++
	case directory.Unchanged:
		t.Unchanged++
	case directory.Deleted:
		t.Deleted++
	case directory.Stale:
		t.Stale++
	case directory.Mixed:
		t.Mixed++
	}
}

// settle writes what became of a record, if it became anything else, and
// commits when a batch is full.
func (r *round) settle(ctx context.Context, old row, next directory.Stored) error {
	same := next.Equal(old.Stored)
	switch {
	case old.Kind == directory.KindCandidate || next.Kind == directory.KindCandidate:
		r.settleCandidate(old, next, same)
	case !same:
		r.settleOther(old, next)
	}
	r.noteMissing(old.Stored, next)
	if len(r.batch.Put)+len(r.batch.Delete) >= r.limit || len(r.batch.Purges) >= batchPurges {
		return r.flush(ctx)
	}
	return nil
}

// noteMissing keeps the list of what waits for its purge.
func (r *round) noteMissing(old, next directory.Stored) {
	if !old.MissingSince.Equal(next.MissingSince) {
		r.missing[store.RowKey{Kind: string(next.Kind), Ref: next.Ref}] = next.MissingSince
	}
}

// settleCandidate writes a candidate whose record changed, or whose jobs did.
func (r *round) settleCandidate(old row, next directory.Stored, same bool) {
	if next.Deleted {
		if !same {
			r.purge(old, next)
		}
		return
	}
	active, why := next.Active(r.index.Job)
	if !same || !slices.Equal(active, old.active) {
		r.batch.Put = append(r.batch.Put, store.Row{
			Kind: string(next.Kind), Ref: next.Ref, Value: next.Encode(), Active: active,
		})
		r.activate(next.Ref, kept(old.active, active), active)
	}
	switch _, was := old.Active(r.k.job); {
	case r.fresh:
		r.index.Replace(directory.Stored{}, next)
	case !old.Live() || was != why || !slices.Equal(old.Keys, next.Keys):
		r.index.Replace(old.Stored, next)
	}
	if old.Deleted {
		r.batch.Clear = append(r.batch.Clear, next.Ref)
	}
}

// job is what a job counts as in the last generation.
func (k *Keeper) job(ref string) directory.State {
	state, _ := k.current.Job(ref)
	return state
}

// purge erases a candidate and leaves a tombstone with its rev.
func (r *round) purge(old row, next directory.Stored) {
	r.batch.Purges = append(r.batch.Purges, store.Purge{Ref: next.Ref, Reason: r.reason, Rev: next.Rev.String()})
	r.meta.Purged = true
	if !r.fresh {
		r.index.Replace(old.Stored, directory.Stored{})
	}
}

// settleOther writes a job or a user. Of a deleted user without a rev nothing
// needs to stay: an unknown user counts as enabled either way.
func (r *round) settleOther(old row, next directory.Stored) {
	key := store.RowKey{Kind: string(next.Kind), Ref: next.Ref}
	if next.Kind == directory.KindUser && next.Deleted && !next.Rev.Set {
		r.batch.Delete = append(r.batch.Delete, key)
	} else {
		r.batch.Put = append(r.batch.Put, store.Row{Kind: key.Kind, Ref: key.Ref, Value: next.Encode()})
	}
	switch next.Kind {
	case directory.KindUser:
		r.users = true
		r.release(old.Stored, next)
	case directory.KindJob:
		was := directory.JobOpen
		if old.Known() {
			was = old.JobState()
		}
		r.jobs = r.jobs || was != next.JobState()
	}
	r.index.Replace(old.Stored, next)
}

// release notes the addresses a user gives up.
func (r *round) release(old, next directory.Stored) {
	for _, key := range old.Keys {
		if !slices.Contains(next.Keys, key) {
			r.released = append(r.released, key)
		}
	}
}

// unblock activates the candidates that have a released address: the guard
// own_address does not refuse them any more.
func (r *round) unblock(next *directory.Snapshot) {
	for _, key := range r.released {
		if next.OwnAddress(message.FoldGuard(key)) {
			continue
		}
		for _, e := range next.Lookup(key) {
			if e.Inactive == "" {
				r.activate(e.Ref, nil, []string{key})
			}
		}
	}
}

// activate owes a look-back for the addresses that were not active before, but
// not while nobody has polled: a mailbox begins with the revision of its first
// walk.
func (r *round) activate(ref string, old, active []string) {
	if !r.k.meta.Ready {
		return
	}
	for _, key := range active {
		if slices.Contains(old, key) {
			continue
		}
		r.tally.Activated++
		if len(r.batch.Activations) <= batchActivations {
			r.batch.Activations = append(r.batch.Activations, store.Activation{
				Key: key, Ref: ref, Since: r.now.Add(-r.k.cfg.Backfill),
			})
		}
	}
}

// kept are the addresses that need no look-back because they were active before.
// When one of a candidate's goes, none of the others counts: a page may have been
// decided by the one that goes, and its commit drops the match although the mail
// names another one too.
func kept(old, active []string) []string {
	for _, key := range old {
		if !slices.Contains(active, key) {
			return nil
		}
	}
	return old
}

// flush commits a full batch in the middle of a round and marks the directory
// as unfinished.
func (r *round) flush(ctx context.Context) error {
	if len(r.batch.Put)+len(r.batch.Delete)+len(r.batch.Purges) == 0 {
		return nil
	}
	if !r.k.meta.Unfinished || r.meta.Purged && !r.k.meta.Purged {
		m := r.k.meta.clone()
		m.Unfinished, m.Purged = true, r.meta.Purged
		if r.before != nil {
			m.File = version{} // so that it is read again after a crash
		}
		r.batch.Meta = m.encode()
	}
	return r.commit(ctx)
}

// commit writes the batch. After an error nobody knows whether it happened, so
// the keeper reads the store again before the next round.
func (r *round) commit(ctx context.Context) error {
	k := r.k
	if r.before != nil {
		if err := r.before(); err != nil {
			return err
		}
	}
	r.batch.From, r.batch.Now = k.revision, r.now
	r.boundActivations()
	k.loaded = false
	if err := k.cfg.Store.Change(ctx, r.batch); err != nil {
		return fmt.Errorf("writing the directory: %w", err)
	}
	if r.batch.Meta != nil {
		m, err := decodeMeta(r.batch.Meta)
		if err != nil {
			return err
		}
		k.meta = m
	}
	k.revision++
	r.batch = store.Change{Put: r.batch.Put[:0]}
	return nil
}

// boundActivations applies batchActivations.
func (r *round) boundActivations() {
	if len(r.batch.Activations) > batchActivations {
		r.batch.Activations = []store.Activation{{Since: r.now.Add(-r.k.cfg.Backfill)}}
	}
}

// finish makes the last commit of a round, with its conflicts and its state,
// and publishes. Nothing is written when nothing changed.
func (r *round) finish(ctx context.Context) error {
	k := r.k
	next := r.index.Build(k.revision + 1)
	r.unblock(next)
	if !r.healing {
		r.conflicts(next)
		r.meta.Unfinished = false
	}
	if !bytes.Equal(r.meta.encode(), k.meta.encode()) {
		r.meta.Addresses = next.Counts().Addresses
		r.batch.Meta = r.meta.encode()
	}
	if !r.idle() {
		if err := r.commit(ctx); err != nil {
			return err
		}
	}
	k.loaded = true
	if !r.healing {
		k.untold = nil
	}
	r.applyMissing()
	if k.revision == next.Revision() {
		k.publish(next, r.users)
	}
	return nil
}

// applyMissing brings the keeper's list up to date.
func (r *round) applyMissing() {
	for key, since := range r.missing {
		if since.IsZero() {
			delete(r.k.missing, key)
		} else {
			r.k.missing[key] = since
		}
	}
	r.k.planPurge()
}

// idle tells that there is nothing to commit.
func (r *round) idle() bool {
	b := &r.batch
	return len(b.Put)+len(b.Delete)+len(b.Purges)+len(b.Events)+len(b.Activations) == 0 && b.Meta == nil
}

// conflicts tells the conflicts that arose in this round; behind an unfinished
// one all there are, because nobody knows which were told.
func (r *round) conflicts(next *directory.Snapshot) {
	known := r.k.current
	if r.resumed {
		known = nil
	}
	found := next.Conflicts(known, append(r.k.untold, r.index.Suspects()...))
	if len(found) > maxConflicts {
		r.k.cfg.Logger.Warn("more address conflicts than are told", "event", "directory_conflicts", "found", len(found), "told", maxConflicts)
		found = found[:maxConflicts]
	}
	for _, c := range found {
		r.batch.Events = append(r.batch.Events, store.DirectoryEvent{
			Type: store.DirectoryConflict, Candidate: c.Ref, Address: c.Key, Rule: c.Rule,
		})
	}
}
