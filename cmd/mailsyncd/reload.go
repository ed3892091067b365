package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newReloadCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "read configuration and directory again; a bad file changes nothing",
		Args:  wants(0, 0, ""),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		r, err := c.Reload(ctx)
		return answer{value: r, text: func(p *page) { p.reloaded(r) }}, reloadProblem(err)
	})
}

// reloadProblem spreads a refused configuration over lines and gives it the
// exit code that `check` would give it.
func reloadProblem(err error) error {
	var p *admin.Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity {
		return err
	}
	lines := append([]string{p.Detail}, p.Errors...)
	return withCode(exitUsage, errors.New(strings.Join(lines, "\n")))
}

func (p *page) reloaded(r admin.ReloadResult) {
	const most = 20
	lists := []struct {
		what  string
		names []string
	}{
		{"mailboxes added", r.Added}, {"mailboxes removed", r.Removed},
		{"mailboxes changed", r.Changed}, {"settings changed", r.Settings},
	}
	quiet := true
	for _, l := range lists {
		if len(l.names) == 0 {
			continue
		}
		quiet = false
		text := strings.Join(l.names[:min(most, len(l.names))], ", ")
		if len(l.names) > most {
			text += fmt.Sprintf(" and %d more", len(l.names)-most)
		}
		p.line("%s: %s", l.what, text)
	}
	if quiet {
		p.line("reloaded; nothing changed in the configuration")
	}
	if len(r.Restart) > 0 {
		p.line("! without effect until a restart: %s", strings.Join(r.Restart, ", "))
	}
}
