package hnsw_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
)

// askedSource counts how many of the vectors that are read were asked for before.
type askedSource struct {
	*anntest.Vectors
	asked       map[uint32]bool
	read, early int
}

func (s *askedSource) Fetch(slots []uint32) {
	for _, slot := range slots {
		s.asked[slot] = true
	}
}

func (s *askedSource) Vector(slot uint32) ([]float32, float32) {
	s.read++
	if s.asked[slot] {
		s.early++
	}
	return s.Vectors.Vector(slot)
}

// A vector that lies on a disk is read with all others that a search measures, not after them.
func TestVectorsAreAskedForBeforeTheyAreRead(t *testing.T) {
	const n, dim, k = 2000, 96, 10
	data := anntest.Clustered(3, n+50, dim)
	src := &askedSource{Vectors: anntest.NewVectors(ann.Euclidean, n)}
	x := index{hnsw.New(hnsw.Config{Metric: ann.Euclidean, Dim: dim, Bits: 2, Seed: 7}, src)}
	for slot := range uint32(n) {
		src.Set(slot, data[slot])
		require.NoError(t, x.Insert(slot))
	}
	src.read, src.early = 0, 0
	asked := 0
	for _, query := range data[n:] {
		src.asked = map[uint32]bool{}
		_, err := x.Search(t.Context(), &ann.Request{Vector: query, K: k, Ef: 100}, nil)
		require.NoError(t, err)
		asked += len(src.asked)
	}
	require.Greater(t, src.read, 50*k, "some doubt is left behind the first k")
	require.Greater(t, src.early, src.read*9/10, "%d read, %d asked for", src.read, asked)
	require.Less(t, asked, 2*src.read, "what is asked for is mostly needed")
}
