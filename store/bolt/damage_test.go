package bolt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// lived makes a store that has seen everything: pages, attempts, outcomes,
// merges, purges, activations, mailboxes. Its last commit changes nothing that
// can be read: damage to the newest head page takes bbolt back by one commit,
// as a crash in that commit would, and cannot be told from it.
func lived(t testing.TB, o bolt.Options) {
	t.Helper()
	s := open(t, o)
	ctx := context.Background()
	mustNot(t, s.Change(ctx, store.Change{
		Put:         append(candidates(120), store.Row{Kind: "job", Ref: "job_1", Value: []byte("open")}, store.Row{Kind: "user", Ref: "usr_7", Value: []byte("enabled")}),
		Activations: []store.Activation{{Key: "cand_1@example.net", Ref: "cand_1", Since: benchNow()}, {Key: "cand_9@example.net", Ref: "cand_9", Since: benchNow()}},
		Meta:        []byte("complete"), Now: benchNow(),
	}))
	for i := range 4 {
		batch := store.Batch{State: store.WalkState{Cursor: fmt.Sprint("cursor ", i)}, Now: benchNow(), Origin: store.OriginPoll}
		batch.Mailbox = &store.Mailbox{ID: "rita", State: store.MailboxActive, LastSuccess: benchNow()}
		for c := range 25 {
			batch.Messages = append(batch.Messages, matched(c, 4*i))
		}
		_, err := s.Advance(ctx, store.Walk{Mailbox: "rita"}, uint64(i), batch)
		mustNot(t, err)
	}
	deliver(t, s, 30)
	mustNot(t, s.Change(ctx, store.Change{From: 1, Purges: []store.Purge{{Ref: "cand_3", Reason: "deleted"}, {Ref: "cand_4", Reason: "missing"}}, Now: benchNow()}))
	mustNot(t, s.SetMailbox(ctx, store.Mailbox{ID: "tim", State: store.MailboxPaused}, &store.MailboxEvent{Mailbox: "tim"}, benchNow()))
	mustNot(t, s.SetEndpoint(ctx, store.Endpoint{Disabled: "operator"}))
	mustNot(t, s.Writable(ctx))
	mustNot(t, s.Close())
}

// deliver posts what is due, n events at most: most are delivered, some die,
// some wait.
func deliver(t testing.TB, s *bolt.Store, n int) {
	t.Helper()
	due, _, err := s.Due(context.Background(), benchNow(), n, nil)
	mustNot(t, err)
	var as []store.Attempt
	for _, e := range due {
		as = append(as, store.Attempt{No: e.No, Version: e.Version, Body: fmt.Appendf(nil, "body of %d", e.No), At: benchNow()})
	}
	posted, err := s.Attempt(context.Background(), as)
	mustNot(t, err)
	states := []store.EventState{store.EventDelivered, store.EventDelivered, store.EventDead, store.EventPending}
	var os []store.Outcome
	for i, e := range posted {
		os = append(os, store.Outcome{No: e.No, Version: e.Version, State: states[i%4], Due: benchNow().Add(time.Hour), At: benchNow()})
	}
	mustNot(t, s.Outcome(context.Background(), os))
}

// content is all that can be read of a store, as text.
func content(s *bolt.Store) (string, error) {
	ctx, all := context.Background(), map[string]any{}
	var errs []error
	note := func(what string, v any, err error) {
		all[what] = v
		errs = append(errs, err)
	}
	listed, err := s.Events(ctx, store.EventFilter{Limit: 10_000})
	note("events", listed, err)
	for _, e := range listed {
		whole, err := s.Event(ctx, e.ID)
		note(e.ID, whole, err)
	}
	for _, kind := range []string{"candidate", "job", "user"} {
		var rows []store.Row
		err := s.ScanRows(ctx, kind, nil, func(_ [16]byte, r store.Row) error { rows = append(rows, r); return nil })
		note(kind, rows, err)
	}
	acts, ok, err := s.Activations(ctx, 0, 1<<40)
	note("activations", fmt.Sprint(acts, ok), err)
	boxes, err := s.Mailboxes(ctx)
	note("mailboxes", boxes, err)
	walk, err := s.Walk(ctx, store.Walk{Mailbox: "rita"})
	note("walk", walk, err)
	purging, err := s.PurgesPending(ctx)
	note("purging", purging, err)
	grave, err := s.Tombstone(ctx, "cand_3")
	note("tombstone", grave, err)
	endpoint, err := s.Endpoint(ctx)
	note("endpoint", endpoint, err)
	stats, err := s.Stats(ctx)
	stats.Bytes = 0 // free space comes and goes
	note("stats", stats, err)
	due, next, err := s.Due(ctx, benchNow().Add(time.Minute), 1000, nil)
	note("due", due, err)
	note("next", next, nil)
	raw, err := json.Marshal(all)
	return string(raw), errors.Join(append(errs, err)...)
}

// harm is one way to damage a file.
type harm struct {
	name string
	n    int
	do   func(rng *rand.Rand, raw []byte) []byte
}

func harms() []harm {
	const page = 4096
	at := func(rng *rand.Rand, raw []byte) int { return rng.IntN(len(raw)/page) * page }
	return []harm{
		{"one bit flipped", 300, func(rng *rand.Rand, raw []byte) []byte {
			raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
			return raw
		}},
		{"one bit of a page's head flipped", 150, func(rng *rand.Rand, raw []byte) []byte {
			raw[at(rng, raw)+rng.IntN(128)] ^= 1 << rng.IntN(8)
			return raw
		}},
		{"cut short", 50, func(rng *rand.Rand, raw []byte) []byte { return raw[:rng.IntN(len(raw))] }},
		{"a page zeroed", 50, func(rng *rand.Rand, raw []byte) []byte {
			clear(raw[at(rng, raw):][:page])
			return raw
		}},
		{"a page in place of another", 50, func(rng *rand.Rand, raw []byte) []byte {
			copy(raw[at(rng, raw):][:page], bytes.Clone(raw[at(rng, raw):][:page]))
			return raw
		}},
		{"a sector of noise", 50, func(rng *rand.Rand, raw []byte) []byte {
			from := rng.IntN(len(raw)/512) * 512
			for i := range 512 {
				raw[from+i] = byte(rng.Uint32())
			}
			return raw
		}},
	}
}

// TestDamagedFiles damages a store in hundreds of ways. Each file must either
// be refused, by Open, by Check or by the call that meets the damage, or answer
// everything as before.
func TestDamagedFiles(t *testing.T) {
	o := options(t)
	lived(t, o)
	s := open(t, o)
	stats, err := s.Stats(t.Context())
	mustNot(t, err)
	want, err := content(s)
	mustNot(t, errors.Join(err, s.Close()))
	sound, err := os.ReadFile(o.Path)
	mustNot(t, err)
	sound = sound[:stats.Bytes] // what follows is space kept for growth
	for _, h := range harms() {
		t.Run(h.name, func(t *testing.T) {
			found := map[string]int{}
			for i := range h.n / thin {
				rng := rand.New(rand.NewPCG(uint64(i), 2))
				damaged := h.do(rng, bytes.Clone(sound))
				o.Path = filepath.Join(t.TempDir(), "damaged.db")
				mustNot(t, os.WriteFile(o.Path, damaged, 0o600))
				found[judge(t, i, o, want)]++
			}
			t.Log(found)
		})
	}
}

// after is what a says from where it begins to differ from b.
func after(a, b string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[max(0, i-60):]
		}
	}
	return a[min(len(a), len(b)):]
}

// judge opens a damaged file and tells who found the damage.
func judge(t *testing.T, i int, o bolt.Options, want string) string {
	t.Helper()
	s, err := bolt.Open(o)
	if err != nil {
		if !errors.Is(err, store.ErrUnusable) {
			t.Errorf("damage %d: opening gives %v", i, err)
		}
		return "open"
	}
	defer s.Close()
	got, err := content(s)
	if err != nil && !errors.Is(err, store.ErrUnusable) && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("damage %d: reading gives %v", i, err)
	}
	checked := s.Check(context.Background())
	switch {
	case checked != nil && errors.Is(err, store.ErrUnusable):
		return "read"
	case checked != nil:
		return "check"
	case err != nil || got != want:
		t.Errorf("damage %d: nobody noticed (%v); from the first difference on:\n got %.300s\nwant %.300s", i, err, after(got, want), after(want, got))
	}
	if err := errors.Join(s.Writable(context.Background()), s.Check(context.Background())); err != nil {
		t.Errorf("damage %d: harmless, but then %v", i, err)
	}
	return "harmless"
}
