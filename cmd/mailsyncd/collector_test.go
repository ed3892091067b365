package main

import (
	"testing"
	"time"

	"mailsyncd/store"
)

// A mailbox that left the configuration keeps its row and is counted nowhere; one
// that is paused or suspended is counted, but owes nothing.
func TestOnlyConfiguredMailboxesAreCounted(t *testing.T) {
	r := newRig(t, job9, nora)
	r.run()
	long := time.Now().Add(-month)
	for _, row := range []store.Mailbox{
		{ID: "ghost", State: store.MailboxActive, Horizon: long, LastSuccess: long, Class: "network"},
		{ID: "tom", State: store.MailboxSuspended, Horizon: long, LastSuccess: long},
	} {
		if err := r.store.SetMailbox(t.Context(), row, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	r.directory(job9, nora, ben)
	if err := r.keeper.Reload(t.Context()); err != nil { // ben is to be looked for
		t.Fatal(err)
	}
	sum, err := r.survey(t.Context())
	if err != nil || sum.Total != 2 || sum.Stale != 0 || len(sum.Trouble) != 0 || sum.OldestSuccess.Equal(long) {
		t.Errorf("status counts %+v, %v", sum, err)
	}
	if got := r.lookbacksPending(t.Context()); got > 1 {
		t.Errorf("%d owe a look-back, of which only rita may", got)
	}
}
