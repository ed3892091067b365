package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"mailsyncd/config"
)

func newServeCommand(env *environment) *cobra.Command {
	var file string
	var dry bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "the daemon: poll mailboxes, match, deliver",
		Long: `Runs until SIGTERM or SIGINT, which let posts in flight finish (30 s at most);
a second one ends it at once. SIGHUP reads configuration and directory again;
SIGUSR1 takes sync.resync_file and polls every mailbox.

With --dry-run it does the same on an empty store of its own that is thrown away
at the end, and posts nothing: it prints each match as a line of JSON, as it
would have been posted, and, once every mailbox was polled and again at the end,
a line with the counts per guard. It leaves the store, the socket and the metrics
page alone, so it can run beside a daemon. What it prints holds names, addresses
and subjects.`,
		Args: wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dry {
				return serveDry(cmd.Context(), env, file)
			}
			return serve(cmd.Context(), env, file)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "sync and decide, but record and post nothing; print the matches")
	return cmd
}

// configFlag adds --config, which has no default: a daemon that picks up a file
// nobody named surprises.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "the configuration file (required)")
	_ = cmd.MarkFlagRequired("config") // fails only for a flag that is not there
}

// gcPercent lets the heap grow by half between two collections instead of to
// the double: a daemon beside an ATS is asked for its memory more often than for
// its CPU. GOGC in the environment overrules it.
const gcPercent = 50

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, env *environment, file string) error {
	if env.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	d, err := newDaemon(cfg, env.stderr, nil)
	if err != nil {
		return err
	}
	return errors.Join(d.runObedient(ctx), d.close())
}

// serveDry is serve on a store that is thrown away, with a printer for a webhook.
func serveDry(ctx context.Context, env *environment, file string) (err error) {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	dry, err := newDryRun(env.stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dry.remove()) }()
	d, err := newDaemon(cfg, env.stderr, dry)
	if err != nil {
		return err
	}
	d.log.Info("dry run: nothing is recorded and nothing is posted", "event", "dry_run")
	err = d.runObedient(ctx)
	dry.sum(d)
	return errors.Join(err, d.close())
}

// runObedient runs the daemon and takes its signals meanwhile.
func (d *daemon) runObedient(ctx context.Context) error {
	stopped := make(chan struct{})
	defer close(stopped)
	go d.obey(ctx, stopped)
	return d.run(ctx)
}

// obey takes the signals of a running daemon: SIGHUP reloads; SIGUSR1 takes the
// resync file and polls every mailbox; a second SIGTERM
// or SIGINT, after the first has ended ctx, ends the process at once.
func (d *daemon) obey(ctx context.Context, stopped <-chan struct{}) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	told := false // to stop; main's context has heard it too
	for {
		select {
		case <-stopped:
			return
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				_, _ = d.Reload(ctx) // logged, counted, shown by status
			case s == syscall.SIGUSR1:
				d.ask()
			case told:
				os.Exit(exitFailed)
			default:
				told = true
			}
		}
	}
}

// ask has the resync file taken, soon.
func (d *daemon) ask() {
	select {
	case d.asked <- struct{}{}:
	default: // one is waiting already
	}
}
