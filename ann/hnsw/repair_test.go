package hnsw_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
)

// TestWornGraphFindsWhatAFreshOneDoes replaces every vector three times, by 3 % at a time with repair after each, and
// compares recall with that of a graph built of the last vectors alone, for walks so narrow that bad links show. Choosing
// all links of a mended list anew fails it by 0.03.
func TestWornGraphFindsWhatAFreshOneDoes(t *testing.T) {
	oneGoroutine(t)
	const n, dim, step, rounds, tolerance = 3000, 16, 100, 3, 0.01
	all := anntest.Clustered(11, (rounds+1)*n+200, dim)
	all, queries := all[:(rounds+1)*n], all[(rounds+1)*n:]
	cfg := hnsw.Config{Metric: ann.Euclidean, Dim: dim, M: 8, EfConstruction: 60}
	begin := func(vectors [][]float32) (index, *anntest.Vectors) {
		src := anntest.NewVectors(cfg.Metric, n+2*step)
		x := index{hnsw.New(cfg, src)}
		for i, v := range vectors {
			src.Set(uint32(i), v)
			require.NoError(t, x.Insert(uint32(i)))
		}
		return x, src
	}
	worn, src := begin(all[:n])
	var free []uint32
	for slot := range uint32(step) {
		free = append(free, n+slot)
	}
	inUse := make([]uint32, n) // in the order of their vectors
	for slot := range uint32(n) {
		inUse[slot] = slot
	}
	for i := n; i < len(all); i += step {
		for j, slot := range free {
			src.Set(slot, all[i+j])
			require.NoError(t, worn.Insert(slot))
			worn.Delete(inUse[j])
		}
		inUse = append(inUse[step:], free...)
		var err error
		free, err = worn.Reclaim()
		require.NoError(t, err)
		require.Len(t, free, step)
	}
	last := all[rounds*n:]
	fresh, freshSrc := begin(last)
	every := make([]uint32, n)
	for i := range every {
		every[i] = uint32(i)
	}
	for _, ef := range []int{10, 16, 32} {
		want := recallOf(t, fresh, freshSrc, every, queries, ef)
		got := recallOf(t, worn, src, inUse, queries, ef)
		t.Logf("ef %d: fresh %.4f, worn %.4f", ef, want, got)
		require.Greater(t, want, 0.7)
		require.GreaterOrEqual(t, got, want-tolerance, "ef %d", ef)
	}
}

// recallOf returns the share of the ten nearest of slots that x finds.
func recallOf(t *testing.T, x index, src ann.Source, slots []uint32, queries [][]float32, ef int) float64 {
	const k = 10
	hits := 0
	for _, q := range queries {
		got, err := x.Search(context.Background(), &ann.Request{Vector: q, K: k, Ef: ef}, nil)
		require.NoError(t, err)
		hits += anntest.Hits(got, anntest.Exact(config.Metric, src, slots, q, k))
	}
	return float64(hits) / float64(k*len(queries))
}
