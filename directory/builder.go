package directory

import (
	"hash/maphash"
	"maps"

	"mailsyncd/message"
)

// shardSize is how many addresses a shard should hold: few, so that a copy
// costs little; many, so that a million do not mean many pointers.
const shardSize = 1024

// maxSuspects bounds the addresses a Builder remembers for Conflicts. A
// directory with more is not mended by another event.
const maxSuspects = 10000

// Builder makes the next Snapshot, from nothing or from the last one. It is
// for one goroutine and one Build.
type Builder struct {
	s     *Snapshot
	owned []bool // shards that are this builder's own and may be written
	// copied tells which maps are this builder's own.
	copiedJobs, copiedUsers bool
	suspects                []string
}

// NewBuilder returns a builder of a snapshot from nothing. sizeHint is the
// number of addresses to expect; a wrong one costs time, nothing else.
func NewBuilder(sizeHint int) *Builder {
	b := &Builder{
		s:          &Snapshot{seed: maphash.MakeSeed(), jobs: map[string]Stored{}, users: map[string]Stored{}, own: map[string]int{}},
		copiedJobs: true, copiedUsers: true,
	}
	n := 1
	for n*shardSize < sizeHint {
		n *= 2
	}
	b.shards(n)
	return b
}

// shards gives the builder n empty shards of its own.
func (b *Builder) shards(n int) {
	b.s.shards, b.owned = make([]*shard, n), make([]bool, n)
	for i := range b.s.shards {
		b.s.shards[i], b.owned[i] = &shard{}, true
	}
}

// Edit returns a builder of the snapshot after s. It shares with s all that it
// does not change; s stays as it is.
func (s *Snapshot) Edit() *Builder {
	next := *s
	next.shards = append([]*shard(nil), s.shards...)
	return &Builder{s: &next, owned: make([]bool, len(s.shards))}
}

// Rebuild returns a builder that has the jobs and users of s and none of its
// candidates, with room for sizeHint addresses.
func (s *Snapshot) Rebuild(sizeHint int) *Builder {
	b := NewBuilder(sizeHint)
	b.s.jobs, b.s.users, b.s.own = maps.Clone(s.jobs), maps.Clone(s.users), maps.Clone(s.own)
	return b
}

// Job returns what a job counts as now.
func (b *Builder) Job(ref string) State {
	state, _ := jobState(b.s.jobs, ref)
	return state
}

// Build returns the snapshot as of a revision. The builder must not be used
// any more.
func (b *Builder) Build(revision uint64) *Snapshot {
	b.s.revision = revision
	return b.s
}

// Suspects are addresses that may be in conflict since this builder began, for
// Snapshot.Conflicts; at most ten thousand.
func (b *Builder) Suspects() []string { return b.suspects }

// Replace takes old out and puts next in; the zero Stored stands for none.
// Candidates are judged by the jobs that the builder has at this moment: put
// jobs first, and replace the candidates of a job that changed by themselves.
func (b *Builder) Replace(old, next Stored) {
	kind := next.Kind
	if !next.Known() {
		kind = old.Kind
	}
	switch kind {
	case KindCandidate:
		b.removeCandidate(old)
		b.addCandidate(next)
	case KindJob:
		b.replaceJob(old, next)
	case KindUser:
		b.replaceUser(old, next)
	}
}

func (b *Builder) replaceJob(old, next Stored) {
	if !b.copiedJobs {
		b.s.jobs, b.copiedJobs = maps.Clone(b.s.jobs), true
	}
	if !next.Known() {
		delete(b.s.jobs, old.Ref)
		return
	}
	b.s.jobs[next.Ref] = next
}

func (b *Builder) replaceUser(old, next Stored) {
	if !b.copiedUsers {
		b.s.users, b.s.own, b.copiedUsers = maps.Clone(b.s.users), maps.Clone(b.s.own), true
	}
	for _, key := range old.Keys {
		guard := message.FoldGuard(key)
		if b.s.own[guard]--; b.s.own[guard] <= 0 {
			delete(b.s.own, guard)
		}
	}
	if !next.Known() {
		delete(b.s.users, old.Ref)
		return
	}
	b.s.users[next.Ref] = next
	for _, key := range next.Keys {
		b.s.own[message.FoldGuard(key)]++
		if b.s.Lookup(key) != nil { // candidates that come later look for themselves
			b.suspect(key)
		}
	}
}

func (b *Builder) removeCandidate(old Stored) {
	if !old.Live() {
		return
	}
	b.s.candidates--
	for _, key := range old.Keys {
		hash := maphash.String(b.s.seed, key)
		if b.shard(hash).remove(hash, key, old.Ref) {
			b.s.addresses--
		}
	}
}

func (b *Builder) addCandidate(c Stored) {
	if !c.Live() {
		return
	}
	b.s.candidates++
	code := reasonCode(c.inactive(b.Job))
	for _, key := range c.Keys {
		b.add(key, c.Ref, code)
	}
}

// add puts one address in.
func (b *Builder) add(key, ref string, code byte) {
	if b.s.addresses >= 2*shardSize*len(b.s.shards) {
		b.split()
	}
	hash := maphash.String(b.s.seed, key)
	shared := b.shard(hash).add(b.s.seed, hash, key, ref, code)
	b.s.addresses++
	if code == 0 && (shared || len(b.s.own) > 0 && b.s.OwnAddress(message.FoldGuard(key))) {
		b.suspect(key)
	}
}

func (b *Builder) suspect(key string) {
	if len(b.suspects) < maxSuspects {
		b.suspects = append(b.suspects, key)
	}
}

// shard returns the shard of a hash for writing.
func (b *Builder) shard(hash uint64) *shard {
	i := shardOf(hash, len(b.s.shards))
	if !b.owned[i] {
		b.s.shards[i], b.owned[i] = b.s.shards[i].clone(b.s.seed), true
	}
	return b.s.shards[i]
}

// split doubles the shards when a snapshot has outgrown them.
func (b *Builder) split() {
	old := b.s.shards
	b.shards(2 * len(old))
	for _, sh := range old {
		sh.each(func(r record) {
			hash := maphash.Bytes(b.s.seed, r.key)
			b.shard(hash).add(b.s.seed, hash, string(r.key), string(r.ref), r.flags)
		})
	}
}
