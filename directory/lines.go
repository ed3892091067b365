package directory

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxLine is the longest line in bytes, its end not counted.
const MaxLine = 1 << 20

// Line is one record of a file and where it stands, so that it can be read
// again without keeping it.
type Line struct {
	Number int   // from 1
	Offset int64 // of its first byte
	Length int   // in bytes, its end not counted
	Record Record
}

// LineError is what is wrong with one line and the mend. It prints without the
// file's name: prefix that and a colon.
type LineError struct {
	Line   int
	Offset int64
	Err    error
}

func (e *LineError) Error() string { return fmt.Sprintf("%d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Lines reads the records of a file, bad lines included: those come as a
// *LineError and reading goes on behind them, so that a check can report all.
// Any other error is the reader's and the last. Blank lines are skipped.
//
// Rules of a whole file are kept too: nothing stands behind an end line, and
// its count is right. A ref that stands twice is not noticed here (Check does);
// the caller that sorts the records sees it for nothing.
func Lines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		in := lineReader{buf: bufio.NewReaderSize(r, MaxLine+2)}
		var ends ending
		for {
			l, text, err := in.read()
			if err == io.EOF {
				return
			}
			if err == nil && len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			if err == nil {
				l.Record, err = ends.check(text)
			}
			if !yield(l, place(l, err)) || in.err != nil && in.err != io.EOF {
				return
			}
		}
	}
}

// place gives a bad line its number. Errors of the reader pass.
func place(l Line, err error) error {
	if err == nil || errors.As(err, new(*readError)) {
		return err
	}
	return &LineError{Line: l.Number, Offset: l.Offset, Err: err}
}

// readError is a failure of the medium, as opposed to a bad line.
type readError struct{ err error }

func (e *readError) Error() string { return "reading: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// ending keeps the rules of the end line.
type ending struct {
	records int
	ended   bool
}

// check parses a line and holds it against what the file said before.
func (e *ending) check(text []byte) (Record, error) {
	rec, err := ParseRecord(text)
	if err != nil {
		e.records++ // it was meant to be one: the count of the end line stays right
		return rec, err
	}
	switch {
	case e.ended:
		return rec, errors.New("a line behind the end line; the end line must be the last")
	case rec.Kind != KindEnd:
		e.records++
		return rec, nil
	case rec.Count != e.records:
		err = fmt.Errorf("the end line counts %d records and the file holds %d; write the file again, it may be cut off", rec.Count, e.records)
	}
	e.ended = true
	return rec, err
}

// lineReader splits its input and bounds a line's length.
type lineReader struct {
	buf    *bufio.Reader
	err    error // of the medium, io.EOF included
	number int
	offset int64
}

var errLongLine = fmt.Errorf("longer than %d bytes; write one record a line", MaxLine)

// utf8BOM is what some Windows programs write at the start of a file.
const utf8BOM = "\xef\xbb\xbf"

// read returns the next line without its end; text is valid until the next
// call. io.EOF means that there is none.
func (r *lineReader) read() (l Line, text []byte, err error) {
	if r.err != nil {
		return l, nil, r.err
	}
	r.number++
	l = Line{Number: r.number, Offset: r.offset}
	text, err = r.buf.ReadSlice('\n')
	r.offset += int64(len(text))
	switch {
	case err == bufio.ErrBufferFull:
		return l, nil, r.discard()
	case err == io.EOF && len(text) == 0:
		return l, nil, io.EOF
	case err != nil && err != io.EOF:
		r.err = &readError{err}
		return l, nil, r.err
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	if l.Number == 1 && bytes.HasPrefix(text, []byte(utf8BOM)) {
		text = text[len(utf8BOM):]
		l.Offset += int64(len(utf8BOM))
	}
	if l.Length = len(text); l.Length > MaxLine {
		return l, nil, errLongLine
	}
	return l, text, nil
}

// discard skips the rest of a line that is too long.
func (r *lineReader) discard() error {
	for {
		part, err := r.buf.ReadSlice('\n')
		r.offset += int64(len(part))
		switch {
		case err == bufio.ErrBufferFull:
		case err == nil || err == io.EOF:
			return errLongLine
		default:
			r.err = &readError{err}
			return r.err
		}
	}
}
