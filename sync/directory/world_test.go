package dirsync_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/directory"
	"mailsyncd/internal/testutil"
	"mailsyncd/store"
	"mailsyncd/store/storetest"
	dirsync "mailsyncd/sync/directory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	grace    = 24 * time.Hour
	backfill = 14 * 24 * time.Hour
)

// world is a keeper with a store in memory and a file in a directory of its own.
type world struct {
	t     *testing.T
	ctx   context.Context
	path  string
	store *storetest.Memory
	// fault is asked before each commit; nil for none.
	fault func() storetest.FaultKind
	// wrap stands between keeper and store; nil for nothing.
	wrap    func(store.Directory) store.Directory
	keeper  *dirsync.Keeper
	log     *testutil.Log
	handler slog.Handler
	metrics *dirsync.Metrics
	mtime   time.Time
	changes []dirsync.Change
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, ctx: t.Context(), path: filepath.Join(t.TempDir(), "directory.jsonl"),
		log: &testutil.Log{}, mtime: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	w.store = storetest.NewMemory(storetest.MemoryOptions{Fault: func(op string) storetest.FaultKind {
		if op != "Change" || w.fault == nil {
			return storetest.NoFault
		}
		return w.fault()
	}})
	w.start()
	t.Cleanup(func() {
		if strings.Contains(w.log.String(), "@") {
			t.Errorf("the log shows an address:\n%s", w.log)
		}
	})
	return w
}

// start makes a keeper on the store as it is.
func (w *world) start() {
	var st store.Directory = w.store
	if w.wrap != nil {
		st = w.wrap(st)
	}
	if w.handler == nil {
		w.handler = slog.NewTextHandler(w.log, nil)
	}
	w.keeper = dirsync.New(dirsync.Config{
		Settings: dirsync.Settings{File: w.path, MissingGrace: grace, Backfill: backfill},
		Store:    st,
		Poll:     30 * time.Second,
		Logger:   slog.New(w.handler),
		Metrics:  w.metrics,
		Changed:  func(c dirsync.Change) { w.changes = append(w.changes, c) },
	})
}

// restart drops the keeper, as a crash would, and starts another.
func (w *world) restart() {
	w.store = w.store.Reopen()
	w.start()
}

// write replaces the file by these lines.
func (w *world) write(lines ...string) {
	w.t.Helper()
	next := w.path + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.mtime = w.mtime.Add(time.Second) // inodes and sizes may repeat, times of this world do not
	if err := os.Chtimes(next, w.mtime, w.mtime); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.path); err != nil {
		w.t.Fatal(err)
	}
}

// complete writes a file with an end line.
func (w *world) complete(lines ...string) {
	w.t.Helper()
	w.write(append(lines, fmt.Sprintf(`{"kind":"end","records":%d}`, len(lines)))...)
}

func (w *world) reload() {
	w.t.Helper()
	if err := w.keeper.Reload(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// take writes a complete file and reloads.
func (w *world) take(lines ...string) {
	w.t.Helper()
	w.complete(lines...)
	w.reload()
}

func (w *world) put(lines ...string) dirsync.Tally {
	w.t.Helper()
	tally, err := w.keeper.Put(w.ctx, records(w.t, lines...))
	if err != nil {
		w.t.Fatal(err)
	}
	return tally
}

func records(t testing.TB, lines ...string) (all []directory.Record) {
	t.Helper()
	for _, line := range lines {
		r, err := directory.ParseRecord([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// matched lists the candidates that an address matches, "-" without a snapshot.
func (w *world) matched(key string) string {
	s := w.keeper.Snapshot()
	if s == nil {
		return "-"
	}
	var refs []string
	for _, e := range s.Lookup(key) {
		if e.Inactive == "" {
			refs = append(refs, e.Ref)
		}
	}
	return strings.Join(refs, " ")
}

// wantMatched holds the snapshot and the store's rows to "ref ref …" per ref's
// own address.
func (w *world) wantMatched(want string) {
	w.t.Helper()
	var got []string
	err := w.store.ScanRows(w.ctx, "candidate", nil, func(_ [16]byte, r store.Row) error {
		if len(r.Active) > 0 {
			got = append(got, r.Ref)
		}
		for _, key := range r.Active {
			if !strings.Contains(" "+w.matched(key)+" ", " "+r.Ref+" ") {
				w.t.Errorf("the store has %s active, the snapshot does not", r.Ref)
			}
		}
		s, err := directory.Decode(directory.KindCandidate, r.Ref, r.Value)
		if err == nil && len(r.Active) == 0 && slices.ContainsFunc(s.Keys, func(k string) bool {
			return strings.Contains(" "+w.matched(k)+" ", " "+r.Ref+" ")
		}) {
			w.t.Errorf("the snapshot has %s active, the store does not", r.Ref)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(got)
	if s := strings.Join(got, " "); s != want {
		w.t.Errorf("matched: %q, want %q", s, want)
	}
}

// cand is a candidate's line; its address is REF@x.net.
func cand(ref string, more ...string) string {
	return fmt.Sprintf(`{"kind":"candidate","ref":%q,"emails":["%s@x.net"]%s}`, ref, ref, strings.Join(append([]string{""}, more...), ","))
}

func cands(from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, cand(fmt.Sprintf("c%03d", i)))
	}
	return lines
}

func job(ref, state string) string {
	return fmt.Sprintf(`{"kind":"job","ref":%q,"state":%q}`, ref, state)
}

// events lists the events of the outbox that are not the mailboxes', oldest
// first, as "type candidate rule|reason" and "type kind missing/total".
func (w *world) events() (list []string) {
	w.t.Helper()
	all, err := w.store.Events(w.ctx, store.EventFilter{Limit: 10000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		full, err := w.store.Event(w.ctx, e.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		switch d := full.Data; {
		case d.Purged != nil:
			list = append(list, fmt.Sprintf("purged %s %s", d.Purged.Candidate, d.Purged.Reason))
		case d.Directory.Type == store.DirectoryConflict:
			list = append(list, fmt.Sprintf("conflict %s %s %s", d.Directory.Candidate, d.Directory.Address, d.Directory.Rule))
		default:
			list = append(list, fmt.Sprintf("held %s %d/%d", d.Directory.Kind, d.Directory.Missing, d.Directory.Total))
		}
	}
	return list
}

func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	if got := w.events(); !slices.Equal(got, want) {
		w.t.Errorf("events %q, want %q", got, want)
	}
}

// revision is the store's.
func (w *world) revision() uint64 {
	w.t.Helper()
	r, _, err := w.store.Revision(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// activated lists the activations behind a revision as "ref key", "*" for any.
func (w *world) activated(after uint64) (list []string) {
	w.t.Helper()
	acts, ok, err := w.store.Activations(w.ctx, after, w.revision())
	if err != nil || !ok {
		w.t.Fatal(ok, err)
	}
	for _, a := range acts {
		if a.Key == "" {
			list = append(list, "*")
		} else {
			list = append(list, a.Ref+" "+a.Key)
		}
	}
	slices.Sort(list)
	return list
}

func (w *world) wantActivated(after uint64, want ...string) {
	w.t.Helper()
	if got := w.activated(after); !slices.Equal(got, want) {
		w.t.Errorf("activated %q, want %q", got, want)
	}
}
