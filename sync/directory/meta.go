package dirsync

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"mailsyncd/directory"
)

// meta is the keeper's own small state, kept with the directory's revision.
type meta struct {
	Version int `json:"version"`
	// Ready tells that one complete directory has been read. Until then nothing
	// is published and nothing owed a look-back: no mailbox has been polled.
	Ready bool `json:"ready,omitempty"`
	// Unfinished marks a round of several commits that has not reached its last.
	Unfinished bool `json:"unfinished,omitempty"`
	// Purged tells that a candidate was ever purged: only then are tombstones
	// looked for, which would cost a first load of a million dearly.
	Purged bool `json:"purged,omitempty"`
	// Addresses is about how many addresses the directory has, so that a start
	// makes room for them at once.
	Addresses int `json:"addresses,omitempty"`
	// File is the version of the file that was read last.
	File version `json:"file,omitzero"`
	// Complete are the kinds of which that file was a snapshot with an end line.
	Complete map[directory.Kind]bool `json:"complete,omitempty"`
	// Held are the sweeps that wait for an operator.
	Held map[directory.Kind]HeldSweep `json:"held,omitempty"`
}

// HeldSweep is a snapshot that lacks too much to be believed.
type HeldSweep struct {
	Kind directory.Kind `json:"kind"`
	// Missing of Total records of the kind would go.
	Missing int       `json:"missing"`
	Total   int       `json:"total"`
	Since   time.Time `json:"since"`
}

const metaVersion = 1

func (m meta) encode() []byte {
	m.Version = metaVersion
	b, err := json.Marshal(m)
	if err != nil { // a struct of plain values
		panic("dirsync: " + err.Error())
	}
	return b
}

func decodeMeta(b []byte) (m meta, err error) {
	if len(b) == 0 {
		return meta{}, nil
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return meta{}, fmt.Errorf("the directory's state in the store does not decode: %w", err)
	}
	if m.Version != metaVersion {
		return meta{}, fmt.Errorf("the directory's state in the store has version %d, this release knows %d; start the release that wrote it", m.Version, metaVersion)
	}
	return m, nil
}

// clone returns a copy that shares nothing with m.
func (m meta) clone() meta {
	m.Complete, m.Held = maps.Clone(m.Complete), maps.Clone(m.Held)
	if m.Complete == nil {
		m.Complete = map[directory.Kind]bool{}
	}
	if m.Held == nil {
		m.Held = map[directory.Kind]HeldSweep{}
	}
	return m
}

// held lists the held sweeps by kind.
func (m meta) held() []HeldSweep {
	return slices.SortedFunc(maps.Values(m.Held), func(a, b HeldSweep) int {
		return slices.Index(kinds[:], a.Kind) - slices.Index(kinds[:], b.Kind)
	})
}

// kinds in the order of a round: a candidate is judged by the jobs of the same
// round, so jobs come first, their sweep included.
var kinds = [...]directory.Kind{directory.KindUser, directory.KindJob, directory.KindCandidate}
