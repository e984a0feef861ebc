package cluster

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// tell is what a cluster of nodes with the same meters tells.
func tell(m *meters, shard int, now time.Time, nodes int) (float64, *Latency) {
	all := map[string]*nodeStatus{}
	for i := range nodes {
		all[strconv.Itoa(i)] = &nodeStatus{Queries: m.all(now)}
	}
	return queriesOf(shard, all)
}

func TestMeters(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	m := meters{started: start}
	rate, latency := tell(&m, 3, start, 1)
	require.Zero(t, rate)
	require.Nil(t, latency)

	now := start.Add(5 * time.Second)
	for i := range 100 {
		m.observe(3, now, time.Duration(i+1)*time.Millisecond)
	}
	m.observe(4, now, time.Hour)
	rate, latency = tell(&m, 3, now, 1)
	require.Equal(t, 20.0, rate, "a hundred in the five seconds that it runs")
	require.InEpsilon(t, 50, latency.P50, 0.1)
	require.InEpsilon(t, 95, latency.P95, 0.1)
	require.InEpsilon(t, 99, latency.P99, 0.1)
	_, other := tell(&m, 4, now, 1)
	require.Greater(t, other.P50, 90_000.0, "beyond the last bucket")

	twice, same := tell(&m, 3, now, 2)
	require.Equal(t, 40.0, twice, "rates of nodes are added up")
	require.Equal(t, latency, same, "and their counts, not their percentiles")

	now = start.Add(49 * time.Second)
	rate, _ = tell(&m, 3, now, 1)
	require.InEpsilon(t, 100/49.0, rate, 0.01)
	now = start.Add(time.Minute)
	m.observe(3, now, time.Millisecond) // takes the place of the first window
	rate, latency = tell(&m, 3, now, 1)
	require.InEpsilon(t, 1/50.0, rate, 0.01)
	require.InEpsilon(t, 1, latency.P99, 0.1)
	_, latency = tell(&m, 3, now.Add(time.Hour), 1)
	require.Nil(t, latency, "what is older than a minute is forgotten")
}

func TestMeterBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := time.Duration(rapid.Int64Range(int64(meterFloor), int64(90*time.Second)).Draw(t, "ns"))
		ms := float64(took) / float64(time.Millisecond)
		require.InEpsilon(t, ms, bucketMiddle(bucketOf(took)), 0.1)
	})
	require.Zero(t, bucketOf(0))
	require.Zero(t, bucketOf(-1))
}
