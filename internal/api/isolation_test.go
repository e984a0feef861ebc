package api

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// isolationOf reads the report, by the name of the tenant; that of credentials which are no tenant's has none.
func isolationOf(c *client) map[string]isolationShown {
	c.t.Helper()
	var page struct{ Isolation []isolationShown }
	a := c.ok("GET", "/v1/usage?report=isolation&limit=100", "")
	require.NoError(c.t, json.Unmarshal([]byte(a.body), &page), a.body)
	found := map[string]isolationShown{}
	for _, s := range page.Isolation {
		require.Equal(c.t, s.Foreign+s.System+s.Role+s.ExpiredKey+s.UnknownKey, s.Refused, a.body)
		old := found[s.Tenant] // of an earlier tenant of that name
		s.Foreign, s.System, s.Role = s.Foreign+old.Foreign, s.System+old.System, s.Role+old.Role
		s.ExpiredKey, s.UnknownKey, s.Refused = s.ExpiredKey+old.ExpiredKey, s.UnknownKey+old.UnknownKey, s.Refused+old.Refused
		s.Targeted, s.Checked, s.Strayed = s.Targeted+old.Targeted, s.Checked+old.Checked, s.Strayed+old.Strayed
		found[s.Tenant] = s
	}
	return found
}

// TestIsolationReport has each kind of refusal happen, and finds it under whose it was.
func TestIsolationReport(t *testing.T) {
	w := newTown(t)
	now := time.Now()
	reader, writer, keeper := w.key(tenancy.RoleReader, acme), w.key(tenancy.RoleWriter, acme), w.key(tenancy.RoleTenantAdmin, acme)
	expired := w.key(tenancy.RoleReader, acme, func(k *tenancy.Key) { k.Expires = now.Add(-time.Hour) })
	operator := w.key(tenancy.RoleOperator, "")
	revoked := w.key(tenancy.RoleReader, acme)
	id, err := tenancy.ParseKey(revoked)
	require.NoError(t, err)
	w.ok("DELETE", "/v1/keys/"+id, "")
	ofOther, err := tenancy.ParseKey(w.key(tenancy.RoleReader, other))
	require.NoError(t, err)
	query := func(ns string) string { return fmt.Sprintf(`{"namespace":%q,"topK":1,"vector":[1]}`, ns) }
	before := isolationOf(w.client)
	for _, c := range []struct{ key, method, path, body, want string }{
		{reader, "POST", "/query", query(acme), "acme checked"},
		{reader, "GET", "/namespaces", "", "acme checked"},
		{reader, "GET", "/indexes", "", ""},
		{reader, "POST", "/query", query(other), "acme foreign, other targeted"},
		{reader, "POST", "/query", query(absent), "acme foreign"},
		{reader, "GET", "/namespaces/" + other, "", "acme foreign, other targeted"},
		{reader, "DELETE", "/namespaces/" + other, "", "acme foreign, other targeted"},
		{reader, "DELETE", "/namespaces/" + acme, "", "acme role"},
		{writer, "GET", "/v1/tenants/" + other, "", "acme foreign, other targeted"},
		{writer, "GET", "/v1/tenants/" + acme, "", "acme role"},
		{writer, "GET", "/v1/shards", "", "acme system"},
		{keeper, "GET", "/v1/usage?tenant=" + other, "", "acme foreign, other targeted"},
		{keeper, "GET", "/v1/usage?tenant=" + acme, "", "acme checked"},
		{keeper, "GET", "/v1/usage/prices", "", "acme system"},
		{keeper, "GET", "/v1/tenants?deleted=true", "", "acme system"},
		{keeper, "POST", "/v1/keys", `{"role":"reader","tenant":"` + other + `"}`, "acme foreign, other targeted"},
		{keeper, "DELETE", "/v1/keys/" + ofOther, "", "acme foreign, other targeted"},
		{keeper, "DELETE", "/v1/keys/none", "", ""},
		{operator, "POST", "/query", query(acme), "nobody role"},
		{operator, "GET", "/v1/shards", "", ""},
		{expired, "POST", "/query", query(acme), "acme expired"},
		{expired, "GET", "/namespaces/" + other, "", "acme expired, other targeted"},
		{reader[:len(reader)-4] + "0000", "POST", "/query", query(acme), "acme unknown"},
		{revoked, "POST", "/query", query(acme), "nobody unknown"},
		{"", "GET", "/namespaces/" + acme, "", "nobody unknown, acme targeted"},
		{"garbage", "GET", "/healthz", "", ""},
	} {
		w.do(c.method, c.path, c.body, "Api-Key: "+c.key)
		after := isolationOf(w.client)
		var changed []string
		for _, who := range []struct{ name, tenant string }{{"nobody", ""}, {"acme", acme}, {"other", other}} {
			o, n := before[who.tenant], after[who.tenant]
			for _, f := range []struct {
				name     string
				old, new uint64
			}{
				{"foreign", o.Foreign, n.Foreign}, {"system", o.System, n.System}, {"role", o.Role, n.Role}, {"expired", o.ExpiredKey, n.ExpiredKey},
				{"unknown", o.UnknownKey, n.UnknownKey}, {"targeted", o.Targeted, n.Targeted}, {"checked", o.Checked, n.Checked}, {"strayed", o.Strayed, n.Strayed},
			} {
				if f.new != f.old {
					require.Equal(t, f.old+1, f.new)
					changed = append(changed, who.name+" "+f.name)
				}
			}
		}
		var want []string
		if c.want != "" {
			want = strings.Split(c.want, ", ")
		}
		require.ElementsMatch(t, want, changed, "%s %s %s", c.method, c.path, c.body)
		before = after
	}
	require.Zero(t, before[acme].Strayed)
	page := w.ok("GET", "/metrics", "").body
	require.Contains(t, page, `croft_access_denied_total{reason="foreign"} `+fmt.Sprint(before[acme].Foreign))
	require.Contains(t, page, "croft_answers_foreign_total 0")
	w.reports(keeper, before)
}

// reports compares the forms of the report with each other.
func (w *town) reports(keeper string, want map[string]isolationShown) {
	t := w.t
	own := w.ok("GET", "/v1/usage?report=isolation&by=hour", "", "Api-Key: "+keeper)
	require.Equal(t, acme, own.get(t, "isolation.0.tenant"))
	require.NotContains(t, own.body, other)
	require.NotEmpty(t, own.get(t, "isolation.0.time"))
	all := w.ok("GET", "/v1/usage?report=isolation&by=all", "")
	sum := uint64(0)
	for _, s := range want {
		sum += s.Refused
	}
	require.EqualValues(t, sum, all.get(t, "isolation.0.refused"))
	require.Len(t, all.get(t, "isolation"), 1)
	rows, err := csv.NewReader(strings.NewReader(w.ok("GET", "/v1/usage?report=isolation&format=csv", "").body)).ReadAll()
	require.NoError(t, err)
	require.Equal(t, isolationHeader, rows[0])
	require.Len(t, rows, len(want)+1)
	require.Equal(t, "", rows[1][0], "what is no tenant's comes first")
	require.Equal(t, acme, rows[2][0])
	require.Equal(t, fmt.Sprint(want[acme].Refused), rows[2][3])
	requireError(t, w.do("GET", "/v1/usage?report=isolation&by=week", ""), 400, "by")
	first := w.ok("GET", "/v1/usage?report=isolation&limit=2", "")
	second := w.ok("GET", "/v1/usage?report=isolation&limit=1&paginationToken="+first.get(t, "pagination.next").(string), "")
	require.Equal(t, gone, second.get(t, "isolation.0.tenant"), "a deleted tenant is told of")
	require.NotEmpty(t, second.get(t, "isolation.0.deleted_at"))
}

// strayNode is one that reads another tenant's records, whatever it is asked for.
type strayNode struct {
	Node
	to string // empty: it does not stray
}

func (n *strayNode) instead(of string) string {
	if n.to != "" {
		return n.to
	}
	return of
}

func (n *strayNode) Query(ctx context.Context, ix cluster.Index, ns string, q *engine.Query, res *engine.Result) (int, error) {
	return n.Node.Query(ctx, ix, n.instead(ns), q, res)
}

func (n *strayNode) Fetch(ctx context.Context, ix cluster.Index, ns string, ids []string) ([]engine.Record, error) {
	return n.Node.Fetch(ctx, ix, n.instead(ns), ids)
}

func (n *strayNode) Scan(ctx context.Context, ix cluster.Index, ns, prefix, after string, f *filter.Expr, limit int) ([]engine.Record, bool, error) {
	return n.Node.Scan(ctx, ix, n.instead(ns), prefix, after, f, limit)
}

func (n *strayNode) ScanIDs(ctx context.Context, ix cluster.Index, ns, prefix, after string, limit int) ([]string, bool, error) {
	return n.Node.ScanIDs(ctx, ix, n.instead(ns), prefix, after, limit)
}

func (n *strayNode) DescribeNamespace(ctx context.Context, ix cluster.Index, ns string) (cluster.Namespace, error) {
	return n.Node.DescribeNamespace(ctx, ix, n.instead(ns))
}

func (n *strayNode) DescribeTenant(ctx context.Context, name string) (cluster.Tenant, error) {
	return n.Node.DescribeTenant(ctx, n.instead(name))
}

func (n *strayNode) Keys(q cluster.KeyQuery) ([]tenancy.Key, bool, int) {
	q.Tenant = n.instead(q.Tenant)
	return n.Node.Keys(q)
}

func (n *strayNode) Usage(ctx context.Context, q cluster.UsageReport) ([]cluster.UsedBy, bool, error) {
	if q.Live {
		q.Tenant = n.instead(q.Tenant)
	}
	return n.Node.Usage(ctx, q)
}

func (n *strayNode) AuditEvents(ctx context.Context, q audit.Query) ([]audit.Event, bool, []string, error) {
	if q.Own {
		q.Tenant = n.instead(q.Tenant)
	}
	return n.Node.AuditEvents(ctx, q)
}

// TestForeignAnswersAreStopped has the floors below answer with another tenant's data, on each route that may: nothing of it is sent,
// and it is counted, logged and told to the metrics.
func TestForeignAnswersAreStopped(t *testing.T) {
	w := newTown(t)
	keeper := "Api-Key: " + w.key(tenancy.RoleTenantAdmin, acme)
	w.key(tenancy.RoleReader, other)
	w.ok("POST", "/v1/keys", `{"role":"reader"}`, "Api-Key: "+w.key(tenancy.RoleTenantAdmin, other)) // an event of its audit log
	var token string
	for _, c := range w.callers {
		if c.name == "token of a writer" {
			token = "Api-Key: " + c.text
		}
	}
	logs := w.logs
	node := &strayNode{Node: w.node}
	c := &client{t, newHandler(t, node, func(o *Options) {
		old := w.h.(*Handler).opts
		o.Auth, o.Logger = old.Auth, old.Logger
	})}
	rows := []struct{ method, path, body string }{
		{"POST", "/query", `{"namespace":"` + acme + `","topK":5,"vector":[1],"includeMetadata":true}`},
		{"POST", "/query", `{"namespace":"` + acme + `","topK":5,"id":"a","includeMetadata":true}`},
		{"GET", "/vectors/fetch?ids=a&namespace=" + acme, ""},
		{"POST", "/vectors/fetch_by_metadata", `{"namespace":"` + acme + `","filter":{"mark":{"$exists":true}}}`},
		{"GET", "/vectors/list?namespace=" + acme, ""},
		{"GET", "/describe_index_stats", ""},
		{"GET", "/namespaces", ""},
		{"GET", "/namespaces/" + acme, ""},
		{"GET", "/v1/tenants", ""},
		{"GET", "/v1/tenants/" + acme, ""},
		{"GET", "/v1/tenants/" + acme + "/settings", ""},
		{"GET", "/v1/keys", ""},
		{"GET", "/v1/usage", ""},
		{"GET", "/v1/usage?report=sla", ""},
		{"GET", "/v1/usage?report=isolation", ""},
		{"GET", "/v1/audit", ""},
	}
	for i, r := range rows {
		node.to = ""
		a := c.do(r.method, r.path, r.body, keeper)
		require.Equal(t, 200, a.status, "%s %s: %s", r.method, r.path, a.body)
		node.to = other
		logs.Reset()
		a = c.do(r.method, r.path, r.body, keeper)
		require.Equal(t, 500, a.status, "%s %s: %s", r.method, r.path, a.body)
		require.NotContains(t, a.body+fmt.Sprint(a.header), markOf(other))
		require.NotContains(t, a.body+fmt.Sprint(a.header), other)
		require.Contains(t, logs.String(), "another's", "%s %s", r.method, r.path)
		node.to = ""
		require.EqualValues(t, i+1, isolationOf(c)[acme].Strayed, "%s %s", r.method, r.path)
	}
	require.Contains(t, c.ok("GET", "/metrics", "").body, fmt.Sprintf("croft_answers_foreign_total %d", len(rows)))

	node.to = other
	require.Equal(t, 500, c.do(rows[0].method, rows[0].path, rows[0].body, token).status, "a token's too")
	require.Equal(t, 200, c.do(rows[0].method, rows[0].path, rows[0].body).status, "whoever reaches all is told by no check what is whose")
}

// TestTokensFollowANewTenant: a token names a tenant, and reaches the one that has the name.
func TestTokensFollowANewTenant(t *testing.T) {
	w := newTown(t)
	query := `{"namespace":"` + acme + `","topK":5,"vector":[1],"includeMetadata":true}`
	w.ok("DELETE", "/v1/tenants/"+acme, "")
	w.settle(acme)
	for _, c := range w.callers {
		if c.name == "token of a writer" {
			require.Contains(t, w.ok("POST", "/query", query, "Api-Key: "+c.text).body, markOf(acme))
		}
	}
	require.Zero(t, isolationOf(w.client)[acme].Strayed)
}

// checkedCall is a query of a tenant that is about to be answered.
func checkedCall(t testing.TB) (*call, *queryRequest) {
	w := newTown(t)
	c := &call{h: w.h.(*Handler), route: &route{scope: oneNamespace}, start: time.Now()}
	c.w, c.r = httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	standing := w.node.Standing(acme)
	c.principal = tenancy.Principal{Role: tenancy.RoleReader, Tenant: acme, TenantID: standing.ID}
	c.serveUnder(acme)
	c.reading.Owner = standing.ID
	q := getQuery()
	t.Cleanup(q.release)
	require.NoError(t, c.checkOwner(q)) // the tenant's slot of the hour is there from now on
	return c, q
}

// TestCheckingAllocatesNothing: the last look at an answer of records is free.
func TestCheckingAllocatesNothing(t *testing.T) {
	c, q := checkedCall(t)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if c.checkOwner(q) != nil {
			t.Fail()
		}
	}))
}

func BenchmarkCheckOwner(b *testing.B) {
	c, q := checkedCall(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.checkOwner(q); err != nil {
			b.Fatal(err)
		}
	}
}

// denials is a plain count of what a tenant was refused and told, by what the requests were about.
type denials struct{ foreign, role, checked, targeted uint64 }

// TestIsolationIsCountedExactly makes random requests of two tenants about each other, and counts along.
func TestIsolationIsCountedExactly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newTown(t)
	names := []string{acme, other}
	keys := map[string]string{}
	for _, name := range names {
		keys[name] = "Api-Key: " + w.key(tenancy.RoleReader, name)
	}
	base, want := isolationOf(w.client), map[string]*denials{acme: {}, other: {}}
	for range 300 {
		by, about := names[rng.IntN(2)], names[rng.IntN(2)]
		path, write := "/vectors/fetch?ids=a&namespace="+about, false
		switch rng.IntN(3) {
		case 0:
			path = "/namespaces/" + about
		case 1:
			path, write = "/namespaces/"+about, true
		}
		method := "GET"
		if write {
			method = "DELETE"
		}
		a := w.do(method, path, "", keys[by])
		switch {
		case by != about:
			want[by].foreign++
			want[about].targeted++
			require.Equal(t, 403, a.status)
		case write:
			want[by].role++
			require.Equal(t, 403, a.status)
		default:
			want[by].checked++
			require.Equal(t, 200, a.status, a.body)
		}
	}
	for name, n := range want {
		s := isolationOf(w.client)[name]
		require.Equal(t, *n, denials{s.Foreign - base[name].Foreign, s.Role - base[name].Role, s.Checked - base[name].Checked, s.Targeted - base[name].Targeted}, name)
	}
}
