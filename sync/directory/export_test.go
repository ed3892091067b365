package dirsync

import "context"

// Look runs the round that Run runs every Poll.
func (k *Keeper) Look(ctx context.Context) error { return k.enter(ctx, k.look) }

// SetBatch makes commits of n rows.
func (k *Keeper) SetBatch(n int) { k.batchRows = n }
