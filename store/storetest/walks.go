package storetest

import (
	"errors"
	"reflect"

	"mailsyncd/store"
)

var walkTests = []subtest{
	{name: "a walk that never began is the zero state", run: func(b *bench) {
		st, err := b.Walk(b.ctx, store.Walk{Mailbox: "rita"})
		b.must(err, "reading the walk")
		if !reflect.DeepEqual(st, store.WalkState{}) {
			b.Errorf("got %+v", st)
		}
	}},
	{name: "a stale version conflicts and writes nothing", run: func(b *bench) {
		b.candidates("nora")
		b.page("rita", mail{id: "a", candidates: []string{"nora"}})
		w := store.Walk{Mailbox: "rita"}
		_, err := b.Advance(b.ctx, w, 0, b.batch("rita", mail{id: "b", candidates: []string{"nora"}}))
		if !errors.Is(err, store.ErrConflict) {
			b.Fatalf("got %v, expected a conflict", err)
		}
		if st, _ := b.Stats(b.ctx); st.Messages != 1 || st.Pending != 1 {
			b.Errorf("the losing page left %d messages and %d events", st.Messages, st.Pending)
		}
	}},
}
