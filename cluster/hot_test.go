package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

// heldBack is a gate that lets all in and notes who is to be held back.
type heldBack struct{ tenants []tenancy.ID }

func (g *heldBack) Throttle(t tenancy.ID, _ time.Time) { g.tenants = append(g.tenants, t) }

func (g *heldBack) Enter(context.Context, *tenancy.Request, *tenancy.Receipt) (tenancy.Pass, error) {
	return openPass{}, nil
}

// TestHotTenants has one tenant compute more than the rest of its shard: it is counted, listed first, and held back if the node is
// told to.
func TestHotTenants(t *testing.T) {
	for _, throttle := range []bool{false, true} {
		gate := &heldBack{}
		o := testOptions(t.TempDir())
		o.Shards, o.ThrottleHot, o.UsageEvery = 1, throttle, time.Hour // the test looks by itself
		o.Gate = func(tenancy.AdmissionOptions) (tenancy.Gate, error) { return gate, nil }
		n := openNode(t, o)
		ix := createIndex(t, n, "ix")
		var hot tenancy.ID
		for _, name := range []string{"calm", "hot"} {
			upsert(t, n, ix, name, 1)
			tenant, _ := n.meta.state().tenant(name)
			hot = tenancy.ID(tenant.id)
		}
		require.Empty(t, n.watchHeat(nil, time.Second))
		u := &tenancy.Usage{}
		u.Counts[tenancy.Queries], u.Counts[tenancy.ComputeNanos] = 6000, uint64(time.Minute)
		n.usage.note(0, tenancy.Slot{Tenant: hot}, u)
		n.usage.settle(0, n.usage.shard(0))
		require.Equal(t, map[tenancy.ID]bool{hot: true}, n.watchHeat(nil, time.Second))
		require.EqualValues(t, 1, n.hot.Load())
		require.Equal(t, throttle, len(gate.tenants) == 1 && gate.tenants[0] == hot)
		all, silent, err := n.TenantLoads(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, silent)
		require.Len(t, all, 2)
		require.Equal(t, "hot", all[0].Tenant.Name)
		require.True(t, all[0].Hot)
		require.False(t, all[1].Hot)
	}
}

// TestTenantLoadsOfAllNodes asks one node for the tenants of shards that others lead.
func TestTenantLoadsOfAllNodes(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		names := []string{"a", "b", "c", "d", "e", "f"}
		for _, name := range names {
			c.write(ix, name, 1)
		}
		c.until("all are told of", func() bool {
			all, silent, err := c.nodes[1].TenantLoads(c.t.Context(), 10)
			require.NoError(c.t, err)
			return len(all) == len(names) && len(silent) == 0
		})
	})
}
