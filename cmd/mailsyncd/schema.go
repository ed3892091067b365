package main

import (
	"strings"

	"github.com/spf13/cobra"

	"mailsyncd/webhook"
)

func newSchemaCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "schema TYPE",
		Short: "print the JSON Schema of an event type",
		Long:  "Prints the JSON Schema (2020-12) of an event type: " + strings.Join(webhook.Types(), ", ") + ".",
		Args:  wants(1, 1, "TYPE"),
		RunE: func(_ *cobra.Command, args []string) error {
			schema, ok := webhook.Schema(args[0])
			if !ok {
				return usagef("unknown event type %q; write one of %s", args[0], strings.Join(webhook.Types(), ", "))
			}
			_, err := env.stdout.Write(schema)
			return err
		},
	}
}
