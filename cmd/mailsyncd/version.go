package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
)

// version is set by the linker (-X main.version=v1.2.3) and nothing else.
var version string

func newVersionCommand(env *environment) *cobra.Command {
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version of this binary",
		Args:  wants(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			return env.print(output, answer{value: v, text: func(p *page) {
				p.line("mailsyncd %s (revision %s, %s, %s)", v.Version, cmp.Or(v.Revision, "unknown"), v.Go, v.Platform)
			}})
		},
	}
	cmd.Flags().Var(&output, "output", "text or json")
	return cmd
}

// buildVersion says what this binary is: the linker's version, else what the
// go tool noted when it built it.
func buildVersion() admin.Version {
	v := admin.Version{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = cmp.Or(v.Version, "devel")
		return v
	}
	v.Version = cmp.Or(v.Version, info.Main.Version, "devel")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
