package hnsw_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
)

// slowSource counts how its vectors are read: fetched before, or one by one.
type slowSource struct {
	*anntest.Vectors
	t                      *testing.T
	off                    bool // fetches nothing
	open                   *slowFetched
	fetches, early, single int
	asked, adds            int
}

type slowFetched struct {
	*slowSource
	slots []uint32
}

func (s *slowSource) Fetch(slots []uint32) ann.Fetched {
	require.Nil(s.t, s.open, "what was fetched before has not been released")
	require.LessOrEqual(s.t, len(slots), ann.FetchLen)
	s.fetches++
	s.asked += len(slots)
	if s.off {
		return nil
	}
	s.open = &slowFetched{s, slices.Clone(slots)}
	return s.open
}

func (s *slowSource) Vector(slot uint32) ([]float32, float32) {
	s.single++
	return s.Vectors.Vector(slot)
}

func (f *slowFetched) Vector(slot uint32) ([]float32, float32) {
	require.Same(f.t, f, f.open, "it is used after its release")
	if !slices.Contains(f.slots, slot) {
		return f.slowSource.Vector(slot)
	}
	f.early++
	return f.Vectors.Vector(slot)
}

func (f *slowFetched) Add(slots []uint32) {
	require.Same(f.t, f, f.open, "it is used after its release")
	for _, slot := range slots {
		if !slices.Contains(f.slots, slot) {
			f.asked++
			f.slots = append(f.slots, slot)
		}
	}
	require.LessOrEqual(f.t, len(f.slots), ann.FetchLen)
	f.adds++
}

func (f *slowFetched) Release() {
	require.Same(f.t, f, f.open)
	f.open = nil
}

// buildSlow builds a graph over a slowSource, and returns vectors of the same kind to ask for.
func buildSlow(t *testing.T, dim int) (x index, src *slowSource, queries [][]float32) {
	const n = 2000
	data := anntest.Clustered(3, n+50, dim)
	src = &slowSource{Vectors: anntest.NewVectors(ann.Euclidean, n), t: t}
	x = index{hnsw.New(hnsw.Config{Metric: ann.Euclidean, Dim: dim, Bits: 2, Seed: 7}, src)}
	for slot := range uint32(n) {
		src.Set(slot, data[slot])
		require.NoError(t, x.Insert(slot))
	}
	return x, src, data[n:]
}

// Vectors that lie on a disk are read with all others that a search measures, not one after the other: in as many parts as
// their number takes, and hardly any that is not needed. What is found is the same as without.
func TestVectorsAreFetched(t *testing.T) {
	oneGoroutine(t)
	x, src, queries := buildSlow(t, 96)
	for _, k := range []int{1, 10, 64, 150} {
		src.fetches, src.early, src.single, src.asked, src.adds = 0, 0, 0, 0, 0
		for _, query := range queries {
			req := &ann.Request{Vector: query, K: k, Ef: 2*k + 80}
			got, err := x.Search(t.Context(), req, nil)
			require.NoError(t, err)
			require.Nil(t, src.open, "released with the search")
			src.off = true
			before := *src
			want, err := x.Search(t.Context(), req, nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
			src.fetches, src.early, src.single, src.asked, src.adds, src.off = before.fetches, before.early, before.single, before.asked, before.adds, false
		}
		require.Zero(t, src.single, "k %d", k)
		require.Greater(t, src.early, 50*k)
		require.Less(t, src.asked, 2*src.early, "what is fetched is mostly needed")
		if k <= ann.FetchLen/2 {
			require.GreaterOrEqual(t, src.adds, 50, "begun while the walk goes on")
		}
		require.Less(t, src.fetches, 50*(2+(2*k)/ann.FetchLen), "in few parts")
	}
}

// TestFetchedIsReleased gives up searches at their limit, with what they had begun to fetch.
func TestFetchedIsReleased(t *testing.T) {
	oneGoroutine(t)
	x, src, queries := buildSlow(t, 32)
	begun := 0
	for limit := 50; ; limit += 50 {
		_, err := x.Search(t.Context(), &ann.Request{Vector: queries[0], K: 5, Ef: 200, Limit: limit}, nil)
		require.Nil(t, src.open)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, ann.ErrLimit)
		begun = src.fetches
	}
	require.Positive(t, begun)
}
