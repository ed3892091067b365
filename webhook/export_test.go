package webhook

import (
	"net/http"
	"net/netip"
	"time"

	"mailsyncd/store"
)

// Inner parts that are easier to judge alone.
var (
	Sign       = sign
	RetryAfter = retryAfter
	RenderTest = renderTest
)

// CheckAddr is what the dial guard says of an address.
func CheckAddr(addr netip.Addr, allow ...netip.Prefix) error { return guard{allow: allow}.check(addr) }

// Classify classifies a status with its header.
func Classify(status int, h http.Header, now time.Time) Result { return classify(status, h, now) }

// RenderWith renders with a renderer that may panic.
func RenderWith(e store.Event, render func(store.Event) ([]byte, error)) ([]byte, error) {
	return contained(e, render)
}

// RetryDelays is the schedule without jitter.
func RetryDelays() []time.Duration { return retryDelays[:] }

// LongestDelay is the furthest an event may be put off.
const LongestDelay = longestDelay
