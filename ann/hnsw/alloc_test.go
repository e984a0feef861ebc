//go:build !race

// Under the race detector, sync.Pool drops what it is given now and then, on purpose.

package hnsw_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
)

func TestSearchAllocatesNothing(t *testing.T) {
	x, _ := build(t, 2000)
	c := x.CalibrateFor([]ann.Request{{Vector: make([]float32, dim), K: 10}})
	finish(t, c)
	x.SetEffort(c.Effort())
	third := make(ann.Set, 2000/64)
	for i := range third {
		third[i] = 0x9249249249249249
	}
	for _, req := range []ann.Request{{K: 10, Ef: 50}, {K: 10}, {K: 10, Recall: 0.9}, {K: 10, Among: third}} {
		req.Vector = make([]float32, dim)
		testAllocs(t, x.Search, &req)
	}
	slots := &all{}
	scan := func(ctx context.Context, req *ann.Request, dst []ann.Candidate) ([]ann.Candidate, error) {
		*slots = all{end: 2000}
		return x.Scan(ctx, req, slots, dst)
	}
	testAllocs(t, scan, &ann.Request{Vector: make([]float32, dim), K: 10})
}

type search func(context.Context, *ann.Request, []ann.Candidate) ([]ann.Candidate, error)

func testAllocs(t *testing.T, do search, req *ann.Request) {
	dst := make([]ann.Candidate, 0, 10)
	ctx := t.Context()
	perSearch := testing.AllocsPerRun(100, func() {
		if _, err := do(ctx, req, dst); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, perSearch, 1.0, "but for what the garbage collector takes from the pool")
}
