package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/api"
)

// Set by the linker: -ldflags "-X main.version=… -X main.commit=… -X main.date=…".
var version, commit, date string

type build struct {
	Version     string   `json:"version"`
	Commit      string   `json:"commit"`
	Date        string   `json:"date"`
	Go          string   `json:"go"`
	Platform    string   `json:"platform"`
	APIVersions []string `json:"api_versions"`
}

// buildInfo is what the linker was told, else what the toolchain recorded.
func buildInfo() build {
	b := build{Version: version, Commit: commit, Date: date, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, APIVersions: api.Versions()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	recorded := map[string]string{}
	for _, s := range info.Settings {
		recorded[s.Key] = s.Value
	}
	b.Version = firstNonEmpty(b.Version, info.Main.Version, "(devel)")
	b.Commit = firstNonEmpty(b.Commit, recorded["vcs.revision"], "unknown")
	b.Date = firstNonEmpty(b.Date, recorded["vcs.time"], "unknown")
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and API versions served",
		Example: `  croft version
  croft version -o json`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			rows := [][]string{{"croft", b.Version}, {"commit", b.Commit}, {"date", b.Date}, {"go", b.Go + " " + b.Platform}}
			rows = append(rows, []string{"api", strings.Join(b.APIVersions, " ")})
			return a.print(listing{value: b, rows: rows})
		},
	}
}
