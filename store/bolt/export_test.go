package bolt

import (
	"context"

	bolt "go.etcd.io/bbolt"
)

// OnStep calls f at every step of a rewrite, which fails with f's error.
func (s *Store) OnStep(f func(step string) error) { s.step = f }

// Steps of a rewrite in their order; writers wait from the first of the last
// list to its end.
func StepsBeforeReplace() []string { return []string{stepBegun, stepCopied, stepCaughtUp} }

func StepsBeforeRename() []string { return []string{stepSynced, stepLinked} }

const StepRenamed = stepRenamed

func StepsAfterReplace() []string {
	return []string{stepReplaced, stepReleased, stepOverwrite, stepErased}
}

// Holding runs f while a read transaction is open, with a way to read raw rows
// from it.
func (s *Store) Holding(ctx context.Context, f func(raw map[string]string)) error {
	return s.view(ctx, func(t *tx) error {
		f(Raw(t.Tx))
		return t.err
	})
}

// Raw returns all rows as they lie there, sealed, by bucket and key.
func Raw(btx *bolt.Tx) map[string]string {
	all := map[string]string{}
	_ = btx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			all[string(name)+"/"+string(k)] = string(v)
			return nil
		})
	})
	return all
}
