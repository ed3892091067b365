package bolt_test

import (
	"path/filepath"
	"testing"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
	"mailsyncd/store/storetest"
)

// options are the options of a test's store.
func options(t testing.TB) bolt.Options {
	return bolt.Options{
		Path: filepath.Join(t.TempDir(), "mailsyncd.db"), Keys: bolt.Keys{Current: bolt.NewKey()}, Epoch: 7,
	}
}

// open opens a store and closes it with the test.
func open(t testing.TB, o bolt.Options) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(o)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestBoltKeepsTheContract(t *testing.T) {
	opts := map[store.Store]bolt.Options{}
	openWith := func(t *testing.T, o bolt.Options, want storetest.Options) store.Store {
		o.MaxEvents, o.Notify, o.ActivationLog = want.MaxEvents, want.Notify, want.ActivationLog
		o.MinFreeBytes = 1000
		o.FreeBytes = func(string) (uint64, error) {
			if want.DiskLow != nil && want.DiskLow() {
				return 999, nil
			}
			return 1 << 40, nil
		}
		s := open(t, o)
		opts[s] = o
		return s
	}
	storetest.Run(t, storetest.Factory{
		New: func(t *testing.T, o storetest.Options) store.Store { return openWith(t, options(t), o) },
		Reopen: func(t *testing.T, s store.Store, o storetest.Options) store.Store {
			if err := s.Close(); err != nil {
				t.Fatalf("closing: %v", err)
			}
			return openWith(t, opts[s], o)
		},
	})
}
