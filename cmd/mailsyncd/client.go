package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

const defaultSocket = "/run/mailsyncd/admin.sock"

// daemonCommand is a command that asks the daemon something and prints the
// answer, for a person or as JSON.
type daemonCommand struct {
	env    *environment
	socket string
	output outputFormat
}

// withDaemon gives a command the flags of one, and the function its call runs
// in. call returns the answer's JSON form and its text form.
func withDaemon(env *environment, cmd *cobra.Command,
	call func(ctx context.Context, c *admin.Client, args []string) (answer, error)) *cobra.Command {
	d := &daemonCommand{env: env}
	socket := cmp.Or(env.getenv("MAILSYNCD_SOCKET"), defaultSocket)
	cmd.Flags().StringVar(&d.socket, "socket", socket, "admin socket of the daemon, its `PATH`; also MAILSYNCD_SOCKET")
	cmd.Flags().Var(&d.output, "output", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := admin.NewClient(d.socket)
		defer client.Close()
		a, err := call(cmd.Context(), client, args)
		if errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		if err != nil {
			return err
		}
		return d.print(a)
	}
	return cmd
}

// answer is what a command says: value as JSON, text for a person. failed, if
// not nil, is reported after the answer was printed.
type answer struct {
	value  any
	text   func(p *page)
	failed error
}

func (d *daemonCommand) print(a answer) error {
	if err := d.env.print(d.output, a); err != nil {
		return err
	}
	return a.failed
}

func (env *environment) print(format outputFormat, a answer) error {
	if format == outputJSON {
		enc := json.NewEncoder(env.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(a.value)
	}
	p := newPage(env.now())
	a.text(p)
	return p.writeTo(env.stdout)
}

// outputFormat is the value of --output.
type outputFormat string

const (
	outputText outputFormat = "" // the zero value: for a person
	outputJSON outputFormat = "json"
)

// Set is part of pflag.Value.
func (f *outputFormat) Set(s string) error {
	switch s {
	case "text":
		*f = outputText
	case "json":
		*f = outputJSON
	default:
		return errors.New("write text or json")
	}
	return nil
}

// String is part of pflag.Value.
func (f *outputFormat) String() string { return cmp.Or(string(*f), "text") }

// Type is part of pflag.Value.
func (f *outputFormat) Type() string { return "FORMAT" }
