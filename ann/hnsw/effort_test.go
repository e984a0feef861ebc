package hnsw_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/flat"
	"github.com/croftdb/croft/ann/hnsw"
)

// calibrated builds a graph of clustered vectors and measures its effort. It returns other vectors of the same kind.
func calibrated(t *testing.T, metric ann.Metric, bits, n int) (*hnsw.Graph, *anntest.Vectors, [][]float32) {
	const dim, queries = 24, 100
	data := anntest.Clustered(11, n+queries, dim)
	src := anntest.NewVectors(metric, n)
	g := hnsw.New(hnsw.Config{Metric: metric, Dim: dim, Bits: bits, M: 6, EfConstruction: 40}, src)
	for slot := range uint32(n) {
		src.Set(slot, data[slot])
		require.NoError(t, g.Insert(t.Context(), slot, hnsw.LevelFor(spread(slot), 6)))
	}
	c := g.Calibrate()
	require.Nil(t, c.Effort(), "before the first step")
	for more := true; more; {
		var err error
		more, err = c.Step(t.Context())
		require.NoError(t, err)
	}
	g.SetEffort(c.Effort())
	return g, src, data[n:]
}

// TestEffortReachesRecall asks for recall, of vectors that the graph has never seen.
func TestEffortReachesRecall(t *testing.T) {
	const n = 1500
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	for _, metric := range []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean} {
		for _, bits := range []int{hnsw.NoCodes, 4} {
			g, src, queries := calibrated(t, metric, bits, n)
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
					t.Logf("%v, %d bits, k %d, target %v: %.4f with stretch %.3f, ef %d", metric, bits, k, target, recall,
						g.Effort().Stretch(k, float64(target)), g.Effort().Ef(k, float64(target)))
					require.Greater(t, recall, float64(target)-0.02)
				}
			}
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
