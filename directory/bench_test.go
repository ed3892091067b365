package directory_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"mailsyncd/directory"
	"mailsyncd/message"
)

// candidateLine is an ordinary line of an export.
func candidateLine(i int) string {
	return fmt.Sprintf(`{"kind":"candidate","ref":"cand_%07d","emails":["firstname.lastname%d@example.net"],"jobs":["job_%d"],"state":"active","rev":"2026-11-20T10:00:00Z"}`, i, i, i%500)
}

func candidate(i int) directory.Stored {
	email := fmt.Sprintf("firstname.lastname%d@example.net", i)
	emails := []string{email}
	return directory.Stored{Source: directory.SourceFile, Record: directory.Record{
		Kind: directory.KindCandidate, Ref: fmt.Sprintf("cand_%07d", i), State: directory.CandidateActive, Emails: emails, Keys: emails,
	}}
}

func BenchmarkParseRecord(b *testing.B) {
	line := []byte(candidateLine(4711))
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := directory.ParseRecord(line); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLinesMillion reads a file of 1,000,000 candidates.
func BenchmarkLinesMillion(b *testing.B) {
	var file bytes.Buffer
	for i := range 1_000_000 {
		file.WriteString(candidateLine(i))
		file.WriteByte('\n')
	}
	b.SetBytes(int64(file.Len()))
	for b.Loop() {
		for _, err := range directory.Lines(bytes.NewReader(file.Bytes())) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkStored(b *testing.B) {
	s := candidate(4711)
	value := s.Encode()
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Encode()
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := directory.Decode(s.Kind, s.Ref, value); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// millionSnapshot builds the index that lookups are measured on.
func millionSnapshot(n int) *directory.Snapshot {
	build := directory.NewBuilder(n)
	for i := range n {
		build.Replace(directory.Stored{}, candidate(i))
	}
	return build.Build(1)
}

// BenchmarkBuildMillion reports the time to build and the bytes an address takes.
func BenchmarkBuildMillion(b *testing.B) {
	const n = 1_000_000
	var bytesEach float64
	for b.Loop() {
		before := heap()
		s := millionSnapshot(n)
		bytesEach = float64(heap()-before) / n
		runtime.KeepAlive(s)
	}
	b.ReportMetric(bytesEach, "B/address")
}

func BenchmarkLookupMillion(b *testing.B) {
	const n = 1_000_000
	s := millionSnapshot(n)
	keys := make([]string, 4096)
	for i := range keys {
		keys[i] = fmt.Sprintf("firstname.lastname%d@example.net", i*(n/len(keys)))
	}
	misses := make([]string, len(keys))
	for i := range misses {
		misses[i] = message.Fold("x" + keys[i])
	}
	for name, list := range map[string][]string{"hit": keys, "miss": misses} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Lookup(list[i%len(list)])
				i++
			}
		})
	}
	b.Run("edit one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			edit := s.Edit()
			edit.Replace(candidate(i%n), candidate(i%n))
			edit.Build(2)
		}
	})
}
