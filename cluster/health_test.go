package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
)

func warningTypes(all []balance.Warning) (types []string) {
	for i := range all {
		types = append(types, all[i].Type)
	}
	return types
}

// TestHealthOfACluster loses a node and gets it back.
func TestHealthOfACluster(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "dense")
		for i := range 12 {
			c.write(ix, fmt.Sprint("t", i), 1, 2)
		}
		judge := func() Health {
			h, err := c.any().Health(t.Context(), true)
			require.NoError(t, err)
			return h
		}
		h := judge()
		require.Equal(t, balance.Healthy, h.Status)
		require.Equal(t, []string{balance.UnderUtilised}, warningTypes(h.Warnings), "twelve tenants need no three shards")
		require.Equal(t, 12, h.Routing.Tenants)
		require.Empty(t, h.Routing.Strays)
		require.Len(t, h.Shards, 3)
		led := c.metaLeader()
		c.until("the metadata plane's leader has looked by itself", func() bool { _, ok := led.healthWatch.warnings(balance.UnderUtilised); return ok })
		lost := slices.IndexFunc(c.nodes, func(n *Node) bool { return n != nil && n != led })
		c.stop(lost)
		c.until("all shards have leaders", func() bool { return len(c.any().Ready()) == 0 })
		h = judge()
		require.Equal(t, balance.Warned, h.Status)
		require.Contains(t, warningTypes(h.Warnings), balance.SilentNode)
		under := slices.DeleteFunc(slices.Clone(h.Warnings), func(w balance.Warning) bool { return w.Type != balance.UnderReplica })
		require.Len(t, under, 3)
		require.Equal(t, 2.0, under[0].Value)
		require.Equal(t, 3.0, under[0].Threshold)
		require.Empty(t, h.Routing.Silent, "what is left answers for all shards")
		c.start(lost)
		c.settle()
		require.Equal(t, balance.Healthy, judge().Status)
	})
}

// TestRoutingIsHealed breaks routing behind everybody's back: a pin to a shard that has nothing of a tenant, and copies beside a home.
func TestRoutingIsHealed(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		ix := createIndex(t, n, "dense")
		for i := range 8 {
			c.write(ix, fmt.Sprint("t", i), 1, 2, 3)
		}
		pin := func(name string, to int) {
			tn, _ := n.meta.state().tenant(name)
			_, err := n.changeMeta(t.Context(), &metaCommand{op: metaPin, tenantID: tn.id, pin: int32(to)})
			require.NoError(t, err)
		}
		verify := func() []Stray {
			r, err := c.nodes[1].Routing(t.Context(), true)
			require.NoError(t, err)
			require.Equal(t, c.metaLeader().id.NodeID, r.By)
			for i := range r.Strays {
				require.Empty(t, r.Strays[i].Fault)
				r.Strays[i].Bytes = 0
			}
			return r.Strays
		}
		home := func(name string) Tenant {
			found, err := n.DescribeTenant(t.Context(), name)
			require.NoError(t, err)
			return found
		}
		right := home("t3")
		wrong := (right.Shard + 1) % 3
		pin("t3", wrong)
		c.until("the illness shows", func() bool { return len(scanIDs(t, c.nodes[2], ix, "t3")) == 0 })
		require.Equal(t, []Stray{{Kind: StrayMisrouted, Tenant: "t3", ID: right.ID, Home: wrong, Shard: right.Shard, Records: 3,
			Healed: fmt.Sprintf("shard %d is its home now", right.Shard)}}, verify())
		healed := home("t3")
		require.Equal(t, right.Shard, healed.Shard)
		require.False(t, healed.Pinned)
		require.Equal(t, uint64(1), healed.Epoch)
		require.Empty(t, verify())
		c.write(ix, "t3", 4)
		require.Len(t, scanIDs(t, c.nodes[2], ix, "t3"), 4)

		right = home("t5")
		wrong = (right.Shard + 1) % 3
		pin("t5", wrong)
		c.write(ix, "t5", 9) // at the wrong home, so that there are two, and the one with more is not the home
		want := Stray{Kind: StrayCopy, Tenant: "t5", ID: right.ID, Home: wrong, Shard: right.Shard, Records: 3}
		require.Equal(t, []Stray{want}, verify())
		h, err := c.nodes[2].Health(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, balance.Critical, h.Status)
		require.Equal(t, balance.Routing, h.Warnings[0].Type)
		require.Equal(t, []string{"t5"}, h.Warnings[0].Tenants)
		pin("t5", right.Shard) // somebody has decided
		want.Home, want.Shard, want.Records, want.Healed = right.Shard, wrong, 1, fmt.Sprintf("the copy on shard %d is set aside", wrong)
		require.Equal(t, []Stray{want}, verify())
		require.Empty(t, verify())
		require.Len(t, scanIDs(t, n, ix, "t5"), 3)
		tn, _ := n.meta.state().tenant("t5")
		records, _ := c.leader(uint16(wrong)).engine.TenantFigures(tn.id)
		require.Equal(t, uint64(1), records, "nothing is deleted")

		before := time.Now()
		c.until("it is looked at by itself", func() bool {
			time.Sleep(10 * time.Second)
			r, err := n.Routing(t.Context(), false)
			return err == nil && r.At.After(before) && len(r.Strays) == 0
		})
	})
}

// TestStrays compares by hand-made figures.
func TestStrays(t *testing.T) {
	m := newMetaModel(3)
	id := func(i byte) engine.TenantID { return engine.TenantID{i} }
	for i := byte(1); i <= 5; i++ {
		m.apply(&metaCommand{op: metaCreateTenants, tenants: []*tenant{{name: fmt.Sprint("t", i), id: id(i), pin: 1}}})
	}
	held := map[uint16][]holding{
		0: {{tenant: id(2), records: 7}, {tenant: id(3), records: 1}, {tenant: id(9), records: 2}},
		1: {{tenant: id(1), records: 5}, {tenant: id(3), records: 4}, {tenant: id(4), hidden: true}},
		2: {{tenant: id(1), records: 5, hidden: true}},
	}
	got := map[string]Stray{}
	for _, y := range strays(m.state, held) {
		got[y.Kind] = y
	}
	require.Len(t, got, 4)
	require.Equal(t, "t2", got[StrayMisrouted].Tenant)
	require.Equal(t, 1, got[StrayMisrouted].Home)
	require.Equal(t, 0, got[StrayMisrouted].Shard)
	require.Equal(t, "t3", got[StrayCopy].Tenant)
	require.Equal(t, NoShard, got[StrayUnknown].Home)
	require.Equal(t, "t4", got[StrayLost].Tenant)
	delete(held, 1)
	for _, y := range strays(m.state, held) {
		require.NotEqual(t, StrayMisrouted, y.Kind, "the home has not told that it has nothing")
	}
}

// TestHoldingsArePaged asks in small pages.
func TestHoldingsArePaged(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	ix, sparse := createIndex(t, n, "dense"), createIndex(t, n, "other")
	for i := range 20 {
		upsert(t, n, ix, fmt.Sprint("t", i), 1, 2)
		upsert(t, n, sparse, fmt.Sprint("t", i), 3)
	}
	held, silent := n.holdings(t.Context(), n.meta.state().shards)
	require.Empty(t, silent)
	total := 0
	for shard, all := range held {
		total += len(all)
		v := holdingsVerb{limit: 2}
		var paged []holding
		for {
			require.NoError(t, n.ask(t.Context(), &route{shard: shard}, &v))
			paged = append(paged, v.held...)
			if !v.more {
				break
			}
			require.Len(t, v.held, 2)
			v.after = paged[len(paged)-1].tenant
		}
		require.Equal(t, len(all), len(paged))
		require.True(t, slices.IsSortedFunc(paged, func(a, b holding) int { return bytes.Compare(a.tenant[:], b.tenant[:]) }))
		for _, h := range paged {
			require.Equal(t, uint64(3), h.records)
		}
	}
	require.Equal(t, 20, total)
}
