package bolt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"mailsyncd/store"
)

// filterPiece is how many rows a listing or a replay looks at in one
// transaction; expiryPiece how many rows Expire erases.
const (
	filterPiece = 1000
	expiryPiece = 500
)

// selection walks the rows a filter selects, piece by piece.
type selection struct {
	f     store.EventFilter
	after uint64
	done  bool
}

// next returns the numbers of the next piece of candidates for selection: rows
// that an index, or the list itself, offers. matches decides.
func (sel *selection) next(t *tx) (nos []uint64) {
	switch {
	case sel.f.IDs != nil:
		nos, sel.done = t.numbersOf(sel.f.IDs, sel.after), true
	case sel.f.Candidate != "":
		cand := t.candidate(sel.f.Candidate)
		nos = t.numbersAfter(bNaming, cand[:], sel.after)
	default:
		nos = t.numbersAfter(bEvents, nil, sel.after)
	}
	if len(nos) == 0 {
		sel.done = true
		return nil
	}
	sel.after = nos[len(nos)-1]
	return nos
}

func (sel *selection) matches(e *eventRow) bool {
	f := &sel.f
	return (f.State == "" || f.State == e.State) &&
		e.Created >= stampOf(f.Since) &&
		(f.Candidate == "" || slices.Contains(e.Candidates, f.Candidate))
}

// numbersOf translates webhook ids; those this store never gave are left out.
func (t *tx) numbersOf(ids []string, after uint64) (nos []uint64) {
	for _, id := range ids {
		if no, ok := t.eventNo(id); ok && no > after {
			nos = append(nos, no)
		}
	}
	slices.Sort(nos)
	return slices.Compact(nos)
}

// numbersAfter reads the numbers that follow prefix in a bucket's keys.
func (t *tx) numbersAfter(b bucket, prefix []byte, after uint64) (nos []uint64) {
	bk := t.bucket(b)
	if bk == nil {
		return nil
	}
	c := bk.Cursor()
	for k, _ := c.Seek(join(prefix, be8(after+1))); len(k) == len(prefix)+8; k, _ = c.Next() {
		if string(k[:len(prefix)]) != string(prefix) || len(nos) == filterPiece {
			break
		}
		nos = append(nos, number(k[len(prefix):]))
	}
	return nos
}

// Events implements store.Deliveries.
func (s *Store) Events(ctx context.Context, f store.EventFilter) (out []store.Event, err error) {
	limit := cmp.Or(f.Limit, 100)
	sel := selection{f: f, after: f.After}
	for !sel.done && len(out) < limit {
		err := s.view(ctx, func(t *tx) error {
			for _, no := range sel.next(t) {
				e, ok := t.event(no)
				if ok && sel.matches(&e) && len(out) < limit {
					out = append(out, e.public(no, t))
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Event implements store.Deliveries.
func (s *Store) Event(ctx context.Context, id string) (out store.Event, err error) {
	err = s.view(ctx, func(t *tx) error {
		no, ok := t.eventNo(id)
		if e, found := t.event(no); ok && found {
			out = t.whole(no, &e)
			return nil
		}
		return fmt.Errorf("event %q: %w", id, store.ErrNotFound)
	})
	return out, err
}

// ---- retention ---------------------------------------------------------

const (
	expiryDelivered = 'd'
	expiryDead      = 'x'
	expiryTask      = 't'
)

// expiryKey is where a delivered or dead event stands in bExpiry.
func expiryKey(no uint64, e *eventRow) []byte {
	if e.State == store.EventDead {
		return join([]byte{expiryDead}, e.LastAttempt.key(), be8(no))
	}
	return join([]byte{expiryDelivered}, e.Delivered.key(), be8(no))
}

// Expire implements store.Deliveries. It writes only when something is due to
// go.
func (s *Store) Expire(ctx context.Context, before store.Expiry) (more bool, err error) {
	err = s.update(ctx, func(t *tx) error {
		keys := t.expired(expiryDelivered, before.Delivered)
		keys = append(keys, t.expired(expiryDead, before.Dead)...)
		keys = append(keys, t.expired(expiryTask, before.Tasks)...)
		for _, key := range keys {
			t.expire(key)
		}
		more = len(keys) >= expiryPiece
		return nil
	})
	return more && err == nil, err
}

// expired returns the first rows of bExpiry with a time before the given one.
func (t *tx) expired(kind byte, before time.Time) [][]byte {
	keys := t.keys(bExpiry, []byte{kind}, expiryPiece)
	limit := stampOf(before).key()
	end := slices.IndexFunc(keys, func(k []byte) bool { return string(k[1:9]) >= string(limit) })
	if end < 0 {
		return keys
	}
	return keys[:end]
}

// expire erases one event as its type and state allow.
func (t *tx) expire(key []byte) {
	no := number(key[9:])
	t.del(bExpiry, key)
	if key[0] == expiryTask {
		t.removeTask(no)
		return
	}
	e, ok := t.event(no)
	switch {
	case !ok:
	case e.Type == store.ThreadMatched:
		t.eraseToSkeleton(no, &e)
	default:
		t.removeEvent(no, &e)
	}
}
