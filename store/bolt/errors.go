package bolt

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"mailsyncd/store"
)

// Reason says why a store cannot be used.
type Reason string

// The reasons.
const (
	Locked      Reason = "locked"       // another process has it open
	WrongKey    Reason = "wrong_key"    // no key at hand opens it
	NewerSchema Reason = "newer_schema" // a later mailsyncd wrote it
	Corrupt     Reason = "corrupt"      // bytes are not what was written
	Medium      Reason = "medium"       // the disk refused or lost a write
)

// UnusableError says that the store file cannot be used, why, and what to do.
// errors.Is(err, store.ErrUnusable) holds.
type UnusableError struct {
	Reason Reason
	Path   string
	What   string // what was found, where
	Mend   string // what an operator should do
	Err    error
}

func (e *UnusableError) Error() string {
	text := fmt.Sprintf("store %s: %s", e.Path, e.What)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; " + e.Mend
}

func (e *UnusableError) Unwrap() error { return e.Err }

// Is makes every UnusableError a store.ErrUnusable.
func (e *UnusableError) Is(target error) bool { return target == store.ErrUnusable }

const restoreBackup = "stop mailsyncd, keep a copy of the file, restore the last backup or move the file away to build the store again (mail of the backfill window is delivered again under the same message ids)"

func corrupt(path, what string, err error) error {
	return &UnusableError{Reason: Corrupt, Path: path, What: what, Mend: restoreBackup, Err: err}
}

func locked(path string, f *os.File) error {
	holder := "another process"
	if pid := lockHolder(f); pid > 0 {
		holder = fmt.Sprintf("process %d", pid)
	}
	return &UnusableError{
		Reason: Locked, Path: path, What: "in use by " + holder,
		Mend: "one mailsyncd at a time may use it: stop the other one, or ask it through its socket",
	}
}

// lockHolder looks up in /proc/locks who holds the flock; 0 when the system
// does not tell (another pid namespace, not Linux).
func lockHolder(f *os.File) int {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		if pid := flockOf(lines.Text(), st.Ino); pid > 0 {
			return pid
		}
	}
	return 0
}

// flockOf reads one line of /proc/locks,
// "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF", and returns the pid if it
// is a flock on that inode.
func flockOf(line string, inode uint64) int {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], fmt.Sprintf(":%d", inode)) {
		return 0
	}
	pid, err := strconv.Atoi(fields[4])
	if err != nil {
		return 0
	}
	return pid
}
