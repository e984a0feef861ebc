package cluster

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// TestDedicatedShards makes shards at run time on a node alone, puts tenants on one, and finds all of it after a restart.
func TestDedicatedShards(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "dense")
	id, err := n.AddShard(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, opts.Shards, id)
	_, err = n.AddShard(t.Context(), "acme")
	require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
	require.Eventually(t, func() bool {
		_, ok := n.replica(uint16(id)).engine.Schema(ix.ID)
		return ok
	}, time.Minute, time.Millisecond, "it is told of indexes before anybody writes")
	all, err := n.IndexStats(t.Context(), ix)
	require.NoError(t, err)
	require.Empty(t, all)
	made, err := n.CreateTenant(t.Context(), "acme", id, Plan{})
	require.NoError(t, err)
	require.Equal(t, Tenant{Name: "acme", ID: made.ID, Shard: id, Pinned: true, RingShard: made.RingShard, Tier: tenancy.DefaultTier}, made)
	require.Equal(t, id, upsert(t, n, ix, "acme", 1, 2, 3).Shard)
	for i := range 40 {
		require.Less(t, upsert(t, n, ix, fmt.Sprint("other", i), 1).Shard, opts.Shards, "a dedicated shard is off the ring")
	}
	for _, shard := range []int{0, id, AnyShard} {
		_, err = n.CreateTenant(t.Context(), "acme", shard, Plan{})
		require.Equal(t, errs.AlreadyExists, errs.KindOf(err), "only a migration moves data")
	}
	for _, shard := range []int{id + 1, -2, maxShardIDs} {
		_, err = n.CreateTenant(t.Context(), "nobody", shard, Plan{})
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	}
	_, ok := n.meta.state().tenant("nobody")
	require.False(t, ok)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(n.RemoveShard(t.Context(), id)), "it holds a tenant")
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(n.RemoveShard(t.Context(), 0)), "it is on the ring")
	require.Equal(t, errs.NotFound, errs.KindOf(n.RemoveShard(t.Context(), id+1)))

	spare, err := n.AddShard(t.Context(), "")
	require.NoError(t, err)
	info := n.Info(t.Context())
	require.Len(t, info.Shards, opts.Shards+2)
	require.Equal(t, "acme", info.Shards[id].Name)
	require.Equal(t, KindDedicated, info.Shards[id].Kind)
	require.Equal(t, 1, info.Shards[id].Tenants)
	require.Equal(t, uint64(3), info.Shards[id].Stats.Records)
	require.Equal(t, n.id.NodeID, info.Shards[spare].Leader)
	dir := shardDir(opts.Dir, uint16(spare), 1)
	require.DirExists(t, dir)
	require.NoError(t, n.RemoveShard(t.Context(), spare))
	require.Eventually(t, func() bool { return n.replica(uint16(spare)) == nil }, time.Minute, time.Millisecond)
	require.NoError(t, n.Close())

	n = openNode(t, opts)
	require.NoDirExists(t, dir)
	require.Equal(t, []string{"id0001", "id0002", "id0003"}, scanIDs(t, n, ix, "acme"))
	again, err := n.DescribeTenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, made, again)
	next, err := n.AddShard(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, spare+1, next, "an id is never used again")
	require.Equal(t, opts.Shards, n.SharedShards())
}

// TestFoundingIsFinishedAfterACrash starts a node that was to found a shard and had not got far.
func TestFoundingIsFinishedAfterACrash(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	id, err := n.AddShard(t.Context(), "")
	require.NoError(t, err)
	dir := shardDir(opts.Dir, uint16(id), 1)
	require.NoError(t, n.Close())
	for name, undo := range map[string]func(){
		"not noted": func() { delete(n.id.Replicas, uint16(id)) },
		"noted":     func() { n.id.Replicas[uint16(id)] = incarnation{Number: 1, State: replicaFounding} },
	} {
		t.Run(name, func(t *testing.T) {
			undo()
			require.NoError(t, n.id.save(n.opts.disk, opts.Dir))
			require.NoError(t, os.RemoveAll(dir))
			n := openNode(t, opts)
			require.Eventually(t, func() bool { sh := n.replica(uint16(id)); return sh != nil && sh.group.leads() }, time.Minute, time.Millisecond)
			require.Eventually(t, func() bool {
				known, err := loadIdentity(n.opts.disk, opts.Dir, 1, false)
				return err == nil && known.Replicas[uint16(id)] == incarnation{Number: 1, State: replicaOpen}
			}, time.Minute, 10*time.Millisecond)
			require.NoError(t, n.Close())
		})
	}
}

// TestDedicatedShardOfACluster adds a shard to three nodes: it gets its replicas, and is gone from all when it is taken out.
func TestDedicatedShardOfACluster(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "dense")
		id, err := c.nodes[1].AddShard(t.Context(), "acme")
		require.NoError(t, err)
		c.settle()
		require.Len(t, c.metaLeader().meta.state().replicas(uint16(id)), 3)
		_, err = c.nodes[2].CreateTenant(t.Context(), "acme", id, Plan{})
		require.NoError(t, err)
		for _, n := range c.nodes[:3] {
			require.Equal(t, id, upsert(t, n, ix, "acme", 1).Shard)
		}
		c.stop(0)
		require.Equal(t, id, upsert(t, c.any(), ix, "acme", 2).Shard)
		spare, err := c.any().AddShard(t.Context(), "")
		require.NoError(t, err)
		c.start(0)
		c.settle()
		require.NoError(t, c.any().RemoveShard(t.Context(), spare))
		c.until("its replicas are closed", func() bool {
			for _, n := range c.nodes[:3] {
				if n.replica(uint16(spare)) != nil {
					return false
				}
			}
			return true
		})
		c.settle()
		info := c.nodes[0].Info(t.Context())
		require.Len(t, info.Shards, 4)
		require.Empty(t, info.Silent)
		require.Len(t, info.Shards[id].Replicas, 3)
	})
}

// TestPlacementFollowsTheRules places tenants by load, at several nodes, and changes the policy at run time.
func TestPlacementFollowsTheRules(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		ix := createIndex(t, n, "dense")
		require.Equal(t, Rules{ShardTenants: 2000, ShardVectors: 2_000_000, Growth: 10_000}, n.Rules())
		heavy, err := n.CreateTenant(t.Context(), "heavy", AnyShard, Plan{})
		require.NoError(t, err)
		require.False(t, heavy.Pinned)
		require.Equal(t, heavy.RingShard, heavy.Shard)
		xs := make([]int, 100)
		for i := range xs {
			xs[i] = i
		}
		upsert(t, n, ix, "heavy", xs...)

		require.Equal(t, errs.Invalid, errs.KindOf(n.SetRules(t.Context(), Rules{Policy: 9})))
		require.NoError(t, c.nodes[1].SetRules(t.Context(), Rules{Policy: PolicyLeastLoaded, Growth: 10}))
		c.until("all nodes know", func() bool {
			for _, n := range c.nodes[:3] {
				if n.Rules().Policy != PolicyLeastLoaded {
					return false
				}
			}
			return true
		})
		for i := range 20 { // a hundred vectors and a tenant weigh as much as eleven tenants
			made, err := c.nodes[i%3].CreateTenant(t.Context(), fmt.Sprint("small", i), AnyShard, Plan{})
			require.NoError(t, err)
			require.NotEqual(t, heavy.Shard, made.Shard)
			require.Equal(t, made.Shard != made.RingShard, made.Pinned)
		}
		for id := range uint16(3) {
			if int(id) != heavy.Shard {
				require.Equal(t, 10, n.meta.state().tenantsOn(id))
			}
		}
		page, more, total := n.Tenants("small", "", 5)
		require.True(t, more)
		require.Equal(t, 20, total)
		require.Equal(t, "small0", page[0].Name)
		page, more, _ = n.Tenants("small", "small8", 5)
		require.False(t, more)
		require.Len(t, page, 1)
		_, err = n.DescribeTenant(t.Context(), "nobody")
		require.Equal(t, errs.NotFound, errs.KindOf(err))
	})
}
