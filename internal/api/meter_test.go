package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMeters(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	m := meters{started: start}
	rate, latency := m.of(3, start)
	require.Zero(t, rate)
	require.Nil(t, latency)

	now := start.Add(5 * time.Second)
	for i := range 100 {
		m.observe(3, now, time.Duration(i+1)*time.Millisecond)
	}
	m.observe(4, now, time.Hour)
	rate, latency = m.of(3, now)
	require.Equal(t, 20.0, rate, "a hundred in the five seconds that it runs")
	require.InEpsilon(t, 50, latency.P50, 0.1)
	require.InEpsilon(t, 95, latency.P95, 0.1)
	require.InEpsilon(t, 99, latency.P99, 0.1)
	_, other := m.of(4, now)
	require.Greater(t, other.P50, 90_000.0, "beyond the last bucket")

	now = start.Add(49 * time.Second)
	rate, _ = m.of(3, now)
	require.InEpsilon(t, 100/49.0, rate, 0.01)
	now = start.Add(time.Minute)
	m.observe(3, now, time.Millisecond) // takes the place of the first window
	rate, latency = m.of(3, now)
	require.InEpsilon(t, 1/50.0, rate, 0.01)
	require.InEpsilon(t, 1, latency.P99, 0.1)
	_, latency = m.of(3, now.Add(time.Hour))
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

func TestShardsTellQueries(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}]}`)
	require.NotContains(t, c.ok("GET", "/v1/shards", "").body, "latency_ms")
	c.ok("POST", "/query", oneQuery)
	a := c.ok("GET", "/v1/shards", "")
	queried := 0
	for _, s := range a.get(t, "shards").([]any) {
		shard := s.(map[string]any)
		if shard["queries_per_second"].(float64) > 0 {
			queried++
			require.Positive(t, shard["latency_ms"].(map[string]any)["p99"])
		}
	}
	require.Equal(t, 1, queried)
}
