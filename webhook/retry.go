package webhook

import "time"

// retryDelays are the waits before the tries of an event that the endpoint
// refuses, each lengthened by 0 to 20 % so that events which failed together do
// not come back together. The first tries are close, for a receiver that
// restarts; the last ones span a long weekend, for a receiver whose people must
// first come back to work.
//
//	try  wait   since the first (without jitter)
//	  1  0      0
//	  2  5 s    5 s
//	  3  1 m    1 m 5 s
//	  4  5 m    6 m 5 s
//	  5  30 m   36 m 5 s
//	  6  2 h    2 h 36 m 5 s
//	  7  5 h    7 h 36 m 5 s
//	  8  10 h   17 h 36 m 5 s
//	  9  14 h   31 h 36 m 5 s
//	 10  20 h   51 h 36 m 5 s
//	 11  24 h   75 h 36 m 5 s
var retryDelays = [...]time.Duration{
	0,
	5 * time.Second,
	1 * time.Minute,
	5 * time.Minute,
	30 * time.Minute,
	2 * time.Hour,
	5 * time.Hour,
	10 * time.Hour,
	14 * time.Hour,
	20 * time.Hour,
	24 * time.Hour,
}

// maxTries is the number of tries an event has.
const maxTries = len(retryDelays)

// longestDelay is the furthest any event may be put off. A row that is due
// later was written by a clock that ran ahead.
const longestDelay = 24 * time.Hour * 120 / 100

// retryDelay is the wait after tries tries; after the last one it stays at the
// longest. jitter is in [0, 1).
func retryDelay(tries int, jitter float64) time.Duration {
	d := retryDelays[min(max(tries, 0), maxTries-1)]
	return d + time.Duration(float64(d)*0.2*jitter)
}

// probeDelays are the waits between attempts while it is the endpoint that
// fails: they grow to five minutes, which is how late the first event may be
// after the endpoint is back.
var probeDelays = [...]time.Duration{
	5 * time.Second,
	10 * time.Second,
	20 * time.Second,
	40 * time.Second,
	80 * time.Second,
	160 * time.Second,
	5 * time.Minute,
}

// probeDelay is the wait after n setbacks in a row since the first.
func probeDelay(n int) time.Duration {
	return probeDelays[min(max(n, 0), len(probeDelays)-1)]
}
