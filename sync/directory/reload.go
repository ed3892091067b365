package dirsync

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// readTries is how often a file is read that changes meanwhile, before the next
// look tries again.
const readTries = 3

// reload reads the file and takes it over. approved says, by kind, how many
// records a sweep may take that is otherwise held.
func (k *Keeper) reload(ctx context.Context, approved map[directory.Kind]int) (err error) {
	for range readTries {
		if err = k.readFile(ctx, approved); !errors.Is(err, errMoving) {
			return err
		}
		if !k.loaded { // commits were made before it moved
			if err := k.load(ctx); err != nil {
				return err
			}
		}
	}
	return err
}

// readFile is one try of a reload.
func (k *Keeper) readFile(ctx context.Context, approved map[directory.Kind]int) error {
	begun := time.Now()
	src, err := openSource(ctx, k.cfg.File, k.cfg.Store)
	if err != nil {
		if refused := (*refusedError)(nil); errors.As(err, &refused) {
			k.tried = src.version
		}
		return err
	}
	defer src.close()
	r := k.begin(len(src.entries[directory.KindCandidate]))
	r.before = src.unmoved
	if err := r.takeOver(ctx, src, approved); err != nil {
		return err
	}
	k.tried = version{}
	k.checked()
	k.logRound("directory_reloaded", r.tally, time.Since(begun))
	r.index, src.entries = nil, nil
	giveBack(r.tally.records())
	return nil
}

// giveBack returns the memory that reading many records took: operators judge
// the daemon by its size, and the next reading may be a day away.
func giveBack(records int) {
	if records > 100_000 {
		debug.FreeOSMemory()
	}
}

// takeOver runs a round with all records of a file.
func (r *round) takeOver(ctx context.Context, src *source, approved map[directory.Kind]int) error {
	r.meta.File, r.meta.Ready = src.version, true
	for _, kind := range kinds {
		sw := &sweep{round: r, kind: kind, complete: src.ended, approved: approved[kind]}
		if err := sw.run(ctx, src); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// sweep takes one kind of a file over: each record it brings, then what it
// lacks.
type sweep struct {
	*round
	kind     directory.Kind
	complete bool // the file has an end line
	approved int  // how many records an operator let go
	// missing of total records that a file brought are not in this one; gone are
	// their rows, as many as may go.
	missing, total int
	gone           []row
}

func (s *sweep) run(ctx context.Context, src *source) error {
	f, stop := src.feed(ctx, s.kind)
	defer stop()
	had := s.meta.Complete[s.kind]
	delete(s.meta.Complete, s.kind)
	if len(f.entries) == 0 {
		if had && s.complete {
			s.k.cfg.Logger.Warn("the directory file has no record any more of a kind that it had; it says nothing of them, and all stay as they are",
				"event", "directory_kind_absent", "kind", s.kind)
		}
		return s.skip(ctx)
	}
	if s.complete {
		s.meta.Complete[s.kind] = true
	}
	err := s.k.merge(ctx, s.kind, f, func(old row, in *directory.Record) error { return s.visit(ctx, old, in) })
	if err != nil {
		return err
	}
	return s.decide(ctx)
}

// skip is for a kind that the file does not contain: it is no snapshot of it.
// Candidates are judged again all the same when jobs changed.
func (s *sweep) skip(ctx context.Context) error {
	delete(s.meta.Held, s.kind)
	if s.kind == directory.KindCandidate && s.jobs {
		return s.judgeAll(ctx)
	}
	return nil
}

func (s *sweep) visit(ctx context.Context, old row, in *directory.Record) error {
	if old.Swept() {
		s.total++
	}
	if in != nil {
		return s.reduce(ctx, old, *in, directory.SourceFile)
	}
	next := old.Stored
	switch {
	case old.Swept():
		if s.missing++; len(s.gone) < max(s.approved, mostSwept) {
			s.gone = append(s.gone, old)
			return nil // decide settles it
		}
	case old.Missing && s.complete:
		next = old.Absent(true, s.now) // only files without an end line lacked it so far
	}
	return s.settle(ctx, old, next)
}

// mostSwept is more than any sweep takes without an approval.
const mostSwept = 1001

// decide sweeps what is missing, or holds the sweep.
func (s *sweep) decide(ctx context.Context) error {
	held := directory.SweepHeld(s.missing, s.total) && s.missing > s.approved
	if held {
		s.hold()
	} else {
		delete(s.meta.Held, s.kind)
		s.tally.Missing += s.missing
	}
	for _, old := range s.gone {
		next := old.Stored
		if !held {
			next = old.Absent(s.complete, s.now)
		}
		if err := s.settle(ctx, old, next); err != nil {
			return err
		}
	}
	return nil
}

// hold leaves the missing as they were and tells it once. A sweep that an
// operator approved and that has grown since is another one.
func (s *sweep) hold() {
	held, known := s.meta.Held[s.kind]
	if !known || s.approved > 0 {
		held = HeldSweep{Kind: s.kind, Since: s.now.UTC()}
		s.batch.Events = append(s.batch.Events, store.DirectoryEvent{
			Type: store.DirectorySweepHeld, Kind: string(s.kind), Missing: s.missing, Total: s.total,
		})
		s.k.cfg.Logger.Warn("the directory file lacks too much; nothing is swept until `mailsyncd directory approve`",
			"event", "directory_sweep_held", "kind", s.kind, "missing", s.missing, "total", s.total)
	}
	held.Missing, held.Total = s.missing, s.total
	s.meta.Held[s.kind] = held
}

// logRound writes one line for a round that changed something.
func (k *Keeper) logRound(event string, t Tally, took time.Duration) {
	if t == (Tally{Unchanged: t.Unchanged}) {
		return
	}
	c := k.current.Counts()
	k.cfg.Logger.Info("directory changed", "event", event, slog.Group("records",
		"added", t.Added, "changed", t.Changed, "unchanged", t.Unchanged, "deleted", t.Deleted,
		"stale", t.Stale, "mixed_rev", t.Mixed, "missing", t.Missing, "purged", t.Purged),
		"candidates", c.Candidates, "jobs", c.Jobs, "users", c.Users,
		"activated", t.Activated, "revision", k.revision, "duration", took.Round(time.Millisecond))
}
