package gmail

import (
	"slices"
	"time"
)

// retries are mails that the server lists but did not hand out. They wait here,
// in the cursor, so that one broken mail neither blocks the others nor vanishes.
type retries []retry

type retry struct {
	ID    string `json:"id"`
	Tries int    `json:"tries"`
	First int64  `json:"first"` // unix seconds
	Last  int64  `json:"last"`
}

const (
	// A mail is tried at every poll a few times (most failures are gone by then),
	// then daily, then given up.
	retryQuickTries = 3
	retryEvery      = 24 * time.Hour
	retryFor        = 14 * 24 * time.Hour
	// A walk over old mail ends, so it cannot wait for days: it comes back to a
	// mail a few times, with some time in between.
	oldTries = 3
	oldPause = 10 * time.Minute
	// maxRetries bounds the list. With more it is the server that is broken, not
	// a mail, and the position does not move.
	maxRetries = 200
)

func (rs retries) valid() bool {
	return len(rs) <= maxRetries && !slices.ContainsFunc(rs, func(r retry) bool { return !validID(r.ID) })
}

// add notes mails that failed for the first time, and counts a further try of
// those that are known.
func (rs retries) add(ids []string, now time.Time) retries {
	for _, id := range ids {
		i := slices.IndexFunc(rs, func(r retry) bool { return r.ID == id })
		if i < 0 {
			rs = append(rs, retry{ID: id, First: now.Unix()})
			i = len(rs) - 1
		}
		rs[i].Tries++
		rs[i].Last = now.Unix()
	}
	return rs
}

func (rs retries) remove(ids []string) retries {
	return slices.DeleteFunc(rs, func(r retry) bool { return slices.Contains(ids, r.ID) })
}

// due lists the mails to try at a poll, at most n.
func (rs retries) due(now time.Time, n int) []string {
	var ids []string
	for _, r := range rs {
		waited := now.Sub(time.Unix(r.Last, 0))
		if len(ids) < n && (r.Tries < retryQuickTries || waited >= retryEvery) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// expire drops the mails that have been tried for long enough, and says how
// many.
func (rs retries) expire(now time.Time) (retries, int) {
	n := len(rs)
	rs = slices.DeleteFunc(rs, func(r retry) bool {
		return r.Tries > retryQuickTries && now.Sub(time.Unix(r.First, 0)) > retryFor
	})
	return rs, n - len(rs)
}

// lastCall lists what the end of a walk over old mail is to try now, at most n,
// and how long to wait when nothing is due but something is left.
func (rs retries) lastCall(now time.Time, n int) (ids []string, wait time.Duration) {
	for _, r := range rs {
		rest := oldPause - now.Sub(time.Unix(r.Last, 0))
		switch {
		case (r.Tries == 1 || rest <= 0) && len(ids) < n: // most failures are gone by the end of the walk
			ids = append(ids, r.ID)
		case wait == 0 || rest < wait:
			wait = max(rest, time.Second)
		}
	}
	return ids, wait
}

// expireOld drops the mails that a walk over old mail has tried often enough.
func (rs retries) expireOld() (retries, int) {
	n := len(rs)
	rs = slices.DeleteFunc(rs, func(r retry) bool { return r.Tries > oldTries })
	return rs, n - len(rs)
}
