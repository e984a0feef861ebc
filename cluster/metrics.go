package cluster

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/tenancy"
)

// metrics is what the node tells Prometheus. raft's own metrics carry no group, so many groups would overwrite each
// other's. No label names a tenant.
type metrics struct {
	registerer prometheus.Registerer // nil: none
	appends    *prometheus.HistogramVec
	groups     *groupCollector
	links      *linkCollector
	tenants    *tenantCollector
	gate       prometheus.Collector // nil: there is none, or it tells nothing
	moves      *moveCollector
	held       prometheus.Histogram
}

func newMetrics(n *Node, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		appends: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "croft_cluster_log_append_seconds",
			Help:    "Time to append a batch of entries to a raft log, sync included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18), // 50 µs to 6.5 s
		}, []string{"plane"}),
		groups:  &groupCollector{n},
		links:   &linkCollector{n},
		tenants: &tenantCollector{n},
		moves:   &moveCollector{n},
		held: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "croft_migrations_write_pause_seconds",
			Help:    "How long writes waited because their tenant changed its home.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 2, 12), // 1 ms to 2 s, which is as long as they wait
		}),
	}
	m.gate, _ = n.gate.(prometheus.Collector)
	if r == nil {
		return m, nil
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	all := []prometheus.Collector{m.appends, m.groups, m.links, m.tenants, m.moves, m.held}
	if m.gate != nil {
		all = append(all, m.gate)
	}
	return all
}

// appendSeconds is where the log of a group puts the time of its appends.
func (m *metrics) appendSeconds(group string) raftlog.Observer {
	if group == metaName {
		return m.appends.WithLabelValues("metadata")
	}
	return m.appends.WithLabelValues("shard")
}

func (m *metrics) close() {
	if m.registerer != nil {
		for _, c := range m.collectors() {
			m.registerer.Unregister(c)
		}
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
	diskDesc    = prometheus.NewDesc("croft_cluster_disk_free_bytes", "Free disk space, as of a second ago at most; without a reserve, nobody looks.", nil, nil)
	reserveDesc = prometheus.NewDesc("croft_cluster_disk_reserve_bytes", "Free disk space below which upserts and updates are refused.", nil, nil)
	stalledDesc = prometheus.NewDesc("croft_cluster_disk_stalled_seconds", "How long the oldest call of a raft log to the disk has been under way.", nil, nil)
	warningDesc = prometheus.NewDesc("croft_cluster_health_warnings", "Warnings of the cluster's health, told by the metadata plane's leader.", []string{"type"}, nil)
	straysDesc  = prometheus.NewDesc("croft_cluster_routing_strays", "Tenants whose data is not where routing leads, as of the last comparison, told by the metadata plane's leader.", nil, nil)
	indexesDesc = prometheus.NewDesc("croft_cluster_indexes", "Indexes in the metadata plane.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *groupCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leaderDesc, termDesc, commitDesc, appliedDesc, markedDesc, bytesDesc, tenantsDesc, indexesDesc, diskDesc, reserveDesc, stalledDesc, warningDesc, straysDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *groupCollector) Collect(ch chan<- prometheus.Metric) {
	if !c.node.opened.Load() {
		return
	}
	stalled, now := time.Duration(0), time.Now()
	for _, g := range c.node.groups() {
		stalled = max(stalled, g.log.Stalled(now))
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
		send(bytesDesc, g.log.Bytes())
	}
	s := c.node.meta.state()
	ch <- prometheus.MustNewConstMetric(tenantsDesc, prometheus.GaugeValue, float64(s.byName.n))
	ch <- prometheus.MustNewConstMetric(indexesDesc, prometheus.GaugeValue, float64(len(s.indexes)))
	ch <- prometheus.MustNewConstMetric(stalledDesc, prometheus.GaugeValue, stalled.Seconds())
	if disk := c.node.disk; disk.reserve >= 0 {
		_ = disk.sample() // what cannot be asked has the last figure
		ch <- prometheus.MustNewConstMetric(diskDesc, prometheus.GaugeValue, float64(disk.sampled.Load()))
		ch <- prometheus.MustNewConstMetric(reserveDesc, prometheus.GaugeValue, float64(disk.reserve))
	}
	c.health(ch)
}

// health tells what the metadata plane's leader has found; other nodes tell nothing.
func (c *groupCollector) health(ch chan<- prometheus.Metric) {
	for _, kind := range balance.Kinds() {
		if n, ok := c.node.healthWatch.warnings(kind); ok {
			ch <- prometheus.MustNewConstMetric(warningDesc, prometheus.GaugeValue, float64(n), kind)
		}
	}
	if r := c.node.verifier.report(); r != nil {
		ch <- prometheus.MustNewConstMetric(straysDesc, prometheus.GaugeValue, float64(len(r.astray())))
	}
}

// tenantCollector tells sums over tenants. No series is per tenant.
type tenantCollector struct{ node *Node }

func tenantDesc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

func tierDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"tier"}, nil)
}

var (
	hotDesc          = tenantDesc("croft_hot_tenants", "Tenants that take over a fifth of a shard that is led here, and that others use too.")
	usageDesc        = prometheus.NewDesc("croft_usage_total", "What all tenants have used, as it was written down by this node.", []string{"figure"}, nil)
	usageLostDesc    = tenantDesc("croft_usage_lost_total", "Tenants' hours of which some seconds may not have been written down.")
	remembersDesc    = tenantDesc("croft_refused_at_once_total", "Requests refused where they came in, since their tenant was refused a moment ago.")
	slowedDesc       = tenantDesc("croft_slowed_total", "Requests of floods of refused ones that waited where they came in.")
	cacheHitsDesc    = tierDesc("croft_cache_hits_total", "Searches answered from the result cache.")
	cacheMissesDesc  = tierDesc("croft_cache_misses_total", "Searches whose result was not in the cache.")
	cacheEvictedDesc = tenantDesc("croft_cache_evicted_total", "Results that gave way to others of the same tenant, or to those of tenants that use less.")
	cacheBytesDesc   = tenantDesc("croft_cache_bytes", "Memory of kept results.")
	cacheLimitDesc   = tenantDesc("croft_cache_limit_bytes", "Memory that kept results may take.")
	searchDesc       = prometheus.NewDesc("croft_search_total", "Searches over many tenants that came in here, by result: whole, partial, cached, refused, failed.", []string{"result"}, nil)
	searchPartsDesc  = tenantDesc("croft_search_partitions_total", "Partitions searched here for searches over many tenants.")
	sharesDesc       = prometheus.NewDesc("croft_quota_shares_total", "Shares of quotas asked of tenants' homes for reads at level any, by result: lent, none, failed.", []string{"result"}, nil)
	cacheOffDesc     = tenantDesc("croft_cache_tenants_off", "Tenants whose results are not kept for now, since that hardly helped.")
)

// Describe implements prometheus.Collector.
func (c *tenantCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		hotDesc, usageDesc, usageLostDesc, remembersDesc, slowedDesc, cacheHitsDesc, cacheMissesDesc, cacheEvictedDesc, cacheBytesDesc, cacheLimitDesc, cacheOffDesc,
		searchDesc, searchPartsDesc, sharesDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *tenantCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.node
	if !n.opened.Load() {
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, kind, v)
	}
	send(hotDesc, prometheus.GaugeValue, float64(n.hot.Load()))
	for _, f := range tenancy.Figures() {
		ch <- prometheus.MustNewConstMetric(usageDesc, prometheus.CounterValue, float64(n.usage.kept[f].Load()), f.String())
	}
	for result, name := range searchResultNames {
		ch <- prometheus.MustNewConstMetric(searchDesc, prometheus.CounterValue, float64(n.searches.counts[result].Load()), name)
	}
	for result, name := range shareResultNames {
		ch <- prometheus.MustNewConstMetric(sharesDesc, prometheus.CounterValue, float64(n.shares.counts[result].Load()), name)
	}
	send(searchPartsDesc, prometheus.CounterValue, float64(n.searches.parts.Load()))
	send(usageLostDesc, prometheus.CounterValue, float64(n.usage.lost.Load()))
	refused, slowed := n.refusals.Counts()
	send(remembersDesc, prometheus.CounterValue, float64(refused))
	send(slowedDesc, prometheus.CounterValue, float64(slowed))
	if n.cache == nil {
		return
	}
	sum, bytes, _, off := n.cache.Total()
	n.cache.ByTier(func(tier string, hits, misses uint64) {
		ch <- prometheus.MustNewConstMetric(cacheHitsDesc, prometheus.CounterValue, float64(hits), tier)
		ch <- prometheus.MustNewConstMetric(cacheMissesDesc, prometheus.CounterValue, float64(misses), tier)
	})
	send(cacheEvictedDesc, prometheus.CounterValue, float64(sum.Evicted))
	send(cacheBytesDesc, prometheus.GaugeValue, float64(bytes))
	send(cacheLimitDesc, prometheus.GaugeValue, float64(n.opts.CacheBytes))
	send(cacheOffDesc, prometheus.GaugeValue, float64(off))
}

// moveCollector tells of tenants that move between shards. What is in the metadata plane is the same on all nodes.
type moveCollector struct{ node *Node }

var (
	movesDesc       = prometheus.NewDesc("croft_migrations", "Migrations by phase, as the metadata plane knows them: those that are over, but for the last ones, are forgotten.", []string{"phase"}, nil)
	movesStuckDesc  = tenantDesc("croft_migrations_unchanged_seconds", "How long the migration that is under way has been in its phase, of several the longest.")
	moveBytesDesc   = tenantDesc("croft_migrations_received_bytes_total", "Bytes of tenants that came to shards that are led here.")
	moveFaultsDesc  = tenantDesc("croft_migrations_failed_requests_total", "Requests that came in here and failed while their tenant was moved.")
	moveLongestDesc = tenantDesc("croft_migrations_longest_pause_seconds", "The longest that a write has waited here because its tenant changed its home, since this node started.")
)

// Describe implements prometheus.Collector.
func (c *moveCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{movesDesc, movesStuckDesc, moveBytesDesc, moveFaultsDesc, moveLongestDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *moveCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.node
	if !n.opened.Load() {
		return
	}
	var counts [len(movePhases)]int
	oldest, now := int64(0), time.Now().UnixNano()
	for _, m := range n.meta.state().moves {
		counts[m.phase]++
		if m.phase.working() {
			oldest = max(oldest, now-m.changed())
		}
	}
	for p := movePlanned; int(p) < len(counts); p++ {
		ch <- prometheus.MustNewConstMetric(movesDesc, prometheus.GaugeValue, float64(counts[p]), p.String())
	}
	for _, f := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		v    float64
	}{
		{movesStuckDesc, prometheus.GaugeValue, time.Duration(oldest).Seconds()},
		{moveBytesDesc, prometheus.CounterValue, float64(n.mover.received.Load())},
		{moveFaultsDesc, prometheus.CounterValue, float64(n.mover.faults.total.Load())},
		{moveLongestDesc, prometheus.GaugeValue, time.Duration(n.mover.longest.Load()).Seconds()},
	} {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.v)
	}
}

// linkCollector reads what passed between this node and each of the others.
type linkCollector struct{ node *Node }

var (
	peerLabels     = []string{"peer"} // ids of members, and "unknown" for all others
	sentDesc       = prometheus.NewDesc("croft_cluster_peer_sent_bytes_total", "Bytes sent to a node, of calls and of raft, before TLS.", peerLabels, nil)
	receivedDesc   = prometheus.NewDesc("croft_cluster_peer_received_bytes_total", "Bytes received from a node, of calls and of raft, after TLS.", peerLabels, nil)
	callsDesc      = prometheus.NewDesc("croft_cluster_peer_calls_total", "Calls to a node.", peerLabels, nil)
	callFaultsDesc = prometheus.NewDesc("croft_cluster_peer_call_failures_total", "Calls to a node that was not reached or did not answer.", peerLabels, nil)
	raftDesc       = prometheus.NewDesc("croft_cluster_peer_raft_requests_total", "Entries and heartbeats of raft sent to a node, by requests.", peerLabels, nil)
	raftFaultsDesc = prometheus.NewDesc("croft_cluster_peer_raft_failures_total", "Requests of raft that a node did not answer.", peerLabels, nil)
	silentDesc     = prometheus.NewDesc("croft_cluster_peer_silent", "1 while a node does not answer raft.", peerLabels, nil)
)

// Describe implements prometheus.Collector.
func (c *linkCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sentDesc, receivedDesc, callsDesc, callFaultsDesc, raftDesc, raftFaultsDesc, silentDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *linkCollector) Collect(ch chan<- prometheus.Metric) {
	if !c.node.opened.Load() {
		return
	}
	s := c.node.meta.state()
	c.node.links.nodes.Range(func(node, v any) bool {
		peer, k := node.(string), v.(*linkCounts)
		if m, ok := s.member(peer); ok && m.state == memberRemoved {
			return true
		}
		silent := float64(0)
		if k.silent.Load() {
			silent = 1
		}
		ch <- prometheus.MustNewConstMetric(silentDesc, prometheus.GaugeValue, silent, peer)
		for _, f := range []struct {
			desc *prometheus.Desc
			n    uint64
		}{
			{sentDesc, k.sent.Load()}, {receivedDesc, k.received.Load()}, {callsDesc, k.calls.Load()},
			{callFaultsDesc, k.failedCalls.Load()}, {raftDesc, k.raft.Load()}, {raftFaultsDesc, k.failedRaft.Load()},
		} {
			ch <- prometheus.MustNewConstMetric(f.desc, prometheus.CounterValue, float64(f.n), peer)
		}
		return true
	})
}
