package bolt

import (
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// giveBack counts rows that were read or written and, once in a while, tells
// the system that the mapped pages of the file are not needed now. They stay in
// its cache; what goes is the process's claim on them, which after a walk over
// a million rows would otherwise count as 100 MB of its memory. t keeps the
// mapping in place meanwhile.
func (s *Store) giveBack(t *tx, rows int) {
	if s.scanned.Add(int64(rows)) < residency {
		return
	}
	s.scanned.Store(0)
	madvise(t.DB(), t.Size())
}

// madvise is advice: a system that does not take it changes nothing.
func madvise(db *bolt.DB, size int64) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(size), unix.MADV_DONTNEED)
}
