package matcher_test

import (
	"fmt"
	"testing"

	"mailsyncd/directory"
	"mailsyncd/matcher"
	"mailsyncd/message"
)

// snapshot builds a real snapshot of n candidates with one address each.
func snapshot(b *testing.B, n int) *directory.Snapshot {
	b.Helper()
	builder := directory.NewBuilder(n)
	for i := range n {
		address := fmt.Sprintf("first%d.last%d@mail%d.test", i, i%977, i%5003)
		builder.Replace(directory.Stored{}, directory.Stored{Record: directory.Record{
			Kind: directory.KindCandidate, Ref: fmt.Sprintf("cand_%d", i), State: directory.CandidateActive,
			Emails: []string{address}, Keys: []string{message.Fold(address)},
		}})
	}
	return builder.Build(1)
}

// BenchmarkDecide is one header with six addresses against a million candidates.
func BenchmarkDecide(b *testing.B) {
	const million = 1_000_000
	m, dir := newMatcher(b, company()), snapshot(b, million)
	// Different strangers each time, so that the index is not found in the
	// processor's cache.
	strangers := make([]matcher.Mail, 1<<14)
	for i := range strangers {
		strangers[i] = mail(b, fmt.Sprintf("from: a%d@x%d.test; reply-to: b%d@x.test; to: rita@example.com, c%d@y.test; cc: d%d@z.test, e@z.test",
			i, i%97, i, i, i))
	}
	b.Run("stranger", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if d := m.Decide(strangers[i%len(strangers)], dir); len(d.Asked) > 0 {
				b.Fatal("a stranger was found")
			}
		}
	})
	b.Run("candidate", func(b *testing.B) {
		in := mail(b, "from: first7.last7@mail7.test; to: rita@example.com, first8.last8@mail8.test")
		b.ReportAllocs()
		for b.Loop() {
			if d := m.Decide(in, dir); len(d.Matches) != 2 {
				b.Fatalf("%s, want two matches", verdict(d))
			}
		}
	})
}
