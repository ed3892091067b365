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
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "the daemon: poll mailboxes, match, deliver",
		Long: `Runs until SIGTERM or SIGINT, which let posts in flight finish (30 s at most);
a second one ends it at once. SIGHUP reads configuration and directory again.`,
		Args: wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), env, file)
		},
	}
	configFlag(cmd, &file)
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
	d, err := newDaemon(cfg, env.stderr)
	if err != nil {
		return err
	}
	stopped := make(chan struct{})
	go d.obey(ctx, stopped)
	err = d.run(ctx)
	close(stopped)
	return errors.Join(err, d.close())
}

// obey takes the signals of a running daemon: SIGHUP reloads; a second SIGTERM
// or SIGINT, after the first has ended ctx, ends the process at once.
func (d *daemon) obey(ctx context.Context, stopped <-chan struct{}) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
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
			case told:
				os.Exit(exitFailed)
			default:
				told = true
			}
		}
	}
}
