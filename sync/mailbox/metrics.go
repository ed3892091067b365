package mailbox

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/matcher"
	"mailsyncd/providers"
	"mailsyncd/store"
)

// Metrics are the collectors of all mailboxes. No label names a person.
type Metrics struct {
	duration   *prometheus.HistogramVec // provider; result: ok, cancelled, stopped, or a class of providers
	headers    *prometheus.CounterVec   // provider
	matches    *prometheus.CounterVec   // provider; origin
	refused    *prometheus.CounterVec   // guard
	problems   *prometheus.CounterVec   // problem: the codes of message.Header.Problems
	unreadable *prometheus.CounterVec   // provider
}

// NewMetrics registers the collectors.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mailsyncd_sync_duration_seconds",
			Help:    "Duration of passes over one mailbox.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900},
		}, []string{"provider", "result"}),
		headers: counter("mailsyncd_messages_scanned_total", "Headers read and decided, those of look-backs, audits and tasks too.", "provider"),
		matches: counter("mailsyncd_messages_matched_total", "Messages that entered the ledger or gained a candidate.", "provider", "origin"),
		refused: counter("mailsyncd_refused_total", "Headers that named a candidate and were refused, by guard; reading one again counts again.", "guard"),
		problems: counter("mailsyncd_header_problems_total",
			"Header fields that could not be read whole; the rest of the mail was decided.", "problem"),
		unreadable: counter("mailsyncd_unreadable_messages_total",
			"Mails the server lists but would not hand out; they are tried again.", "provider"),
	}
	reg.MustRegister(m.duration, m.headers, m.matches, m.refused, m.problems, m.unreadable)
	for _, g := range matcher.Guards {
		m.refused.WithLabelValues(string(g)) // shown as 0 from the start
	}
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func (m *Metrics) passed(provider string, d time.Duration, err error) {
	m.duration.WithLabelValues(provider, result(err)).Observe(d.Seconds())
}

// result is how a pass ended. What ends it on our side (the daemon stops, the
// outbox is full, there is no directory yet) is not the server's fault.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case errors.Is(err, ErrNotReady), errors.Is(err, store.ErrFull):
		return "stopped"
	}
	return string(providers.Classify(err))
}

func (m *Metrics) scanned(provider string, headers, unreadable int) {
	m.headers.WithLabelValues(provider).Add(float64(headers))
	if unreadable > 0 {
		m.unreadable.WithLabelValues(provider).Add(float64(unreadable))
	}
}

func (m *Metrics) matched(provider string, origin store.Origin, messages int) {
	if messages > 0 {
		m.matches.WithLabelValues(provider, string(origin)).Add(float64(messages))
	}
}

// decided counts a refusing guard once per mail, however many candidates it
// refused.
func (m *Metrics) decided(problems []string, d matcher.Decision) {
	for _, p := range problems {
		m.problems.WithLabelValues(p).Inc()
	}
	for i, r := range d.Refusals {
		if !counted(d.Refusals[:i], r.Guard) {
			m.refused.WithLabelValues(string(r.Guard)).Inc()
		}
	}
}

func counted(before []matcher.Refusal, g matcher.Guard) bool {
	for _, r := range before {
		if r.Guard == g {
			return true
		}
	}
	return false
}
