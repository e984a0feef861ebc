package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
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

// purged waits until a tenant that was deleted is forgotten, which takes longer than it is kept.
func (c *simCluster) purged(id string) {
	c.t.Helper()
	c.until("the tenant is forgotten", func() bool {
		for _, t := range c.metaLeader().DeletedTenants() {
			if t.ID == id {
				return false
			}
		}
		return true
	})
}

// heldBy lists the shards that have partitions of a tenant, whatever its standing there.
func (c *simCluster) heldBy(id engine.TenantID) (shards []int) {
	for _, shard := range c.any().meta.state().shards {
		for _, f := range c.leader(shard).engine.Tenants(engine.TenantID{}, 1000) {
			if f.Tenant == id && f.Partitions > 0 {
				shards = append(shards, int(shard))
			}
		}
	}
	return shards
}

// TestPurgeReachesAllCopies deletes a tenant whose old home keeps a copy: nothing is left of either, and what comes late makes
// nothing anew.
func TestPurgeReachesAllCopies(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.UndeleteFor = time.Second }, func(c *simCluster) {
		n := c.nodes[0]
		ix := createIndex(c.t, n, "i")
		c.write(ix, "a", 1, 2)
		tn, _ := n.meta.state().tenant("a")
		from, to := int(n.meta.state().home(tn)), elsewhere(c.t, n, "a")
		require.Equal(c.t, PhaseSettled, c.moveTo(n, "a", to).Phase)
		require.ElementsMatch(c.t, []int{from, to}, c.heldBy(tn.id))
		gone, err := n.DeleteTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		c.purged(gone.ID)
		require.Empty(c.t, c.heldBy(tn.id))
		m, err := n.Migration(c.t.Context(), 1)
		require.NoError(c.t, err)
		require.Equal(c.t, PhaseCollected, m.Phase)
		for _, shard := range []int{from, to} {
			late := &engine.Command{Op: engine.OpUpsert, Key: engine.Key{Tenant: tn.id, Index: ix.ID}, Records: []engine.Record{record(c.t, 9)}}
			_, err := c.leader(uint16(shard)).propose(c.t.Context(), late)
			require.Error(c.t, err)
		}
		require.Empty(c.t, c.heldBy(tn.id))
	})
}

// TestDeleteTakesAMoveBack deletes a tenant while it is copied: the target keeps nothing, and the tenant can come back where it was.
func TestDeleteTakesAMoveBack(t *testing.T) {
	var deleting func(*migration)
	inClusterWith(t, 3, func(o *Options) { o.stepping = func(m *migration) { deleting(m) } }, func(c *simCluster) {
		n := c.nodes[0]
		deleting = func(m *migration) {
			if m.phase == moveTailing {
				_, err := n.DeleteTenant(context.WithoutCancel(c.t.Context()), "a")
				require.NoError(c.t, err)
			}
		}
		ix := createIndex(c.t, n, "i")
		c.write(ix, "a", 1, 2)
		tn, _ := n.meta.state().tenant("a")
		from := int(n.meta.state().home(tn))
		m := c.moveTo(n, "a", elsewhere(c.t, n, "a"))
		require.Equal(c.t, PhaseAborted, m.Phase)
		require.Equal(c.t, []int{from}, c.heldBy(tn.id))
		_, err := n.UndeleteTenant(c.t.Context(), "a", "", "")
		require.NoError(c.t, err)
		require.Len(c.t, scanIDs(c.t, n, ix, "a"), 2)
		c.write(ix, "a", 3)
	})
}

// TestMoveIsTakenBack moves a tenant back by the migration's id, and then waits for the copies to be dropped.
func TestMoveIsTakenBack(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.KeepMoved = time.Minute }, func(c *simCluster) {
		n := c.nodes[1]
		ix := createIndex(c.t, n, "i")
		c.write(ix, "a", 1, 2)
		before, err := n.DescribeTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		m := c.moveTo(n, "a", elsewhere(c.t, n, "a"))
		c.write(ix, "a", 3)
		back, err := n.RollbackMigration(c.t.Context(), m.ID)
		require.NoError(c.t, err)
		require.Equal(c.t, m.ID, back.RollbackOf)
		require.Equal(c.t, PhaseSettled, c.awaitMove(n, back.ID).Phase)
		after, err := n.DescribeTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		require.Equal(c.t, before.Shard, after.Shard)
		require.Equal(c.t, before.Pinned, after.Pinned, "it follows the ring if it did before")
		require.Len(c.t, scanIDs(c.t, n, ix, "a"), 3, "what was written since comes along")
		_, err = n.RollbackMigration(c.t.Context(), m.ID)
		require.Equal(c.t, errs.FailedPrecondition, errs.KindOf(err), "it has moved on")
		tn, _ := n.meta.state().tenant("a")
		c.until("copies are dropped", func() bool { return len(c.heldBy(tn.id)) == 1 })
		require.Equal(c.t, []int{before.Shard}, c.heldBy(tn.id))
		require.Len(c.t, scanIDs(c.t, n, ix, "a"), 3)
	})
}

// TestNoFenceWithoutTheMetadataPlane: who drives a move hears nobody any more, when the tenant's writes are to be stopped; what it sends
// still arrives. They are not stopped until another drives that can bring the move to its end.
func TestNoFenceWithoutTheMetadataPlane(t *testing.T) {
	var fencing func(*migration)
	inClusterWith(t, 3, func(o *Options) { o.stepping = func(m *migration) { fencing(m) } }, func(c *simCluster) {
		driver := c.metaLeader()
		var others []*Node
		for _, n := range c.nodes[:3] {
			if n != driver {
				others = append(others, n)
			}
		}
		deaf := make(chan struct{})
		cut := sync.OnceFunc(func() {
			for _, n := range others {
				c.net.cut(n.id.NodeID, driver.id.NodeID)
			}
			close(deaf)
		})
		fencing = func(m *migration) {
			if m.phase == moveFenced {
				cut()
			}
		}
		ix := createIndex(c.t, driver, "i")
		name, from := "", uint16(0)
		for i := 0; name == ""; i++ { // one that lives with another leader
			w := upsert(c.t, driver, ix, fmt.Sprint("t", i), 1)
			if c.leader(uint16(w.Shard)).group != driver.replica(uint16(w.Shard)).group {
				name, from = fmt.Sprint("t", i), uint16(w.Shard)
			}
		}
		tn, _ := driver.meta.state().tenant(name)
		m, err := driver.MoveTenant(c.t.Context(), name, elsewhere(c.t, driver, name), MoveOptions{})
		require.NoError(c.t, err)
		<-deaf
		c.until("another drives", func() bool {
			fenced := c.leader(from) != nil && c.leader(from).engine.Residence(tn.id).Standing == engine.Fenced
			if slices.ContainsFunc(others, func(n *Node) bool { return n.meta.group.leads() }) {
				return true
			}
			require.False(c.t, fenced, "writes wait for nobody")
			return false
		})
		c.net.healAll()
		m = c.awaitMove(others[0], m.ID)
		require.Equal(c.t, PhaseSettled, m.Phase, "%+v", m)
		require.Equal(c.t, uint64(1), m.Attempt)
	})
}

// TestUsageMovesAlong: what was counted at the old home and not written down yet is written down at the new one, once.
func TestUsageMovesAlong(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.UsageEvery = 20 * time.Second }, func(c *simCluster) {
		n := c.nodes[0]
		ix := createIndex(c.t, n, "i")
		c.write(ix, "a", 1)
		searches := uint64(0)
		for range 3 {
			for _, n := range c.nodes[:3] {
				require.NoError(c.t, c.search(n, ix, "a", Leader))
				require.NoError(c.t, c.search(n, ix, "a", Any))
				searches += 2
			}
			c.moveTo(n, "a", elsewhere(c.t, n, "a"))
		}
		c.until("all was written down", func() bool { return c.used("a").Counts[tenancy.Queries] >= searches })
		time.Sleep(time.Minute)
		u := c.used("a")
		require.Equal(c.t, searches, u.Counts[tenancy.Queries])
	})
}
