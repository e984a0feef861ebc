package cluster

import (
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the node tells Prometheus. raft's own metrics carry no group, so many groups would overwrite each
// other's. No label names a tenant.
type metrics struct {
	registerer prometheus.Registerer // nil: none
	appends    *prometheus.HistogramVec
	groups     *groupCollector
}

func newMetrics(n *Node, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		appends: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "croft_cluster_log_append_seconds",
			Help:    "Time to append a batch of entries to a raft log, sync included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18), // 50 µs to 6.5 s
		}, []string{"plane"}),
		groups: &groupCollector{n},
	}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.appends); err != nil {
		return nil, err
	}
	if err := r.Register(m.groups); err != nil {
		r.Unregister(m.appends)
		return nil, err
	}
	return m, nil
}

// appendSeconds is where the log of a group puts the time of its appends.
func (m *metrics) appendSeconds(group string) observer {
	if group == metaName {
		return m.appends.WithLabelValues("metadata")
	}
	return m.appends.WithLabelValues("shard")
}

func (m *metrics) close() {
	if m.registerer != nil {
		m.registerer.Unregister(m.appends)
		m.registerer.Unregister(m.groups)
	}
}

// groupCollector reads the figures of every raft group when asked.
type groupCollector struct{ node *Node }

var (
	groupLabels = []string{"group"}
	leaderDesc  = prometheus.NewDesc("croft_cluster_raft_leader", "1 if this replica leads its group.", groupLabels, nil)
	termDesc    = prometheus.NewDesc("croft_cluster_raft_term", "Current term of the group.", groupLabels, nil)
	commitDesc  = prometheus.NewDesc("croft_cluster_raft_commit_index", "Last entry known to be committed.", groupLabels, nil)
	appliedDesc = prometheus.NewDesc("croft_cluster_raft_applied_index", "Last entry handed to the state machine.", groupLabels, nil)
	markedDesc  = prometheus.NewDesc("croft_cluster_raft_marker_index", "Entry of the newest snapshot or marker.", groupLabels, nil)
	bytesDesc   = prometheus.NewDesc("croft_cluster_log_bytes", "Bytes of entries kept in the log, about.", groupLabels, nil)
	tenantsDesc = prometheus.NewDesc("croft_cluster_tenants", "Tenants in the metadata plane.", nil, nil)
	diskDesc    = prometheus.NewDesc("croft_cluster_disk_free_bytes", "Free disk space when last looked, at most a second before the last write.", nil, nil)
	indexesDesc = prometheus.NewDesc("croft_cluster_indexes", "Indexes in the metadata plane.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *groupCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leaderDesc, termDesc, commitDesc, appliedDesc, markedDesc, bytesDesc, tenantsDesc, indexesDesc, diskDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *groupCollector) Collect(ch chan<- prometheus.Metric) {
	if !c.node.opened.Load() {
		return
	}
	for _, g := range c.node.groups() {
		send := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), g.name)
		}
		leads := uint64(0)
		if g.raft().State() == raft.Leader {
			leads = 1
		}
		send(leaderDesc, leads)
		send(termDesc, g.raft().CurrentTerm())
		send(commitDesc, g.raft().CommitIndex())
		send(appliedDesc, g.raft().AppliedIndex())
		send(markedDesc, g.marked.Load())
		send(bytesDesc, g.log.bytes())
	}
	s := c.node.meta.state()
	ch <- prometheus.MustNewConstMetric(tenantsDesc, prometheus.GaugeValue, float64(s.byName.n))
	ch <- prometheus.MustNewConstMetric(indexesDesc, prometheus.GaugeValue, float64(len(s.indexes)))
	ch <- prometheus.MustNewConstMetric(diskDesc, prometheus.GaugeValue, float64(c.node.disk.sampled.Load()))
}
