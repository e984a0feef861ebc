package api

import (
	"math"
	"sync"
	"time"

	"github.com/croftdb/croft/cluster"
)

// meters tell how often the queries of each shard that came in here were answered over the last minute, and how fast.
type meters struct {
	started time.Time
	shards  sync.Map // int → *meter
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
	if shard == cluster.NoShard {
		return
	}
	v, ok := m.shards.Load(shard)
	if !ok {
		v, _ = m.shards.LoadOrStore(shard, new(meter))
	}
	v.(*meter).observe(now, took)
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

// latencyShown are percentiles in milliseconds.
type latencyShown struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// of returns queries per second and latencies of a shard; nil where there were no queries.
func (m *meters) of(shard int, now time.Time) (perSecond float64, latency *latencyShown) {
	v, ok := m.shards.Load(shard)
	if !ok {
		return 0, nil
	}
	counts, total := v.(*meter).sum(windowNumber(now))
	if total == 0 {
		return 0, nil
	}
	oldest := time.Unix(0, (windowNumber(now)-meterWindows+1)*int64(meterWindow))
	if m.started.After(oldest) {
		oldest = m.started
	}
	perSecond = float64(total) / max(1, now.Sub(oldest).Seconds())
	return math.Round(perSecond*100) / 100, &latencyShown{
		P50: percentile(counts, total, 0.50), P95: percentile(counts, total, 0.95), P99: percentile(counts, total, 0.99),
	}
}

// sum adds up the windows of the last minute.
func (m *meter) sum(now int64) (counts [meterBuckets]uint64, total uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.windows {
		w := &m.windows[i]
		if w.number <= now-meterWindows || w.number > now {
			continue
		}
		for b, n := range w.counts {
			counts[b] += uint64(n)
			total += uint64(n)
		}
	}
	return counts, total
}

// percentile is the latency that a share of the queries did not exceed, about.
func percentile(counts [meterBuckets]uint64, total uint64, share float64) float64 {
	rank := uint64(math.Ceil(share * float64(total)))
	for b, n := range counts {
		if n >= rank {
			return bucketMiddle(b)
		}
		rank -= n
	}
	return bucketMiddle(meterBuckets - 1)
}
