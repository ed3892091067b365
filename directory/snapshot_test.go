package directory_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailsyncd/directory"
	"mailsyncd/matcher"
)

var _ matcher.Directory = (*directory.Snapshot)(nil)

// person is a candidate with these addresses.
func person(ref string, emails ...string) directory.Stored {
	return fromFile(directory.Record{Kind: directory.KindCandidate, Ref: ref, State: directory.CandidateActive, Emails: emails, Keys: emails})
}

func job(ref string, state directory.State) directory.Stored {
	return fromFile(directory.Record{Kind: directory.KindJob, Ref: ref, State: state})
}

func user(ref string, emails ...string) directory.Stored {
	return fromFile(directory.Record{Kind: directory.KindUser, Ref: ref, State: directory.UserEnabled, Emails: emails, Keys: emails})
}

func build(records ...directory.Stored) *directory.Snapshot {
	b := directory.NewBuilder(0)
	for _, r := range records {
		b.Replace(directory.Stored{}, r)
	}
	return b.Build(1)
}

var nothing directory.Stored

func TestSnapshotKnowsWhoseAddressItIs(t *testing.T) {
	withJob := person("c2", "b@x.net")
	withJob.HasJobs, withJob.Jobs = true, []string{"closed"}
	s := build(job("closed", directory.JobArchived), user("u", "rita@example.com"),
		person("c1", "a@x.net", "a2@x.net"), withJob, person("c3", "a@x.net"))
	for _, c := range []struct {
		key  string
		want []directory.Entry
	}{
		{"nobody@x.net", nil},
		{"", nil},
		{"a2@x.net", []directory.Entry{{Ref: "c1"}}},
		{"a@x.net", []directory.Entry{{Ref: "c1"}, {Ref: "c3"}}},
		{"b@x.net", []directory.Entry{{Ref: "c2", Inactive: "jobs_archived"}}},
		{"rita@example.com", nil},
	} {
		if got := s.Lookup(c.key); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, want %v", c.key, got, c.want)
		}
	}
	if want := (directory.Counts{Candidates: 3, Jobs: 1, Users: 1, Addresses: 4}); s.Counts() != want {
		t.Errorf("counts %+v", s.Counts())
	}
	if s.Revision() != 1 {
		t.Errorf("revision %d", s.Revision())
	}
}

func TestSnapshotKnowsJobsAndUsers(t *testing.T) {
	lost := job("lost", directory.JobOpen).Absent(true, since)
	deleted := fromFile(directory.Record{Kind: directory.KindUser, Ref: "left", Deleted: true})
	disabled := user("off", "off@example.com")
	disabled.State = directory.UserDisabled
	s := build(job("open", directory.JobOpen), lost, user("rita", "rita+jobs@example.com"), disabled, deleted)
	for _, c := range []struct {
		ref   string
		state directory.State
		known bool
	}{{"open", directory.JobOpen, true}, {"lost", directory.JobArchived, true}, {"never seen", directory.JobOpen, false}} {
		if state, known := s.Job(c.ref); state != c.state || known != c.known {
			t.Errorf("job %s: %s %v", c.ref, state, known)
		}
	}
	for _, c := range []struct {
		ref   string
		state directory.State
		known bool
	}{{"rita", directory.UserEnabled, true}, {"off", directory.UserDisabled, true}, {"left", directory.UserEnabled, false}, {"nobody", directory.UserEnabled, false}} {
		if state, known := s.User(c.ref); state != c.state || known != c.known {
			t.Errorf("user %s: %s %v", c.ref, state, known)
		}
	}
	if !s.OwnAddress("rita@example.com") || !s.OwnAddress("off@example.com") || s.OwnAddress("nora@example.net") {
		t.Error("own addresses are wrong")
	}
	var refs []string
	s.UserAddresses(func(ref string, keys []string) { refs = append(refs, fmt.Sprint(ref, keys)) })
	slices.Sort(refs)
	if got := strings.Join(refs, " "); got != "off[off@example.com] rita[rita+jobs@example.com]" {
		t.Errorf("addresses of users: %s", got)
	}
}

func TestAnAddressOfTwoUsersStaysOwnUntilBothAreGone(t *testing.T) {
	a, b := user("a", "team@example.com"), user("b", "team@example.com")
	one := build(a, b).Edit()
	one.Replace(a, nothing)
	s := one.Build(2)
	if !s.OwnAddress("team@example.com") {
		t.Error("gone with the first")
	}
	two := s.Edit()
	two.Replace(b, nothing)
	if two.Build(3).OwnAddress("team@example.com") || !s.OwnAddress("team@example.com") {
		t.Error("not gone with the second, or gone from the older snapshot too")
	}
}

func TestEditLeavesTheOlderSnapshotAlone(t *testing.T) {
	old := build(person("c1", "a@x.net"), job("j", directory.JobOpen), user("u", "u@example.com"))
	e := old.Edit()
	e.Replace(job("j", directory.JobOpen), job("j", directory.JobArchived))
	e.Replace(person("c1", "a@x.net"), person("c1", "b@x.net"))
	e.Replace(nothing, person("c2", "c@x.net"))
	e.Replace(user("u", "u@example.com"), user("u", "v@example.com"))
	next := e.Build(2)
	if old.Lookup("a@x.net") == nil || old.Lookup("b@x.net") != nil || old.Lookup("c@x.net") != nil || !old.OwnAddress("u@example.com") {
		t.Error("the older snapshot changed")
	}
	if state, _ := old.Job("j"); state != directory.JobOpen {
		t.Error("the older snapshot's job changed")
	}
	if next.Lookup("a@x.net") != nil || next.Lookup("b@x.net") == nil || next.Lookup("c@x.net") == nil || next.OwnAddress("u@example.com") || !next.OwnAddress("v@example.com") {
		t.Error("the next snapshot is not what was put in")
	}
	if old.Counts().Addresses != 1 || next.Counts().Addresses != 2 || next.Revision() != 2 {
		t.Errorf("counts %+v, %+v", old.Counts(), next.Counts())
	}
}

func TestRebuildKeepsJobsAndUsersOnly(t *testing.T) {
	s := build(job("j", directory.JobArchived), user("u", "u@example.com"), person("c", "a@x.net"))
	next := s.Rebuild(10).Build(2)
	if want := (directory.Counts{Jobs: 1, Users: 1}); next.Counts() != want || next.Lookup("a@x.net") != nil {
		t.Errorf("counts %+v", next.Counts())
	}
}

// TestSnapshotAgainstAMap changes a directory at random, over many generations,
// and asks each generation what a plain map knows, also after later ones.
func TestSnapshotAgainstAMap(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newWorld(seed)
			var snapshots []*directory.Snapshot
			var models []map[string]directory.Stored
			for range 20 {
				snapshots = append(snapshots, w.generation())
				models = append(models, w.copy())
			}
			for i, s := range snapshots {
				checkAgainst(t, i, s, models[i])
			}
		})
	}
}

// world is a directory as a map, changed at random.
type world struct {
	rnd        *rand.Rand
	candidates map[string]directory.Stored
	last       *directory.Snapshot
	revision   uint64
}

func newWorld(seed uint64) *world {
	return &world{rnd: rand.New(rand.NewPCG(seed, 1)), candidates: map[string]directory.Stored{}, last: build()}
}

func (w *world) copy() map[string]directory.Stored {
	m := map[string]directory.Stored{}
	for ref, c := range w.candidates {
		m[ref] = c
	}
	return m
}

// generation changes up to a thousand candidates out of six thousand refs and
// four thousand addresses, so that shards split and many share an address.
func (w *world) generation() *directory.Snapshot {
	b := w.last.Edit()
	for range 1 + w.rnd.IntN(1000) {
		ref := fmt.Sprintf("cand_%d", w.rnd.IntN(6000))
		old, next := w.candidates[ref], nothing
		if w.rnd.IntN(4) > 0 {
			next = w.person(ref)
			w.candidates[ref] = next
		} else {
			delete(w.candidates, ref)
		}
		if old.Known() || next.Known() {
			b.Replace(old, next)
		}
	}
	w.revision++
	w.last = b.Build(w.revision)
	return w.last
}

func (w *world) person(ref string) directory.Stored {
	var emails []string
	for range w.rnd.IntN(4) {
		email := fmt.Sprintf("p%d@x.net", w.rnd.IntN(4000))
		if w.rnd.IntN(50) == 0 {
			email = "agency@x.net" // a crowd behind one address
		}
		if !slices.Contains(emails, email) {
			emails = append(emails, email)
		}
	}
	p := person(ref, emails...)
	if w.rnd.IntN(5) == 0 {
		p.State = directory.CandidateStopped
	}
	return p
}

func checkAgainst(t *testing.T, generation int, s *directory.Snapshot, model map[string]directory.Stored) {
	t.Helper()
	want, addresses := map[string][]directory.Entry{}, 0
	for ref, c := range model {
		inactive := ""
		if c.State == directory.CandidateStopped {
			inactive = directory.InactiveStopped
		}
		for _, key := range c.Keys {
			want[key] = append(want[key], directory.Entry{Ref: ref, Inactive: inactive})
			addresses++
		}
	}
	for i := range 4001 {
		key := fmt.Sprintf("p%d@x.net", i)
		if i == 4000 {
			key = "agency@x.net"
		}
		slices.SortFunc(want[key], func(a, b directory.Entry) int { return cmp.Compare(a.Ref, b.Ref) })
		if got := s.Lookup(key); !slices.Equal(got, want[key]) {
			t.Fatalf("generation %d, %s: %v, want %v", generation, key, got, want[key])
		}
	}
	if c := s.Counts(); c.Candidates != len(model) || c.Addresses != addresses {
		t.Fatalf("generation %d: counts %+v, want %d and %d", generation, c, len(model), addresses)
	}
}

func TestLookupOfAStrangerDoesNotAllocate(t *testing.T) {
	s := millionSnapshot(10_000)
	if n := testing.AllocsPerRun(1000, func() { s.Lookup("stranger@elsewhere.net") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAnIndexWithAWrongHintIsRight(t *testing.T) {
	b := directory.NewBuilder(1)
	for i := range 20_000 {
		b.Replace(nothing, candidate(i))
	}
	s := b.Build(1)
	for i := range 20_000 {
		if got := s.Lookup(candidate(i).Keys[0]); len(got) != 1 || got[0].Ref != candidate(i).Ref {
			t.Fatalf("candidate %d: %v", i, got)
		}
	}
}

func TestMatchableAddressesAreThoseOfActiveCandidates(t *testing.T) {
	stopped := person("c3", "c@x.net")
	stopped.State = directory.CandidateStopped
	b := build(user("u", "rita@example.com"), person("c1", "b@x.net", "a@x.net"), person("c2", "a@x.net"), stopped, person("c4", "d@x.net")).Edit()
	b.Replace(person("c4", "d@x.net"), nothing)
	if got := fmt.Sprint(b.Build(2).Matchable()); got != "[a@x.net b@x.net]" {
		t.Error(got)
	}
}

func TestConflicts(t *testing.T) {
	stoppedTwin := person("c9", "a@x.net")
	stoppedTwin.State = directory.CandidateStopped
	base := []directory.Stored{user("u", "rita@example.com"), person("c1", "a@x.net"), person("c2", "b@x.net")}
	type step struct{ old, next directory.Stored }
	for _, c := range []struct {
		what  string
		steps []step
		want  string
	}{
		{"none when every address has one owner", []step{{nothing, person("c3", "c@x.net")}}, "[]"},
		{"a second candidate with the address tells both", []step{{nothing, person("c3", "a@x.net")}},
			"[{c1 a@x.net duplicate_address} {c3 a@x.net duplicate_address}]"},
		{"a stopped twin is none", []step{{nothing, stoppedTwin}}, "[]"},
		{"an address that moves to another candidate is none, whoever comes first",
			[]step{{nothing, person("c0", "a@x.net")}, {person("c1", "a@x.net"), person("c1", "d@x.net")}}, "[]"},
		{"a candidate with a user's address is told", []step{{nothing, person("c3", "rita@example.com")}}, "[{c3 rita@example.com own_address}]"},
		{"tags do not hide a user's address", []step{{nothing, person("c3", "rita+x@example.com")}}, "[{c3 rita+x@example.com own_address}]"},
		{"a user who gets a candidate's address is told", []step{{nothing, user("u2", "b@x.net")}}, "[{c2 b@x.net own_address}]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := build(base...)
			b := before.Edit()
			for _, s := range c.steps {
				b.Replace(s.old, s.next)
			}
			after := b.Build(2)
			if got := fmt.Sprint(after.Conflicts(before, b.Suspects())); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if again := after.Conflicts(after, b.Suspects()); len(again) > 0 {
				t.Errorf("told again: %v", again)
			}
		})
	}
}

func TestAThirdCandidateOfAnAddressIsToldAlone(t *testing.T) {
	before := build(person("c1", "a@x.net"), person("c2", "a@x.net"))
	b := before.Edit()
	b.Replace(nothing, person("c3", "a@x.net"))
	if got := fmt.Sprint(b.Build(2).Conflicts(before, b.Suspects())); got != "[{c3 a@x.net duplicate_address}]" {
		t.Error(got)
	}
}
