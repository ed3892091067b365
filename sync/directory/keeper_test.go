package dirsync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/store/storetest"
	dirsync "mailsyncd/sync/directory"
)

// gauges gathers the values of a registry as "name{label}".
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "{" + l.GetValue() + "}"
			}
			values[name] = m.GetGauge().GetValue()
		}
	}
	return values
}

func TestMetricsFollowTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reg := prometheus.NewRegistry()
		w.metrics = dirsync.NewMetrics(reg)
		w.start()
		w.take(append(cands(0, 100), job("j", "open"), `{"kind":"user","ref":"u"}`)...)
		read := time.Now()
		w.take(append(cands(50, 100), job("j", "open"))...)
		got := gauges(t, reg)
		for name, want := range map[string]float64{
			"mailsyncd_directory_records{candidate}":        100,
			"mailsyncd_directory_records{job}":              1,
			"mailsyncd_directory_records{user}":             1,
			"mailsyncd_held{sweep}":                         1,
			"mailsyncd_directory_checked_timestamp_seconds": float64(read.Unix()),
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
	})
}

func TestAnotherRoomMayHoldThingsToo(t *testing.T) {
	reg := prometheus.NewRegistry()
	dirsync.NewMetrics(reg)
	other := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mailsyncd_held", Help: dirsync.HeldHelp, ConstLabels: prometheus.Labels{"kind": "address"},
	})
	if err := reg.Register(other); err != nil {
		t.Error(err)
	}
}

// TestEverybodyAtOnce lets readers, puts, reloads and the loop meet; the race
// detector and the counts are the judges.
func TestEverybodyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.complete(cands(0, 50)...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.keeper.Run(ctx) }()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 20 {
				if _, err := w.keeper.Put(ctx, records(t, cand(fmt.Sprintf("put%d_%d", i, n)))); err != nil {
					t.Error(err)
				}
				if s := w.keeper.Snapshot(); s != nil {
					s.Lookup("c001@x.net")
				}
				_ = w.keeper.Status()
				if err := w.keeper.Records(ctx, "", dirsync.Position{}, func(dirsync.Shown) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if err := w.keeper.Reload(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := w.keeper.Status(); st.Candidates != 130 || st.Revision != w.revision() {
		t.Errorf("status %+v, store at %d", st, w.revision())
	}
}

func TestAWaitForTheDoorEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, leave := make(chan struct{}), make(chan struct{})
		w := newWorld(t)
		w.take(cand("a"))
		w.fault = func() storetest.FaultKind {
			close(inside)
			<-leave
			return storetest.NoFault
		}
		first := make(chan error, 1)
		go func() {
			_, err := w.keeper.Put(t.Context(), records(t, cand("b")))
			first <- err
		}()
		<-inside
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.keeper.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited on: %v", err)
		}
		if st := w.keeper.Status(); st.Problem != "" || st.Candidates != 1 {
			t.Errorf("status waits or took the timeout for a problem: %+v", st)
		}
		close(leave)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestAReloadEndsWithItsContextAndIsTakenUpAgain(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a"))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	w.fault = func() storetest.FaultKind {
		if n++; n == 2 {
			cancel()
		}
		return storetest.NoFault
	}
	w.complete(append(cands(0, 3000), cand("a"))...)
	if err := w.keeper.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("went on: %v", err)
	}
	if w.matched("a@x.net") != "a" || w.matched("c000@x.net") != "" {
		t.Error("half a reload was published")
	}
	if err := w.keeper.Look(w.ctx); err != nil {
		t.Fatal(err)
	}
	if st := w.keeper.Status(); st.Candidates != 3001 || st.Problem != "" {
		t.Errorf("status %+v", st)
	}
}

func TestConfigureTakesAnotherFile(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a"), cand("b"))
	old := w.path
	w.path += ".other"
	w.complete(cand("b"), cand("c"), cand("d"))
	if err := w.keeper.Configure(w.ctx, dirsync.Settings{File: w.path, MissingGrace: grace, Backfill: backfill}); err != nil {
		t.Fatal(err)
	}
	if err := w.keeper.Look(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wantMatched("b c d")
	if st := w.keeper.Status(); st.File == old || st.File != w.path {
		t.Errorf("file %s", st.File)
	}
}

func TestEveryLogLineHasAStableCode(t *testing.T) {
	var events []string
	w := newWorld(t)
	w.handler = slog.NewTextHandler(w.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "event" {
			events = append(events, a.Value.String())
		}
		return a
	}})
	w.start()
	w.take(cands(0, 100)...)
	w.take(cands(50, 100)...)
	w.put(cand("a"))
	if err := w.keeper.Delete(w.ctx, "candidate", "a"); err != nil {
		t.Fatal(err)
	}
	w.write("nonsense")
	_ = w.keeper.Reload(w.ctx)
	w.take(cands(0, 100)...)
	want := []string{"directory_reloaded", "directory_sweep_held", "directory_put", "directory_deleted", "directory_refused", "directory_recovered"}
	if !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}
