package hnsw_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/flat"
	"github.com/croftdb/croft/ann/hnsw"
)

// calibrated builds a graph of clustered vectors and measures its effort. It returns other vectors of the same kind.
func calibrated(t *testing.T, metric ann.Metric, bits, n int) (*hnsw.Graph, *anntest.Vectors, [][]float32) {
	const dim, queries = 24, 200
	data := anntest.Clustered(11, n+queries, dim)
	src := anntest.NewVectors(metric, n)
	g := hnsw.New(hnsw.Config{Metric: metric, Dim: dim, Bits: bits, M: 6, EfConstruction: 40}, src)
	for slot := range uint32(n) {
		src.Set(slot, data[slot])
		require.NoError(t, g.Insert(t.Context(), slot, hnsw.LevelFor(spread(slot), 6)))
	}
	measure(t, g)
	return g, src, data[n:]
}

func measure(t testing.TB, g *hnsw.Graph) {
	c := g.Calibrate()
	require.Nil(t, c.Effort(), "before the first step")
	finish(t, c)
	g.SetEffort(c.Effort())
}

func finish(t testing.TB, c *hnsw.Calibrator) {
	for more := true; more; {
		var err error
		more, err = c.Step(context.Background())
		require.NoError(t, err)
	}
}

func TestCalibrateSmallAndEmpty(t *testing.T) {
	for _, n := range []int{0, 1, 2, 9, 50} {
		x, src := build(t, n)
		measure(t, x.Graph)
		if n < 2 {
			require.Nil(t, x.Effort(), "nothing to learn from: each vector is alone")
			continue
		}
		require.Equal(t, n, x.Effort().Slots)
		q, _ := src.Vector(0)
		got, err := x.Search(t.Context(), &ann.Request{Vector: q, K: 60}, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), n*9/10, "all but stragglers")
	}
}

func TestCalibrateHeedsDeletesAndContext(t *testing.T) {
	x, src := build(t, 300)
	c := x.Calibrate()
	for slot := range uint32(150) {
		x.Delete(slot)
		src.Set(slot, nil)
	}
	finish(t, c)
	require.Equal(t, 150, c.Effort().Slots)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	more, err := x.Calibrate().Step(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, more, "it can be tried again")
}

// TestMoreRecallTakesMoreEffort looks at the choices for all recalls.
func TestMoreRecallTakesMoreEffort(t *testing.T) {
	oneGoroutine(t)
	g, _, _ := calibrated(t, ann.Euclidean, 4, 500)
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 1000).Draw(t, "k")
		low := rapid.Float64Range(0.5, 0.9999).Draw(t, "low")
		high := rapid.Float64Range(low, 0.9999).Draw(t, "high")
		require.LessOrEqual(t, g.Effort().Stretch(k, low), g.Effort().Stretch(k, high))
		require.LessOrEqual(t, g.Effort().Ef(k, low), g.Effort().Ef(k, high))
		require.GreaterOrEqual(t, g.Effort().Ef(k, low), k)
		require.Equal(t, g.Effort().Ef(k, 1), g.Effort().Ef(k, 0.99999), "beyond what was measured there is no more to gain")
	})
}

// TestEffortReachesRecall asks for recall, of vectors that the graph has never seen.
func TestEffortReachesRecall(t *testing.T) {
	oneGoroutine(t)
	const n = 1500
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	for _, metric := range []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean} {
		for _, bits := range []int{hnsw.NoCodes, 4} {
			g, src, queries := calibrated(t, metric, bits, n)
			reachesRecall(t, g, src, all, queries[:100])
			require.False(t, g.Effort().Leashed())

			var made []ann.Request
			for _, q := range queries[100:] {
				made = append(made, ann.Request{Vector: q, K: 10})
			}
			c := g.CalibrateFor(made)
			finish(t, c)
			g.SetEffort(c.Effort())
			found, wanted := c.Found()
			require.Equal(t, 1000, wanted)
			require.InDelta(t, 1000, found, 30)
			require.True(t, g.Effort().Leashed())
			reachesRecall(t, g, src, all, queries[:100])
		}
	}
}

// reachesRecall asks for several shares of several numbers of neighbours.
func reachesRecall(t *testing.T, g *hnsw.Graph, src ann.Source, all []uint32, queries [][]float32) {
	metric := g.Config().Metric
	for _, k := range []int{1, 10, 30} {
		for _, target := range []float32{0.9, 0.99} {
			hits := 0
			for _, q := range queries {
				want := exact(t, metric, src, all, q, k)
				got, err := g.Search(t.Context(), &ann.Request{Vector: q, K: k, Recall: target}, nil)
				require.NoError(t, err)
				require.Len(t, got, k)
				for _, c := range got {
					if c.Distance <= want[k-1].Distance {
						hits++
					}
				}
			}
			recall := float64(hits) / float64(k*len(queries))
			t.Logf("%v, %d bits, k %d, target %v: %.4f with stretch %.3f, ef %d", metric, g.Config().Bits, k, target, recall,
				g.Effort().Stretch(k, float64(target)), g.Effort().Ef(k, float64(target)))
			tolerance := 0.02
			if k == 1 { // each of few queries finds it or does not: three standard deviations
				tolerance = 3 * math.Sqrt(float64(target*(1-target))/float64(len(queries)))
			}
			require.Greater(t, recall, float64(target)-tolerance)
		}
	}
}

func exact(t *testing.T, metric ann.Metric, src ann.Source, slots []uint32, values []float32, k int) []ann.Candidate {
	var top ann.TopK
	top.Reset(k)
	q := ann.Bind(metric, values)
	require.NoError(t, flat.Scan(context.Background(), &q, src, slots, nil, &top))
	return top.Sorted(nil)
}
