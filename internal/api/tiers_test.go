package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTenantsAndTiers(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	a := c.ok("GET", "/v1/tiers", "")
	require.Len(t, a.get(t, "tiers"), 6)
	a = c.ok("POST", "/v1/tiers", `{"tier":"bronze","limits":{"rate_per_second":50,"overage":"degrade","top_k":"unlimited"}}`)
	require.Equal(t, map[string]any{"rate_per_second": 50.0, "overage": "degrade", "top_k": "unlimited"}, a.get(t, "limits"))
	require.Equal(t, "system", a.get(t, "settings.deadline_ms.from"))
	requireError(t, c.do("POST", "/v1/tiers", `{"tier":"bronze"}`), 409)
	requireError(t, c.do("POST", "/v1/tiers", `{"tier":"Bronze"}`), 400, "small letters")
	requireError(t, c.do("POST", "/v1/tiers", `{"tier":"x","limits":{"speed":1}}`), 400, "limits.speed", "no limit")
	for value, want := range map[string]string{"-1": "below 0", `"fast"`: "neither", "true": "a word", "1.5": "neither", `""`: "neither"} {
		requireError(t, c.do("PATCH", "/v1/tiers/bronze", `{"limits":{"rate_per_second":`+value+`}}`), 400, "limits.rate_per_second", want)
	}
	requireError(t, c.do("PATCH", "/v1/tiers/bronze", `{"limits":{"overage":1}}`), 400, "reject or degrade")
	requireError(t, c.do("PATCH", "/v1/tiers/bronze", `{}`), 400, "nothing to change")
	a = c.ok("PATCH", "/v1/tiers/bronze", `{"limits":{"rate_per_second":60,"top_k":null}}`)
	require.Equal(t, map[string]any{"rate_per_second": 60.0, "overage": "degrade"}, a.get(t, "limits"))

	a = c.ok("POST", "/v1/tenants", `{"tenant":"a/b c","tier":"bronze","limits":{"burst":7}}`)
	require.Equal(t, "bronze", a.get(t, "tier"))
	require.Equal(t, 7.0, a.get(t, "limits.burst"))
	requireError(t, c.do("POST", "/v1/tenants/a%2Fb%20c", ""), 409)
	requireError(t, c.do("POST", "/v1/tenants/other", `{"tenant":"another"}`), 400, "path")
	c.ok("POST", "/v1/tenants/other", "")
	requireError(t, c.do("POST", "/v1/tenants", `{"tenant":"x","tier":"tin"}`), 404, "tin")
	requireError(t, c.do("DELETE", "/v1/tiers/bronze", ""), 412, "1 tenants")
	requireError(t, c.do("DELETE", "/v1/tiers/standard", ""), 412, "new tenants")
	require.Equal(t, 1.0, c.ok("GET", "/v1/tiers/bronze", "").get(t, "tenants"))

	const tenant = "/v1/tenants/a%2Fb%20c"
	setting := func(name string) []any {
		a := c.ok("GET", tenant+"/settings", "")
		return []any{a.get(t, "settings."+name+".value"), a.get(t, "settings."+name+".from")}
	}
	require.Equal(t, []any{60.0, "tier"}, setting("rate_per_second"))
	require.Equal(t, []any{7.0, "tenant"}, setting("burst"))
	require.Equal(t, []any{10000.0, "system"}, setting("top_k"))
	require.Equal(t, []any{"unlimited", "system"}, setting("vectors"))
	c.ok("PATCH", tenant, `{"tier":"free","limits":{"burst":null}}`)
	require.Equal(t, []any{5.0, "tier"}, setting("top_k"))
	requireError(t, c.do("PATCH", tenant, `{}`), 400, "nothing to change")
	requireError(t, c.do("PATCH", "/v1/tenants/nobody", `{"tier":"free"}`), 404)
	c.ok("DELETE", "/v1/tiers/bronze", "")
	requireError(t, c.do("GET", "/v1/tiers/bronze", ""), 404)

	for body, want := range map[string]string{
		`{"for":"1h"}`: "factor", `{"factor":2}`: "for: is missing", `{"factor":2,"for":"soon"}`: "30m", `{"factor":2,"for":"-1h"}`: "30m",
		`{"factor":2,"for":"9999h"}`: "720h", `{"factor":-2,"for":"1h"}`: "above 0", `{"factor":1e9,"for":"1h"}`: "at most 1000",
	} {
		requireError(t, c.do("POST", tenant+"/override", body), 400, want)
	}
	a = c.ok("POST", tenant+"/override", `{"factor":10,"for":"30m","reason":"launch"}`)
	require.Equal(t, "launch", a.get(t, "override.reason"))
	require.Equal(t, "admin key", a.get(t, "override.by"))
	require.Equal(t, []any{1000.0, "override"}, setting("requests_per_hour"))
	require.Equal(t, 10.0, c.ok("GET", tenant+"/settings", "").get(t, "override.factor"))
	require.NotContains(t, c.ok("DELETE", tenant+"/override", "").body, "override")
	require.Equal(t, []any{100.0, "tier"}, setting("requests_per_hour"))
}

func TestDeletedTenantsComeBack(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	const query = `{"namespace":"acme","topK":1,"vector":[1]}`
	c.ok("POST", "/vectors/upsert", `{"namespace":"acme","vectors":[{"id":"a","values":[1]}]}`)
	a := c.ok("DELETE", "/v1/tenants/acme", "")
	require.NotEmpty(t, a.get(t, "deleted_at"))
	require.NotEmpty(t, a.get(t, "kept_until"))
	require.Empty(t, c.ok("POST", "/query", query).ids(t))
	requireError(t, c.do("GET", "/v1/tenants/acme", ""), 404)
	require.Empty(t, c.ok("GET", "/v1/tenants", "").get(t, "tenants"))
	deleted := c.ok("GET", "/v1/tenants?deleted=true", "")
	require.Equal(t, "acme", deleted.get(t, "tenants.0.tenant"))
	requireError(t, c.do("GET", "/v1/tenants?deleted=maybe", ""), 400, "deleted")

	c.ok("POST", "/v1/tenants", `{"tenant":"acme"}`)
	requireError(t, c.do("POST", "/v1/tenants/acme/undelete", ""), 409)
	requireError(t, c.do("POST", "/v1/tenants/acme/undelete", `{"id":"00"}`), 404)
	back := c.ok("POST", "/v1/tenants/acme/undelete", `{"as":"acme-2"}`)
	require.Equal(t, deleted.get(t, "tenants.0.id"), back.get(t, "id"))
	require.Equal(t, []string{"a"}, c.ok("POST", "/query", `{"namespace":"acme-2","topK":1,"vector":[1]}`).ids(t))
	requireError(t, c.do("POST", "/v1/tenants/acme-2/undelete", ""), 404)
}

// TestCreateOnWrite: namespaces may be left to whoever makes tenants.
func TestCreateOnWrite(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	const upsert = `{"namespace":"new","vectors":[{"id":"a","values":[1]}]}`
	require.Equal(t, true, c.ok("GET", "/v1/settings", "").get(t, "create_on_write"))
	require.Equal(t, false, c.ok("PATCH", "/v1/settings", `{"create_on_write":false}`).get(t, "create_on_write"))
	requireError(t, c.do("POST", "/vectors/upsert", upsert), 404, "new")
	c.ok("POST", "/v1/tenants/new", "")
	c.ok("POST", "/vectors/upsert", upsert)
}
