package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry holds the metrics of one server: its own, the runtime's and the process's.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	b := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "croft_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
