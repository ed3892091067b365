package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What overwriting is worth depends on what lies beneath. Where a file system
// writes in place (ext4, XFS) on a disk that does, the old bytes are gone. Where
// one copies on write (btrfs, ZFS, snapshots), and inside flash, the zeros go
// elsewhere and the old blocks live until they are used again or trimmed. There
// what protects is the seal: nobody reads them without the key file, and after a
// key rotation whose old key file is destroyed nobody at all.

// eraseSuffix marks a file that was replaced and is to be overwritten.
const eraseSuffix = ".erase"

// overwritePiece is written before it is synced: a disk that takes a gigabyte of
// zeros at once makes every commit wait meanwhile.
const overwritePiece = 8 << 20

// eraseOld closes the replaced file once its last reader has let go of it, and
// overwrites it. Cut off before the end, it is gone on with by the next Open.
func (w *rewriting) eraseOld(old *replaced) error {
	err := errors.Join(w.at(stepReplaced), old.db.Close(), w.at(stepReleased))
	if err != nil {
		return errors.Join(err, old.file.Close())
	}
	err = errors.Join(w.overwrite(old.file), old.file.Close())
	if err != nil {
		return fmt.Errorf("overwriting the file that was replaced, to be gone on with at the next start or rewrite: %w", err)
	}
	return errors.Join(w.at(stepErased), removeDurably(w.path+eraseSuffix))
}

// clearAway removes what a rewrite that was killed left: the new file, which
// never was the store, and the old one, which is not any more.
func (s *Store) clearAway() error {
	path, err := filepath.EvalSymlinks(s.opts.Path)
	if err != nil {
		return err
	}
	if err := removeDurably(path + ".rewrite"); err != nil {
		return fmt.Errorf("removing what a rewrite left: %w", err)
	}
	if err := s.eraseLeftover(path + eraseSuffix); err != nil {
		return fmt.Errorf("erasing the file a rewrite left: %w", err)
	}
	return nil
}

// eraseLeftover overwrites and removes a replaced file. One that has another
// name still was not replaced, or was moved away to be kept: only the name goes.
func (s *Store) eraseLeftover(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return errors.Join(err, f.Close())
	}
	if st.Nlink == 1 {
		err = s.overwrite(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return removeDurably(name)
}

// overwrite fills a file with zeros, makes sure they are written, and empties it.
func (s *Store) overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, overwritePiece)
	for at := int64(0); at < info.Size(); at += overwritePiece {
		if s.closing.Load() {
			return errClosed
		}
		if _, err := f.WriteAt(zeros[:min(overwritePiece, info.Size()-at)], at); err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), s.at(stepOverwrite)); err != nil {
			return err
		}
	}
	return errors.Join(f.Truncate(0), f.Sync())
}

// removeDurably removes a name that may not be there.
func removeDurably(name string) error {
	err := os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(filepath.Dir(name)))
}
