package main

import (
	"context"
	"errors"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/providers/gmail"
	"mailsyncd/sync/schedule"
)

func newConnectCommand(env *environment) *cobra.Command {
	var noBrowser bool
	cmd := &cobra.Command{
		Use:   "connect MAILBOX",
		Short: "have the user of a Gmail mailbox give their consent",
		Long: `Asks the user of a Gmail mailbox for their consent to read its headers, in a
browser on this machine, and hands it to the daemon, which keeps it sealed and
polls the mailbox at once. The user must sign in with the mailbox's own account.

Without a browser here, --no-browser prints an address to open anywhere: the
browser ends on a page that cannot be reached, and its address is pasted here.

It is for mailboxes with a client_file. A service account needs no consent.`,
		Args: wants(1, 1, "MAILBOX"),
	}
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address to open, and read the one that comes back")
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, args []string) (answer, error) {
		conn, err := c.Connection(ctx, args[0])
		if err == nil {
			err = gmail.Connect(ctx, env.consent(c, conn, noBrowser))
		}
		return answer{
			value: map[string]string{"connected": conn.Mailbox},
			text: func(p *page) {
				p.line("%s is connected; `mailsyncd status --mailbox %s` shows its first sync", conn.Mailbox, conn.Mailbox)
			},
		}, err
	})
}

// consent is what asks the user. Instructions go to stderr: stdout says what came
// of it.
func (env *environment) consent(c *admin.Client, conn admin.Connection, noBrowser bool) gmail.ConnectConfig {
	cfg := gmail.ConnectConfig{
		Mailbox: conn.Mailbox, Address: conn.Address, Mode: gmail.Mode(conn.Mode),
		Client: gmail.Client{
			ID: conn.Client.ID, Secret: conn.Client.Secret, AuthURL: conn.Client.AuthURL, TokenURL: conn.Client.TokenURL,
		},
		Tokens: handedOver{c}, Endpoint: conn.Endpoint, Out: env.stderr, OpenBrowser: env.browse,
	}
	if noBrowser {
		cfg.Pasted = env.stdin
	}
	return cfg
}

// handedOver gives the refresh token to the daemon.
type handedOver struct{ client *admin.Client }

// LoadToken implements gmail.TokenStore: the daemon gives no token out.
func (handedOver) LoadToken(context.Context, string) (gmail.RefreshToken, error) { return "", nil }

// SaveToken implements gmail.TokenStore.
func (h handedOver) SaveToken(ctx context.Context, mailbox string, token gmail.RefreshToken) error {
	return h.client.SetToken(ctx, mailbox, string(token))
}

// openBrowser opens a URL in the user's browser.
func openBrowser(url string) error {
	name := map[string]string{"darwin": "open", "windows": "explorer"}[runtime.GOOS]
	if name == "" {
		name = "xdg-open"
	}
	cmd := exec.Command(name, url)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // it may stay as long as the browser does
	return nil
}

// ignoreUnknown passes over a mailbox that is not scheduled: it is paused or
// suspended.
func ignoreUnknown(err error) error {
	if errors.Is(err, schedule.ErrUnknown) {
		return nil
	}
	return err
}
