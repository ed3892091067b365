package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("not a duration")

// ParseDuration reads a duration as the configuration spells it: a Go duration
// ("90s", "1h30m"), days ("7d"), or days and then a Go duration ("1d12h"). A
// day is 24 hours. There is no sign, and no unit is not a unit.
func ParseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil || s == "" || strings.ContainsAny(rest, "+-") {
		return 0, errDuration
	}
	total := time.Duration(n) * day
	if rest == "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || total+d < total {
		return 0, errDuration
	}
	return total + d, nil
}

// FormatDuration writes a duration the way ParseDuration reads it, as short as
// it goes: "14d", "1h30m", "0s".
func FormatDuration(d time.Duration) string {
	if d < day {
		return trimUnits(d)
	}
	s := strconv.FormatInt(int64(d/day), 10) + "d"
	if d%day != 0 {
		s += trimUnits(d % day)
	}
	return s
}

// trimUnits drops the zero units that time.Duration prints: "1h0m0s" is "1h".
func trimUnits(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
