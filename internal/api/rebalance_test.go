package api

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShardsJoinAndLeave changes the ring while tenants are there.
func TestShardsJoinAndLeave(t *testing.T) {
	c := newClient(t)
	for i := range 30 {
		require.Equal(t, 201, c.do("POST", "/v1/tenants", fmt.Sprintf(`{"tenant":"t%d"}`, i)).status)
	}
	a := c.do("POST", "/v1/shards", `{"kind":"shared"}`)
	require.Equal(t, 201, a.status, a.body)
	require.Equal(t, 2.0, a.get(t, "id"))
	require.Equal(t, "shared", a.get(t, "kind"))
	a = c.do("POST", "/v1/shards/2/drain", "")
	require.Equal(t, 202, a.status, a.body)
	require.Equal(t, true, a.get(t, "draining"))
	requireError(t, c.do("POST", "/v1/shards/2/drain", ""), 412, "being drained already")
	requireError(t, c.do("POST", "/v1/tenants", `{"tenant":"late","shard":2}`), 412, "being drained")
	require.NotContains(t, c.ok("DELETE", "/v1/shards/2/drain", "").body, "draining")
	requireError(t, c.do("DELETE", "/v1/shards/2", ""), 412, "has part of the ring")
}

func TestRebalanceRules(t *testing.T) {
	c := newClient(t)
	require.Equal(t, `{"automatic":false,"parallel":4,"cooldown":"1h0m0s","windows":[]}`, c.ok("GET", "/v1/rebalance/rules", "").body)
	a := c.ok("PUT", "/v1/rebalance/rules", `{"automatic":true,"windows":[{"from":"22:00","to":"06:00"},{"days":["sat","sun"],"from":"00:00","to":"24:00"}]}`)
	require.Equal(t, `{"automatic":true,"parallel":4,"cooldown":"1h0m0s","windows":[{"from":"22:00","to":"06:00"},{"days":["sun","sat"],"from":"00:00","to":"24:00"}]}`, a.body)
	c.ok("PUT", "/v1/rebalance/rules", `{"parallel":9,"cooldown":"90s"}`)
	require.Equal(t, 9.0, c.ok("GET", "/v1/rebalance", "").get(t, "rules.parallel"))
	require.Equal(t, "1m30s", c.ok("GET", "/v1/rebalance/rules", "").get(t, "cooldown"))
}

func TestRebalancePlan(t *testing.T) {
	c := newClient(t)
	a := c.ok("GET", "/v1/rebalance/plan", "")
	require.Empty(t, a.get(t, "moves"))
	require.Len(t, a.get(t, "before"), 2)
	for i := range 20 {
		require.Equal(t, 201, c.do("POST", "/v1/tenants", fmt.Sprintf(`{"tenant":"t%d","shard":0}`, i)).status)
	}
	a = c.ok("GET", "/v1/rebalance/plan", "")
	require.Equal(t, 2.0, a.get(t, "before.0.hottest"))
	require.Equal(t, 1.1, a.get(t, "after.0.hottest"))
	require.Len(t, a.get(t, "moves"), 9)
	require.Equal(t, "tenants", a.get(t, "moves.0.why"))
	require.Equal(t, 0.0, a.get(t, "moves.0.from"))
	require.Equal(t, 1.0, a.get(t, "moves.0.to"))
	require.Empty(t, c.ok("GET", "/v1/rebalance", "").get(t, "runs"))
}

func TestCapacity(t *testing.T) {
	c := newClient(t)
	c.ok("PUT", "/v1/usage/prices", `{"currency":"EUR","prices":{"shard_month":40,"node_month":20}}`)
	require.Equal(t, 201, c.do("POST", "/v1/tenants", `{"tenant":"acme"}`).status)
	a := c.ok("GET", "/v1/capacity", "")
	require.Equal(t, 1.0, a.get(t, "needed.shards"))
	require.Equal(t, 100.0, a.get(t, "cost.month"))
	require.Equal(t, 50.0, a.get(t, "cost.wasted_month"))
	require.Equal(t, "EUR", a.get(t, "cost.currency"))
	require.Equal(t, "do_not_shard", a.get(t, "advice.0.type"))
	require.Len(t, a.get(t, "merges"), 1)
	a = c.ok("GET", "/v1/capacity?tenants=5000&vectors=28000000", "")
	require.Equal(t, 20.0, a.get(t, "needed.shards"))
	require.Equal(t, 18.0, a.get(t, "needed.at_least"))
	require.Equal(t, "add_shards", a.get(t, "advice.0.type"))
}
