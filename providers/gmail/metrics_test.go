package gmail_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

func TestMetrics(t *testing.T) {
	w := newWorld(t, gmailtest.Options{}, gmail.ModeMetadata)
	reg := prometheus.NewPedanticRegistry()
	w.cfg.Meter = providers.NewMetrics(reg).For(gmail.Name)
	user := w.user(gmail.ModeMetadata, w.cfg.Transport)
	user.Meter = w.cfg.Meter
	w.cfg.Credential = gmail.User(user)
	id := w.deliver("a@x", "b@x", "c@x")[0]
	w.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.ID == id {
			w.account.Delete(id)
		}
		if r.Call == "history" {
			return gmailtest.Fault{Status: 503}
		}
		return gmailtest.Fault{}
	})
	mb := open(t, w.cfg)
	cur := start(t, mb)
	if _, err := mb.Next(t.Context(), cur, window()); err == nil {
		t.Error("a poll came through a service that fails")
	}
	search(t, mb)
	const want = `
# HELP mailsyncd_provider_requests_total Requests to mail providers, by operation and result.
# TYPE mailsyncd_provider_requests_total counter
mailsyncd_provider_requests_total{operation="get",provider="gmail",result="gone"} 1
mailsyncd_provider_requests_total{operation="get",provider="gmail",result="ok"} 2
mailsyncd_provider_requests_total{operation="history",provider="gmail",result="server"} 1
mailsyncd_provider_requests_total{operation="list",provider="gmail",result="ok"} 1
mailsyncd_provider_requests_total{operation="profile",provider="gmail",result="ok"} 2
mailsyncd_provider_requests_total{operation="token",provider="gmail",result="ok"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "mailsyncd_provider_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "mailsyncd_provider_bytes_total"); err != nil || n != 2 {
		t.Errorf("%d series count bytes, want in and out: %v", n, err)
	}
}
