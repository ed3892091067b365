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

// A page that names two addresses of a candidate is decided by one of them. If
// that one goes before the page is committed, the match is dropped, and nothing
// but a look-back for the other one finds the mail again.
func TestAnAddressThatGoesOwesTheOthersALookBack(t *testing.T) {
	w := newWorld(t)
	w.take(`{"kind":"candidate","ref":"nora","emails":["a@x.net","b@x.net"]}`)
	for _, step := range []struct {
		name, emails string
		want         []string
	}{
		{"an address that comes is owed one alone", `"a@x.net","b@x.net","c@x.net"`, []string{"nora c@x.net"}},
		{"another order is nothing new", `"c@x.net","b@x.net","a@x.net"`, nil},
		{"an address that goes leaves two to look back for", `"b@x.net","c@x.net"`, []string{"nora b@x.net", "nora c@x.net"}},
	} {
		before := w.revision()
		w.put(`{"kind":"candidate","ref":"nora","emails":[` + step.emails + `]}`)
		t.Log(step.name)
		w.wantActivated(before, step.want...)
	}
	before := w.revision()
	w.put(`{"kind":"candidate","ref":"nora","emails":["b@x.net"],"state":"stopped"}`)
	w.wantActivated(before)
}
