package directory_test

import (
	"testing"
	"time"

	"mailsyncd/directory"
)

// with is a candidate's record with changes.
func with(change ...func(*directory.Record)) directory.Record {
	r := candidate(1).Record
	for _, f := range change {
		f(&r)
	}
	return r
}

func rev(n int64) func(*directory.Record) { return func(r *directory.Record) { r.Rev = intRev(n) } }
func stopped(r *directory.Record)         { r.State = directory.CandidateStopped }
func timed(r *directory.Record)           { r.Rev = timeRev(since) }
func gone(n ...int64) directory.Record {
	r := directory.Record{Kind: "candidate", Ref: candidate(1).Ref, Deleted: true}
	if len(n) > 0 {
		r.Rev = intRev(n[0])
	}
	return r
}

func fromFile(r directory.Record) directory.Stored {
	return directory.Stored{Record: r, Source: directory.SourceFile}
}
func fromPut(r directory.Record) directory.Stored {
	return directory.Stored{Record: r, Source: directory.SourcePut}
}
func missing(s directory.Stored) directory.Stored { return s.Absent(true, since) }

func TestReduce(t *testing.T) {
	const file, put = directory.SourceFile, directory.SourcePut
	nothing := directory.Stored{}
	for _, c := range []struct {
		what    string
		old     directory.Stored
		in      directory.Record
		src     directory.Source
		want    directory.Stored
		verdict directory.Verdict
	}{
		{"a new record is added", nothing, with(), file, fromFile(with()), directory.Added},
		{"the same record changes nothing", fromFile(with(rev(1))), with(rev(1)), file, fromFile(with(rev(1))), directory.Unchanged},
		{"another content is a change", fromFile(with()), with(stopped), file, fromFile(with(stopped)), directory.Changed},
		{"a higher rev is a change", fromFile(with(rev(1))), with(rev(2)), file, fromFile(with(rev(2))), directory.Changed},
		{"an equal rev with another content is taken", fromFile(with(rev(1))), with(rev(1), stopped), file, fromFile(with(rev(1), stopped)), directory.Changed},
		{"an older rev is dropped", fromFile(with(rev(2), stopped)), with(rev(1)), file, fromFile(with(rev(2), stopped)), directory.Stale},
		{"an older delete is dropped", fromFile(with(rev(2))), gone(1), put, fromFile(with(rev(2))), directory.Stale},
		{"a record without a rev is taken and leaves the rev to refuse older ones", fromFile(with(rev(2))), with(stopped), put, fromFile(with(rev(2), stopped)), directory.Changed},
		{"a first rev is taken", fromFile(with()), with(rev(1)), file, fromFile(with(rev(1))), directory.Changed},
		{"a time where an integer was cannot be ordered and is dropped", fromFile(with(rev(2))), with(timed, stopped), file, fromFile(with(rev(2))), directory.Mixed},

		{"a delete leaves a marker with the rev that was known", fromFile(with(rev(2))), gone(), put, fromFile(gone(2)), directory.Deleted},
		{"a delete with a rev keeps its own", fromFile(with(rev(2))), gone(3), put, fromFile(gone(3)), directory.Deleted},
		{"a delete of something unknown is forgotten", nothing, gone(), file, nothing, directory.Unchanged},
		{"but for its rev, which may come before the record it deletes", nothing, gone(5), file, fromFile(gone(5)), directory.Deleted},
		{"an unknown job that is deleted is known from then on", nothing, directory.Record{Kind: "job", Ref: "j", Deleted: true}, file,
			fromFile(directory.Record{Kind: "job", Ref: "j", Deleted: true}), directory.Deleted},
		{"a second delete changes nothing", fromFile(gone(2)), gone(), file, fromFile(gone(2)), directory.Unchanged},
		{"a later delete raises the rev", fromFile(gone(2)), gone(4), file, fromFile(gone(4)), directory.Deleted},

		{"behind a delete, a higher rev is accepted", fromFile(gone(2)), with(rev(3)), put, fromPut(with(rev(3))), directory.Added},
		{"behind a delete, the same rev is not", fromFile(gone(2)), with(rev(2)), file, fromFile(gone(2)), directory.Stale},
		{"behind a delete, a lower rev is not", fromFile(gone(2)), with(rev(1)), put, fromFile(gone(2)), directory.Stale},
		{"behind a delete, none is accepted by put", fromFile(gone(2)), with(), put, fromPut(with()), directory.Added},
		{"behind a delete, none is accepted by a snapshot read later", fromFile(gone(2)), with(), file, fromFile(with()), directory.Added},
		{"behind a delete without a rev, any is accepted", fromFile(gone()), with(rev(1)), put, fromPut(with(rev(1))), directory.Added},

		{"a missing record comes back with the file", missing(fromFile(with())), with(), file, fromFile(with()), directory.Changed},
		{"a missing record that the file holds with an older rev is not missing", missing(fromFile(with(rev(2), stopped))), with(rev(1)), file, fromFile(with(rev(2), stopped)), directory.Stale},
		{"a put brings a missing record back as its own", missing(fromFile(with())), with(), put, fromPut(with()), directory.Changed},
		{"an older put does not bring a missing record back", missing(fromFile(with(rev(2)))), with(rev(1)), put, missing(fromFile(with(rev(2)))), directory.Stale},
		{"a put over a record of the file leaves it to the file's sweep", fromFile(with()), with(stopped), put, fromFile(with(stopped)), directory.Changed},
		{"a file that holds a record of a put takes it over", fromPut(with()), with(), file, fromFile(with()), directory.Changed},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, verdict := directory.Reduce(c.old, c.in, c.src)
			if verdict != c.verdict {
				t.Errorf("verdict %s, want %s", verdict, c.verdict)
			}
			if !got.Equal(c.want) {
				t.Errorf("got %s %+v\nwant %s %+v", show(got.Record), flags(got), show(c.want.Record), flags(c.want))
			}
		})
	}
}

func flags(s directory.Stored) any {
	return []any{s.Source, s.Deleted, s.Missing, s.MissingSince}
}

func TestReduceIsIdempotent(t *testing.T) {
	records := []directory.Record{with(), with(stopped), with(rev(1)), with(rev(2), stopped), with(timed), gone(), gone(1), gone(3)}
	olds := []directory.Stored{{}}
	for _, r := range records {
		for _, src := range []directory.Source{directory.SourceFile, directory.SourcePut} {
			s := directory.Stored{Record: r, Source: src}
			olds = append(olds, s)
			if s.Swept() {
				olds = append(olds, missing(s))
			}
		}
	}
	for _, old := range olds {
		for _, in := range records {
			for _, src := range []directory.Source{directory.SourceFile, directory.SourcePut} {
				once, _ := directory.Reduce(old, in, src)
				twice, v := directory.Reduce(once, in, src)
				if !twice.Equal(once) {
					t.Errorf("%s again after %s: %s %+v became %s %+v (%s)", show(in), src, show(once.Record), flags(once), show(twice.Record), flags(twice), v)
				}
			}
		}
	}
}

func TestAbsent(t *testing.T) {
	later := since.Add(time.Hour)
	s := fromFile(with())
	if !s.Swept() || fromPut(with()).Swept() || fromFile(gone()).Swept() || s.Absent(true, since).Swept() {
		t.Error("a snapshot sweeps what a file brought, once")
	}
	if a := s.Absent(false, since); !a.Missing || !a.MissingSince.IsZero() {
		t.Error("without an end line the record is missing, and no grace runs")
	}
	if a := s.Absent(false, since).Absent(true, later); !a.MissingSince.Equal(later) {
		t.Error("the grace begins with the first snapshot that has an end line")
	}
	if a := s.Absent(true, since).Absent(true, later); !a.MissingSince.Equal(since) {
		t.Error("the grace does not begin again")
	}
}

func TestSweepHeld(t *testing.T) {
	for _, c := range []struct {
		what           string
		missing, total int
		held           bool
	}{
		{"nothing missing of nothing", 0, 0, false},
		{"nothing missing", 0, 100, false},
		{"five of few are let go", 5, 10, false},
		{"six of few are held", 6, 100, true},
		{"six of many are let go", 6, 120, false},
		{"five in a hundred are let go", 50, 1000, false},
		{"more than five in a hundred are held", 51, 1000, true},
		{"a thousand of a million are let go", 1000, 1_000_000, false},
		{"more than a thousand are held however many there are", 1001, 1_000_000, true},
		{"everything is held, even one", 1, 1, true},
	} {
		if got := directory.SweepHeld(c.missing, c.total); got != c.held {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestRevs(t *testing.T) {
	for _, r := range []directory.Rev{{}, intRev(0), intRev(-7), intRev(1 << 62), timeRev(since), timeRev(since.Add(1))} {
		back, err := directory.ParseRev(r.String())
		if err != nil || back.String() != r.String() || back != r {
			t.Errorf("%q came back as %q: %v", r, back, err)
		}
	}
	if _, err := directory.ParseRev("yesterday"); err == nil {
		t.Error("yesterday is a rev")
	}
	if o, ok := intRev(1).Compare(intRev(2)); !ok || o >= 0 {
		t.Error("1 is older than 2")
	}
	if o, ok := timeRev(since.Add(1)).Compare(timeRev(since)); !ok || o <= 0 {
		t.Error("a later time is newer")
	}
	if _, ok := intRev(1).Compare(timeRev(since)); ok {
		t.Error("an integer and a time were ordered")
	}
	if _, ok := intRev(1).Compare(directory.Rev{}); ok {
		t.Error("a rev and none were ordered")
	}
}
