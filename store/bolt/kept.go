package bolt

import (
	"bytes"
	"sync"
	"sync/atomic"
)

// kept holds rows as they were decoded, each beside the sealed bytes it came
// from: a pass without news reads its mailbox's row half a dozen times, and the
// row changes once a day. Nothing has to invalidate it. Every write seals with a
// new nonce, so equal bytes are the same row, and bytes that were changed on disk
// are opened and found out as any other.
//
// There are no more than maxKept: a pass asks again within the pass, and few run
// at a time.
//
// T is a plain value: who asks shares it with everybody who asks.
type kept[T any] struct {
	rows sync.Map // by key: keptRow[T]
	n    atomic.Int64
}

const maxKept = 512

type keptRow[T any] struct {
	sealed []byte
	row    T
}

// get is tx.getJSON for a row that may be kept.
func (k *kept[T]) get(t *tx, b bucket, key []byte) (row T, ok bool) {
	sealed := t.raw(b, key)
	if was, _ := k.rows.Load(string(key)); was != nil && sealed != nil {
		if was := was.(keptRow[T]); bytes.Equal(was.sealed, sealed) {
			return was.row, true
		}
	}
	if !t.getJSON(b, key, &row) {
		k.forget(key)
		return row, false
	}
	if k.n.Add(1) > maxKept { // all go: what is in use comes back
		k.rows.Clear()
		k.n.Store(1)
	}
	k.rows.Store(string(key), keptRow[T]{bytes.Clone(sealed), row})
	return row, true
}

// forget drops a row that is gone.
func (k *kept[T]) forget(key []byte) { k.rows.Delete(string(key)) }
