// Package storetest holds every implementation of store to one behaviour. Run
// is the conformance suite: each rule of package store is a named subtest.
// Memory is a store in maps that passes it: a model simple enough to be read
// against the rules, with faults on demand, for the tests of the rooms above.
//
// A fault comes in two flavours that a caller cannot tell apart: the operation
// failed, or it was persisted and only the answer failed. Code that survives
// both, crossed with Reopen, survives a crash at any moment between two calls.
package storetest

import (
	"testing"

	"mailsyncd/store"
)

// Options is what a subtest asks of the store it runs on.
type Options struct {
	MaxEvents int         // undelivered events that fill the outbox; 0: no limit
	Notify    func()      // called when the courier has something to do
	DiskLow   func() bool // stands for the free space; nil: enough
	// ActivationLog bounds the activation log; 0: the implementation's own.
	ActivationLog int
}

// Factory opens empty stores for the suite.
type Factory struct {
	// New returns an empty store. The suite closes it.
	New func(t *testing.T, o Options) store.Store
	// Reopen closes s and opens the same state again, as a restart would.
	Reopen func(t *testing.T, s store.Store, o Options) store.Store
}

// Run holds an implementation to the contract.
func Run(t *testing.T, f Factory) {
	for _, group := range []struct {
		name  string
		tests []subtest
	}{
		{"walks", walkTests},
		{"ledger", ledgerTests},
		{"threads", threadTests},
		{"outbox", outboxTests},
		{"directory", directoryTests},
		{"purge", purgeTests},
		{"tasks", taskTests},
		{"questions", questionTests},
		{"reading again", rereadTests},
		{"erasure", erasureTests},
		{"secrets", secretTests},
		{"notes", noteTests},
		{"whole", wholeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, st := range group.tests {
				t.Run(st.name, func(t *testing.T) { st.run(newBench(t, f, st.opts)) })
			}
		})
	}
	t.Run("random histories agree with the model", func(t *testing.T) { runModel(t, f) })
}
