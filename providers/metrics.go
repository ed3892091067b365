package providers

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the two families that every provider counts in.
type Metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

// NewMetrics registers the families. It panics when their names are taken, which
// is a programming error. Label values: provider is what For was given;
// operation and result are the provider's own short lists, named where it counts
// them; direction is in or out.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailsyncd_provider_requests_total",
			Help: "Requests to mail providers, by operation and result.",
		}, []string{"provider", "operation", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailsyncd_provider_bytes_total",
			Help: "Bytes exchanged with mail providers, by direction.",
		}, []string{"provider", "direction"}),
	}
	reg.MustRegister(m.requests, m.bytes)
	return m
}

// Meter counts what is asked of one kind of provider; one serves all of its
// mailboxes. A nil *Meter counts nothing.
type Meter struct {
	provider string
	families *Metrics
}

// For returns the meter of a provider.
func (m *Metrics) For(provider string) *Meter { return &Meter{provider, m} }

// Request counts a request with how it ended: Result of its error, or a word of
// the provider's own.
func (m *Meter) Request(operation, result string) {
	if m == nil {
		return
	}
	m.families.requests.WithLabelValues(m.provider, operation, result).Inc()
}

// Octets counts bytes that were read and written above TLS.
func (m *Meter) Octets(in, out int64) {
	if m == nil {
		return
	}
	m.families.bytes.WithLabelValues(m.provider, "in").Add(float64(in))
	m.families.bytes.WithLabelValues(m.provider, "out").Add(float64(out))
}

// Result is how a request ended, as a label: ok, cancelled (by the caller), or
// the class of the failure (Class).
func Result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	}
	return string(Classify(err))
}
