package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion is set by the linker (-X main.buildVersion=...); a plain "go build" has the module's version.
var buildVersion = ""

func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [OPTION...]",
		Short: "Show the version",
		Long: `Version shows the version of overlayd, the version of Go that it was built with,
and the platform that it was built for.`,
		Example: "  overlayd version --json",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.writeJSON(struct {
					FormatVersion string `json:"format_version"`
					Version       string `json:"version"`
					Go            string `json:"go"`
					Platform      string `json:"platform"`
				}{formatVersion, version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
			}
			return a.writeVersion()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the version as JSON")
	return cmd
}

func (a *app) writeVersion() error {
	_, err := fmt.Fprintf(a.out, "overlayd %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS,
		runtime.GOARCH)
	return err
}
