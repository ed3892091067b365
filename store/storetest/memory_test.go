package storetest_test

import (
	"testing"

	"mailsyncd/store"
	"mailsyncd/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Factory{
		New: func(t *testing.T, o storetest.Options) store.Store {
			return storetest.NewMemory(storetest.MemoryOptions{
				MaxEvents: o.MaxEvents, Notify: o.Notify, DiskLow: o.DiskLow, ActivationLog: o.ActivationLog,
			})
		},
		Reopen: func(t *testing.T, s store.Store, o storetest.Options) store.Store {
			return s.(*storetest.Memory).Reopen()
		},
	})
}
