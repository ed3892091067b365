package schedule

import "time"

// pacer counts starts against a host so that no minute, wherever it begins,
// sees more than PerHost.PerMinute of them. It is the generic cell rate
// algorithm: one number, the time at which the host will have rested.
type pacer struct{ rested time.Duration }

// pace is PerMinute as a pacer reads it: a few starts at once, the rest evenly.
type pace struct {
	period time.Duration // between starts, in the long run; 0: unlimited
	burst  time.Duration // how far ahead of that a host may be
}

// pace chooses the burst as large as the connections, at most a quarter of the
// minute's starts, and stretches the period by what the burst takes: a burst of
// b and one start each period make b-1+⌈60 s/period⌉ in the fullest minute.
func (p PerHost) pace() pace {
	if p.PerMinute <= 0 {
		return pace{}
	}
	burst := max(1, p.PerMinute/4)
	if p.Connections > 0 {
		burst = min(burst, p.Connections)
	}
	even := time.Duration(p.PerMinute - burst + 1)
	period := (time.Minute + even - 1) / even // rounded up
	return pace{period: period, burst: time.Duration(burst-1) * period}
}

// wait returns how long the next start has to wait.
func (p *pacer) wait(now time.Duration, limit pace) time.Duration {
	if limit.period == 0 {
		return 0
	}
	return max(0, p.rested-limit.burst-now)
}

// start counts one.
func (p *pacer) start(now time.Duration, limit pace) {
	p.rested = max(p.rested, now) + limit.period
}
