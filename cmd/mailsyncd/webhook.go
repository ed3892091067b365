package main

import (
	"context"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

func newWebhookCommand(env *environment) *cobra.Command {
	return group("webhook", "stop and start the posts to the ATS",
		newWebhookStateCommand(env, "pause", "post nothing until resumed; events are kept", (*admin.Client).PauseWebhook),
		newWebhookStateCommand(env, "resume", "post again, also after the receiver answered 410", (*admin.Client).ResumeWebhook))
}

func newWebhookStateCommand(env *environment, use, short string,
	set func(*admin.Client, context.Context) (admin.WebhookStatus, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: wants(0, 0, "")}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		w, err := set(c, ctx)
		return answer{value: w, text: func(p *page) { p.line("the webhook is %s", p.webhook(w)) }}, err
	})
}
