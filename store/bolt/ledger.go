package bolt

import (
	"cmp"
	"context"
	"fmt"

	"mailsyncd/store"
)

// PairStates implements store.Ledger.
func (s *Store) PairStates(ctx context.Context, keys []store.PairKey) (states []store.PairState, err error) {
	states = make([]store.PairState, len(keys))
	err = s.view(ctx, func(t *tx) error {
		for i, k := range keys {
			if row, ok := t.message(s.ring.index.key(tMessage, k.Message)); ok && row.has(k.Candidate) {
				states[i], _ = t.carrier(&row)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// carrier is the state of the event that carries a message's pairs, and its
// webhook id. Every later event of a message carries all its pairs, so the last
// one speaks for each; an event that is gone was delivered.
func (t *tx) carrier(row *messageRow) (store.PairState, string) {
	e, ok := t.event(row.Last)
	if !ok {
		return store.PairDelivered, ""
	}
	return store.PairState(e.State), t.eventID(row.Last)
}

// Message implements store.Ledger.
func (s *Store) Message(ctx context.Context, id string) (out store.LedgerMessage, err error) {
	err = s.view(ctx, func(t *tx) error {
		var ok bool
		if out, ok = t.ledgerMessage(s.ring.index.key(tMessage, id)); !ok {
			return fmt.Errorf("message %q: %w", id, store.ErrNotFound)
		}
		return nil
	})
	return out, err
}

func (t *tx) ledgerMessage(key hkey) (out store.LedgerMessage, ok bool) {
	row, ok := t.message(key)
	if !ok {
		return out, false
	}
	_, thread := t.thread(row.Thread)
	out = store.LedgerMessage{ID: row.ID, Thread: thread.ID, Holdings: row.Holdings}
	state, event := t.carrier(&row)
	for _, pair := range row.Pairs {
		cand := t.candidate(pair.Candidate)
		at := stamp(t.getNo(bLedger, join(cand[:], key[:])))
		out.Pairs = append(out.Pairs, store.LedgerPair{Pair: pair, State: state, Event: event, At: at.time()})
	}
	return out, true
}

// CandidateMessages implements store.Ledger.
func (s *Store) CandidateMessages(ctx context.Context, ref, after string, limit int) (out []store.LedgerMessage, err error) {
	limit = cmp.Or(limit, 100)
	err = s.view(ctx, func(t *tx) error {
		for _, key := range t.ledgerAfter(ref, after, limit) {
			if m, ok := t.ledgerMessage(hkey(key[16:])); ok {
				out = append(out, m)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ledgerAfter returns the keys of a candidate's pairs after a message.
func (t *tx) ledgerAfter(ref, after string, limit int) (keys [][]byte) {
	cand := t.candidate(ref)
	from := cand[:]
	if after != "" {
		msg := t.s.ring.index.key(tMessage, after)
		from = join(cand[:], msg[:], []byte{0}) // the least key greater
	}
	bk := t.bucket(bLedger)
	if bk == nil {
		return nil
	}
	c := bk.Cursor()
	for k, _ := c.Seek(from); len(k) == 32 && hkey(k[:16]) == cand && len(keys) < limit; k, _ = c.Next() {
		keys = append(keys, k) // valid while the transaction lasts, which only reads
	}
	return keys
}
