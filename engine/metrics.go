package engine

import "github.com/prometheus/client_golang/prometheus"

// collector tells the sums over the shards of an engine; no series is per tenant.
type collector struct{ engine *Engine }

var gauges = []struct {
	desc  *prometheus.Desc
	value func(Stats) uint64
}{
	{gauge("partitions", "Partitions on this node."), func(s Stats) uint64 { return uint64(s.Partitions) }},
	{gauge("partitions_loaded", "Partitions whose search structures are in memory."), func(s Stats) uint64 { return uint64(s.Loaded) }},
	{gauge("records", "Records stored."), func(s Stats) uint64 { return s.Records }},
	{gauge("records_bytes", "Logical size of the records: ids, values, metadata."), func(s Stats) uint64 { return s.Bytes }},
	{gauge("away_records", "Records of tenants that live elsewhere: copies on their way, or left behind."), func(s Stats) uint64 { return s.AwayRecords }},
	{gauge("away_bytes", "Logical size of those."), func(s Stats) uint64 { return s.AwayBytes }},
	{gauge("segments", "Vector segments on disk."), func(s Stats) uint64 { return uint64(s.Segments) }},
	{gauge("segment_bytes", "Size of the vector segments on disk."), func(s Stats) uint64 { return s.SegmentBytes }},
	{gauge("resident_bytes", "Memory of search structures, without mapped vectors."), func(s Stats) uint64 { return s.ResidentBytes }},
	{gauge("buffer_bytes", "Writes that are applied and not yet flushed."), func(s Stats) uint64 { return s.BufferBytes }},
}

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("croft_engine_"+name, help, nil, nil)
}

var (
	queriesTotal  = prometheus.NewDesc("croft_engine_queries_total", "Partition searches begun.", nil, nil)
	insertedTotal = prometheus.NewDesc("croft_engine_graph_inserts_total", "Vectors put into graphs by the builders.", nil, nil)
	loadedTotal   = prometheus.NewDesc("croft_engine_graph_loads_total", "Graphs read from their checkpoints instead of being built.", nil, nil)
	sampledFound  = prometheus.NewDesc("croft_engine_recall_sampled_found_total", "True nearest neighbours that a sample of graph searches found.", nil, nil)
	sampledWanted = prometheus.NewDesc("croft_engine_recall_sampled_wanted_total", "True nearest neighbours that a sample of graph searches was to find.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
	ch <- queriesTotal
	ch <- insertedTotal
	ch <- loadedTotal
	ch <- sampledFound
	ch <- sampledWanted
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	sums := make([]uint64, len(gauges))
	for _, s := range c.engine.openShards() {
		st := s.Stats()
		for i, g := range gauges {
			sums[i] += g.value(st)
		}
	}
	for i, g := range gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(sums[i]))
	}
	ch <- prometheus.MustNewConstMetric(queriesTotal, prometheus.CounterValue, float64(c.engine.queries.Load()))
	ch <- prometheus.MustNewConstMetric(insertedTotal, prometheus.CounterValue, float64(c.engine.graphInserts.Load()))
	ch <- prometheus.MustNewConstMetric(loadedTotal, prometheus.CounterValue, float64(c.engine.graphLoads.Load()))
	ch <- prometheus.MustNewConstMetric(sampledFound, prometheus.CounterValue, float64(c.engine.sampled.found.Load()))
	ch <- prometheus.MustNewConstMetric(sampledWanted, prometheus.CounterValue, float64(c.engine.sampled.wanted.Load()))
}
