package cluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// elsewhere is a shard where a tenant does not live.
func elsewhere(t *testing.T, n *Node, tenant string) int {
	d, err := n.DescribeTenant(t.Context(), tenant)
	require.NoError(t, err)
	return (d.Shard + 1) % 3
}

// TestMoveIsRefused asks for what cannot be.
func TestMoveIsRefused(t *testing.T) {
	inCluster(t, 1, func(c *simCluster) {
		n := c.nodes[0]
		c.write(createIndex(c.t, n, "i"), "a", 1)
		d, err := n.DescribeTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		for what, move := range map[errs.Kind]Move{
			errs.NotFound: {Tenant: "unknown", To: 0}, errs.FailedPrecondition: {Tenant: "a", To: d.Shard},
		} {
			_, err := n.MoveTenant(c.t.Context(), move.Tenant, move.To, MoveOptions{})
			require.Equal(c.t, what, errs.KindOf(err))
		}
		for _, shard := range []int{-1, 99, 1 << 20} {
			_, err := n.MoveTenant(c.t.Context(), "a", shard, MoveOptions{})
			require.Equal(c.t, errs.NotFound, errs.KindOf(err))
		}
		_, err = n.Migration(c.t.Context(), 1)
		require.Equal(c.t, errs.NotFound, errs.KindOf(err))
	})
}

// TestDryRunOfAMove tells how much there is to copy, and plans nothing.
func TestDryRunOfAMove(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.MoveRate = 1000 }, func(c *simCluster) {
		n := c.nodes[1]
		c.write(createIndex(c.t, n, "i"), "a", 1, 2, 3)
		m, err := n.MoveTenant(c.t.Context(), "a", elsewhere(c.t, n, "a"), MoveOptions{DryRun: true})
		require.NoError(c.t, err)
		require.Zero(c.t, m.ID)
		require.NotZero(c.t, m.Total)
		require.InDelta(c.t, float64(m.Total)/1000, m.ETA.Seconds(), 0.01)
		all, err := n.Migrations(c.t.Context(), MigrationFilter{})
		require.NoError(c.t, err)
		require.Empty(c.t, all)
	})
}

// TestMovesWaitForTheirTurn plans many at once, and cancels one of those that wait.
func TestMovesWaitForTheirTurn(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.MovesPerNode = 1 }, func(c *simCluster) {
		n := c.nodes[1]
		ix := createIndex(c.t, n, "i")
		moves := []Move{{Tenant: "unknown"}}
		for i := range 4 {
			name := fmt.Sprint("t", i)
			c.write(ix, name, 1)
			moves = append(moves, Move{Tenant: name, To: elsewhere(c.t, n, name)})
		}
		all, err := n.MoveTenants(c.t.Context(), moves, MoveOptions{Reason: "test", By: "me"})
		require.NoError(c.t, err)
		require.NotEmpty(c.t, all[0].Error)
		require.Zero(c.t, all[0].ID)
		for i, m := range all[1:] {
			require.Equal(c.t, Migration{
				ID: uint64(i + 1), Tenant: moves[i+1].Tenant, TenantID: m.TenantID, From: m.From, To: moves[i+1].To, Attempt: 1,
				Phase: m.Phase, Reason: "test", By: "me", Started: m.Started, Changed: m.Changed, Phases: m.Phases,
			}, m)
		}
		last, err := n.CancelMigration(c.t.Context(), 4)
		require.NoError(c.t, err)
		require.Equal(c.t, PhaseAborted, last.Phase)
		require.NotZero(c.t, last.Ended)
		_, err = n.RollbackMigration(c.t.Context(), 4)
		require.Equal(c.t, errs.FailedPrecondition, errs.KindOf(err))
		some, err := n.Migrations(c.t.Context(), MigrationFilter{Tenant: "t3"})
		require.NoError(c.t, err)
		require.Equal(c.t, []Migration{last}, some)
		some, err = n.Migrations(c.t.Context(), MigrationFilter{Before: 4, Limit: 2})
		require.NoError(c.t, err)
		require.Len(c.t, some, 2)
		require.Equal(c.t, uint64(3), some[0].ID)
	})
}

// TestTargetNeedsRoom looks for more than the nodes of a shard have.
func TestTargetNeedsRoom(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.DiskReserve = 1 }, func(c *simCluster) {
		n := c.nodes[1]
		asked := func(records, bytes uint64) (silent []string, kind errs.Kind) {
			silent, err := n.checkRoom(c.t.Context(), 0, records, bytes)
			if err == nil {
				return silent, kindFine
			}
			return silent, errs.KindOf(err)
		}
		silent, kind := asked(1, 1)
		require.Equal(c.t, kindFine, kind)
		require.Empty(c.t, silent)
		_, kind = asked(1, 1<<60)
		require.Equal(c.t, errs.StorageFull, kind, "disk")
		_, kind = asked(1<<40, 1)
		require.Equal(c.t, errs.StorageFull, kind, "memory")
		down := c.nodes[2].id.NodeID
		c.kill(2)
		silent, kind = asked(1, 1)
		require.Equal(c.t, kindFine, kind, "two of three have told")
		require.Equal(c.t, []string{down}, silent)
		_, kind = asked(1, 1<<60)
		require.Equal(c.t, errs.StorageFull, kind)
		c.kill(0)
		_, kind = asked(1, 1)
		require.Equal(c.t, errs.Unavailable, kind, "one alone is not enough")
	})
}

// TestMoveWithoutANodeOfItsTarget moves a tenant while a node is down, which is named in the record.
func TestMoveWithoutANodeOfItsTarget(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		n := c.nodes[1]
		ix := createIndex(c.t, n, "i")
		c.write(ix, "a", 1, 2)
		down := c.nodes[2].id.NodeID
		c.kill(2)
		c.until("all shards have leaders", func() bool { return len(n.Ready()) == 0 })
		m := c.moveTo(n, "a", elsewhere(c.t, n, "a"))
		require.Equal(c.t, PhaseSettled, m.Phase, "%+v", m)
		require.Contains(c.t, m.Error, down)
		require.Len(c.t, scanIDs(c.t, n, ix, "a"), 2)
	})
}
