package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailsyncd/config"
	"mailsyncd/store"
)

// collector is what the metrics page tells of the daemon as a whole, counted at
// each scrape. The rooms register the rest by themselves.
type collector struct{ d *daemon }

// scrapeTime bounds what a scrape waits for the store.
const scrapeTime = 5 * time.Second

var (
	descMailboxes = prometheus.NewDesc("mailsyncd_mailboxes", "Configured mailboxes by state.", []string{"state"}, nil)
	descStale     = prometheus.NewDesc("mailsyncd_mailboxes_stale", "Mailboxes without a complete poll for three intervals.", nil, nil)
	descOldest    = prometheus.NewDesc("mailsyncd_oldest_success_timestamp_seconds",
		"The oldest last success of the mailboxes that are polled; 0 while there is none.", nil, nil)
	descStopped   = prometheus.NewDesc("mailsyncd_polling_stopped", "1 while nothing is polled for this reason.", []string{"reason"}, nil)
	descLookbacks = prometheus.NewDesc("mailsyncd_lookbacks_pending", "Mailboxes that have not looked back up to the newest directory revision.", nil, nil)
	descPurges    = prometheus.NewDesc("mailsyncd_purges_total", "Candidates purged since the store was made.", nil, nil)
	descErasure   = prometheus.NewDesc("mailsyncd_erasure_pending_seconds", "Age of the oldest purge whose last trace is still in the store's file; 0 when there is none.", nil, nil)
	descMissing   = prometheus.NewDesc("mailsyncd_unaccounted_messages", "Pairs of message and candidate that the last daily reconcile of each mailbox found neither delivered nor refused.", nil, nil)
	descBytes     = prometheus.NewDesc("mailsyncd_store_bytes", "Size of the store's file.", nil, nil)
	descReload    = prometheus.NewDesc("mailsyncd_config_reload_success", "1 if the last reload was taken, 0 if it was refused.", nil, nil)
	descBuild     = prometheus.NewDesc("mailsyncd_build_info", "1, with the build as labels.", []string{"version", "revision", "goversion"}, nil)
	descSuccess   = prometheus.NewDesc("mailsyncd_mailbox_success_timestamp_seconds",
		"Last success of one mailbox; only with metrics.mailbox_label.", []string{"mailbox"}, nil)
)

// mailboxStates are shown with 0 as well: a series that appears with its first
// trouble cannot be alerted on.
var mailboxStates = [...]store.MailboxState{
	store.MailboxActive, store.MailboxBackingOff, store.MailboxUnauthorized,
	store.MailboxSuspended, store.MailboxPaused,
}

func newCollector(d *daemon) prometheus.Collector { return collector{d} }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descMailboxes, descStale, descOldest, descStopped, descLookbacks, descPurges, descErasure,
		descMissing, descBytes, descReload, descBuild, descSuccess,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	v := buildVersion()
	gauge(descBuild, 1, v.Version, v.Revision, v.Go)
	gauge(descReload, truth(c.d.reloadFailed.Load() == nil))
	stopped := c.d.pollingStopped(ctx)
	for _, reason := range []string{stoppedNoDirectory, stoppedDiskLow, stoppedOutboxFull} {
		gauge(descStopped, truth(reason == stopped), reason)
	}
	if stats, err := c.d.store.Stats(ctx); err == nil { // the store's trouble shows in /healthz
		gauge(descBytes, float64(stats.Bytes))
		ch <- prometheus.MustNewConstMetric(descPurges, prometheus.CounterValue, float64(stats.Purges))
	}
	if e, err := c.d.store.Erasure(ctx); err == nil {
		gauge(descErasure, erasurePending(e, time.Now()).Seconds())
	}
	c.mailboxes(ctx, gauge)
}

// mailboxes counts states and names nobody unless the configuration says so.
func (c collector) mailboxes(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	sum, err := c.d.survey(ctx)
	if err != nil {
		return
	}
	for _, s := range mailboxStates {
		gauge(descMailboxes, float64(sum.States[string(s)]), string(s))
	}
	gauge(descStale, float64(sum.Stale))
	gauge(descMissing, float64(sum.Unaccounted))
	gauge(descOldest, seconds(sum.OldestSuccess))
	gauge(descLookbacks, float64(c.d.lookbacksPending(ctx)))
	c.labelled(ctx, gauge)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as metrics show it, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// lookbacksPending counts the mailboxes that owe a look-back; one that is paused
// or suspended is not late with it. A mailbox that
// looked back up to revision r owes one exactly if the log has an activation
// after r, so the revisions divide into those that owe and those that do not.
func (d *daemon) lookbacksPending(ctx context.Context) int {
	snap := d.snapshot()
	rows, err := d.store.Mailboxes(ctx)
	if err != nil || snap == nil {
		return 0
	}
	var at []uint64
	listed := configured(d.cfg.Load())
	for _, row := range rows {
		if listed[row.ID] && !row.Horizon.IsZero() && !notPolled(row.State) {
			at = append(at, row.LookedBack)
		}
	}
	slices.Sort(at)
	return sort.Search(len(at), func(i int) bool {
		acts, whole, err := d.store.Activations(ctx, at[i], snap.Revision())
		return err != nil || whole && len(acts) == 0
	})
}

// labelled shows single mailboxes, if metrics.mailbox_label asks for it.
func (c collector) labelled(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	label := c.d.atStart.Metrics.MailboxLabel
	if label == config.LabelNone {
		return
	}
	all, err := mailboxDesk{c.d}.all(ctx)
	if err != nil {
		return
	}
	listed := configured(c.d.cfg.Load())
	for _, m := range all {
		if !listed[m.ID] {
			continue
		}
		name := m.ID
		if label == config.LabelHash {
			sum := sha256.Sum256([]byte(m.ID))
			name = hex.EncodeToString(sum[:8])
		}
		gauge(descSuccess, seconds(m.LastSuccess), name)
	}
}
