package storetest

import (
	"bytes"
	"context"
)

// Note implements store.Notes.
func (m *Memory) Note(ctx context.Context, name string) (value []byte, err error) {
	err = m.do(ctx, "Note", func(s *state) error {
		value = bytes.Clone(s.notes[name])
		return nil
	})
	return value, err
}

// SetNote implements store.Notes.
func (m *Memory) SetNote(ctx context.Context, name string, value []byte) error {
	return m.do(ctx, "SetNote", func(s *state) error {
		s.notes[name] = bytes.Clone(value)
		return nil
	})
}

var noteTests = []subtest{
	{name: "a note is what was noted last, over a restart", run: func(b *bench) {
		got, err := b.Note(b.ctx, "quota")
		b.must(err, "reading none")
		equal(b, "note", string(got), "")
		b.must(b.SetNote(b.ctx, "quota", []byte("one")), "setting")
		b.must(b.SetNote(b.ctx, "quota", []byte("two")), "replacing")
		b.must(b.SetNote(b.ctx, "other", []byte("another")), "setting another")
		b.reopen()
		got, err = b.Note(b.ctx, "quota")
		b.must(err, "reading")
		equal(b, "note", string(got), "two")
	}},
}
