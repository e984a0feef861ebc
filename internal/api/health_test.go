package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClusterHealth(t *testing.T) {
	c := newClient(t)
	a := c.ok("GET", "/v1/cluster/health", "")
	require.Equal(t, "healthy", a.get(t, "status"))
	require.Equal(t, "under_utilised", a.get(t, "warnings.0.type"))
	require.Equal(t, "advice", a.get(t, "warnings.0.severity"))
	require.Equal(t, []any{0.0, 1.0}, a.get(t, "warnings.0.shards"))
	require.Equal(t, 0.0, a.get(t, "warnings.0.value"))
	require.Equal(t, 0.5, a.get(t, "warnings.0.threshold"))
	require.Contains(t, a.get(t, "warnings.0.recommendation"), "croft capacity")
	require.Nil(t, a.get(t, "routing"))
	require.Len(t, a.get(t, "shards"), 2)
	require.Empty(t, a.get(t, "silent_nodes"))

	c.ok("PUT", "/v1/placement", `{"shard_tenants":1}`)
	require.Equal(t, 201, c.do("POST", "/v1/tenants", `{"tenant":"acme","shard":1}`).status)
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}],"namespace":"acme"}`)
	a = c.ok("POST", "/v1/cluster/health/verify", "")
	require.Equal(t, "critical", a.get(t, "status"))
	require.Equal(t, "near_capacity", a.get(t, "warnings.0.type"))
	require.Equal(t, []any{1.0}, a.get(t, "warnings.0.shards"))
	require.Equal(t, 1.0, a.get(t, "routing.tenants"))
	require.Empty(t, a.get(t, "routing.strays"))
}
