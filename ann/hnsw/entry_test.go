package hnsw_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
)

// TestEntryLeadsToWhatStays repairs a graph whose entry point leaves while its first other slots have lost their
// vectors, but were not deleted yet. Walks must not begin at one of those: nothing that came later is linked to them.
func TestEntryLeadsToWhatStays(t *testing.T) {
	const each, dim = 40, 4
	all := anntest.Clustered(3, 3*each, dim)
	src := anntest.NewVectors(ann.Euclidean, 3*each)
	g := hnsw.New(hnsw.Config{Metric: ann.Euclidean, Dim: dim}, src)
	insert := func(from int) {
		for i := from; i < from+each; i++ {
			src.Set(uint32(i), all[i])
			require.NoError(t, g.Insert(context.Background(), uint32(i), 0))
		}
	}
	insert(2 * each) // the first entry point is one of the slots that leave
	insert(0)
	for i := range each { // these lose their vectors
		src.Set(uint32(i), nil)
	}
	insert(each)
	for i := 2 * each; i < 3*each; i++ {
		require.True(t, g.Delete(uint32(i)))
		src.Set(uint32(i), nil)
	}
	for more := true; more; {
		var err error
		_, more, err = g.Repair(context.Background(), 1000)
		require.NoError(t, err)
	}
	got, err := g.Search(context.Background(), &ann.Request{Vector: all[each], K: each, Ef: 3 * each}, nil)
	require.NoError(t, err)
	require.Len(t, got, each)
}
