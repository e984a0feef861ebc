package api

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlacement(t *testing.T) {
	c := newClient(t)
	const byDefault = `{"policy":"ring","shard_tenants":2000,"shard_vectors":2000000,"tenant_growth":10000}`
	require.Equal(t, byDefault, c.ok("GET", "/v1/placement", "").body)
	a := c.ok("PUT", "/v1/placement", `{"policy":"least-loaded","shard_tenants":50}`)
	require.Equal(t, `{"policy":"least-loaded","shard_tenants":50,"shard_vectors":2000000,"tenant_growth":10000}`, a.body)
	require.Equal(t, a.body, c.ok("PUT", "/v1/placement", `{}`).body, "what is left out stays")
	require.Equal(t, "least-loaded", c.ok("GET", "/v1/cluster", "").get(t, "placement.policy"))
	for i := range 10 {
		require.Equal(t, 201, c.do("POST", "/v1/tenants", fmt.Sprintf(`{"tenant":"t%d"}`, i)).status)
	}
	shards := c.ok("GET", "/v1/shards", "")
	require.Equal(t, 5.0, shards.get(t, "shards.0.tenants"))
	require.Equal(t, 5.0, shards.get(t, "shards.1.tenants"))
	require.InDelta(t, 0.05, shards.get(t, "shards.0.utilisation"), 1e-9, "against the capacity that was set")
	require.Empty(t, shards.get(t, "silent_nodes"))
}

func TestDedicatedShards(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	a := c.do("POST", "/v1/shards", `{"kind":"dedicated","name":"acme"}`)
	require.Equal(t, 201, a.status, a.body)
	require.Equal(t, 2.0, a.get(t, "id"))
	require.Equal(t, "dedicated", a.get(t, "kind"))
	require.Equal(t, "acme", a.get(t, "name"))
	require.NotEmpty(t, a.get(t, "leader"))
	requireError(t, c.do("POST", "/v1/shards", `{"kind":"dedicated","name":"acme"}`), 409, `a shard "acme" already`)

	a = c.do("POST", "/v1/tenants", `{"tenant":"acme","shard":2}`)
	require.Equal(t, 201, a.status, a.body)
	require.Equal(t, "pin", a.get(t, "placement"))
	require.Equal(t, 2.0, a.get(t, "shard"))
	require.Less(t, a.get(t, "ring_shard"), 2.0)
	require.Equal(t, a.body, c.ok("GET", "/v1/tenants/acme", "").body)
	requireError(t, c.do("POST", "/v1/tenants", `{"tenant":"acme","shard":1}`), 409, `"acme" exists already, on shard 2`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}],"namespace":"acme"}`)
	require.Equal(t, 1.0, c.ok("GET", "/v1/shards/2", "").get(t, "vectors"))
	requireError(t, c.do("DELETE", "/v1/shards/2", ""), 412, "shard 2 holds 1 tenant")

	require.Equal(t, 201, c.do("POST", "/v1/shards", `{"kind":"dedicated"}`).status)
	c.ok("DELETE", "/v1/shards/3", "")
	requireError(t, c.do("GET", "/v1/shards/3", ""), 404, "no shard 3")
	require.Len(t, c.ok("GET", "/v1/cluster", "").get(t, "shards"), 3)
}

func TestTenantsAreListed(t *testing.T) {
	c := newClient(t)
	for _, name := range []string{"b", "zürich/..", "a", "bb"} {
		require.Equal(t, 201, c.do("POST", "/v1/tenants", fmt.Sprintf(`{"tenant":%q}`, name)).status)
	}
	names := func(a answer) (names []string) {
		for _, v := range a.get(t, "tenants").([]any) {
			names = append(names, v.(map[string]any)["tenant"].(string))
		}
		return names
	}
	a := c.ok("GET", "/v1/tenants?limit=3", "")
	require.Equal(t, []string{"a", "b", "bb"}, names(a))
	require.Equal(t, 4.0, a.get(t, "total_count"))
	a = c.ok("GET", "/v1/tenants?limit=3&paginationToken="+a.get(t, "pagination.next").(string), "")
	require.Equal(t, []string{"zürich/.."}, names(a))
	require.NotContains(t, a.body, "pagination")
	require.Equal(t, []string{"b", "bb"}, names(c.ok("GET", "/v1/tenants?prefix=b", "")))
	require.Equal(t, []string{"zürich/.."}, names(c.ok("GET", "/v1/tenants?prefix=z%C3%BC", "")))
	require.Equal(t, "ring", c.ok("GET", "/v1/tenants/z%C3%BCrich%2F..", "").get(t, "placement"))
}

func TestShardsTellQueries(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}]}`)
	require.NotContains(t, c.ok("GET", "/v1/shards", "").body, "latency_ms")
	c.ok("POST", "/query", oneQuery)
	a := c.ok("GET", "/v1/shards", "")
	queried := 0
	for _, s := range a.get(t, "shards").([]any) {
		shard := s.(map[string]any)
		if shard["queries_per_second"].(float64) > 0 {
			queried++
			require.Positive(t, shard["latency_ms"].(map[string]any)["p99"])
		}
	}
	require.Equal(t, 1, queried)
}
