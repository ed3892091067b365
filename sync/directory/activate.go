package dirsync

import (
	"context"

	"mailsyncd/store"
)

// ActivateAll owes every mailbox a look-back over the window for everybody: a
// guard was loosened, and mail that it refused may match now. Before the first
// complete directory nobody has polled, and nothing is owed.
func (k *Keeper) ActivateAll(ctx context.Context) error {
	return k.enter(ctx, func(ctx context.Context) error {
		if !k.meta.Ready {
			return nil
		}
		r := k.begin(0)
		r.batch.Activations = []store.Activation{{Since: r.now.Add(-k.cfg.Backfill)}}
		return r.finish(ctx)
	})
}
