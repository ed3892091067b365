package gmail

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/providers"
)

// Metrics counts what is asked of Google. One serves every mailbox. A nil
// *Metrics counts nothing.
type Metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

// Label values. operation: token, or a Call. result: ok, cancelled, gone (the
// mail or the position is no longer there), or the class of the failure
// (providers.Class). direction: in, out; bytes of bodies and query strings,
// above TLS and compression.
const (
	providerLabel  = "gmail"
	operationToken = "token"
)

// NewMetrics registers the two families, or joins those that another provider
// has registered under the same names.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		requests: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailsyncd_provider_requests_total",
			Help: "Requests to mail providers, by operation and result.",
		}, []string{"provider", "operation", "result"})),
		bytes: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailsyncd_provider_bytes_total",
			Help: "Bytes exchanged with mail providers, by direction.",
		}, []string{"provider", "direction"})),
	}
}

func register(reg prometheus.Registerer, c *prometheus.CounterVec) *prometheus.CounterVec {
	err := reg.Register(c)
	var are prometheus.AlreadyRegisteredError
	if errors.As(err, &are) {
		return are.ExistingCollector.(*prometheus.CounterVec)
	}
	if err != nil {
		panic(err) // the name is taken by something else: a programming error
	}
	return c
}

func (m *Metrics) request(operation string, err error) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(providerLabel, operation, result(err)).Inc()
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case isKind(err, kindGone):
		return "gone"
	}
	return string(providers.Classify(err))
}

func (m *Metrics) octets(direction string, n int) {
	if m == nil || n <= 0 {
		return
	}
	m.bytes.WithLabelValues(providerLabel, direction).Add(float64(n))
}
