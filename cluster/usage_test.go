package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// used adds up what was written down of a tenant at the leader of its shard.
func (c *simCluster) used(ns string) (sum tenancy.Usage) {
	t, ok := c.any().meta.state().tenant(ns)
	require.True(c.t, ok)
	sh := c.leader(c.any().meta.state().home(t))
	if sh == nil {
		return sum
	}
	found, err := sh.engine.ScanCostate(t.id, usageName(0), usageName(1<<32-1))
	require.NoError(c.t, err)
	for _, e := range found {
		u, err := decodeUsage(e.Value, nil)
		require.NoError(c.t, err)
		sum.Add(u)
	}
	return sum
}

// search asks a node.
func (c *simCluster) search(n *Node, ix Index, ns string, level Consistency) error {
	var res engine.Result
	ctx := WithReading(c.t.Context(), &Reading{Consistency: level})
	_, err := n.Query(ctx, ix, ns, &engine.Query{Vector: []float32{1, 0}, K: 3}, &res)
	return err
}

// TestUsageIsWrittenDown counts requests that come in at every node, at two levels, and hands the shards over in between. What
// an orderly hand-over takes with it is nothing.
func TestUsageIsWrittenDown(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		searches := uint64(0)
		for round := range 3 {
			c.write(ix, "a", 10*round, 10*round+1)
			for _, n := range c.nodes[:3] {
				for range 4 {
					require.NoError(c.t, c.search(n, ix, "a", Leader))
					require.NoError(c.t, c.search(n, ix, "a", Any))
					searches += 2
				}
			}
			c.stop(round)
			c.start(round)
			c.settle()
		}
		c.until("all was written down", func() bool { u := c.used("a"); return u.Counts[tenancy.Queries] >= searches })
		u := c.used("a")
		require.Equal(c.t, searches, u.Counts[tenancy.Queries])
		require.EqualValues(c.t, 6, u.Counts[tenancy.Upserted])
		require.Equal(c.t, searches, u.Counts[tenancy.ReadUnits])
		require.Equal(c.t, u.End, u.Peak)
		require.EqualValues(c.t, 6, u.End.Vectors)
		require.Positive(c.t, u.Counts[tenancy.ScannedBytes])
		for _, n := range c.nodes[:3] {
			require.Zero(c.t, n.usage.lost.Load())
		}
	})
}

// TestUsageIsKeptForAWhile finds hours that are too old: they go, but for a tenant's newest, which tells what is stored.
func TestUsageIsKeptForAWhile(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	sh, now := n.replica(0), tenancy.HourOf(time.Now())
	term, err := sh.settle(t.Context())
	require.NoError(t, err)
	tenant := func(name string) engine.TenantID {
		require.NoError(t, n.meta.creator.create(t.Context(), name))
		found, ok := n.meta.state().tenant(name)
		require.True(t, ok)
		return found.id
	}
	busy, idle, purged := tenant("busy"), tenant("idle"), engine.TenantID{2}
	var all []engine.CostateEntry
	u := &tenancy.Usage{End: tenancy.Stored{Vectors: 2}}
	for _, age := range []tenancy.Hour{0, 1, 719, 720, 721, 800} {
		all = append(all, usageEntry(tenancy.Slot{Tenant: tenancy.ID(busy), Hour: now - age}, u))
		if age > 720 {
			all = append(all, usageEntry(tenancy.Slot{Tenant: tenancy.ID(idle), Hour: now - age}, u))
			all = append(all, usageEntry(tenancy.Slot{Tenant: tenancy.ID(purged), Hour: now - age}, u))
		}
	}
	all = append(all, engine.CostateEntry{Tenant: busy, Name: "other", Value: []byte{1}})
	require.NoError(t, sh.keep(t.Context(), term, all))
	n.refreshed.Store(true)
	n.usage.settle(0, n.usage.shard(0))
	hours := func(t engine.TenantID) (ages []int) {
		found, _ := sh.engine.ScanCostate(t, "", "")
		for _, e := range found {
			if h := hourOf(e.Name); h > 0 {
				ages = append(ages, int(now-h))
			}
		}
		return ages
	}
	require.Equal(t, []int{720, 719, 1, 0}, hours(busy))
	require.Equal(t, []int{721}, hours(idle))
	require.Empty(t, hours(purged))
	sum, err := sh.storedUsage(tenancy.Slot{Tenant: tenancy.ID(idle), Hour: now})
	require.NoError(t, err)
	require.EqualValues(t, 2, sum.Peak.Vectors, "though nothing was written for a month")
	other, err := sh.engine.Costate(busy, "other")
	require.NoError(t, err)
	require.NotNil(t, other)
}

// TestUsageTellsWhatIsStoredNow loses what was counted last, as a home does that is killed: what is stored is told all the same.
func TestUsageTellsWhatIsStoredNow(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "ix")
	report := func() (u Used) {
		all, _, err := n.Usage(t.Context(), UsageReport{Tenant: "a", From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Step: time.Hour})
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.NotEmpty(t, all[0].Steps)
		return all[0].Steps[len(all[0].Steps)-1]
	}
	upsert(t, n, ix, "a", 1, 2)
	require.EqualValues(t, 2, report().End.Vectors)
	upsert(t, n, ix, "a", 3, 4, 5)
	lost := 0
	for id := range n.replicas() {
		lost += len(n.usage.shard(id).Take())
	}
	require.Equal(t, 1, lost)
	require.EqualValues(t, 5, report().End.Vectors)
	require.EqualValues(t, 5, report().Peak.Vectors)
	require.EqualValues(t, 2, report().Counts[tenancy.Upserted], "this is what a kill costs")
}
