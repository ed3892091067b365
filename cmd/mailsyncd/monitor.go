package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The metrics page and the two health checks. Neither check looks at a mail
// server or the ATS: a restart of ours would not mend theirs.

const (
	// loopDead is how old the last turn of the schedule and of the courier may be;
	// they take one a minute.
	loopDead = 5 * time.Minute
	// keeperDead is the same for the directory, which looks every few seconds but
	// may read for minutes between two commits.
	keeperDead = 30 * time.Minute
	// checkTime bounds what a health check waits for the store.
	checkTime = 5 * time.Second
)

// monitor serves /metrics, /healthz and /readyz.
func (d *daemon) monitor() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.reg, promhttp.HandlerOpts{Registry: d.reg}))
	mux.HandleFunc("GET /healthz", health(d.healthy))
	mux.HandleFunc("GET /readyz", health(d.isReady))
	return mux
}

// health answers 200 "ok", or 503 and why.
func health(f func(ctx context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTime)
		defer cancel()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := f(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// healthy: the loops run and the store can be written.
func (d *daemon) healthy(ctx context.Context) error {
	for _, loop := range []struct {
		name string
		beat time.Time
		dead time.Duration
	}{
		{"the schedule", d.fleet.schedule.Beat(), loopDead},
		{"the webhook's courier", d.courier.Beat(), loopDead},
		{"the directory's keeper", d.keeper.Beat(), keeperDead},
	} {
		if err := alive(loop.name, loop.beat, loop.dead, time.Now()); err != nil {
			return err
		}
	}
	if err := d.store.Writable(ctx); err != nil {
		return fmt.Errorf("the store cannot be written: %w", err)
	}
	return nil
}

// alive tells from a loop's last turn whether it hangs; one that has not begun
// does not.
func alive(name string, beat time.Time, dead time.Duration, now time.Time) error {
	if beat.IsZero() || now.Sub(beat) <= dead {
		return nil
	}
	return fmt.Errorf("%s has not moved since %s", name, beat.UTC().Format(time.RFC3339))
}

// isReady: configuration and directory are loaded.
func (d *daemon) isReady(context.Context) error {
	if d.snapshot() == nil {
		return errors.New("no complete directory has been read yet")
	}
	return nil
}

// serveMonitor answers until ctx ends.
func serveMonitor(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(grace)
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the metrics page: %w", err)
}
