package config

import (
	"context"
	"hash/maphash"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher tells which of many files changed. It polls: change notifications
// miss what happens behind a symlink (Kubernetes and systemd swap whole
// folders), on network file systems, and to files that do not exist yet.
//
// A round asks the system once per file; the content is read only where the
// answer differs, so that 20,000 files cost tens of milliseconds a round.
// Contents are remembered as a seeded hash of 64 bits that is worth nothing
// outside this process.
type Watcher struct {
	every time.Duration
	seed  maphash.Seed

	mu    sync.Mutex
	files map[string]fileState
}

// fileState is what a file looked like. The zero value is a file that cannot
// be reached.
type fileState struct {
	stamp stamp
	sum   uint64
	// fresh says that the file was modified so shortly before it was looked at
	// that a second change could hide behind the same time stamp: file systems
	// count time in ticks of up to 10 ms, some in seconds. It is read again.
	fresh bool
}

// stamp is what changes when a file does, or another one takes its place. A
// changed mode or owner counts: a refused secret may pass now.
type stamp struct {
	dev, ino           uint64
	size               int64
	mtime, ctime       int64 // ns
	mode, owner, group uint32
}

// NewWatcher makes a watcher that looks every so often; a few seconds are
// right for secrets. It watches nothing until Watch.
func NewWatcher(every time.Duration) *Watcher {
	return &Watcher{every: every, seed: maphash.MakeSeed()}
}

// Watch replaces the set of files. A file that was watched keeps its state, so
// that a change between two calls is not missed; a new one is taken as it is.
func (w *Watcher) Watch(paths []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make(map[string]fileState, len(paths))
	for _, path := range paths {
		state, known := w.files[path]
		if !known {
			state = w.look(path, fileState{})
		}
		files[path] = state
	}
	w.files = files
}

// Run looks until ctx ends and calls changed, sorted, with the files that did
// change, appear or vanish. It always returns ctx's error.
func (w *Watcher) Run(ctx context.Context, changed func(paths []string)) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if paths := w.Look(); len(paths) > 0 {
				changed(paths)
			}
		}
	}
}

// Look does one round now and returns what changed since the last, sorted.
func (w *Watcher) Look() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed []string
	for path, before := range w.files {
		now := w.look(path, before)
		if now == before {
			continue
		}
		w.files[path] = now
		if now.differs(before) {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return changed
}

// differs leaves out the time stamps: a touched file is the same secret.
func (s fileState) differs(t fileState) bool {
	return s.sum != t.sum || s.stamp.mode != t.stamp.mode ||
		s.stamp.owner != t.stamp.owner || s.stamp.group != t.stamp.group
}

// look returns the file's state now, reading it only if it may have changed.
func (w *Watcher) look(path string, before fileState) fileState {
	const tick = 2 * time.Second
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileState{}
	}
	now := stampOf(&st)
	if now == before.stamp && !before.fresh {
		return before
	}
	age := time.Since(time.Unix(0, max(now.mtime, now.ctime)))
	return fileState{stamp: now, sum: w.sum(path, &st), fresh: age < tick}
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
		mode: st.Mode, owner: st.Uid, group: st.Gid,
	}
}

// sum hashes the content; 0 for what is not a readable file of a sane size,
// which no reader would accept either.
func (w *Watcher) sum(path string, st *unix.Stat_t) uint64 {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxFile {
		return 0
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return maphash.Bytes(w.seed, data) | 1 // never the sum of an absent file
}
