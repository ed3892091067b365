package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
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
	ears := listenSignals(os.Exit)
	defer ears.close()
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
	return errors.Join(d.runObedient(ctx, ears), d.close())
}

// serveDry is serve on a store that is thrown away, with a printer for a webhook.
func serveDry(ctx context.Context, env *environment, file string) (err error) {
	ears := listenSignals(os.Exit)
	defer ears.close()
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
	err = d.runObedient(ctx, ears)
	dry.sum(d)
	return errors.Join(err, d.close())
}

// runObedient runs the daemon and does what its signals ask for. A reload that is
// under way at the end is waited for: it works in the store.
func (d *daemon) runObedient(ctx context.Context, ears *ears) error {
	obeying, stop := context.WithCancel(ctx)
	var obedience sync.WaitGroup
	obedience.Go(func() { follow(obeying, ears.reload, func() { _, _ = d.Reload(obeying) }) }) // logged, counted, shown by status
	obedience.Go(func() { follow(obeying, ears.resync, d.ask) })
	err := d.run(ctx)
	stop()
	obedience.Wait()
	return err
}

// follow does what is asked for until ctx ends.
func follow(ctx context.Context, asked <-chan struct{}, do func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			do()
		}
	}
}

// ears hear the signals of a daemon from before its start, which may take long,
// to after its end: SIGHUP asks for a reload, SIGUSR1 for the resync file and a
// poll of every mailbox; a second SIGTERM or SIGINT, after the first has ended
// main's context, ends the process at once, whatever is under way.
type ears struct {
	signals        chan os.Signal
	reload, resync chan struct{} // capacity 1: asked for, not yet begun
	deaf           chan struct{} // closed to end
	ended          chan struct{}
}

func listenSignals(exit func(code int)) *ears {
	e := &ears{
		signals: make(chan os.Signal, 8),
		reload:  make(chan struct{}, 1), resync: make(chan struct{}, 1),
		deaf: make(chan struct{}), ended: make(chan struct{}),
	}
	signal.Notify(e.signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM)
	go e.listen(exit)
	return e
}

func (e *ears) listen(exit func(code int)) {
	defer close(e.ended)
	told := false // to stop; main's context has heard it too
	for {
		select {
		case <-e.deaf:
			return
		case s := <-e.signals:
			switch {
			case s == syscall.SIGHUP:
				wake(e.reload)
			case s == syscall.SIGUSR1:
				wake(e.resync)
			case told:
				exit(exitFailed)
			default:
				told = true
			}
		}
	}
}

func (e *ears) close() {
	signal.Stop(e.signals)
	close(e.deaf)
	<-e.ended
}

// wake never blocks: who is awake already has one more turn.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ask has the resync file taken, soon.
func (d *daemon) ask() { wake(d.asked) }
