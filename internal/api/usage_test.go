package api

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

// TestUsage recounts what some requests have used and stored, by the hour, the day and as CSV.
func TestUsage(t *testing.T) {
	c := newClient(t)
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	for _, ns := range []string{"a", "=b"} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"1","values":[1,2]},{"id":"22","values":[3,4]},{"id":"3","values":[5,6]}]}`, ns))
	}
	c.ok("POST", "/vectors/delete", `{"namespace":"a","ids":["3","none"]}`)
	for range 3 {
		c.ok("POST", "/query", `{"namespace":"a","topK":1,"vector":[1,2]}`)
	}
	c.ok("GET", "/vectors/fetch?namespace=a&ids=1", "")
	c.ok("GET", "/vectors/list?namespace=a", "")
	c.ok("PUT", "/v1/usage/prices", `{"currency":"EUR","prices":{"million_queries":5,"million_records_written":1000000}}`)
	require.Equal(t, 5.0, c.ok("GET", "/v1/usage/prices", "").get(t, "prices.million_queries"))

	a := c.ok("GET", "/v1/usage?tenant=a", "")
	for field, want := range map[string]any{
		"tenant": "a", "tier": "standard", "queries": 3.0, "reads": 2.0, "writes": 2.0, "upserted": 3.0, "deleted": 1.0, "vectors": 2.0, "vectors_peak": 3.0,
		"stored_bytes": 2*8.0 + 3, "stored_bytes_peak": 3*8.0 + 4, "read_units": 5.0, "cache_hits": 2.0, "refused": 0.0, "errors": 0.0,
		"cost": 4.000015,
	} {
		require.Equal(t, want, a.get(t, "usage.0."+field), "%s of %s", field, a.body)
	}
	require.Positive(t, a.get(t, "usage.0.compute_seconds"))
	require.Equal(t, "EUR", a.get(t, "currency"))
	require.Equal(t, "hour", a.get(t, "by"))

	days := c.ok("GET", "/v1/usage?by=day&from="+time.Now().UTC().Add(-72*time.Hour).Format(time.DateOnly), "")
	require.Len(t, days.get(t, "usage"), 2)
	require.Equal(t, "=b", days.get(t, "usage.0.tenant"))
	require.Equal(t, 3.0, days.get(t, "usage.1.queries"))
	first := c.ok("GET", "/v1/usage?limit=1", "")
	require.Len(t, first.get(t, "usage"), 1)
	second := c.ok("GET", "/v1/usage?limit=1&paginationToken="+first.get(t, "pagination.next").(string), "")
	require.Equal(t, "a", second.get(t, "usage.0.tenant"))

	for _, as := range []answer{c.ok("GET", "/v1/usage?format=csv", ""), c.ok("GET", "/v1/usage", "", "Accept: text/csv")} {
		require.Contains(t, as.header.Get("Content-Type"), "text/csv")
		rows, err := csv.NewReader(strings.NewReader(as.body)).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 3)
		require.Equal(t, usageHeader, rows[0])
		require.Equal(t, "'=b", rows[1][0], "no formula in a spreadsheet")
		require.Equal(t, []string{"a", "standard"}, rows[2][:2])
		require.Equal(t, "3", rows[2][3])
	}
	for query, part := range map[string]string{
		"by=week": "by", "from=yesterday": "from", "from=2020-01-01&to=2026-01-01": "days", "format=xml": "format", "from=2026-01-02&to=2026-01-01": "from",
	} {
		requireError(t, c.do("GET", "/v1/usage?"+query, ""), 400, part)
	}
	requireError(t, c.do("GET", "/v1/usage?tenant=nobody", ""), 404, "nobody")
	requireError(t, c.do("PUT", "/v1/usage/prices", `{"prices":{"million_queries":-1}}`), 400, "million_queries")
	requireError(t, c.do("PUT", "/v1/usage/prices", `{"prices":{"million_gueries":1}}`), 400, "million_queries")
}

// TestSLA counts the requests that were answered in time, by tenant and by tier.
func TestSLA(t *testing.T) {
	c := newClient(t)
	c.index("ix", `"dimension":1`)
	c.ok("POST", "/v1/tenants", `{"tenant":"g","tier":"gold"}`)
	for _, ns := range []string{"a", "b", "g"} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"1","values":[1]}]}`, ns))
		c.ok("POST", "/query", fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, ns))
	}
	a := c.ok("GET", "/v1/usage?report=sla&tenant=a", "")
	for field, want := range map[string]any{"tenant": "a", "tier": "standard", "requests": 2.0, "in_time": 2.0, "late": 0.0, "share": 1.0} {
		require.Equal(t, want, a.get(t, "sla.0."+field), field)
	}
	tiers := c.ok("GET", "/v1/usage?report=sla&by=tier", "")
	require.Len(t, tiers.get(t, "sla"), 2)
	require.Equal(t, "gold", tiers.get(t, "sla.0.tier"))
	require.Equal(t, 4.0, tiers.get(t, "sla.1.requests"))
	require.Equal(t, 2.0, tiers.get(t, "sla.1.tenants"))
	first := c.ok("GET", "/v1/usage?report=sla&limit=2", "")
	require.Len(t, first.get(t, "sla"), 2)
	require.Equal(t, "g", c.ok("GET", "/v1/usage?report=sla&limit=2&paginationToken="+first.get(t, "pagination.next").(string), "").get(t, "sla.0.tenant"))
	rows, err := csv.NewReader(strings.NewReader(c.ok("GET", "/v1/usage?report=sla&format=csv", "").body)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 4)
	require.Equal(t, slaHeader, rows[0])
	require.Equal(t, []string{"a", "standard", "1", "2", "2", "0", "0", "0", "1"}, rows[1][:9])
	require.Equal(t, 400, c.do("GET", "/v1/usage?report=sla&by=hour", "").status)
	require.Equal(t, 400, c.do("GET", "/v1/usage?report=all", "").status)
}

// TestShareInTime: what was late counts once, whether it had begun or not.
func TestShareInTime(t *testing.T) {
	var s slaShown
	n := &s.used.Counts
	n[tenancy.Queries], n[tenancy.Reads], n[tenancy.Writes] = 5, 2, 1
	n[tenancy.Violations], n[tenancy.Expired], n[tenancy.Errors], n[tenancy.Refused] = 3, 2, 1, 7
	s.sum()
	require.Equal(t, []uint64{10, 6, 3, 1, 7}, []uint64{s.Requests, s.InTime, s.Late, s.Errors, s.Refused})
	require.InDelta(t, 0.6, *s.Share, 1e-9)
	var none slaShown
	none.sum()
	require.Nil(t, none.Share)
}

// TestUsageIsATenantsOwn shows a tenant's key its own usage alone.
func TestUsageIsATenantsOwn(t *testing.T) {
	n := openNode(t)
	c := &client{t, newHandler(t, n)}
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	for _, ns := range []string{"a", "b"} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"1","values":[1,2]}]}`, ns))
	}
	own := func(q string) answer {
		call := &call{h: c.h.(*Handler), params: params{}, principal: tenancy.Principal{Role: tenancy.RoleTenantAdmin, Tenant: "a"}, start: time.Now()}
		if q != "" {
			call.params["tenant"] = []string{q}
		}
		report, _, err := call.readReport()
		if err != nil {
			return answer{body: err.Error()}
		}
		return answer{status: 200, body: report.Tenant}
	}
	require.Equal(t, "a", own("").body)
	require.Equal(t, "a", own("a").body)
	require.Contains(t, own("b").body, "does not reach")
}

// TestCacheOfATenant shows hits in the header and in the figures, and empties the cache.
func TestCacheOfATenant(t *testing.T) {
	c := newClient(t)
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	c.ok("POST", "/vectors/upsert", `{"namespace":"a","vectors":[{"id":"1","values":[1,2]}]}`)
	query := func() string {
		return c.ok("POST", "/query", `{"namespace":"a","topK":1,"vector":[1,2]}`).header.Get("X-Croft-Cache")
	}
	require.Equal(t, []string{"miss", "hit", "hit"}, []string{query(), query(), query()})
	st := c.ok("GET", "/v1/tenants/a/cache", "")
	require.Equal(t, []any{2.0, 1.0, 1.0}, []any{st.get(t, "hits"), st.get(t, "misses"), st.get(t, "entries")})
	require.Equal(t, 0.0, c.ok("POST", "/v1/tenants/a/cache/invalidate", "").get(t, "entries"))
	require.Equal(t, "miss", query())
	requireError(t, c.do("GET", "/v1/tenants/nobody/cache", ""), 404, "nobody")
}

// TestTenantsByLoad lists tenants by what they compute; figures come as usage is written down.
func TestTenantsByLoad(t *testing.T) {
	c := newClient(t)
	c.index("ix", `"dimension":2,"metric":"euclidean"`)
	for _, ns := range []string{"a", "b"} {
		c.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"namespace":%q,"vectors":[{"id":"1","values":[1,2]}]}`, ns))
	}
	for range 5 {
		c.ok("POST", "/query", `{"namespace":"b","topK":1,"vector":[1,2]}`)
	}
	c.ok("GET", "/v1/usage", "") // has it written down
	a := c.ok("GET", "/v1/tenants?sort=load", "")
	require.Equal(t, "b", a.get(t, "tenants.0.tenant"))
	require.Positive(t, a.get(t, "tenants.0.load.queries_per_second"))
	require.Positive(t, a.get(t, "tenants.0.load.p95_ms"))
	require.Equal(t, "a", c.ok("GET", "/v1/tenants?sort=name", "").get(t, "tenants.0.tenant"))
	requireError(t, c.do("GET", "/v1/tenants?sort=size", ""), 400, "sort")
}
