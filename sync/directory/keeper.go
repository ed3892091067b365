// Package dirsync keeps the directory: it reads what the ATS says about its
// candidates, jobs and users from a file and from `directory put`, lets package
// directory decide what that changes, commits the change, and then shows the
// next snapshot to everybody who matches mail. The folder is sync/directory;
// the package has another name so that it and the records it moves, package
// directory, can be imported side by side.
//
// There is one door. The timer, SIGHUP, an operator's put and an approval each
// run a round, one after the other:
//
//	read     rows of the store and records of the source, merged in the store's order
//	reduce   directory.Reduce; candidates are judged by the jobs of the same round
//	commit   store.Change by compare and swap, a thousand rows at a time
//	publish  one pointer, at the end: a pass sees one generation
//
// What a crash leaves: every commit is a set of true records, so a half-written
// round is an older directory with some newer records in it. The first commit
// of a round that needs several marks the directory as unfinished. The next
// start judges every candidate again where jobs and candidates do not agree;
// a file that was being read is read again; and the next whole round tells all
// conflicts there are, because nobody knows which were told.
//
// After a failed commit nobody knows whether it happened. The keeper then
// forgets what it has in memory and reads the store before the next round; the
// published snapshot stays.
//
// A restart needs no file: the rows are the directory. A file that is missing,
// bad or half written changes nothing but Status and one log line per text.
package dirsync

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// Settings are what the configuration says; Configure replaces them.
type Settings struct {
	// File is the path of the directory file, followed through symlinks. ""
	// means that records come by Put only.
	File string
	// MissingGrace is how long a record stays after a snapshot with an end line
	// first lacked it. Zero purges with the next look at the file.
	MissingGrace time.Duration
	// Backfill is how far before its activation a candidate's mail is in scope.
	Backfill time.Duration
}

// Config is what a Keeper is made of.
type Config struct {
	Settings
	// Store keeps the rows. Nobody else may change the directory in it.
	Store store.Directory
	// Poll is how often the file is looked at (one stat). Zero means 3 s.
	Poll time.Duration
	// Logger gets one line per change and per new problem.
	Logger *slog.Logger
	// Metrics are kept up to date; nil for none.
	Metrics *Metrics
	// Changed is called after each publication, from the goroutine that made the
	// change and while it holds the door: it must not block or call the Keeper's
	// changing methods. Nil for none.
	Changed func(Change)
}

// Change says what a publication brought.
type Change struct {
	Revision uint64
	// Users tells that users changed: mailboxes may have to be suspended or
	// resumed, and own addresses are others.
	Users bool
}

// Keeper runs the rounds. Make it with New; its methods may be called from
// several goroutines.
type Keeper struct {
	cfg  Config
	door chan struct{} // holds one token: who takes it runs a round

	published atomic.Pointer[directory.Snapshot]
	state     atomic.Pointer[Status]

	// All below is for the holder of the door.

	loaded   bool // the fields below say what the store says
	revision uint64
	meta     meta
	current  *directory.Snapshot
	missing  map[store.RowKey]time.Time // when the grace before the purge began
	// nextPurge is when the first of missing is due; zero when none is.
	nextPurge time.Time
	// untold are addresses whose conflicts an unfinished round may not have told.
	untold []string
	// batchRows is the constant, but for tests that want many commits of little.
	batchRows int
	// tried is the version of the file that was refused or could not be read:
	// it is not read again until it changes.
	tried version
}

// New returns a keeper that has read nothing yet: Load or Run does.
func New(cfg Config) *Keeper {
	if cfg.Poll == 0 {
		cfg.Poll = 3 * time.Second
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	k := &Keeper{cfg: cfg, door: make(chan struct{}, 1), batchRows: batchRows}
	k.door <- struct{}{}
	k.state.Store(&Status{File: cfg.File})
	return k
}

// Snapshot returns the newest generation, or nil until one complete directory
// has been read: no mailbox may be polled before.
func (k *Keeper) Snapshot() *directory.Snapshot { return k.published.Load() }

// Run keeps the directory until ctx ends; it returns nil then. It looks at the
// file at once, then every Poll. Its failures go to Status and the log, and are
// tried again.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		_ = k.enter(ctx, k.look) // reported by look
		timer.Reset(k.cfg.Poll)
	}
}

// Load reads the store's rows, once. Run and every other method do it by
// themselves; a start that wants to fail on a bad store calls it first.
func (k *Keeper) Load(ctx context.Context) error {
	return k.enter(ctx, func(context.Context) error { return nil })
}

// Reload reads the file now, changed or not, and returns what is wrong with it.
func (k *Keeper) Reload(ctx context.Context) error {
	return k.enter(ctx, func(ctx context.Context) error {
		if k.cfg.File == "" {
			return nil
		}
		return k.report(ctx, k.reload(ctx, nil))
	})
}

// Configure replaces the settings; a new file is read with the next look or
// Reload.
func (k *Keeper) Configure(ctx context.Context, s Settings) error {
	return k.enter(ctx, func(context.Context) error {
		k.cfg.Settings, k.tried = s, version{}
		k.setStatus(func(st *Status) { st.File = s.File })
		return nil
	})
}

// enter runs f behind the door, with the store's state loaded.
func (k *Keeper) enter(ctx context.Context, f func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.door:
	}
	defer func() { k.door <- struct{}{} }()
	if !k.loaded {
		if err := k.load(ctx); err != nil {
			return k.report(ctx, err)
		}
	}
	return f(ctx)
}

// look is the timer's round: read the file if it changed, then purge what was
// missing for long enough.
func (k *Keeper) look(ctx context.Context) error {
	err := k.lookAtFile(ctx)
	if err == nil {
		// Only a file that could be read proves that a record is still missing.
		err = k.purgeMissing(ctx)
	}
	return k.report(ctx, err)
}

func (k *Keeper) lookAtFile(ctx context.Context) error {
	if k.cfg.File == "" {
		return nil
	}
	v, err := statFile(k.cfg.File)
	switch {
	case err != nil:
		return err
	case v == k.meta.File:
		k.checked()
		return nil
	case v == k.tried:
		return errRefused
	}
	return k.reload(ctx, nil)
}

// errRefused stands for the problem that was reported when the file was read.
var errRefused = errors.New("the file was refused")

// report is the verdict on a look: Status shows the problem, the log gets it
// when its text is new.
func (k *Keeper) report(ctx context.Context, err error) error {
	if errors.Is(err, errRefused) || ctx.Err() != nil {
		return err
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	was := k.Status().Problem
	k.setStatus(func(st *Status) { st.Problem = text })
	switch {
	case text != "" && text != was:
		k.cfg.Logger.Error("directory not read, the old one stays", "event", "directory_refused", "err", err)
	case text == "" && was != "":
		k.cfg.Logger.Info("directory can be read again", "event", "directory_recovered")
	}
	return err
}

// checked notes that the file and the store say the same now.
func (k *Keeper) checked() {
	now := time.Now()
	k.setStatus(func(st *Status) { st.Checked = now })
	k.cfg.Metrics.checked.Set(float64(now.UnixMilli()) / 1000)
}

// publish shows a snapshot to everybody, unless no complete directory has been
// read yet.
func (k *Keeper) publish(s *directory.Snapshot, users bool) {
	k.current = s
	k.showState()
	if !k.meta.Ready {
		return
	}
	k.published.Store(s)
	if k.cfg.Changed != nil {
		k.cfg.Changed(Change{Revision: s.Revision(), Users: users})
	}
}
