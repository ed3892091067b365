package directory

import (
	"encoding/binary"
	"hash/maphash"
)

// shard is one part of the index from address to candidates: open addressing
// over an arena. A million addresses as map[string][]Entry would be 100 bytes
// each and a million pointers for the garbage collector to follow; this is
// about half and three pointers a shard.
//
// A record in the arena:
//
//	flags   1 byte: why inactive, recordDead, recordChained
//	key     uvarint length, bytes
//	ref     1 byte length, bytes
//	next    4 bytes, with recordChained only: the arena offset of another
//	        record of the same key
//
// slots holds the arena offset of a key's newest record, plus one; 0 is free.
// tags holds eight more bits of the key's hash, so that a probe that misses
// reads no arena. Records of one key are chained and take one slot: probing
// past ten thousand candidates who share an agency's address would be slow.
type shard struct {
	arena []byte
	slots []uint32
	tags  []uint8
	keys  int // slots in use
	dead  int // arena bytes of dead records
}

const (
	recordReason  = 0x0f // index into reasons
	recordDead    = 0x10 // removed; the next copy of the shard leaves it out
	recordChained = 0x20
)

// reasons are the values of Entry.Inactive by their code in the arena.
var reasons = [...]string{"", InactiveMissing, InactiveStopped, InactiveNoJobs, InactiveJobsArchived}

func reasonCode(inactive string) byte {
	for code, reason := range reasons {
		if reason == inactive {
			return byte(code)
		}
	}
	return 0
}

// record is one record of an arena; key and ref lie in the arena.
type record struct {
	flags    byte
	key, ref []byte
	next     int // offset of the next record of the same key; -1: none
	end      int // offset behind the record
}

func (r *record) entry() Entry {
	return Entry{Ref: string(r.ref), Inactive: reasons[r.flags&recordReason]}
}

// at reads the record at an offset.
func (s *shard) at(i int) record {
	r := record{flags: s.arena[i], next: -1}
	n, w := binary.Uvarint(s.arena[i+1:])
	i += 1 + w
	r.key = s.arena[i : i+int(n)]
	i += int(n)
	n = uint64(s.arena[i])
	r.ref = s.arena[i+1 : i+1+int(n)]
	i += 1 + int(n)
	if r.flags&recordChained != 0 {
		r.next = int(binary.LittleEndian.Uint32(s.arena[i:]))
		i += 4
	}
	r.end = i
	return r
}

// spot is where a hash begins to probe and which tag it looks for. The shard
// was chosen by the upper half of the hash; this uses the lower.
func (s *shard) spot(hash uint64) (slot int, tag uint8) {
	return int(uint32(hash)) & (len(s.slots) - 1), uint8(hash >> 32)
}

// find returns the slot of a key; ok is false when the key is not there, and
// then the slot is the free one where it belongs.
func (s *shard) find(hash uint64, key string) (slot int, ok bool) {
	i, tag := s.spot(hash)
	for ; s.slots[i] != 0; i = (i + 1) & (len(s.slots) - 1) {
		if s.tags[i] != tag {
			continue
		}
		if r := s.at(int(s.slots[i] - 1)); string(r.key) == key {
			return i, true
		}
	}
	return i, false
}

// first returns the offset of a key's newest record, dead ones included.
func (s *shard) first(hash uint64, key string) int {
	if s.keys == 0 {
		return -1
	}
	if slot, ok := s.find(hash, key); ok {
		return int(s.slots[slot] - 1)
	}
	return -1
}

// add writes a record and tells whether the key had one before.
func (s *shard) add(seed maphash.Seed, hash uint64, key, ref string, flags byte) (shared bool) {
	if (s.keys+1)*4 > len(s.slots)*3 {
		s.grow(seed)
	}
	slot, shared := s.find(hash, key)
	at := len(s.arena)
	if flags &= recordReason; shared {
		flags |= recordChained
	}
	s.arena = append(s.arena, flags)
	s.arena = binary.AppendUvarint(s.arena, uint64(len(key)))
	s.arena = append(s.arena, key...)
	s.arena = append(s.arena, byte(len(ref)))
	s.arena = append(s.arena, ref...)
	if shared {
		s.arena = binary.LittleEndian.AppendUint32(s.arena, s.slots[slot]-1)
	} else {
		s.keys++
	}
	_, s.tags[slot] = s.spot(hash)
	s.slots[slot] = uint32(at) + 1
	return shared
}

// remove marks the record of key and ref as dead; false when there is none.
func (s *shard) remove(hash uint64, key, ref string) bool {
	for at := s.first(hash, key); at >= 0; {
		r := s.at(at)
		if r.flags&recordDead == 0 && string(r.ref) == ref {
			s.arena[at] |= recordDead
			s.dead += r.end - at
			return true
		}
		at = r.next
	}
	return false
}

// grow doubles the slots. The keys come out of the arena.
func (s *shard) grow(seed maphash.Seed) {
	old := s.slots
	s.slots = make([]uint32, max(16, 2*len(old)))
	s.tags = make([]uint8, len(s.slots))
	for _, at := range old {
		if at == 0 {
			continue
		}
		hash := maphash.Bytes(seed, s.at(int(at-1)).key)
		i, tag := s.spot(hash)
		for s.slots[i] != 0 {
			i = (i + 1) & (len(s.slots) - 1)
		}
		s.slots[i], s.tags[i] = at, tag
	}
}

// each calls f for the live records, oldest first.
func (s *shard) each(f func(r record)) {
	for at := 0; at < len(s.arena); {
		r := s.at(at)
		if r.flags&recordDead == 0 {
			f(r)
		}
		at = r.end
	}
}

// clone returns a copy without the dead records.
func (s *shard) clone(seed maphash.Seed) *shard {
	c := &shard{arena: make([]byte, 0, len(s.arena)-s.dead+64)}
	if s.dead == 0 {
		c.arena = append(c.arena, s.arena...)
		c.slots = append(make([]uint32, 0, len(s.slots)), s.slots...)
		c.tags = append(make([]uint8, 0, len(s.tags)), s.tags...)
		c.keys = s.keys
		return c
	}
	s.each(func(r record) {
		c.add(seed, maphash.Bytes(seed, r.key), string(r.key), string(r.ref), r.flags)
	})
	return c
}
