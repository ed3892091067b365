package webhook

import (
	"context"
	"errors"
	"time"

	"mailsyncd/store"

	"github.com/prometheus/client_golang/prometheus"
)

// resultUnrenderable is the result of an attempt that never became a post.
const resultUnrenderable = "unrenderable"

// statsTime bounds what a scrape waits for the store.
const statsTime = 5 * time.Second

// Stats is what the outbox metrics need of the store.
type Stats interface {
	Stats(ctx context.Context) (store.Stats, error)
}

// metrics are the courier's own.
type metrics struct {
	// attempts by result: the kinds of a Result, and "unrenderable".
	attempts *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailsyncd_webhook_attempts_total",
			Help: "Attempts to deliver an event, by result.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mailsyncd_webhook_duration_seconds",
			Help:    "Duration of an attempt that was posted.",
			Buckets: []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 20, 60},
		}),
	}
	// A counter that is there from the start shows the first failure as a step.
	for _, r := range []Kind{Accepted, EndpointFailure, EventFailure, Throttled, Gone, resultUnrenderable} {
		m.attempts.WithLabelValues(string(r))
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer, c *Courier, s Stats) error {
	err := errors.Join(r.Register(m.attempts), r.Register(m.duration), r.Register(pausedCollector{c}))
	if s != nil {
		err = errors.Join(err, r.Register(outboxCollector{s}))
	}
	return err
}

var pausedDesc = prometheus.NewDesc("mailsyncd_webhook_paused",
	"1 while the webhook is paused or off for this reason.", []string{"reason"}, nil)

// pausedCollector asks the courier when it is scraped, so that a pause that ends
// by the clock is not shown too long.
type pausedCollector struct{ courier *Courier }

func (p pausedCollector) Describe(ch chan<- *prometheus.Desc) { ch <- pausedDesc }

func (p pausedCollector) Collect(ch chan<- prometheus.Metric) {
	present := p.courier.Status().Reason
	for _, reason := range []string{ReasonFailing, ReasonThrottled, ReasonOperator, ReasonGone} {
		value := 0.0
		if reason == present {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(pausedDesc, prometheus.GaugeValue, value, reason)
	}
}

var (
	eventsDesc = prometheus.NewDesc("mailsyncd_outbox_events",
		"Events that wait to be delivered.", nil, nil)
	oldestDesc = prometheus.NewDesc("mailsyncd_outbox_oldest_timestamp_seconds",
		"Creation of the oldest waiting event, Unix time; absent when none waits.", nil, nil)
	deadDesc = prometheus.NewDesc("mailsyncd_dead_letters",
		"Events that were given up and can be replayed.", nil, nil)
)

// outboxCollector asks the store when it is scraped. A store that cannot answer
// leaves the three out instead of failing the scrape: a broken store must not
// hide the metrics that tell why.
type outboxCollector struct{ stats Stats }

func (o outboxCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- eventsDesc
	ch <- oldestDesc
	ch <- deadDesc
}

func (o outboxCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	s, err := o.stats.Stats(ctx)
	if err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(eventsDesc, prometheus.GaugeValue, float64(s.Pending))
	ch <- prometheus.MustNewConstMetric(deadDesc, prometheus.GaugeValue, float64(s.Dead))
	if !s.OldestAt.IsZero() {
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, float64(s.OldestAt.UnixMilli())/1000)
	}
}
