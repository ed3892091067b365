package bolt

import "context"

// Note implements store.Notes.
func (s *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = s.view(ctx, func(t *tx) error {
		value, _ = t.get(bMeta, []byte(kNote+name))
		return nil
	})
	return value, err
}

// SetNote implements store.Notes.
func (s *Store) SetNote(ctx context.Context, name string, value []byte) error {
	return s.update(ctx, func(t *tx) error {
		t.put(bMeta, []byte(kNote+name), value)
		return nil
	})
}
