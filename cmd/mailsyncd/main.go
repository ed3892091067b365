// Command mailsyncd syncs candidate mail from recruiters' mailboxes to the
// webhook of an applicant tracking system. `mailsyncd --help` lists what it
// does; docs/OPERATING.md is the manual.
//
// main.go and root.go decide how it starts and ends, serve.go wires the daemon
// together, and every other command has a file of its own. Commands that need
// the daemon talk to it over its admin socket; they never open its store.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
