package cluster

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// meters tell how often the queries of each shard that came in at this node were answered over the last minute, and how fast,
// wherever the shard was asked. Each query is counted where it came in.
type meters struct {
	started time.Time
	shards  [maxShardIDs]atomic.Pointer[meter]
}

// A meter counts latencies in windows of 10 s, of which the last six make the minute. Its buckets are a quarter of an
// octave wide, from 50 µs on, so that a percentile is off by a tenth at most.
const (
	meterWindow  = 10 * time.Second
	meterWindows = 6
	meterOctave  = 4
	meterBuckets = 21 * meterOctave // up to 100 s
	meterFloor   = 50 * time.Microsecond
)

type meter struct {
	mu      sync.Mutex
	windows [meterWindows]meterCounts
}

type meterCounts struct {
	number int64 // of the window since 1970; counts of another one are void
	counts [meterBuckets]uint32
}

// observe notes a query of a shard. A namespace that does not exist has none.
func (m *meters) observe(shard int, now time.Time, took time.Duration) {
	if shard == NoShard {
		return
	}
	at := m.shards[shard].Load()
	if at == nil {
		m.shards[shard].CompareAndSwap(nil, new(meter))
		at = m.shards[shard].Load()
	}
	at.observe(now, took)
}

func (m *meter) observe(now time.Time, took time.Duration) {
	number := windowNumber(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &m.windows[number%meterWindows]
	if w.number != number {
		*w = meterCounts{number: number}
	}
	w.counts[bucketOf(took)]++
}

func windowNumber(now time.Time) int64 { return now.UnixNano() / int64(meterWindow) }

func bucketOf(took time.Duration) int {
	if took <= meterFloor {
		return 0
	}
	return min(int(meterOctave*math.Log2(float64(took)/float64(meterFloor))), meterBuckets-1)
}

// bucketMiddle is the latency that stands for a bucket, in milliseconds.
func bucketMiddle(b int) float64 {
	ms := float64(meterFloor) / float64(time.Millisecond) * math.Exp2((float64(b)+0.5)/meterOctave)
	return math.Round(ms*1000) / 1000
}

// Latency are percentiles in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// queryCounts are a node's queries of a shard over the last minute. Those of several nodes can be added up, which
// percentiles cannot.
type queryCounts struct {
	Rate    float64        `json:"rate"`    // per second
	Buckets map[int]uint64 `json:"buckets"` // queries by bucket, empty ones left out
}

// all returns the counts of all shards that were queried.
func (m *meters) all(now time.Time) map[int]queryCounts {
	all := map[int]queryCounts{}
	for shard := range m.shards {
		at := m.shards[shard].Load()
		if at == nil {
			continue
		}
		if c := at.sum(windowNumber(now)); len(c) > 0 {
			all[shard] = queryCounts{m.rate(c, now), c}
		}
	}
	return all
}

// rate is how many queries there were a second in the last minute, or since the start.
func (m *meters) rate(counts map[int]uint64, now time.Time) float64 {
	total := uint64(0)
	for _, n := range counts { // any order: a sum
		total += n
	}
	oldest := time.Unix(0, (windowNumber(now)-meterWindows+1)*int64(meterWindow))
	if m.started.After(oldest) {
		oldest = m.started
	}
	return float64(total) / max(1, now.Sub(oldest).Seconds())
}

// sum adds up the windows of the last minute.
func (m *meter) sum(now int64) map[int]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[int]uint64{}
	for i := range m.windows {
		w := &m.windows[i]
		if w.number <= now-meterWindows || w.number > now {
			continue
		}
		for b, n := range w.counts {
			if n > 0 {
				counts[b] += uint64(n)
			}
		}
	}
	return counts
}

// queriesOf adds up what the nodes tell of a shard's queries; the latency is nil where there were none.
func queriesOf(shard int, all map[string]*nodeStatus) (perSecond float64, latency *Latency) {
	return sumQueries(all, func(st *nodeStatus) queryCounts { return st.Queries[shard] })
}

// sumQueries adds up what the nodes tell of some kind of queries.
func sumQueries(all map[string]*nodeStatus, of func(*nodeStatus) queryCounts) (perSecond float64, latency *Latency) {
	var counts [meterBuckets]uint64
	total := uint64(0)
	for _, st := range all { // any order: a sum
		c := of(st)
		perSecond += c.Rate
		for b, n := range c.Buckets {
			if b >= 0 && b < meterBuckets {
				counts[b] += n
				total += n
			}
		}
	}
	if total == 0 {
		return 0, nil
	}
	return math.Round(perSecond*100) / 100, &Latency{
		P50: percentile(&counts, total, 0.50), P95: percentile(&counts, total, 0.95), P99: percentile(&counts, total, 0.99),
	}
}

// percentile is the latency that a share of the queries did not exceed, about.
func percentile(counts *[meterBuckets]uint64, total uint64, share float64) float64 {
	rank := uint64(math.Ceil(share * float64(total)))
	for b, n := range counts {
		if n >= rank {
			return bucketMiddle(b)
		}
		rank -= n
	}
	return bucketMiddle(meterBuckets - 1)
}
