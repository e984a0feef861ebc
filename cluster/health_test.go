package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

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
