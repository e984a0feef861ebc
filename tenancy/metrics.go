package tenancy

import "github.com/prometheus/client_golang/prometheus"

var _ prometheus.Collector = (*Admission)(nil)

func gateDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("croft_gate_"+name, help, labels, nil)
}

var (
	gateRunning = gateDesc("running", "Requests that run, by kind of work and tier.", "lane", "tier")
	gateLimit   = gateDesc("limit", "Requests of a kind that may run at once on this node.", "lane")
	gateWaiting = gateDesc("waiting", "Requests that wait for their turn.", "tier")
	gateWaits   = gateDesc("wait_seconds", "Time for which requests waited that were let in.", "tier")
	gateRefused = gateDesc("refused_total", "Requests that their tenant's home did not let in, by the reason.", "reason", "tier")
	gateOpen    = gateDesc("breakers_open", "Tenants that are refused for a while, since too many of their requests failed or took too long.", "tier")
	gateRoom    = gateDesc("waiting_limit", "Requests of all tenants that may wait on this node.")
	gateBytes   = gateDesc("waiting_bytes", "Memory of the requests that wait.")
)

// laneNames are kinds of work as metrics call them. Hits of the cache have no limit.
var laneNames = [laneCount]string{"compute", "write", "hit"}

// Describe implements prometheus.Collector.
func (a *Admission) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gateRunning, gateLimit, gateWaiting, gateWaits, gateRefused, gateOpen, gateRoom, gateBytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Series are by tier, of which there are few, and never by tenant.
func (a *Admission) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	tiers, held := a.figures()
	for _, f := range tiers {
		for l, n := range f.running {
			send(gateRunning, float64(n), laneNames[l], f.name)
		}
		send(gateWaiting, float64(f.waiting), f.name)
		send(gateOpen, float64(f.open), f.name)
		for why, n := range f.refused {
			ch <- prometheus.MustNewConstMetric(gateRefused, prometheus.CounterValue, float64(n), reasonNames[why], f.name)
		}
		ch <- prometheus.MustNewConstHistogram(gateWaits, f.waits.total, f.waits.sum.Seconds(), f.waits.buckets(), f.name)
	}
	send(gateLimit, float64(a.opts.Searches), laneNames[laneCompute])
	send(gateLimit, float64(a.opts.Writes), laneNames[laneWrite])
	send(gateRoom, float64(a.opts.Waiting))
	send(gateBytes, float64(held))
}

// figures is a copy of what was counted, so that nothing waits for whoever reads it.
func (a *Admission) figures() (tiers []tierFigures, held int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.tiers {
		tiers = append(tiers, *f)
	}
	return tiers, a.held
}

// buckets are counts up to each bound, as Prometheus has them.
func (w *waitFigures) buckets() map[float64]uint64 {
	all, sum := make(map[float64]uint64, len(waitBounds)), uint64(0)
	for i, bound := range waitBounds {
		sum += w.counts[i]
		all[bound.Seconds()] = sum
	}
	return all
}
