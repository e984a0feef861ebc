package cluster

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// BenchmarkCache compares searches of 2,000 × 768 without a cache, that miss it, and that hit it, in turn, so that what else the
// machine does is the same for all three. A new cache for each 200 searches keeps it from being turned off.
func BenchmarkCache(b *testing.B) {
	n := openNode(b, testOptions(b.TempDir()))
	ix, err := n.CreateIndex(b.Context(), Index{Name: "i", Dim: 768, Metric: ann.Cosine})
	require.NoError(b, err)
	rng := rand.New(rand.NewPCG(1, 1))
	vector := func() []float32 {
		v := make([]float32, ix.Dim)
		for i := range v {
			v[i] = rng.Float32() - 0.5
		}
		return v
	}
	for at := 0; at < 2000; at += 200 {
		recs := make([]engine.Record, 200)
		for i := range recs {
			recs[i] = engine.Record{ID: strconv.Itoa(at + i), Values: vector()}
		}
		_, err := n.Upsert(b.Context(), ix, "ns", recs)
		require.NoError(b, err)
	}
	const round = 200
	queries := make([][]float32, round)
	for i := range queries {
		queries[i] = vector()
	}
	var res engine.Result
	search := func(c *tenancy.Cache) time.Duration {
		n.cache = c
		begun := time.Now()
		for _, v := range queries {
			if _, err := n.Query(b.Context(), ix, "ns", &engine.Query{Vector: v, K: 10}, &res); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begun)
	}
	var off, miss, hit time.Duration
	rounds := 0
	for b.Loop() {
		c := tenancy.NewCache(tenancy.CacheOptions{})
		if rounds++; rounds%2 == 0 {
			off += search(nil)
			miss += search(c)
		} else {
			miss += search(c)
			off += search(nil)
		}
		hit += search(c)
	}
	each := func(d time.Duration) float64 { return float64(d) / float64(rounds*round) }
	b.ReportMetric(each(off), "ns/search")
	b.ReportMetric(each(miss), "ns/miss")
	b.ReportMetric(each(hit), "ns/hit")
	b.ReportMetric(100*(each(miss)/each(off)-1), "%miss")
}
