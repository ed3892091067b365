package directory_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"mailsyncd/directory"
)

var since = time.Date(2026, 11, 21, 9, 0, 0, 250_000_000, time.UTC)

func timeRev(t time.Time) directory.Rev { return directory.Rev{Time: t, Set: true} }
func intRev(n int64) directory.Rev      { return directory.Rev{Int: n, Set: true} }

func TestStoredSurvivesItsEncoding(t *testing.T) {
	for what, s := range map[string]directory.Stored{
		"a plain candidate": candidate(1),
		"a candidate with keys of its own": {Source: directory.SourcePut, Record: directory.Record{
			Kind: "candidate", Ref: "c", State: "stopped", Rev: timeRev(since.Add(7)),
			Emails: []string{"A@Example.net", "a@example.net", "b@example.net"}, Keys: []string{"a@example.net", "b@example.net"},
			Jobs: []string{"j1", "j2"}, HasJobs: true}},
		"no jobs but the rule":          {Source: directory.SourceFile, Record: directory.Record{Kind: "candidate", Ref: "c", State: "active", HasJobs: true}},
		"a candidate missing for good":  {Source: directory.SourceFile, Missing: true, MissingSince: since, Record: directory.Record{Kind: "candidate", Ref: "c", State: "active"}},
		"a candidate merely missing":    {Source: directory.SourceFile, Missing: true, Record: directory.Record{Kind: "candidate", Ref: "c", State: "active"}},
		"an archived job, negative rev": {Source: directory.SourceFile, Record: directory.Record{Kind: "job", Ref: "j", State: "archived", Rev: intRev(-5)}},
		"a deleted job":                 {Source: directory.SourceFile, Record: directory.Record{Kind: "job", Ref: "j", Deleted: true, Rev: intRev(0)}},
		"a disabled user":               {Source: directory.SourceFile, Record: directory.Record{Kind: "user", Ref: "u", State: "disabled", Emails: []string{"Rita@x.de"}, Keys: []string{"rita@x.de"}}},
		"a rev before 1970":             {Source: directory.SourceFile, Record: directory.Record{Kind: "job", Ref: "j", State: "open", Rev: timeRev(time.Date(1901, 1, 1, 0, 0, 0, 1, time.UTC))}},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := directory.Decode(s.Kind, s.Ref, s.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(s) || !reflect.DeepEqual(got, s) {
				t.Errorf("got %s %+v, want %s", show(got.Record), got.MissingSince, show(s.Record))
			}
		})
	}
}

func TestDecodeRefusesWhatEncodeDidNotWrite(t *testing.T) {
	good := candidate(1).Encode()
	for what, value := range map[string][]byte{
		"nothing":             nil,
		"a newer version":     append([]byte{2}, good[1:]...),
		"a cut row":           good[:len(good)-1],
		"a byte too many":     append(bytes.Clone(good), 0),
		"an unknown state":    {1, 0, 2, 0},
		"a list without end":  {1, 0, 0, 200, 1},
		"both forms of a rev": {1, 32 | 64, 0, 0, 0},
		"a number too long":   {1, 64, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0},
	} {
		if _, err := directory.Decode(directory.KindCandidate, "c", value); err == nil {
			t.Errorf("%s decodes", what)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(candidate(1).Encode())
	f.Add(directory.Stored{Missing: true, MissingSince: since, Record: directory.Record{Kind: "candidate", State: "stopped", Rev: intRev(3), HasJobs: true, Jobs: []string{"j"}, Emails: []string{"A@b.c"}, Keys: []string{"a@b.c"}}}.Encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := directory.Decode(directory.KindCandidate, "c", value)
		if err != nil {
			return
		}
		again, err := directory.Decode(directory.KindCandidate, "c", s.Encode())
		if err != nil || !again.Equal(s) {
			t.Errorf("what was decoded does not survive: %v", err)
		}
	})
}

func TestActive(t *testing.T) {
	jobs := map[string]directory.State{"open": directory.JobOpen, "archived": directory.JobArchived}
	job := func(ref string) directory.State { return jobs[ref] }
	for _, c := range []struct {
		what     string
		change   func(*directory.Stored)
		inactive string
	}{
		{"an active candidate without a job rule is matched", func(*directory.Stored) {}, ""},
		{"one with an open job is matched", func(s *directory.Stored) { s.HasJobs, s.Jobs = true, []string{"open"} }, ""},
		{"one open job among archived ones is enough", func(s *directory.Stored) { s.HasJobs, s.Jobs = true, []string{"archived", "open"} }, ""},
		{"one whose jobs are all archived is not", func(s *directory.Stored) { s.HasJobs, s.Jobs = true, []string{"archived"} }, directory.InactiveJobsArchived},
		{"one with an empty list of jobs is not", func(s *directory.Stored) { s.HasJobs = true }, directory.InactiveNoJobs},
		{"a stopped one is not, whatever its jobs", func(s *directory.Stored) { s.State, s.HasJobs, s.Jobs = "stopped", true, []string{"open"} }, directory.InactiveStopped},
		{"a missing one is not", func(s *directory.Stored) { s.Missing = true }, directory.InactiveMissing},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := candidate(1)
			c.change(&s)
			keys, inactive := s.Active(job)
			if inactive != c.inactive {
				t.Errorf("inactive %q, want %q", inactive, c.inactive)
			}
			if (len(keys) == 1) != (c.inactive == "") {
				t.Errorf("keys %d", len(keys))
			}
		})
	}
	deleted := directory.Stored{Record: directory.Record{Kind: "candidate", Ref: "c", Deleted: true}}
	if keys, inactive := deleted.Active(job); keys != nil || inactive != "" {
		t.Error("a deleted candidate has addresses")
	}
}

func TestJobState(t *testing.T) {
	for _, c := range []struct {
		what string
		job  directory.Stored
		want directory.State
	}{
		{"an open job is open", directory.Stored{Record: directory.Record{Kind: "job", State: "open"}}, directory.JobOpen},
		{"an archived job is archived", directory.Stored{Record: directory.Record{Kind: "job", State: "archived"}}, directory.JobArchived},
		{"a deleted job counts as archived", directory.Stored{Record: directory.Record{Kind: "job", Deleted: true}}, directory.JobArchived},
		{"a missing job counts as archived", directory.Stored{Missing: true, Record: directory.Record{Kind: "job", State: "open"}}, directory.JobArchived},
	} {
		if got := c.job.JobState(); got != c.want {
			t.Errorf("%s: %s", c.what, got)
		}
	}
}
