//go:build !race

// Under the race detector, sync.Pool drops what it is given now and then, on purpose.

package hnsw_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
)

func TestSearchAllocatesNothing(t *testing.T) {
	x, _ := build(t, 2000)
	c := x.CalibrateFor([]ann.Request{{Vector: make([]float32, dim), K: 10}})
	finish(t, c)
	x.SetEffort(c.Effort())
	for _, req := range []ann.Request{{K: 10, Ef: 50}, {K: 10}, {K: 10, Recall: 0.9}} {
		req.Vector = make([]float32, dim)
		testAllocs(t, x, &req)
	}
}

func testAllocs(t *testing.T, x index, req *ann.Request) {
	dst := make([]ann.Candidate, 0, 10)
	ctx := t.Context()
	perSearch := testing.AllocsPerRun(100, func() {
		if _, err := x.Search(ctx, req, dst); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, perSearch, 1.0, "but for what the garbage collector takes from the pool")
}
