package mailbox_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/sync/mailbox"
)

const backfill = 14 * 24 * time.Hour

// world is one mailbox with everything around it: a scripted mail server, a
// memory store, and a directory that a test changes by name.
type world struct {
	t       *testing.T
	server  *providertest.Fake
	opener  providers.Opener
	store   *storetest.Memory
	guards  *matcher.Matcher
	dir     *snapshot // nil: no directory yet
	reg     *prometheus.Registry
	metrics *mailbox.Metrics
	log     *strings.Builder
	privacy mailbox.Privacy
	link    string
	budget  time.Duration
	// walkEvery, reconcile and searches are Config's.
	walkEvery, reconcile time.Duration
	searches             bool

	uid int
}

func newWorld(t *testing.T, o storetest.MemoryOptions) *world {
	t.Helper()
	guards, err := matcher.New(matcher.Config{
		Domains:       []string{"example.com"},
		Mailboxes:     []matcher.Owner{{ID: "rita", Addresses: []string{"rita@example.com"}}},
		MaxRecipients: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	w := &world{
		t: t, server: providertest.NewFake(), store: storetest.NewMemory(o), guards: guards,
		dir: &snapshot{candidates: map[string][]string{}}, reg: reg, metrics: mailbox.NewMetrics(reg),
		log: &strings.Builder{},
	}
	w.opener = w.server
	return w
}

// box makes the mailbox as a fresh process would: nothing of a previous one is
// kept but the store.
func (w *world) box() *mailbox.Mailbox {
	return mailbox.New(mailbox.Config{
		ID: "rita", User: "usr_7", Provider: "fake", Opener: w.opener, Store: w.store,
		Directory: func() mailbox.Snapshot {
			if w.dir == nil {
				return nil
			}
			return w.dir
		},
		Matcher: func() *matcher.Matcher { return w.guards },
		Privacy: w.privacy, Link: w.link, Backfill: backfill, Budget: w.budget, Metrics: w.metrics,
		WalkEvery: w.walkEvery, Reconcile: w.reconcile, Searches: w.searches,
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(w.log, logTo{w.t}), nil)),
	})
}

type logTo struct{ t *testing.T }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (w *world) pass() mailbox.Report {
	w.t.Helper()
	rep, err := w.box().Pass(context.Background())
	if err != nil {
		w.t.Fatalf("pass: %v", err)
	}
	return rep
}

// mail delivers a mail from somebody to the recruiter, now.
func (w *world) mail(folder, from string) string {
	w.uid++
	return w.mailAs(folder, from, fmt.Sprintf("m%d@test", w.uid), time.Now())
}

func (w *world) mailAs(folder, from, id string, at time.Time) string {
	raw := fmt.Sprintf("From: %s\r\nTo: rita@example.com\r\nSubject: subject of %s\r\nMessage-ID: <%s>\r\nDate: %s\r\n",
		from, id, id, at.Format(time.RFC1123Z))
	w.server.Deliver(folder, providertest.Mail{Header: message.Parse([]byte(raw)), Arrival: at})
	return id
}

// candidate adds a candidate: directory, store and an activation, as
// sync/directory does.
func (w *world) candidate(ref string, addresses ...string) {
	w.t.Helper()
	ctx := context.Background()
	rev, _, err := w.store.Revision(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	change := store.Change{From: rev, Now: time.Now(), Put: []store.Row{
		{Kind: "candidate", Ref: ref, Value: []byte(ref), Active: addresses},
	}}
	for _, a := range addresses {
		change.Activations = append(change.Activations, store.Activation{Key: a, Ref: ref, Since: time.Now().Add(-backfill)})
	}
	if err := w.store.Change(ctx, change); err != nil {
		w.t.Fatal(err)
	}
	w.dir = w.dir.with(ref, rev+1, addresses)
}

// delivered lists "message-id candidate" of every event in the outbox, in the
// order of their events; repeats stay.
func (w *world) delivered() []string {
	w.t.Helper()
	var out []string
	for _, e := range w.events() {
		if e.Data == nil || e.Data.Thread == nil {
			continue
		}
		for _, m := range e.Data.Thread.Messages {
			for _, p := range m.Candidates {
				out = append(out, m.MessageID+" "+p.Candidate)
			}
		}
	}
	return out
}

func (w *world) events() []store.Event {
	w.t.Helper()
	ctx := context.Background()
	list, err := w.store.Events(ctx, store.EventFilter{Limit: 10_000})
	if err != nil {
		w.t.Fatal(err)
	}
	for i, e := range list {
		if list[i], err = w.store.Event(ctx, e.ID); err != nil {
			w.t.Fatal(err)
		}
	}
	return list
}

// wants fails unless exactly these pairs were delivered, each once.
func (w *world) wants(pairs ...string) {
	w.t.Helper()
	got := w.delivered()
	sort.Strings(got)
	sort.Strings(pairs)
	if !slices.Equal(got, pairs) {
		w.t.Errorf("delivered %q, want %q", got, pairs)
	}
}

// snapshot is a directory in a map; it never changes once it is handed out.
type snapshot struct {
	revision   uint64
	candidates map[string][]string // folded address → refs
}

func (s *snapshot) Revision() uint64       { return s.revision }
func (s *snapshot) OwnAddress(string) bool { return false }
func (s *snapshot) Lookup(key string) (es []directory.Entry) {
	for _, ref := range s.candidates[key] {
		es = append(es, directory.Entry{Ref: ref})
	}
	return es
}

func (s *snapshot) with(ref string, revision uint64, addresses []string) *snapshot {
	next := &snapshot{revision: revision, candidates: map[string][]string{}}
	for key, refs := range s.candidates {
		next.candidates[key] = refs
	}
	for _, a := range addresses {
		next.candidates[a] = append(slices.Clone(next.candidates[a]), ref)
	}
	return next
}
