package dirsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"mailsyncd/directory"
	"mailsyncd/store"
)

// version tells whether a file changed: a new file renamed into place has
// another inode, a rewritten one another time or size.
type version struct {
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // nanoseconds since 1970
}

func versionOf(info os.FileInfo) version {
	v := version{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.Inode = st.Ino
	}
	return v
}

// statFile follows symlinks, which is how Kubernetes swaps a mounted file.
func statFile(path string) (version, error) {
	info, err := os.Stat(path)
	if err != nil {
		return version{}, fmt.Errorf("directory file: %w; write it, or correct directory.file", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return version{}, fmt.Errorf("directory file: %s is not a regular file", path)
	}
	return versionOf(info), nil
}

// errMoving says that the file changed between two looks at it. Nothing of it
// may be believed.
var errMoving = errors.New("the file changed while it was read; write it under another name and rename it into place")

// refusedError says that the file's content is wrong: reading it again does not
// help until it changes.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// entry is where a record stands and where the store would keep it: 24 bytes,
// so that a million lines sort in a few dozen megabytes.
type entry struct {
	key   [16]byte // store.RowOrder of the ref
	place uint64   // offset<<lengthBits | length in a file, an index in a put
}

// lengthBits is enough for directory.MaxLine; 43 bits are left for the offset.
const lengthBits = 21

// source is one open directory file that was read once, checked, and sorted
// into the store's order. Its records are read again one by one: holding a
// million of them would take ten times the memory of all else.
type source struct {
	path    string
	file    *os.File
	version version
	ended   bool // there is an end line
	entries map[directory.Kind][]entry
	buf     []byte
}

// openSource reads and checks the whole file. The error of a bad line names the
// place: FILE:LINE: what, and the mend.
func openSource(ctx context.Context, path string, st store.Directory) (*source, error) {
	if _, err := statFile(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("directory file: %w", err)
	}
	s := &source{path: path, file: f, entries: map[directory.Kind][]entry{}}
	if err := s.read(ctx, st); err != nil {
		_ = f.Close()
		return s, err
	}
	return s, nil
}

func (s *source) close() { _ = s.file.Close() }

// read is the first pass.
func (s *source) read(ctx context.Context, st store.Directory) error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("directory file: %w", err)
	}
	s.version = versionOf(info)
	verdict := s.collect(ctx, st)
	if err := s.unmoved(); err != nil {
		return err // and no verdict on what was half of one version, half of another
	}
	return verdict
}

// collect checks every line and notes where each record is.
func (s *source) collect(ctx context.Context, st store.Directory) error {
	order := map[directory.Kind]func(string) [16]byte{}
	for _, kind := range kinds {
		order[kind] = st.RowOrder(string(kind))
	}
	lines := 0
	for l, err := range directory.Lines(s.file) {
		if err != nil {
			return s.wrong(err)
		}
		if lines++; lines%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if l.Record.Kind == directory.KindEnd {
			s.ended = true
			continue
		}
		s.note(l, order[l.Record.Kind](l.Record.Ref))
	}
	if lines == 0 {
		return &refusedError{fmt.Errorf(`%s is empty; an empty directory is the line {"kind":"end","records":0}`, s.path)}
	}
	return s.sort()
}

// wrong places an error of directory.Lines.
func (s *source) wrong(err error) error {
	if line := (*directory.LineError)(nil); errors.As(err, &line) {
		return &refusedError{fmt.Errorf("%s:%w", s.path, err)}
	}
	return fmt.Errorf("%s: %w", s.path, err)
}

// note keeps the place of a record. The first thousand lines say how many more
// to expect: growing by copying would need the memory twice.
func (s *source) note(l directory.Line, key [16]byte) {
	list := s.entries[l.Record.Kind]
	if len(list) == 1000 {
		perLine := (l.Offset + 1) / int64(l.Number)
		list = slices.Grow(list, int((s.version.Size-l.Offset)/max(1, perLine)*102/100)+16)
	}
	place := uint64(l.Offset)<<lengthBits | uint64(l.Length)
	s.entries[l.Record.Kind] = append(list, entry{key: key, place: place})
}

// sort brings the entries into the store's order and finds refs that stand
// twice side by side.
func (s *source) sort() error {
	for kind, list := range s.entries {
		slices.SortFunc(list, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
		for i := 1; i < len(list); i++ {
			if list[i].key == list[i-1].key {
				return s.twice(kind, list[i-1].place, list[i].place)
			}
		}
	}
	return nil
}

// twice is the error of a ref that stands on two lines.
func (s *source) twice(kind directory.Kind, a, b uint64) error {
	first, second := min(a, b), max(a, b)
	rec, err := s.record(entry{place: second})
	if err != nil {
		return err
	}
	lines, err := s.lineNumbers(int64(first>>lengthBits), int64(second>>lengthBits))
	if err != nil {
		return err
	}
	return &refusedError{fmt.Errorf("%s:%d: %w", s.path, lines[1], directory.Repeated(rec, lines[0]))}
}

// lineNumbers counts the lines up to two offsets: only an error needs them.
func (s *source) lineNumbers(first, second int64) (numbers [2]int, err error) {
	for i, offset := range [2]int64{first, second} {
		var n lineCounter
		if _, err := io.Copy(&n, io.NewSectionReader(s.file, 0, offset)); err != nil {
			return numbers, fmt.Errorf("%s: reading: %w", s.path, err)
		}
		numbers[i] = 1 + int(n)
	}
	return numbers, nil
}

// lineCounter counts the line ends written to it.
type lineCounter int

func (n *lineCounter) Write(p []byte) (int, error) {
	*n += lineCounter(bytes.Count(p, []byte("\n")))
	return len(p), nil
}

// record reads one record again.
func (s *source) record(e entry) (directory.Record, error) {
	offset, length := int64(e.place>>lengthBits), int(e.place&(1<<lengthBits-1))
	s.buf = slices.Grow(s.buf[:0], length)[:length]
	if _, err := s.file.ReadAt(s.buf, offset); err != nil {
		return directory.Record{}, errors.Join(errMoving, err)
	}
	rec, err := directory.ParseRecord(s.buf)
	if err != nil { // it was right a moment ago
		return directory.Record{}, errMoving
	}
	return rec, nil
}

// readAhead is how many records are read in one go, readAheads how many such
// lots wait: enough to keep a second core busy while the first commits.
const (
	readAhead  = 256
	readAheads = 4
)

// lot is some records read ahead; err belongs to the one behind them.
type lot struct {
	records []directory.Record
	err     error
}

// feed reads the records of a kind again, ahead of who asks. stop must be
// called; it waits for the reading to end.
func (s *source) feed(ctx context.Context, kind directory.Kind) (f feed, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	lots := make(chan lot, readAheads)
	go s.readLots(ctx, s.entries[kind], lots)
	var now lot
	next := func(entry) (directory.Record, error) {
		if len(now.records) == 0 && now.err == nil {
			var open bool
			if now, open = <-lots; !open {
				return directory.Record{}, context.Cause(ctx)
			}
		}
		if len(now.records) == 0 {
			return directory.Record{}, now.err
		}
		rec := now.records[0]
		now.records = now.records[1:]
		return rec, nil
	}
	return feed{entries: s.entries[kind], record: next}, func() {
		cancel()
		for range lots { // until the reader closes it
		}
	}
}

// readLots reads until the end, an error or ctx.
func (s *source) readLots(ctx context.Context, entries []entry, lots chan<- lot) {
	defer close(lots)
	for some := range slices.Chunk(entries, readAhead) {
		next := s.readLot(some)
		select {
		case lots <- next:
		case <-ctx.Done():
			return
		}
		if next.err != nil {
			return
		}
	}
}

func (s *source) readLot(entries []entry) (l lot) {
	l.records = make([]directory.Record, 0, len(entries))
	for _, e := range entries {
		rec, err := s.record(e)
		if err != nil {
			l.err = err
			break
		}
		l.records = append(l.records, rec)
	}
	return l
}

// unmoved fails when the file is another than the one that was opened. It is
// asked before every commit, so that nothing of a mixture is kept.
func (s *source) unmoved() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("directory file: %w", err)
	}
	if versionOf(info) != s.version {
		return errMoving
	}
	return nil
}
