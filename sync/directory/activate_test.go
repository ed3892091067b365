package dirsync_test

import (
	"fmt"
	"testing"

	"mailsyncd/store/storetest"
)

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

// The guard own_address folds +tags, so giving an address up frees its tagged
// forms too.
func TestAddressGivenUpFreesItsTaggedForms(t *testing.T) {
	w := newWorld(t)
	user := `{"kind":"user","ref":"u","emails":["nora@x.net"]}`
	w.take(user, `{"kind":"candidate","ref":"c","emails":["nora+jobs@x.net"]}`, `{"kind":"candidate","ref":"d","emails":["other@x.net"]}`)
	before := w.revision()
	w.take(`{"kind":"user","ref":"u","emails":["else@x.net"]}`,
		`{"kind":"candidate","ref":"c","emails":["nora+jobs@x.net"]}`, `{"kind":"candidate","ref":"d","emails":["other@x.net"]}`)
	w.wantActivated(before, "c nora+jobs@x.net")
}

// A round that was cut off behind its users forgets what they gave up; the one
// that goes on owes everybody a look-back.
func TestCutOffRoundOwesEverybodyALookBack(t *testing.T) {
	w := newWorld(t)
	lines := func(user string) (all []string) {
		all = append(all, `{"kind":"user","ref":"u","emails":["`+user+`"]}`)
		for i := range 2500 {
			all = append(all, fmt.Sprintf(`{"kind":"candidate","ref":"c%d","emails":["c%d@x.net"],"rev":%d}`, i, i, len(user)))
		}
		return all
	}
	w.take(lines("c1@x.net")...)
	before := w.revision()
	commits := 0
	w.fault = func() storetest.FaultKind {
		if commits++; commits == 2 {
			return storetest.Failed
		}
		return storetest.NoFault
	}
	w.complete(lines("elsewhere@x.net")...)
	if err := w.keeper.Reload(w.ctx); err == nil {
		t.Fatal("the second commit did not fail")
	}
	w.fault = nil
	w.restart()
	w.reload()
	acts, whole, err := w.store.Activations(w.ctx, before, w.revision())
	if err != nil || !whole {
		t.Fatal(whole, err)
	}
	for _, a := range acts {
		if a.Key == "" {
			return
		}
	}
	t.Errorf("activations %v, want one for everybody", acts)
}
