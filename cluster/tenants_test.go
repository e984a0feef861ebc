package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

func limited(l tenancy.Limit, v int64) (ls tenancy.Limits) {
	ls.Set(l, v)
	return ls
}

// purge does what the purger does when all that was deleted is due.
func purge(t testing.TB, n *Node) {
	t.Helper()
	require.NoError(t, newPurger(n).step(t.Context(), time.Now().Add(n.opts.UndeleteFor)))
}

// TestDeletedTenant deletes a tenant, makes another of its name, brings the first back, and deletes it for good.
func TestDeletedTenant(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "dense")
	upsert(t, n, ix, "acme", 1, 2)
	gone, err := n.DeleteTenant(t.Context(), "acme")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), gone.Deleted, time.Minute)
	require.Empty(t, scanIDs(t, n, ix, "acme"))
	all, err := n.IndexStats(t.Context(), ix)
	require.NoError(t, err)
	require.Empty(t, all, "its partitions are no namespaces")
	_, err = n.DescribeTenant(t.Context(), "acme")
	require.True(t, errs.Is(err, errs.NotFound))
	_, err = n.DeleteTenant(t.Context(), "acme")
	require.True(t, errs.Is(err, errs.NotFound))
	require.Equal(t, []Tenant{gone}, n.DeletedTenants())

	upsert(t, n, ix, "acme", 3)
	require.Equal(t, []string{"id0003"}, scanIDs(t, n, ix, "acme"), "the name is free at once")
	_, err = n.UndeleteTenant(t.Context(), "acme", "", "")
	require.True(t, errs.Is(err, errs.AlreadyExists), "%v", err)
	_, err = n.UndeleteTenant(t.Context(), "acme", "", "\x00")
	require.True(t, errs.Is(err, errs.Invalid), "%v", err)
	back, err := n.UndeleteTenant(t.Context(), "acme", gone.ID, "acme-old")
	require.NoError(t, err)
	require.Equal(t, gone.ID, back.ID)
	require.Equal(t, []string{"id0001", "id0002"}, scanIDs(t, n, ix, "acme-old"))
	_, err = n.UndeleteTenant(t.Context(), "acme", gone.ID, "")
	require.True(t, errs.Is(err, errs.NotFound), "%v", err)

	purge(t, n)
	require.Equal(t, []string{"id0001", "id0002"}, scanIDs(t, n, ix, "acme-old"), "only what is deleted is purged")
	_, err = n.DeleteTenant(t.Context(), "acme-old")
	require.NoError(t, err)
	require.NoError(t, newPurger(n).step(t.Context(), time.Now()))
	require.Len(t, n.DeletedTenants(), 1, "it is not due")
	require.NoError(t, n.Close())

	n = openNode(t, opts)
	require.Len(t, n.DeletedTenants(), 1)
	old, _ := n.meta.state().tenantByID(n.tenantIDOf(t, gone.ID))
	purge(t, n)
	require.Empty(t, n.DeletedTenants())
	_, err = n.UndeleteTenant(t.Context(), "acme-old", "", "")
	require.True(t, errs.Is(err, errs.NotFound))
	require.Equal(t, []string{"id0003"}, scanIDs(t, n, ix, "acme"))

	sh := n.replica(uint16(gone.Shard))
	_, there, err := sh.engine.Partition(engine.Key{Tenant: old.id, Index: ix.ID})
	require.NoError(t, err)
	require.False(t, there)
	late := &engine.Command{Op: engine.OpUpsert, Key: engine.Key{Tenant: old.id, Index: ix.ID}, Records: []engine.Record{record(t, 9)}}
	_, err = sh.propose(t.Context(), late)
	require.True(t, errs.Is(err, errs.NotFound), "%v", err)
}

// tenantIDOf reads an id as it is shown.
func (n *Node) tenantIDOf(t testing.TB, text string) (id engine.TenantID) {
	for tn := range n.meta.state().byID.all() {
		if tn.id.String() == text {
			return tn.id
		}
	}
	require.Fail(t, "no such tenant")
	return id
}

// TestInterruptedPurge goes on where a leader was stopped after it had said that there is no way back.
func TestInterruptedPurge(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix := createIndex(t, n, "dense")
	upsert(t, n, ix, "acme", 1)
	gone, err := n.DeleteTenant(t.Context(), "acme")
	require.NoError(t, err)
	id := n.tenantIDOf(t, gone.ID)
	require.NoError(t, newPurger(n).propose(t.Context(), id, false))
	require.True(t, n.DeletedTenants()[0].Purging)
	_, err = n.UndeleteTenant(t.Context(), "acme", "", "")
	require.True(t, errs.Is(err, errs.NotFound), "%v", err)
	require.NoError(t, newPurger(n).step(t.Context(), time.Now()), "whatever the clock says")
	require.Empty(t, n.DeletedTenants())
	require.Equal(t, 0, n.meta.state().tenantsOn(uint16(gone.Shard)))
}

// TestPlansAndTiers makes tenants with tiers and limits, and changes both while they are in use.
func TestPlansAndTiers(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	for name, plan := range map[string]Plan{
		"no such tier": {Tier: "tin"}, "a bad limit": {Limits: limited(tenancy.TopK, 0)},
	} {
		_, err := n.CreateTenant(t.Context(), "acme", AnyShard, plan)
		require.Error(t, err, name)
	}
	made, err := n.CreateTenant(t.Context(), "acme", AnyShard, Plan{Tier: "gold", Limits: limited(tenancy.Rate, 7)})
	require.NoError(t, err)
	require.Equal(t, "gold", made.Tier)
	of := func(name string) *tenancy.Settings {
		s := n.Standing(name)
		require.Equal(t, s.Known, s.ID != tenancy.ID{})
		require.Equal(t, s.Known, s.Shard != NoShard)
		return s.Settings
	}
	require.Equal(t, int64(7), of("acme").Get(tenancy.Rate))
	require.Equal(t, int64(500), of("acme").Get(tenancy.Deadline))
	require.Equal(t, tenancy.DefaultTier, of("nobody").Tier)

	_, err = n.SetTier(t.Context(), "gold", false, tenancy.Change{Set: limited(tenancy.Deadline, 400)})
	require.NoError(t, err)
	require.Equal(t, int64(400), of("acme").Get(tenancy.Deadline))
	require.True(t, errs.Is(n.DeleteTier(t.Context(), "gold"), errs.FailedPrecondition))
	_, err = n.SetTier(t.Context(), "tin", true, tenancy.Change{})
	require.NoError(t, err)
	_, err = n.SetTenant(t.Context(), "acme", TenantChange{Tier: "tin", Limits: tenancy.Change{Inherit: []tenancy.Limit{tenancy.Rate}}})
	require.NoError(t, err)
	require.Equal(t, int64(tenancy.Unlimited), of("acme").Get(tenancy.Rate))
	require.NoError(t, n.DeleteTier(t.Context(), "gold"))
	_, err = n.DescribeTier(t.Context(), "gold")
	require.True(t, errs.Is(err, errs.NotFound))
	tin, err := n.DescribeTier(t.Context(), "tin")
	require.NoError(t, err)
	require.Equal(t, 1, tin.Tenants)
}

// TestStrictNamespaces: with it, a write finds a tenant that an operator has made, and makes none.
func TestStrictNamespaces(t *testing.T) {
	home, away, _ := twoNodes(t)
	ix, _ := away.Index("i")
	require.NoError(t, home.SetCreatesOnWrite(t.Context(), false))
	_, err := home.CreateTenant(t.Context(), "made", AnyShard, Plan{})
	require.NoError(t, err)
	_, err = home.Upsert(t.Context(), ix, "new", []engine.Record{record(t, 1)})
	require.True(t, errs.Is(err, errs.NotFound), "%v", err)
	upsert(t, home, ix, "made", 1)
	require.NoError(t, home.SetCreatesOnWrite(t.Context(), true))
	upsert(t, home, ix, "new", 1)
}

// TestTenantsOfACluster changes a tenant at one node: all others serve it under its new terms, and it goes everywhere at once.
func TestTenantsOfACluster(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "dense")
		upsert(t, c.nodes[1], ix, "acme", 1)
		_, err := c.nodes[2].SetTenant(t.Context(), "acme", TenantChange{Tier: "free"})
		require.NoError(t, err)
		everywhere := func(what string, value int64) {
			c.until(what, func() bool {
				for _, n := range c.nodes[:3] {
					if n.Standing("acme").Settings.Get(tenancy.PerHour) != value {
						return false
					}
				}
				return true
			})
		}
		everywhere("the tier", 100)
		begun := time.Now()
		_, err = c.nodes[1].OverrideTenant(t.Context(), "acme", tenancy.Override{Factor: 10, Until: begun.Add(time.Minute), Reason: "launch"})
		require.NoError(t, err)
		everywhere("the override", 1000)
		time.Sleep(time.Minute - time.Since(begun))
		everywhere("its end", 100)

		_, err = c.nodes[0].DeleteTenant(t.Context(), "acme")
		require.NoError(t, err)
		purge(t, c.metaLeader())
		c.until("all have forgotten it", func() bool {
			for _, n := range c.nodes[:3] {
				if len(n.DeletedTenants()) > 0 {
					return false
				}
			}
			return true
		})
		require.Empty(t, scanIDs(t, c.nodes[2], ix, "acme"))
	})
}
