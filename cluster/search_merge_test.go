package cluster

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

// drawHits draws hits of which many have the same score, or the same tenant; no two are equal.
func drawHits(t *rapid.T, list int) []SearchHit {
	hits := make([]SearchHit, rapid.IntRange(0, 12).Draw(t, "hits"))
	for i := range hits {
		hits[i].Score = rapid.SampledFrom([]float32{-1, 0, 0.5, 0.5, 1, 2}).Draw(t, "score")
		hits[i].Tenant = rapid.SampledFrom([]string{"a", "b", "ab"}).Draw(t, "tenant")
		hits[i].ID = rapid.SampledFrom([]string{"x", "y", "xy"}).Draw(t, "id") + string(rune('A'+list)) + string(rune('a'+i))
	}
	return hits
}

func drawMetric(t *rapid.T) ann.Metric {
	return rapid.SampledFrom([]ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean}).Draw(t, "metric")
}

// bestOf is the best k in order, found by sorting all.
func bestOf(order hitOrder, lists [][]SearchHit, k int) []SearchHit {
	all := slices.Concat(lists...)
	order.sort(all)
	return append([]SearchHit{}, all[:min(k, len(all))]...)
}

// TestMergeIsSorting compares both heaps with a sort of everything: that over the lists of nodes, and that of a node.
func TestMergeIsSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		metric, k := drawMetric(t), rapid.IntRange(1, 30).Draw(t, "k")
		order := hitOrder(metric)
		lists := make([][]SearchHit, rapid.IntRange(0, 8).Draw(t, "lists"))
		best := newBestHits(metric, k)
		for i := range lists {
			lists[i] = drawHits(t, i)
			order.sort(lists[i])
			for at := range lists[i] { // a partition at a time
				hit := lists[i][at]
				best.offer(SearchHit{Tenant: hit.Tenant}, []engine.Match{hit.Match})
			}
		}
		want := bestOf(order, lists, k)
		require.Equal(t, want, mergeHits(order, lists, k))
		got := append([]SearchHit{}, best.sorted()...)
		require.Equal(t, want, got)
		if len(want) == k {
			require.True(t, best.bound.Admits(want[k-1].Score), "a hit with the last score may still come before the last")
		}
		require.Equal(t, len(want) < k, best.bound.Admits(worst(metric)), "of no use once there are enough")
	})
}

// worst is a score that is worse than all that are drawn.
func worst(m ann.Metric) float32 {
	if m == ann.Euclidean {
		return 3
	}
	return -3
}

// TestBestHitsCountBytes: what is pushed out does not count any more.
func TestBestHitsCountBytes(t *testing.T) {
	best := newBestHits(ann.Euclidean, 2)
	match := func(score float32, values int) engine.Match {
		return engine.Match{Score: score, Record: engine.Record{ID: "id", Values: make([]float32, values)}}
	}
	best.offer(SearchHit{Tenant: "a"}, []engine.Match{match(5, 1000), match(6, 1000)})
	require.Greater(t, best.offer(SearchHit{Tenant: "b"}, []engine.Match{match(1, 0)}), 4000)
	require.Less(t, best.offer(SearchHit{Tenant: "c"}, []engine.Match{match(2, 0)}), 4000)
}

func drawSearch(t *rapid.T) searchAsk {
	a := searchAsk{
		level: rapid.SampledFrom([]Consistency{Leader, Strong, Any}).Draw(t, "level"), meta: rapid.Uint64().Draw(t, "meta"),
		index: engine.IndexID(rapid.Uint64().Draw(t, "index")), metric: drawMetric(t),
		query: engine.Query{
			Vector: drawFloats(t, "vector", rapid.IntRange(1, 4).Draw(t, "dim")), K: rapid.IntRange(1, 100).Draw(t, "k"), Filter: drawFilterExpr(t),
			Recall: 0.9, IncludeMetadata: rapid.Bool().Draw(t, "metadata"), MaxBytes: rapid.IntRange(0, 1000).Draw(t, "bytes"),
		},
		parts: make([]searchPart, rapid.IntRange(0, 3).Draw(t, "parts")),
	}
	for i := range a.parts {
		a.parts[i].shard = rapid.Uint16().Draw(t, "shard")
		a.parts[i].tenants = make([]engine.TenantID, rapid.IntRange(0, 3).Draw(t, "tenants"))
		for j := range a.parts[i].tenants {
			a.parts[i].tenants[j] = drawKey(t).Tenant
		}
	}
	return a
}

func TestSearchTravels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ask := drawSearch(t)
		var back searchAsk
		r := codec.NewReader(ask.append(nil))
		back.read(r)
		require.NoError(t, r.Done())
		require.Equal(t, ask.append(nil), back.append(nil))
		require.Equal(t, ask.parts, back.parts)
		require.Equal(t, ask.query.Vector, back.query.Vector)

		found := drawFound(t, &ask)
		var got searchFound
		r = codec.NewReader(found.append(nil))
		got.read(r, ask.parts)
		require.NoError(t, r.Done())
		require.Equal(t, found.append(nil), got.append(nil))
		require.Equal(t, found.tooLarge, got.tooLarge)
		if !found.tooLarge {
			require.Equal(t, found.stale, got.stale)
		}
	})
}

func drawFound(t *rapid.T, ask *searchAsk) searchFound {
	found := searchFound{stale: Staleness{Applied: 7, Behind: 1, Age: -1}, tooLarge: rapid.IntRange(0, 9).Draw(t, "too large") == 0}
	for i, p := range ask.parts {
		var out partOutcome
		if rapid.Bool().Draw(t, "refused") {
			out.err = newNotLeaderError("shard 1", rapid.SampledFrom([]string{"", "n2"}).Draw(t, "leader"))
		}
		for at := range p.tenants {
			if out.err == nil && rapid.Bool().Draw(t, "left") {
				l := leftTenant{at: at, why: leftWhy(rapid.IntRange(0, int(leftFailed)).Draw(t, "why"))}
				if l.why == leftFailed {
					l.err = "broken"
				}
				out.left = append(out.left, l)
			} else if out.err == nil {
				hit := SearchHit{part: i, at: at}
				hit.Record, hit.Score = drawRecord(t), 1.5
				found.hits = append(found.hits, hit)
			}
		}
		found.parts = append(found.parts, out)
	}
	return found
}

// FuzzSearchTravels: what comes from another node is read or refused.
func FuzzSearchTravels(f *testing.F) {
	ask := searchAsk{metric: ann.Cosine, query: engine.Query{Vector: []float32{1}, K: 1}, parts: []searchPart{{3, make([]engine.TenantID, 2)}}}
	f.Add(ask.append(nil))
	found := searchFound{parts: []partOutcome{{left: []leftTenant{{1, leftFailed, "x"}}}}, hits: make([]SearchHit, 1)}
	f.Add(found.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a searchAsk
		r := codec.NewReader(b)
		if a.read(r); r.Done() == nil {
			var again searchAsk
			r := codec.NewReader(a.append(nil))
			again.read(r)
			require.NoError(t, r.Done())
			require.Equal(t, a.parts, again.parts)
		}
		var got searchFound
		r = codec.NewReader(b)
		got.read(r, ask.parts)
		if r.Done() == nil && !got.tooLarge {
			require.Len(t, got.parts, 1)
			for _, h := range got.hits {
				require.Less(t, h.at, 2)
			}
			for _, l := range got.parts[0].left {
				require.Less(t, l.at, 2)
			}
		}
	})
}

// TestHitOrderIsTotal: equal scores by tenant and id, -0 as 0, and the metric says which scores are better.
func TestHitOrderIsTotal(t *testing.T) {
	hit := func(score float32, tenant, id string) *SearchHit {
		return &SearchHit{Tenant: tenant, Match: engine.Match{Score: score, Record: engine.Record{ID: id}}}
	}
	order := hitOrder(ann.Cosine)
	require.Negative(t, order.compare(hit(2, "b", "b"), hit(1, "a", "a")))
	require.Positive(t, hitOrder(ann.Euclidean).compare(hit(2, "b", "b"), hit(1, "a", "a")))
	require.Negative(t, order.compare(hit(1, "a", "b"), hit(1, "b", "a")))
	require.Negative(t, order.compare(hit(1, "a", "a"), hit(1, "a", "b")))
	require.Negative(t, order.compare(hit(float32(math.Copysign(0, -1)), "a", "a"), hit(0, "a", "b")))
}
