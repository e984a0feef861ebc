package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestResidency sets and shows where a tenant's data may be.
func TestResidency(t *testing.T) {
	c := newClient(t)
	groups := func(a answer) any { return a.get(t, "residency.apart_from") }
	require.Equal(t, []any{"banks"}, groups(c.ok("POST", "/v1/tenants", `{"tenant":"bank-a","residency":{"apart_from":["banks"]}}`)))
	require.Equal(t, []any{"banks"}, groups(c.ok("GET", "/v1/tenants/bank-a", "")))
	require.NotContains(t, c.ok("PATCH", "/v1/tenants/bank-a", `{"residency":{"apart_from":[]}}`).body, "residency")
	for _, bad := range []struct {
		status             int
		method, path, body string
	}{
		{412, "POST", "/v1/tenants", `{"tenant":"b","residency":{"zones":["eu-*"]}}`},
		{400, "POST", "/v1/tenants", `{"tenant":"b","residency":{"zones":["*"]}}`},
		{400, "PATCH", "/v1/tenants/bank-a", `{"residency":{}}`},
		{412, "PATCH", "/v1/tenants/bank-a", `{"residency":{"zones":["eu-*"]}}`},
		{412, "PATCH", "/v1/shards/0", `{"zones":["eu-1"]}`},
		{400, "PATCH", "/v1/shards/0", `{}`},
		{404, "PATCH", "/v1/shards/x", `{"zones":[]}`},
		{412, "POST", "/v1/shards", `{"kind":"dedicated","zones":["eu-1"]}`},
	} {
		require.Equal(t, bad.status, c.do(bad.method, bad.path, bad.body).status, "%+v", bad)
	}
	require.NotContains(t, c.ok("PATCH", "/v1/shards/0", `{"zones":[]}`).body, "zones")
}
