package main

import (
	"context"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/store/bolt"
)

func newKeyCommand(env *environment) *cobra.Command {
	return group("key", "the key that seals the store", newKeyNewCommand(env), newKeyRotateCommand(env))
}

func newKeyNewCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "write a new key file, mode 0600; an existing file is never touched",
		Long: `Writes a file with a fresh random key. Name it as secrets.key_file, and keep a
copy elsewhere: without the key the store cannot be read.`,
		Args: wants(1, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := bolt.NewKeyFile(args[0]); err != nil {
				return err
			}
			return env.print(outputText, answer{text: func(p *page) {
				p.line("%s written; name it as secrets.key_file and keep a copy elsewhere", args[0])
			}})
		},
	}
}

func newKeyRotateCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "seal the store again with the first line of the key file",
		Long: `Seals everything again with the first line of secrets.key_file. To rotate: make
a new key, put it above the old one in the file, and run this. When it says that
it is complete, remove the second line. It may be interrupted and run again.`,
		Args: wants(0, 0, ""),
	}
	return withDaemon(env, cmd, func(ctx context.Context, c *admin.Client, _ []string) (answer, error) {
		r, err := c.RotateKey(ctx)
		return answer{value: r, text: func(p *page) {
			p.line("%d rows sealed again", r.Resealed)
			if !r.Complete {
				p.line("not complete: run it again before you remove the previous key")
				return
			}
			p.line("complete: everything is sealed with the first key of the file; the second can go")
		}}, err
	})
}
