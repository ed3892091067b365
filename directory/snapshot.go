package directory

import (
	"cmp"
	"hash/maphash"
	"slices"

	"mailsyncd/message"
)

// Snapshot is one generation of the directory, made to be asked: whose address
// is this? It never changes, so any number of passes read it while the next
// one is built, and a pass decides all its mail against one.
//
// Its candidates lie in shards of about a thousand addresses each. A change
// copies the shards it touches and shares the others, so that one `put` costs
// microseconds among a million addresses.
type Snapshot struct {
	revision   uint64
	seed       maphash.Seed
	shards     []*shard // their number is a power of two
	addresses  int
	candidates int
	jobs       map[string]Stored
	users      map[string]Stored
	// own counts the users by guard key (message.FoldGuard) of their addresses.
	own map[string]int
}

// Revision is the directory revision the snapshot stands for.
func (s *Snapshot) Revision() uint64 { return s.revision }

// Lookup returns the candidates behind a folded address, by ref; nil for most.
// It allocates only when there is one.
func (s *Snapshot) Lookup(key string) []Entry {
	hash := maphash.String(s.seed, key)
	sh := s.shards[shardOf(hash, len(s.shards))]
	var entries []Entry
	for at := sh.first(hash, key); at >= 0; {
		r := sh.at(at)
		if r.flags&recordDead == 0 {
			entries = append(entries, r.entry())
		}
		at = r.next
	}
	if len(entries) > 1 {
		slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Ref, b.Ref) })
	}
	return entries
}

// Matchable returns the folded addresses that have a candidate who is matched
// now, each once: what a provider asks its server for.
func (s *Snapshot) Matchable() []string {
	keys := make([]string, 0, s.addresses)
	for _, sh := range s.shards {
		sh.each(func(r record) {
			if r.flags&recordReason == 0 {
				keys = append(keys, string(r.key))
			}
		})
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// shardOf chooses a shard by the upper bits, which the shard itself leaves.
func shardOf(hash uint64, shards int) int { return int(hash>>40) & (shards - 1) }

// OwnAddress tells whether an address, folded for guards (message.FoldGuard),
// belongs to a user of the ATS.
func (s *Snapshot) OwnAddress(guardKey string) bool { return s.own[guardKey] > 0 }

// User returns the state of a user; ok is false when the directory has no
// record of it, and then it counts as enabled.
func (s *Snapshot) User(ref string) (state State, ok bool) {
	u, ok := s.users[ref]
	if !ok || u.Deleted {
		return UserEnabled, false
	}
	return u.State, true
}

// UserAddresses calls f for each user's ref with its folded addresses, in no
// order: for the state of mailboxes and the direction of a mail.
func (s *Snapshot) UserAddresses(f func(ref string, keys []string)) {
	for ref, u := range s.users {
		if u.Live() {
			f(ref, u.Keys)
		}
	}
}

// Job returns what a job counts as; ok is false for one that was never seen,
// which counts as open.
func (s *Snapshot) Job(ref string) (state State, ok bool) { return jobState(s.jobs, ref) }

func jobState(jobs map[string]Stored, ref string) (State, bool) {
	if j, ok := jobs[ref]; ok {
		return j.JobState(), true
	}
	return JobOpen, false
}

// Counts are the sizes of a snapshot: records that are not deleted.
type Counts struct {
	Candidates, Jobs, Users int
	// Addresses are the candidates' addresses, shared ones once per candidate.
	Addresses int
}

// Counts returns the sizes of the snapshot.
func (s *Snapshot) Counts() Counts {
	return Counts{Candidates: s.candidates, Addresses: s.addresses, Jobs: live(s.jobs), Users: live(s.users)}
}

func live(records map[string]Stored) (n int) {
	for _, r := range records {
		if r.Live() {
			n++
		}
	}
	return n
}

// Conflict is a candidate's address that the candidate does not have alone.
type Conflict struct {
	Ref  string
	Key  string // folded address
	Rule string
}

// The rules of a Conflict.
const (
	ConflictDuplicate = "duplicate_address" // another candidate has it: both match
	ConflictOwn       = "own_address"       // a user of the ATS has it: the guard refuses it
)

// Conflicts returns the conflicts at the given keys that are not in before
// (nil: nothing was), by key and ref: each is told once, when it arises.
func (s *Snapshot) Conflicts(before *Snapshot, keys []string) []Conflict {
	var found []Conflict
	for _, key := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		known := map[Conflict]bool{}
		if before != nil {
			before.conflictsAt(key, func(c Conflict) { known[c] = true })
		}
		s.conflictsAt(key, func(c Conflict) {
			if !known[c] {
				found = append(found, c)
			}
		})
	}
	return found
}

// conflictsAt calls f for the conflicts of one address.
func (s *Snapshot) conflictsAt(key string, f func(Conflict)) {
	matched := slices.DeleteFunc(s.Lookup(key), func(e Entry) bool { return e.Inactive != "" })
	own := len(matched) > 0 && s.OwnAddress(message.FoldGuard(key))
	for _, e := range matched {
		if len(matched) > 1 {
			f(Conflict{Ref: e.Ref, Key: key, Rule: ConflictDuplicate})
		}
		if own {
			f(Conflict{Ref: e.Ref, Key: key, Rule: ConflictOwn})
		}
	}
}
