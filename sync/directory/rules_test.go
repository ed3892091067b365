package dirsync_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/store"
	dirsync "mailsyncd/sync/directory"
)

func TestWhatIsMissingStopsAtOnceAndIsPurgedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cands(0, 10)...)
		pass(time.Minute)
		w.complete(cands(1, 10)...)
		pass(time.Minute)
		if w.matched("c000@x.net") != "" || w.keeper.Status().Missing != 1 {
			t.Error("a missing candidate still matches")
		}
		pass(grace - 2*time.Minute)
		w.wantEvents()
		pass(2 * time.Minute)
		w.wantEvents("purged c000 missing")
		if w.keeper.Status().Missing != 0 || w.keeper.Status().Candidates != 9 {
			t.Errorf("status %+v", w.keeper.Status())
		}
		if s, err := w.keeper.Show(t.Context(), "", "c000"); err != nil || s[0].Purged.IsZero() {
			t.Errorf("show: %v %v", s, err)
		}
	})
}

func TestTheGraceSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(cands(0, 10)...)
		w.take(cands(1, 10)...)
		time.Sleep(grace - time.Hour)
		w.restart()
		pass := w.run()
		pass(30 * time.Minute)
		w.wantEvents()
		pass(time.Hour)
		w.wantEvents("purged c000 missing")
	})
}

func TestAMissingCandidateThatComesBackIsNotPurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cands(0, 10)...)
		pass(time.Minute)
		w.complete(cands(1, 10)...)
		pass(time.Hour)
		before := w.revision()
		w.complete(cands(0, 10)...)
		pass(2 * grace)
		w.wantEvents()
		w.wantActivated(before, "c000 c000@x.net")
		if w.matched("c000@x.net") != "c000" {
			t.Error("it does not match again")
		}
	})
}

func TestAPurgedCandidateComesBackAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		lost := cand("lost", `"rev":7`)
		w.complete(append(cands(0, 10), lost)...)
		pass(time.Minute)
		w.complete(cands(0, 10)...)
		pass(grace + time.Minute)
		w.wantEvents("purged lost missing")
		w.complete(append(cands(0, 10), lost)...)
		pass(time.Minute)
		if w.matched("lost@x.net") != "lost" {
			t.Error("being absent was taken for a delete: the same rev is refused")
		}
	})
}

func TestWithoutAnEndLineNothingIsPurgedByAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cands(0, 10)...)
		pass(time.Minute)
		w.write(cands(1, 10)...)
		pass(10 * grace)
		if w.matched("c000@x.net") != "" {
			t.Error("it still matches")
		}
		w.wantEvents()
		w.complete(cands(1, 10)...)
		pass(grace - time.Minute)
		w.wantEvents()
		pass(2 * time.Minute)
		w.wantEvents("purged c000 missing")
	})
}

func TestAFileWithoutAnEndLineStopsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cands(0, 10)...)
		pass(time.Minute)
		w.complete(cands(1, 10)...)
		pass(time.Hour)
		w.write(cands(1, 10)...)
		pass(10 * grace)
		w.wantEvents()
	})
}

func TestABadFileStopsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cands(0, 10)...)
		pass(time.Minute)
		w.complete(cands(1, 10)...)
		pass(time.Hour)
		w.write(append(cands(0, 10), "nonsense")...)
		pass(10 * grace)
		w.wantEvents()
		w.complete(cands(0, 10)...)
		pass(grace)
		w.wantEvents()
	})
}

func TestAFileSweepsOnlyItsKindsAndItsRecords(t *testing.T) {
	w := newWorld(t)
	w.take(append(cands(0, 10), job("j", "open"), job("k", "open"), `{"kind":"user","ref":"u"}`)...)
	w.put(cand("put"), job("putjob", "open"))
	w.take(cands(0, 10)...) // no jobs, no users: no snapshot of them
	if st := w.keeper.Status(); st.Missing != 0 || st.Jobs != 3 || st.Users != 1 {
		t.Errorf("swept: %+v", st)
	}
	w.take(cands(0, 10)...)
	if told := strings.Count(w.log.String(), "event=directory_kind_absent"); told != 2 {
		t.Errorf("told %d times that a kind is gone, want once of jobs and once of users", told)
	}
	w.take(append(cands(0, 9), job("j", "open"))...)
	if st := w.keeper.Status(); st.Missing != 2 {
		t.Errorf("c009 and k should be missing: %+v", st)
	}
	if w.matched("put@x.net") != "put" {
		t.Error("a record of a put was swept")
	}
	w.take(append(cands(0, 9), cand("put"), job("j", "open"))...)
	w.take(append(cands(0, 9), job("j", "open"))...)
	if w.matched("put@x.net") != "" {
		t.Error("what a file brought later is not its own")
	}
}

func TestDeletedPurgesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a", `"rev":5`), cand("b"), cand("c"))
	w.take(`{"kind":"candidate","ref":"a","deleted":true}`, `{"kind":"candidate","ref":"stranger","deleted":true}`, cand("b"), cand("c"))
	w.wantEvents("purged a deleted")
	w.wantMatched("b c")
	w.reload()
	w.wantEvents("purged a deleted")

	if tally := w.put(cand("a", `"rev":5`)); tally.Stale != 1 {
		t.Errorf("the same rev: %+v", tally)
	}
	if tally := w.put(cand("a", `"rev":4`)); tally.Stale != 1 {
		t.Errorf("an older rev: %+v", tally)
	}
	w.wantMatched("b c")
	w.put(cand("a", `"rev":6`))
	w.wantMatched("a b c")
	if err := w.keeper.Delete(w.ctx, "candidate", "a"); err != nil {
		t.Fatal(err)
	}
	w.wantEvents("purged a deleted", "purged a operator")
	w.take(cand("a", `"rev":6`), cand("b"), cand("c"))
	w.wantMatched("b c")
	w.take(cand("a"), cand("b"), cand("c"))
	w.wantMatched("a b c")
	if err := w.keeper.Delete(w.ctx, "candidate", "a"); err != nil {
		t.Fatal(err)
	}
	w.put(cand("a"))
	w.wantMatched("a b c")
	if _, err := w.store.Tombstone(w.ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the tombstone stays: %v", err)
	}
}

func TestDeletesAreNotHeld(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 10)...)
	var deletes []string
	for i := range 10 {
		deletes = append(deletes, fmt.Sprintf(`{"kind":"candidate","ref":"c%03d","deleted":true}`, i))
	}
	w.take(deletes...)
	if len(w.events()) != 10 {
		t.Errorf("events %v", w.events())
	}
	w.wantMatched("")
}

func TestDeletingWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a"), job("j", "open"))
	if err := w.keeper.Delete(w.ctx, "candidate", "b"); !errors.Is(err, dirsync.ErrNotFound) {
		t.Error(err)
	}
	if err := w.keeper.Delete(w.ctx, "job", "j"); err != nil {
		t.Error(err)
	}
	if err := w.keeper.Delete(w.ctx, "job", "j"); !errors.Is(err, dirsync.ErrNotFound) {
		t.Error("deleted twice:", err)
	}
}

func TestASweepOfTooMuchIsHeld(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 100)...)
	w.take(cands(6, 100)...)
	held := w.keeper.Status().Held
	if len(held) != 1 || held[0].Kind != "candidate" || held[0].Missing != 6 || held[0].Total != 100 {
		t.Fatalf("held: %+v", held)
	}
	if w.matched("c000@x.net") != "c000" {
		t.Error("while it is held the missing stay as they were")
	}
	w.reload()
	w.restart()
	w.reload()
	w.complete(append(cands(7, 100), cand("new"))...)
	w.reload()
	w.wantEvents("held candidate 6/100")
	if w.matched("new@x.net") != "new" {
		t.Error("what the file brings is taken all the same")
	}
	if err := w.keeper.Approve(w.ctx, "c000@x.net"); !errors.Is(err, dirsync.ErrNothingHeld) {
		t.Errorf("no address is held: %v", err)
	}
	if err := w.keeper.Approve(w.ctx, ""); err != nil {
		t.Fatal(err)
	}
	if w.matched("c000@x.net") != "" || w.keeper.Status().Missing != 7 || len(w.keeper.Status().Held) != 0 {
		t.Errorf("not released: %+v", w.keeper.Status())
	}
	if err := w.keeper.Approve(w.ctx, ""); !errors.Is(err, dirsync.ErrNothingHeld) {
		t.Errorf("nothing is held any more: %v", err)
	}
}

func TestAnApprovalCoversOnlyWhatWasHeld(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 100)...)
	w.take(cands(10, 100)...)
	w.complete(cands(50, 100)...)
	if err := w.keeper.Approve(w.ctx, ""); err == nil || !strings.Contains(err.Error(), "50 of 100 records") {
		t.Errorf("approved what nobody saw: %v", err)
	}
	if w.matched("c000@x.net") != "c000" {
		t.Error("swept")
	}
	w.wantEvents("held candidate 10/100", "held candidate 50/100")
	if err := w.keeper.Approve(w.ctx, ""); err != nil {
		t.Error(err)
	}
	if w.keeper.Status().Missing != 50 {
		t.Errorf("status %+v", w.keeper.Status())
	}
}

func TestAHeldSweepEndsWithABetterFile(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 100)...)
	w.take(cands(50, 100)...)
	w.take(cands(0, 100)...)
	if len(w.keeper.Status().Held) != 0 {
		t.Error("still held")
	}
	w.take(cands(50, 100)...)
	w.wantEvents("held candidate 50/100", "held candidate 50/100")
}

func TestASweepOfEverythingIsHeldPerKind(t *testing.T) {
	w := newWorld(t)
	w.take(append(cands(0, 3), job("a", "open"))...)
	w.take(append(cands(0, 3), job("b", "open"))...)
	w.wantEvents("held job 1/1")
	if state, _ := w.keeper.Snapshot().Job("a"); state != "open" {
		t.Error("the job was swept")
	}
}

func TestALargeApprovedSweep(t *testing.T) {
	w := newWorld(t)
	w.take(cands(0, 3000)...)
	w.take(cands(1500, 3000)...)
	if err := w.keeper.Approve(w.ctx, ""); err != nil {
		t.Fatal(err)
	}
	if st := w.keeper.Status(); st.Missing != 1500 {
		t.Errorf("missing %d", st.Missing)
	}
}

func TestJobsDecideOverTheirCandidates(t *testing.T) {
	type step struct {
		what  string
		file  []string // a complete file; nil for none
		put   []string
		match string
	}
	a, b := cand("a", `"jobs":["j"]`), cand("b", `"jobs":["j","k"]`)
	others := []string{cand("c"), cand("none", `"jobs":[]`)}
	file := func(lines ...string) []string { return append(lines, others...) }
	jobs := []string{job("k", "open"), job("l", "open")}
	for _, c := range []struct {
		what  string
		steps []step
	}{
		{"a job never seen counts as open", []step{{"", file(a, b), nil, "a b c"}}},
		{"an archived job stops who has no other", []step{{"", file(a, b, job("j", "archived")), nil, "b c"}}},
		{"reopened it matches again", []step{{"", file(a, b, job("j", "archived")), nil, "b c"}, {"", file(a, b, job("j", "open")), nil, "a b c"}}},
		{"a missing job counts as archived", []step{{"", append(file(a, b, job("j", "open")), jobs...), nil, "a b c"}, {"", append(file(a, b), jobs...), nil, "b c"}}},
		{"a deleted job counts as archived", []step{{"", file(a, b, `{"kind":"job","ref":"j","deleted":true}`), nil, "b c"}}},
		{"a put of a job reaches candidates of the file", []step{
			{"", file(a, b), nil, "a b c"}, {"", nil, []string{job("j", "archived")}, "b c"}, {"", nil, []string{job("k", "archived")}, "c"}, {"", nil, []string{job("j", "open")}, "a b c"}}},
		{"a put of a job and candidates at once", []step{
			{"", file(a, b), nil, "a b c"}, {"", nil, []string{cand("b", `"jobs":["m"]`), cand("d", `"jobs":["j"]`), job("j", "archived")}, "b c"}}},
		{"a file of jobs alone reaches candidates of a put", []step{
			{"", file(), []string{a}, "a c"}, {"", []string{job("j", "archived")}, nil, "c"}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range c.steps {
				if s.file != nil {
					w.take(s.file...)
				}
				if s.put != nil {
					w.put(s.put...)
				}
				w.wantMatched(s.match)
			}
		})
	}
}

func TestAMissingJobStaysArchivedBehindItsPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := w.run()
		w.complete(cand("a", `"jobs":["j"]`), job("j", "open"), job("k", "open"))
		pass(time.Minute)
		w.complete(cand("a", `"jobs":["j"]`), job("k", "open"))
		pass(grace + time.Minute)
		w.wantMatched("")
		w.wantEvents()
		if st := w.keeper.Status(); st.Jobs != 1 || st.Missing != 0 {
			t.Errorf("status %+v", st)
		}
		w.complete(cand("a", `"jobs":["j"]`), job("k", "open"), job("j", "open"))
		pass(time.Minute)
		w.wantMatched("a")
	})
}

func TestActivations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(cand("a"), cand("b", `"state":"stopped"`), cand("c", `"jobs":["j"]`), job("j", "archived"))
		w.wantActivated(0) // nobody has polled before
		r := w.revision()
		w.take(`{"kind":"candidate","ref":"a","emails":["a@x.net","a2@x.net"]}`, cand("b"), cand("c", `"jobs":["j"]`), job("j", "open"), cand("d"))
		w.wantActivated(r, "a a2@x.net", "b b@x.net", "c c@x.net", "d d@x.net")
		acts, _, _ := w.store.Activations(w.ctx, r, w.revision())
		if want := time.Now().Add(-backfill); !acts[0].Since.Equal(want) {
			t.Errorf("since %v, want %v", acts[0].Since, want)
		}
		r = w.revision()
		w.put(cand("a", `"state":"stopped"`))
		w.wantActivated(r)
		w.put(cand("a"))
		w.wantActivated(r, "a a@x.net")
		if rev := w.keeper.Snapshot().Revision(); rev != w.revision() {
			t.Errorf("snapshot of revision %d, store at %d", rev, w.revision())
		}
	})
}

func TestAMassOfActivationsIsOne(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a"))
	r := w.revision()
	w.take(append(cands(0, 2500), cand("a"))...)
	if got := w.activated(r); len(got) != 3 || got[0] != "*" {
		t.Errorf("%d activations, the first %v", len(got), got[0])
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	user := func(ref, state string) string {
		return fmt.Sprintf(`{"kind":"user","ref":%q,"emails":["%s@example.com"],"state":%q}`, ref, ref, state)
	}
	w.take(cand("a"), user("u", "enabled"), user("v", "enabled"))
	told := func() bool {
		last := w.changes[len(w.changes)-1]
		w.changes = nil
		return last.Users && last.Revision == w.keeper.Snapshot().Revision()
	}
	if !told() {
		t.Error("new users are not told")
	}
	w.put(cand("b"))
	if told() {
		t.Error("users are told that did not change")
	}
	w.put(user("u", "disabled"))
	if state, _ := w.keeper.Snapshot().User("u"); !told() || state != "disabled" {
		t.Error("a disabled user is not told")
	}
	if err := w.keeper.Delete(w.ctx, "user", "u"); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.keeper.Snapshot().User("u"); !told() || ok || w.keeper.Snapshot().OwnAddress("u@example.com") {
		t.Error("a deleted user stays")
	}
}

func TestAnAddressThatAUserGivesUpIsOwedALookBack(t *testing.T) {
	w := newWorld(t)
	user := func(email string) string {
		return fmt.Sprintf(`{"kind":"user","ref":"u","emails":[%q]}`, email)
	}
	w.take(cand("a"), user("a@x.net"))
	w.wantEvents("conflict a a@x.net own_address")
	r := w.revision()
	w.put(user("u@example.com"))
	w.wantActivated(r, "a a@x.net")
}

func TestConflictsAreToldOnce(t *testing.T) {
	w := newWorld(t)
	twin := `{"kind":"candidate","ref":"twin","emails":["a@x.net"]}`
	w.take(cand("a"), twin)
	want := []string{"conflict a a@x.net duplicate_address", "conflict twin a@x.net duplicate_address"}
	w.wantEvents(want...)
	w.reload()
	w.restart()
	w.reload()
	w.take(cand("a"), twin, cand("b"))
	w.wantEvents(want...)
	if got := w.matched("a@x.net"); got != "a twin" {
		t.Errorf("both match: %q", got)
	}
	w.put(`{"kind":"candidate","ref":"third","emails":["A@x.net"]}`)
	w.wantEvents(append(want, "conflict third a@x.net duplicate_address")...)
}

func TestPut(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a", `"rev":5`), cand("b"))
	tally := w.put(cand("a", `"rev":4`), cand("b"), cand("c"), cand("b2"), `{"kind":"end","records":4}`)
	if want := (dirsync.Tally{Stale: 1, Unchanged: 1, Added: 2, Activated: 2}); tally != want {
		t.Errorf("tally %+v", tally)
	}
	w.wantMatched("a b b2 c")
	before := w.revision()
	for what, lines := range map[string][]string{
		"a ref twice":            {cand("x"), cand("x")},
		"a rev of another form":  {cand("x"), cand("a", `"rev":"2026-01-01T00:00:00Z"`)},
		"one of many that fails": append(cands(0, 1500), cand("a", `"rev":"2026-01-01T00:00:00Z"`)),
	} {
		if _, err := w.keeper.Put(w.ctx, records(t, lines...)); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	if w.revision() != before {
		t.Error("a refused put wrote something")
	}
	w.put(cands(0, dirsync.MaxAtomic)...)
	if w.revision() != before+1 {
		t.Errorf("%d commits for one put", w.revision()-before)
	}
	w.put(cands(0, 3*dirsync.MaxAtomic)...)
	if w.keeper.Status().Candidates != 4+3*dirsync.MaxAtomic {
		t.Errorf("status %+v", w.keeper.Status())
	}
}

func TestShowAndRecords(t *testing.T) {
	w := newWorld(t)
	w.take(cand("a", `"jobs":["j"]`), job("j", "archived"), job("a", "open"), `{"kind":"user","ref":"u"}`)
	shown, err := w.keeper.Show(w.ctx, "", "a")
	if err != nil || len(shown) != 2 || shown[1].Inactive != "jobs_archived" || shown[1].Emails[0] != "a@x.net" {
		t.Errorf("%v %v", shown, err)
	}
	if shown, err = w.keeper.Show(w.ctx, "job", "a"); err != nil || len(shown) != 1 {
		t.Errorf("%v %v", shown, err)
	}
	if _, err = w.keeper.Show(w.ctx, "user", "a"); !errors.Is(err, dirsync.ErrNotFound) {
		t.Error(err)
	}
	var none dirsync.Position
	list := func(after dirsync.Position) (all []string, at []dirsync.Position) {
		err := w.keeper.Records(w.ctx, "", after, func(s dirsync.Shown) error {
			all, at = append(all, s.String()), append(at, dirsync.Position{Kind: s.Kind, Ref: s.Ref})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return all, at
	}
	all, at := list(none)
	if len(all) != 4 || all[0] != "user u" || all[3] != "candidate a" {
		t.Errorf("listed %q", all)
	}
	for i := range all {
		if rest, _ := list(at[i]); !slices.Equal(rest, all[i+1:]) {
			t.Errorf("after %s come %q, want %q", all[i], rest, all[i+1:])
		}
	}
	stop := errors.New("stop")
	if err := w.keeper.Records(w.ctx, "job", none, func(dirsync.Shown) error { return stop }); err != stop {
		t.Error(err)
	}
}
