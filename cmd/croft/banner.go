package main

import (
	"fmt"

	"github.com/croftdb/croft/internal/api"
)

// banner tells people where things are. Scripts wait for the line on stdout instead.
func (a *app) banner(cfg config, f *floors, firstKey string) {
	a.note("croft %s", buildInfo().Version)
	a.note("  API      %s%s", f.url, advertised(cfg))
	a.note("  Data     %s", cfg.data)
	if isLoopback(cfg.listen) {
		host, port, _ := splitAddress(f.server.Addr().String())
		a.note("  Indexes  have ports of their own, %s:%d to %d", host, port+1, port+api.IndexPorts)
	}
	a.note("  Metrics  %s/metrics", f.url)
	switch {
	case firstKey != "":
		// Even with --quiet: it is shown this once.
		fmt.Fprintf(a.stderr, "  Key      %s\n           shown this once, only its hash is stored; give it to clients as CROFT_API_KEY\n", firstKey)
	case cfg.adminKey != "":
		a.note("  Key      the one of CROFT_ADMIN_KEY")
	default:
		a.note("  Key      the one printed at the first start; lost? start with CROFT_ADMIN_KEY=<a new one>")
	}
	if firstKey != "" && cfg.saveKey {
		if err := a.saveKey(f.url, firstKey); err != nil {
			a.note("           not saved: %v", err)
		}
	}
}

func advertised(cfg config) string {
	if cfg.advertise == "" {
		return ""
	}
	return ", advertised as " + cfg.advertise
}
