package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// TestShardsOutliveTheMetadataPlane kills three of five nodes that vote in the metadata plane. Shards whose replicas are on the
// others are served as before: reads, writes and keys of what is known; what would change the metadata is refused.
func TestShardsOutliveTheMetadataPlane(t *testing.T) {
	inClusterWith(t, 5, func(o *Options) { o.Replicas = 1 }, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 9 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2)
		}
		require.NoError(c.t, c.nodes[0].AddKey(c.t.Context(), tenancy.Key{ID: "k", Role: tenancy.RoleAdmin}))
		c.settle()
		for _, n := range c.nodes[:5] {
			require.NoError(c.t, n.Refresh(c.t.Context()))
		}
		s := c.nodes[0].meta.state()
		require.Len(c.t, c.metaLeader().meta.group.status().Voters, 5)
		busy := []string{s.placed[0].replicas[0], s.placed[1].replicas[0]}
		require.NotEqual(c.t, busy[0], busy[1])
		for i, n := range c.nodes[:5] {
			if !slices.Contains(busy, n.id.NodeID) {
				c.kill(i)
			}
		}
		time.Sleep(11 * time.Minute) // longer than it takes to give a node up

		served := 0
		for _, id := range busy {
			n := c.nodes[c.index(id)]
			for i := range 9 {
				ns := fmt.Sprint("ns", i)
				r, ok := n.route(&ix, ns)
				require.True(c.t, ok)
				if !slices.Contains(busy, s.replicas(r.shard)[0]) {
					continue
				}
				_, err := n.Upsert(c.t.Context(), ix, ns, []engine.Record{record(c.t, 3)})
				require.NoError(c.t, err)
				recs, err := n.Fetch(c.t.Context(), ix, ns, []string{"id0001", "id0003"})
				require.NoError(c.t, err)
				require.Len(c.t, recs, 2)
				served++
			}
			_, ok := n.Key("k")
			require.True(c.t, ok)
			_, ok = n.Index("i")
			require.True(c.t, ok)
			c.refusesChanges(n, ix)
		}
		require.Positive(c.t, served)
	})
}

// refusesChanges asks for changes that need the metadata plane, which has no leader.
func (c *simCluster) refusesChanges(n *Node, ix Index) {
	c.t.Helper()
	for what, change := range map[string]func(ctx context.Context) error{
		"a new tenant": func(ctx context.Context) error {
			_, err := n.Upsert(ctx, ix, "new", []engine.Record{record(c.t, 1)})
			return err
		},
		"an unknown tenant": func(ctx context.Context) error { _, err := n.Fetch(ctx, ix, "new", []string{"a"}); return err },
		"a new index": func(ctx context.Context) error {
			_, err := n.CreateIndex(ctx, Index{Name: "j", Dim: 2, Metric: ann.Cosine})
			return err
		},
		"an index's end": func(ctx context.Context) error { return n.DeleteIndex(ctx, "i") },
		"a new key":      func(ctx context.Context) error { return n.AddKey(ctx, tenancy.Key{ID: "k2", Role: tenancy.RoleReader}) },
		"a join token":   func(ctx context.Context) error { _, err := n.NewJoinToken(ctx, time.Hour); return err },
	} {
		err := change(c.t.Context())
		require.True(c.t, errs.Is(err, errs.Unavailable), "%s: %v", what, err)
		require.ErrorContains(c.t, err, metaName, what)
	}
}

// TestAnyWaitsForMetadataAfterAStart: what a node knew before it was started may be old, so what it does not know may be there.
func TestAnyWaitsForMetadataAfterAStart(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "old", 1)
		c.settle()
		require.NoError(c.t, c.nodes[2].Refresh(c.t.Context()))
		require.NoError(c.t, c.nodes[2].meta.group.trim(1))
		c.stop(2)
		c.write(ix, "new", 1)
		c.kill(0)
		c.kill(1)
		n, err := Open(c.t.Context(), c.options(2)) // it gives up waiting for the metadata plane
		require.NoError(c.t, err)
		c.nodes[2] = n
		fetch := func(ns string) ([]engine.Record, error) {
			return n.Fetch(WithReading(c.t.Context(), &Reading{Consistency: Any}), ix, ns, []string{"id0001"})
		}
		_, err = fetch("old")
		require.NoError(c.t, err)
		_, err = fetch("new")
		require.True(c.t, errs.Is(err, errs.Unavailable), "%v", err)

		c.start(1)
		c.until("the metadata plane is there", func() bool { return n.CatchUp(c.t.Context()) == nil })
		require.True(c.t, n.refreshed.Load())
		c.until("what was made meanwhile is found", func() bool {
			recs, err := fetch("new")
			require.NoError(c.t, err)
			return len(recs) == 1
		})
		recs, err := fetch("never")
		require.NoError(c.t, err)
		require.Empty(c.t, recs)
		c.kill(1)
		recs, err = fetch("never")
		require.NoError(c.t, err, "it is behind by moments now")
		require.Empty(c.t, recs)
	})
}
