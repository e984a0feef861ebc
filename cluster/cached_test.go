package cluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// nearest asks a node for the record nearest to x, and says what the cache had to do with it.
func (c *simCluster) nearest(n *Node, ix Index, ns string, x float32) (id string, from tenancy.CacheState) {
	var res engine.Result
	reading := &Reading{}
	_, err := n.Query(WithReading(c.t.Context(), reading), ix, ns, &engine.Query{Vector: []float32{x, 0}, K: 1, IncludeMetadata: true, IncludeValues: true}, &res)
	require.NoError(c.t, err)
	require.Len(c.t, res.Matches, 1)
	require.EqualValues(c.t, 1, reading.Receipt.ReadUnits)
	return res.Matches[0].ID, reading.Receipt.Cache
}

// allKnow waits until all nodes know a tenant: before that, its home has no settings for it.
func (c *simCluster) allKnow(ns string) {
	c.until("all know the tenant", func() bool {
		for _, n := range c.nodes {
			if n == nil {
				continue
			}
			if _, ok := n.meta.state().tenant(ns); !ok {
				return false
			}
		}
		return true
	})
}

// TestCacheIsNeverStale asks the same through every node before and after each write; each of two tenants gets its own.
func TestCacheIsNeverStale(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		c.write(ix, "a", 100)
		c.write(ix, "b", 200)
		c.allKnow("a")
		for round := range 20 {
			writer := c.nodes[round%3]
			near := 50 - round // each nearer to 0 than the one before
			upsert(c.t, writer, ix, "a", near)
			for i, n := range []*Node{c.nodes[(round+1)%3], c.nodes[(round+2)%3], writer, writer} {
				id, from := c.nearest(n, ix, "a", 0)
				require.Equal(c.t, fmt.Sprintf("id%04d", near), id, "round %d", round)
				if round > 0 && i == 0 {
					require.Equal(c.t, tenancy.CacheMiss, from)
				} else if i > 0 {
					require.Equal(c.t, tenancy.CacheHit, from)
				}
				id, _ = c.nearest(n, ix, "b", 0)
				require.Equal(c.t, "id0200", id)
			}
		}
		_, err := c.nodes[0].DeleteAll(c.t.Context(), ix, "a")
		require.NoError(c.t, err)
		upsert(c.t, c.nodes[1], ix, "a", 300)
		id, _ := c.nearest(c.nodes[2], ix, "a", 0)
		require.Equal(c.t, "id0300", id)
	})
}

// TestCacheOfAnswers compares each answer from the cache with the search's own, here and through another node, in all that a
// query may ask for.
func TestCacheOfAnswers(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		c.write(ix, "a", 1, 2, 3, 4, 5)
		c.allKnow("a")
		for _, q := range []engine.Query{
			{Vector: []float32{1, 0}, K: 3}, {Vector: []float32{1, 0}, K: 4}, {Vector: []float32{1, 0}, K: 3, IncludeValues: true},
			{Vector: []float32{1, 0}, K: 3, IncludeMetadata: true}, {Vector: []float32{1, 0}, K: 3, Filter: parseFilter(c.t, `{"x":{"$gt":2}}`)},
			{Vector: []float32{1, 0}, K: 3, Filter: parseFilter(c.t, `{"x":{"$gt":3}}`)}, {Vector: []float32{1, 0.5}, K: 3},
		} {
			var first engine.Result
			for i, n := range []*Node{c.nodes[0], c.nodes[0], c.nodes[1], c.nodes[2]} {
				res := engine.Result{Matches: []engine.Match{{Record: engine.Record{ID: "old", Values: []float32{9, 9, 9}}}}}
				reading := &Reading{}
				_, err := n.Query(WithReading(c.t.Context(), reading), ix, "a", &q, &res)
				require.NoError(c.t, err)
				if i == 0 {
					require.Equal(c.t, tenancy.CacheMiss, reading.Receipt.Cache, "%+v", q)
					first = res
					continue
				}
				require.Equal(c.t, tenancy.CacheHit, reading.Receipt.Cache)
				require.Equal(c.t, first.Plan, res.Plan)
				require.Len(c.t, res.Matches, len(first.Matches))
				for j := range res.Matches {
					want, got := first.Matches[j], res.Matches[j]
					require.Equal(c.t, []any{want.ID, want.Score, len(want.Values), want.Metadata}, []any{got.ID, got.Score, len(got.Values), got.Metadata})
				}
			}
		}
	})
}
