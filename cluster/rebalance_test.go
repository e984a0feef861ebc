package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// over waits for the run that is under way.
func (c *simCluster) over() Run {
	var last Run
	c.until("the run is over", func() bool {
		all, err := c.any().Rebalancing(c.t.Context())
		if err != nil || len(all) == 0 {
			return false
		}
		last = all[0]
		return last.State != runRunning.String()
	})
	return last
}

// TestShardsJoinAndLeave gives a cluster a shard, and takes it another, while tenants are written to.
func TestShardsJoinAndLeave(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		ix := createIndex(t, n, "dense")
		const tenants = 30
		for i := range tenants {
			c.write(ix, fmt.Sprint("t", i), i)
		}
		old := n.meta.state()
		id, err := c.nodes[1].AddSharedShard(t.Context(), "test")
		require.NoError(t, err)
		require.Equal(t, 3, id)
		for i := range tenants { // while they move
			c.write(ix, fmt.Sprint("t", i), 1000+i)
		}
		r := c.over()
		require.Equal(t, runDone.String(), r.State, r.Fault)
		require.Zero(t, r.Failed)
		s := c.metaLeader().meta.state()
		moved := 0
		for tn := range s.byID.all() {
			require.Equal(t, noPin, tn.pin)
			if was, _ := old.tenantByID(tn.id); old.home(was) != s.home(tn) {
				require.Equal(t, uint16(id), s.home(tn), "to the new shard and nowhere else")
				moved++
			}
		}
		require.Positive(t, moved)
		require.Equal(t, moved, s.tenantsOn(uint16(id)))
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(n.RemoveShard(t.Context(), 0)))

		require.Equal(t, moved, r.Planned)
		require.Equal(t, moved, r.Moved)
		_, err = n.CreateTenant(t.Context(), "gone", 0, Plan{})
		require.NoError(t, err)
		c.write(ix, "gone", 7)
		_, err = n.DeleteTenant(t.Context(), "gone")
		require.NoError(t, err)

		require.NoError(t, n.DrainShard(t.Context(), 0, "test"))
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(n.DrainShard(t.Context(), 0, "test")))
		leader := c.index(c.metaLeader().id.NodeID)
		c.stop(leader) // another goes on with the run
		c.until("all shards have leaders", func() bool { return len(c.any().Ready()) == 0 })
		c.start(leader)
		r = c.over()
		require.Equal(t, runDone.String(), r.State, r.Fault)
		require.Zero(t, c.metaLeader().meta.state().tenantsOn(0))
		for i := range tenants {
			require.Equal(t, []string{fmt.Sprintf("id%04d", i), fmt.Sprintf("id%04d", 1000+i)}, scanIDs(t, c.any(), ix, fmt.Sprint("t", i)))
		}
		report, err := c.any().Routing(t.Context(), true)
		require.NoError(t, err)
		require.Empty(t, report.Strays, "old copies that are kept for a while are no strays")
		require.Equal(t, tenants+1, report.Tenants)
		_, err = c.any().UndeleteTenant(t.Context(), "gone", "", "")
		require.NoError(t, err)
		require.Equal(t, []string{"id0007"}, scanIDs(t, c.any(), ix, "gone"))
		require.NoError(t, c.any().RemoveShard(t.Context(), 0))
		c.settle()
		require.Len(t, c.any().Info(t.Context()).Shards, 3)
	})
}

// TestRunsBeginByThemselves within their windows, and can be ended.
func TestRunsBeginByThemselves(t *testing.T) {
	inCluster(t, 1, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		for i := range 24 {
			_, err := n.CreateTenant(t.Context(), fmt.Sprint("t", i), 1, Plan{})
			require.NoError(t, err)
		}
		now := time.Now().UTC()
		minute := uint16(now.Hour()*60 + now.Minute())
		later := Window{From: (minute + 30) % dayMinutes, To: (minute + 60) % dayMinutes}
		require.NoError(t, n.SetBalanceRules(t.Context(), BalanceRules{Auto: true, Windows: []Window{later}}))
		time.Sleep(5 * time.Minute)
		all, err := n.Rebalancing(t.Context())
		require.NoError(t, err)
		require.Empty(t, all)
		r, err := n.Rebalance(t.Context(), "test", true)
		require.NoError(t, err)
		require.True(t, r.Waiting)
		time.Sleep(5 * time.Minute)
		require.Equal(t, 24, n.meta.state().tenantsOn(1))
		r, err = n.AbortRebalance(t.Context())
		require.NoError(t, err)
		require.Equal(t, runAborted.String(), r.State)
		time.Sleep(25 * time.Minute)
		r = c.over()
		require.Equal(t, runDone.String(), r.State, r.Fault)
		require.Equal(t, "automatic", r.By)
		require.Less(t, n.meta.state().tenantsOn(1), 11)
	})
}
