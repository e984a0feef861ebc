package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// moveTo moves a tenant through a node, and waits for the end.
func (c *simCluster) moveTo(n *Node, tenant string, to int) Migration {
	c.t.Helper()
	m, err := n.MoveTenant(c.t.Context(), tenant, to, MoveOptions{})
	require.NoError(c.t, err)
	return c.awaitMove(n, m.ID)
}

func (c *simCluster) awaitMove(n *Node, id uint64) Migration {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	m, err := n.AwaitMigration(ctx, id)
	if err != nil {
		m, _ = n.Migration(c.t.Context(), id)
		c.dump()
		c.t.Fatalf("migration %d has not ended: %+v: %v", id, m, err)
	}
	return m
}

// TestTenantMoves moves a tenant there and back, and reads and writes it at each node afterwards.
func TestTenantMoves(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "a", 1, 2, 3)
		c.write(ix, "b", 1)
		home, err := c.nodes[0].DescribeTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		want := uint64(3)
		for i, to := range []int{elsewhere(c.t, c.nodes[0], "a"), home.Shard} {
			m := c.moveTo(c.nodes[i], "a", to)
			require.Equal(c.t, PhaseSettled, m.Phase, "%+v", m)
			require.Equal(c.t, uint64(i+1), m.Epoch)
			require.Len(c.t, m.Phases, 7)
			require.Len(c.t, m.Digest, 32)
			require.Positive(c.t, m.Copied)
			for j, n := range c.nodes[:3] {
				recs, err := n.Fetch(c.t.Context(), ix, "a", []string{record(c.t, 1).ID, record(c.t, 3).ID})
				require.NoError(c.t, err)
				require.Len(c.t, recs, 2)
				w, err := n.Upsert(c.t.Context(), ix, "a", []engine.Record{record(c.t, 10*i+j+10)})
				require.NoError(c.t, err)
				require.Equal(c.t, to, w.Shard)
				want++
				ns, err := n.DescribeNamespace(c.t.Context(), ix, "a")
				require.NoError(c.t, err)
				require.Equal(c.t, want, ns.Stats.Records)
			}
		}
	})
}

// TestFailedRequestsOfMoves counts requests that fail while their tenant is moved, on any node, and keeps the number.
func TestFailedRequestsOfMoves(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "a", 1)
		m, err := c.nodes[0].MoveTenant(c.t.Context(), "a", elsewhere(c.t, c.nodes[0], "a"), MoveOptions{})
		require.NoError(c.t, err)
		tn, ok := c.nodes[0].meta.state().tenant("a")
		require.True(c.t, ok)
		for _, n := range c.nodes[1:3] {
			_, err := n.meta.fsm.wait(c.t.Context(), func(s *state) bool { _, known := s.migration(m.ID); return known })
			require.NoError(c.t, err)
			for _, kind := range []errs.Kind{errs.Unavailable, errs.OutcomeUnknown, errs.NotFound, errs.RateLimited} {
				n.mover.faults.note(n.meta.state(), tn.id, errs.New(kind, "it failed"))
			}
		}
		m = c.awaitMove(c.nodes[2], m.ID)
		require.Equal(c.t, PhaseSettled, m.Phase)
		require.Equal(c.t, uint64(4), m.Failed)
		c.nodes[2].mover.faults.note(c.nodes[2].meta.state(), tn.id, errs.New(errs.Unavailable, "it failed"))
		require.Equal(c.t, uint64(2), c.nodes[2].mover.faults.total.Load(), "it is not being moved any more")
	})
}
