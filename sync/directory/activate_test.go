package dirsync_test

import "testing"

func TestActivateAllOwesALookBackForEverybody(t *testing.T) {
	w := newWorld(t)
	w.take(`{"kind":"candidate","ref":"nora","emails":["nora@example.net"]}`)
	before := w.keeper.Snapshot().Revision()
	if err := w.keeper.ActivateAll(w.ctx); err != nil {
		t.Fatal(err)
	}
	acts, whole, err := w.store.Activations(w.ctx, before, w.keeper.Snapshot().Revision())
	if err != nil {
		t.Fatal(err)
	}
	if !whole || len(acts) != 1 || acts[0].Key != "" {
		t.Errorf("activations %v (whole: %v), want one for every address", acts, whole)
	}
	if since := acts[0].Since; since.IsZero() {
		t.Error("the look-back has no beginning")
	}
}
