package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/tenancy"
)

// openPaths need no key. A new route is not among them unless somebody writes it here too.
var openPaths = []string{"/healthz", "/livez", "/readyz", "/metrics"}

func concrete(pattern string) string {
	return strings.NewReplacer("{index}", "demo", "{namespace}", "ns", "{shard}", "0", "{node}", "none", "{tenant}", "acme", "{key}", "none", "{migration}", "1").Replace(pattern)
}

func TestRouteInventory(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range append(routes(), debugRoutes()...) {
		row := r.method + " " + r.pattern
		require.False(t, seen[row], "%s stands twice", row)
		seen[row] = true
		require.Equal(t, openPathsContain(r.pattern), r.perm == tenancy.Open, "%s: permission", row)
		require.True(t, r.scope > scopeMissing && r.scope <= inSight, "%s: scope", row)
		require.Equal(t, r.scope == oneTenant, strings.HasPrefix(r.pattern, "/v1/tenants/{tenant}"), "%s: scope", row)
		require.Equal(t, r.perm == tenancy.Open, r.scope == noTenant, "%s: what is open touches nothing of a tenant's", row)
		require.NotEmpty(t, r.op, row)
		require.NotNil(t, r.handle, row)
		require.True(t, r.status == 200 || r.status == 201 || r.status == 202, row)
		require.False(t, r.body && r.method == "GET", "%s: a GET with a body", row)
	}
}

func openPathsContain(p string) bool {
	for _, o := range openPaths {
		if o == p {
			return true
		}
	}
	return false
}

// viewer is a role that does not exist: it may do nothing.
type oneKey tenancy.Key

func (k oneKey) Key(id string) (tenancy.Key, bool) { return tenancy.Key(k), id == k.ID }

func TestEveryRouteAsksForAKeyAndARight(t *testing.T) {
	text, key := tenancy.NewKey("no rights", "viewer", time.Time{})
	c := newClient(t, func(o *Options) { o.Auth.Source = oneKey(key) })
	c.index("demo", `"dimension":1`)
	for _, r := range routes() {
		t.Run(r.method+strings.ReplaceAll(r.pattern, "/", "|"), func(t *testing.T) {
			path := concrete(r.pattern)
			if r.perm == tenancy.Open {
				require.NotEqual(t, 401, c.do(r.method, path, "", "Api-Key: ").status)
				return
			}
			for _, wrong := range [][]string{
				{"Api-Key: "}, {"Api-Key: wrong"}, {"Api-Key: " + testKey + "x"}, {"Api-Key: ", "Authorization: Basic " + testKey},
				{"Api-Key: wrong", "Authorization: Bearer " + testKey},
			} {
				a := c.do(r.method, path, `{"garbage`, wrong...)
				requireError(t, a, 401)
				require.NotContains(t, a.body, "demo")
			}
			requireError(t, c.do(r.method, path, `{"garbage`, "Api-Key: "+text), 403, "this key may not")
			for _, right := range [][]string{{"Api-Key: " + testKey}, {"Api-Key: ", "Authorization: bearer " + testKey}} {
				a := c.do(r.method, path, `{"garbage`, right...)
				require.NotEqual(t, 401, a.status)
				require.NotEqual(t, 403, a.status)
				c.do("POST", "/indexes", `{"name":"demo","dimension":1,"spec":{"byoc":{"environment":"x"}}}`) // if that was its deletion
			}
		})
	}
}

func TestUnknownIsTheSameForEverybody(t *testing.T) {
	c := newClient(t)
	requireError(t, c.do("GET", "/secrets", "", "Api-Key: "), 404)
	requireError(t, c.do("DELETE", "/query", "", "Api-Key: "), 405)
	there := c.do("GET", "/indexes/a", "", "Api-Key: wrong", "X-Request-Id: 1")
	c.index("a", `"dimension":1`)
	require.Equal(t, there.body, c.do("GET", "/indexes/a", "", "Api-Key: wrong", "X-Request-Id: 1").body)
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	c := newClient(t)
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	resp, err := http.Head(srv.URL + "/healthz")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, int64(len(`{"status":"ok"}`)), resp.ContentLength)
}

func TestHealthAndOps(t *testing.T) {
	c := newClient(t)
	c.index("demo", `"dimension":1`)
	c.ok("POST", "/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}],"namespace":"canary-tenant"}`)
	for _, p := range []string{"/healthz", "/livez"} {
		require.Equal(t, `{"status":"ok"}`, c.ok("GET", p, "", "Api-Key: ").body)
	}
	require.Equal(t, `{"status":"ready"}`, c.ok("GET", "/readyz", "", "Api-Key: ").body)

	a := c.ok("GET", "/v1/cluster", "")
	require.Equal(t, "test", a.get(t, "version"))
	require.NotEmpty(t, a.get(t, "cluster_id"))
	require.Len(t, a.get(t, "nodes"), 1)
	require.Len(t, a.get(t, "shards"), 2)
	require.Equal(t, 1.0, a.get(t, "shards.0.records").(float64)+a.get(t, "shards.1.records").(float64))
	require.Equal(t, true, a.get(t, "nodes.0.self"))
	require.Equal(t, "active", a.get(t, "nodes.0.state"))
	require.Equal(t, a.get(t, "nodes.0.id"), a.get(t, "shards.0.leader"))
	require.Equal(t, "leader", a.get(t, "shards.0.replicas.0.role"))
	require.Equal(t, "shared", a.get(t, "shards.0.kind"))
	holder := a.get(t, "shards.1.vectors").(float64) // 1 if the tenant lives there, else 0
	require.Equal(t, holder, a.get(t, "shards.1.tenants"))
	require.InDelta(t, holder*(1.0/2000+1.0/2_000_000)/2, a.get(t, "shards.1.utilisation"), 1e-12)
	require.Len(t, c.ok("GET", "/v1/shards", "").get(t, "shards"), 2)
	require.Equal(t, 1.0, c.ok("GET", "/v1/shards/1", "").get(t, "id"))
	requireError(t, c.do("GET", "/v1/shards/2", ""), 404, "no shard 2")
	requireError(t, c.do("GET", "/v1/shards/01", ""), 404)

	c.do("GET", "/canary-path", "")
	page := c.ok("GET", "/metrics", "", "Api-Key: ").body
	require.Contains(t, page, `croft_http_requests_total{code="200",op="upsert"} 1`)
	require.Contains(t, page, `croft_http_requests_total{code="404",op="unknown"} 1`)
	require.Contains(t, page, `croft_http_request_duration_seconds_bucket{op="upsert",le="0.2"}`)
	require.NotContains(t, page, "canary", "names that clients choose are in no metric")
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, err := newRequestMetrics(reg)
	require.NoError(t, err)
	_, err = newRequestMetrics(reg)
	require.Error(t, err)
}

func TestVersions(t *testing.T) {
	for asked, want := range map[string]struct {
		version string
		warned  bool
	}{
		"":              {"2025-10", false},
		"2025-04":       {"2025-04", false},
		"2025-10":       {"2025-10", false},
		"2026-04":       {"2026-04", false},
		"2025-07":       {"2025-04", true},
		"2020-01":       {"2024-04", true},
		"2026-07":       {"2026-04", true},
		"9999-12":       {"2026-04", true},
		"2026-01.alpha": {"2025-10", true},
		"unstable":      {"2025-10", true},
		"2025-1":        {"2025-10", true},
		"2025-10\r\nx":  {"2025-10", true},
	} {
		version, warning := nearestVersion(asked)
		require.Equal(t, want.version, version, asked)
		require.Equal(t, want.warned, warning != "", asked)
		require.NotContains(t, warning, "\n")
	}
	c := newClient(t)
	a := c.ok("GET", "/indexes", "", "X-Pinecone-Api-Version: 2026-07")
	require.Equal(t, "2026-04", a.header.Get("X-Pinecone-Api-Version"))
	require.Contains(t, a.header.Get("X-Croft-Warning"), "2026-07")
	require.Equal(t, "2025-10", c.do("GET", "/nowhere", "").header.Get("X-Pinecone-Api-Version"))
}
