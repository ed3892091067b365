package schedule

import "time"

// minJump is the smallest gain of the wall clock that counts as sleep. Clocks
// that are slewed gain milliseconds between two looks.
const minJump = 30 * time.Second

const century = 100 * 365 * 24 * time.Hour

// clock is the schedule's own time line: the time since New, awake or asleep.
// It never goes back.
//
// The monotonic clock alone would not do: on Linux it stands still while the
// machine sleeps, so an hourly poll would come an hour of waking time later.
// The wall clock alone would not do either: set back by a day, it would stop
// every poll for a day. So the line runs with the monotonic clock and takes over
// what the wall clock gains on it in one jump (sleep, or somebody set it
// forward, which costs one early poll), and ignores what the wall clock loses.
type clock struct {
	wall  func() time.Time
	start time.Time // with its monotonic reading
	epoch time.Time // the wall clock at start
	drift time.Duration
	slept time.Duration
}

func newClock(wall func() time.Time) *clock {
	if wall == nil {
		wall = time.Now
	}
	return &clock{wall: wall, start: time.Now(), epoch: wall().Round(0)}
}

// now returns the place on the time line.
func (c *clock) now() time.Duration {
	awake := time.Since(c.start)
	drift := c.wall().Round(0).Sub(c.epoch) - awake // Round(0): compare wall clocks
	if gained := drift - c.drift; gained >= minJump {
		c.slept += gained
	}
	c.drift = drift
	return awake + c.slept
}

// date returns when a place on the time line is, by the wall clock.
func (c *clock) date(at, now time.Duration) time.Time {
	return c.wall().Round(0).Add(at - now)
}

// place returns where on the time line a date is; at most a century ahead, so
// that adding to it cannot overflow.
func (c *clock) place(date time.Time, now time.Duration) time.Duration {
	return now + min(date.Sub(c.wall().Round(0)), century)
}
