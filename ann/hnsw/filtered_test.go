package hnsw_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
)

// TestLimit gives walks as much work to do as they need, a little less, and next to none: they answer, or give up with
// nothing.
func TestLimit(t *testing.T) {
	const n = 2000
	x, src := build(t, n)
	query, _ := src.Vector(7)
	tenth := make(ann.Set, n/64+1)
	for slot := 0; slot < n; slot += 10 {
		tenth[slot/64] |= 1 << (slot % 64)
	}
	search := func(among ann.Set, limit int) ([]ann.Candidate, error) {
		return x.Search(t.Context(), &ann.Request{Vector: query, K: 10, Ef: 20, Among: among, Limit: limit}, nil)
	}
	free, err := search(tenth, 0)
	require.NoError(t, err)
	require.Len(t, free, 10)

	work := 1
	for ; ; work++ {
		got, err := search(tenth, work)
		if err == nil {
			require.Equal(t, free, got, "a limit changes no answer")
			break
		}
		require.ErrorIs(t, err, ann.ErrLimit)
		require.Empty(t, got)
	}
	require.Less(t, work, n/2, "a walk pays")
	require.Greater(t, work, 20)
}

// TestLimitFarAway asks for the few slots that are farthest from a query: a walk that may not do much does not begin, one
// that may finds them.
func TestLimitFarAway(t *testing.T) {
	const n, few = 2000, 100
	x, src := build(t, n)
	query, _ := src.Vector(7)
	var slots []uint32
	for slot := range uint32(n) {
		slots = append(slots, slot)
	}
	ranked := anntest.Exact(config.Metric, src, slots, query, n)
	far := make(ann.Set, n/64+1)
	for _, c := range ranked[n-few:] {
		far[c.Slot/64] |= 1 << (c.Slot % 64)
	}
	req := ann.Request{Vector: query, K: few, Ef: few, Among: far, Limit: n / 2}
	_, err := x.Search(t.Context(), &req, nil)
	require.ErrorIs(t, err, ann.ErrLimit)
	req.Limit = 100 * n
	got, err := x.Search(t.Context(), &req, nil)
	require.NoError(t, err)
	require.Len(t, got, few)
}

// TestFarFromMatches asks for the quarter of all slots that is nearest to one of them, with the vectors that are farthest
// from it: some have a part of the matches around them, most none. They find what there is without measuring most of it.
func TestFarFromMatches(t *testing.T) {
	oneGoroutine(t)
	const n, matching, k, asked = 6000, 1500, 10, 100
	g, src, queries := calibrated(t, ann.Euclidean, 4, n)
	made := make([]ann.Request, len(queries))
	for i, q := range queries {
		made[i] = ann.Request{Vector: q, K: k}
	}
	c := g.CalibrateFor(made)
	finish(t, c)
	g.SetEffort(c.Effort())

	centre, _ := src.Vector(1)
	var all, matches []uint32
	for slot := range uint32(n) {
		all = append(all, slot)
	}
	set := make(ann.Set, n/64+1)
	for _, c := range anntest.Exact(ann.Euclidean, src, all, centre, matching) {
		matches = append(matches, c.Slot)
		set[c.Slot/64] |= 1 << (c.Slot % 64)
	}
	from := ann.Bind(ann.Euclidean, centre)
	slices.SortFunc(queries, func(a, b []float32) int { return cmp.Compare(from.Distance(b, 0), from.Distance(a, 0)) })
	hits, work := 0, 0
	for _, q := range queries[:asked] {
		req := ann.Request{Vector: q, K: k, Among: set}
		got, err := g.Search(t.Context(), &req, nil)
		require.NoError(t, err)
		hits += anntest.Hits(got, anntest.Exact(ann.Euclidean, src, matches, q, k))
		work += req.Work
	}
	t.Logf("recall %.3f, work %d", float64(hits)/k/asked, work/asked)
	require.GreaterOrEqual(t, float64(hits)/k/asked, 0.95)
	require.Less(t, work/asked, matching*3/10)
}
