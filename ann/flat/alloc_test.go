//go:build !race

// Under the race detector, sync.Pool drops what it is given now and then, on purpose.

package flat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/flat"
)

func TestSearchAllocatesNothing(t *testing.T) {
	const dim, n = 16, 1000
	data := anntest.Clustered(7, n+1, dim)
	src := anntest.NewVectors(ann.Euclidean, n)
	m := &members{}
	m.Index = flat.New(ann.Euclidean, dim, src, m)
	for i, v := range data[:n] {
		src.Set(uint32(i), v)
		require.NoError(t, m.Insert(uint32(i)))
	}
	req := ann.Request{Vector: data[n], K: 10}
	dst := make([]ann.Candidate, 0, 10)
	ctx := t.Context()
	perSearch := testing.AllocsPerRun(100, func() {
		if _, err := m.Search(ctx, &req, dst); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, perSearch, 1.0, "but for what the garbage collector takes from the pool")
}
