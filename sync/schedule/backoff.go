package schedule

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// backoff is the longest wait after the n-th failure in a row; the wait itself
// is drawn evenly from one second to that (full jitter), so that keys which
// failed together do not come back together. The last line repeats.
//
//	failure  longest wait  all waits so far, at most
//	1        30 s          30 s     a hiccup: reconnect
//	2        1 m           1 m 30 s
//	3        2 m           3 m 30 s a server restarts
//	4        5 m           8 m 30 s
//	5        10 m          18 m 30 s
//	6        30 m          48 m 30 s
//	7…       1 h           and an hour each: somebody has to mend something
//
// A key whose interval is longer than an hour waits for its interval on the
// last line: failing is no reason to be tried more often than working.
var backoff = [...]time.Duration{
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 30 * time.Minute, time.Hour,
}

const (
	// shortestWait keeps a drawn wait from being none at all.
	shortestWait = time.Second
	// maxRetryAfter bounds what a server may ask for: throttling lasts hours at
	// worst, and an absurd value must not silence a mailbox for a year.
	maxRetryAfter = 6 * time.Hour
)

// longestWait returns the upper end of the wait after the given failure.
func longestWait(failures int, interval time.Duration) time.Duration {
	last := len(backoff) - 1
	if failures <= last {
		return backoff[max(failures, 1)-1]
	}
	return max(backoff[last], interval)
}

// retryWait draws the wait after a failure. A server's wish goes before the
// table: never sooner than asked, and up to a tenth later.
func retryWait(failures int, interval, asked time.Duration) time.Duration {
	if asked > 0 {
		return later(min(asked, maxRetryAfter))
	}
	return shortestWait + rand.N(longestWait(failures, interval)-shortestWait)
}

// later adds up to a tenth.
func later(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

// share returns a part of d that depends on the key alone, so that keys spread
// evenly and each keeps its place over restarts.
func share(key string, d time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(key))
	// FNV's high bits are poor for keys that differ in their last byte only.
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return time.Duration(float64(d) * (float64(x>>11) / (1 << 53)))
}
