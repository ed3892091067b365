package dirsync

import "github.com/prometheus/client_golang/prometheus"

// HeldHelp is the help text of mailsyncd_held. Every room that holds something
// registers the metric with a kind of its own, and Prometheus wants one text.
const HeldHelp = "What waits for an operator's approval, by kind (sweep: kinds of directory records)."

// Metrics are the collectors of this room.
type Metrics struct {
	records *prometheus.GaugeVec // label kind: candidate, job, user
	checked prometheus.Gauge
	held    prometheus.Gauge
}

// NewMetrics makes the collectors and registers them; nil registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		records: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mailsyncd_directory_records",
			Help: "Records of the directory that are not deleted, by kind (candidate, job, user).",
		}, []string{"kind"}),
		checked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mailsyncd_directory_checked_timestamp_seconds",
			Help: "When the directory file was last seen to say what the store says.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mailsyncd_held", Help: HeldHelp,
			ConstLabels: prometheus.Labels{"kind": "sweep"},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.checked, m.held)
	}
	return m
}
