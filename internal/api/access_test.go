package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/token"
)

// Groups of principals, as people would say who may do something. They are written out here, and not taken from the code, so that
// a change of a right must be made twice.
const (
	everybody  = "nobody admin operator all-writer all-reader tenant-admin writer reader"
	known      = "admin operator all-writer all-reader tenant-admin writer reader"
	recordsIn  = "admin all-writer all-reader tenant-admin writer reader"
	recordsOut = "admin all-writer tenant-admin writer"
	keepers    = "admin operator"
	tenantRuns = "admin operator tenant-admin"
)

// accessRow is a request of a route, and who may make it. Where it is about a tenant, %s stands for its name; those of another
// tenant may then not.
type accessRow struct {
	who, path, body string
	everyTenant     bool // it is the same for all tenants
}

// accessRows has a row for each route. One without fails TestAccessMatrix: say here who may.
var accessRows = map[string]accessRow{
	"POST /vectors/upsert":            {who: recordsOut, path: "/vectors/upsert", body: `{"vectors":[{"id":"a","values":[1]}],"namespace":"%s"}`},
	"POST /query":                     {who: recordsIn, path: "/query", body: `{"topK":10,"vector":[1],"includeMetadata":true,"namespace":"%s"}`},
	"GET /vectors/fetch":              {who: recordsIn, path: "/vectors/fetch?ids=a&namespace=%s"},
	"POST /vectors/fetch_by_metadata": {who: recordsIn, path: "/vectors/fetch_by_metadata", body: `{"filter":{"mark":{"$exists":true}},"namespace":"%s"}`},
	"POST /vectors/update":            {who: recordsOut, path: "/vectors/update", body: `{"id":"a","setMetadata":{"x":1},"namespace":"%s"}`},
	"POST /vectors/delete":            {who: recordsOut, path: "/vectors/delete", body: `{"ids":["gone"],"namespace":"%s"}`},
	"DELETE /vectors/delete":          {who: recordsOut, path: "/vectors/delete", body: `{"ids":["gone"],"namespace":"%s"}`},
	"GET /vectors/list":               {who: recordsIn, path: "/vectors/list?namespace=%s"},
	"POST /describe_index_stats":      {who: known, path: "/describe_index_stats", body: `{}`, everyTenant: true},
	"GET /describe_index_stats":       {who: known, path: "/describe_index_stats", everyTenant: true},
	"GET /namespaces":                 {who: known, path: "/namespaces", everyTenant: true},
	"POST /namespaces":                {who: recordsOut, path: "/namespaces", body: `{"name":"%s"}`},
	"GET /namespaces/{namespace}":     {who: known, path: "/namespaces/%s"},
	"DELETE /namespaces/{namespace}":  {who: recordsOut, path: "/namespaces/%s"},

	"GET /indexes":            {who: known, path: "/indexes", everyTenant: true},
	"POST /indexes":           {who: keepers, path: "/indexes", body: `{"name":"demo","dimension":1,"spec":{"byoc":{"environment":"x"}}}`, everyTenant: true},
	"GET /indexes/{index}":    {who: known, path: "/indexes/demo", everyTenant: true},
	"PATCH /indexes/{index}":  {who: keepers, path: "/indexes/demo", body: `{"tags":{"a":"b"}}`, everyTenant: true},
	"DELETE /indexes/{index}": {who: keepers, path: "/indexes/none", everyTenant: true},

	"GET /healthz": {who: everybody, path: "/healthz", everyTenant: true},
	"GET /livez":   {who: everybody, path: "/livez", everyTenant: true},
	"GET /readyz":  {who: everybody, path: "/readyz", everyTenant: true},
	"GET /metrics": {who: everybody, path: "/metrics", everyTenant: true},

	"GET /v1/cluster":                            {who: keepers, path: "/v1/cluster", everyTenant: true},
	"GET /v1/cluster/health":                     {who: keepers, path: "/v1/cluster/health", everyTenant: true},
	"POST /v1/cluster/health/verify":             {who: keepers, path: "/v1/cluster/health/verify", everyTenant: true},
	"POST /v1/cluster/nodes":                     {who: keepers, path: "/v1/cluster/nodes", everyTenant: true},
	"POST /v1/cluster/nodes/{node}/drain":        {who: keepers, path: "/v1/cluster/nodes/none/drain", everyTenant: true},
	"DELETE /v1/cluster/nodes/{node}":            {who: keepers, path: "/v1/cluster/nodes/none", everyTenant: true},
	"GET /v1/shards":                             {who: keepers, path: "/v1/shards", everyTenant: true},
	"POST /v1/shards":                            {who: keepers, path: "/v1/shards", body: `{"kind":"odd"}`, everyTenant: true},
	"POST /v1/shards/{shard}/drain":              {who: keepers, path: "/v1/shards/77/drain", everyTenant: true},
	"DELETE /v1/shards/{shard}/drain":            {who: keepers, path: "/v1/shards/77/drain", everyTenant: true},
	"GET /v1/rebalance":                          {who: keepers, path: "/v1/rebalance", everyTenant: true},
	"POST /v1/rebalance":                         {who: keepers, path: "/v1/rebalance", body: `{}`, everyTenant: true},
	"DELETE /v1/rebalance":                       {who: keepers, path: "/v1/rebalance", everyTenant: true},
	"GET /v1/rebalance/plan":                     {who: keepers, path: "/v1/rebalance/plan", everyTenant: true},
	"GET /v1/rebalance/rules":                    {who: keepers, path: "/v1/rebalance/rules", everyTenant: true},
	"PUT /v1/rebalance/rules":                    {who: keepers, path: "/v1/rebalance/rules", body: `{}`, everyTenant: true},
	"GET /v1/capacity":                           {who: keepers, path: "/v1/capacity", everyTenant: true},
	"GET /v1/shards/{shard}":                     {who: keepers, path: "/v1/shards/0", everyTenant: true},
	"PATCH /v1/shards/{shard}":                   {who: keepers, path: "/v1/shards/77", body: `{"zones":[]}`, everyTenant: true},
	"DELETE /v1/shards/{shard}":                  {who: keepers, path: "/v1/shards/77", everyTenant: true},
	"GET /v1/placement":                          {who: keepers, path: "/v1/placement", everyTenant: true},
	"PUT /v1/placement":                          {who: keepers, path: "/v1/placement", body: `{"policy":"ring"}`, everyTenant: true},
	"GET /v1/migrations":                         {who: keepers, path: "/v1/migrations", everyTenant: true},
	"POST /v1/migrations":                        {who: keepers, path: "/v1/migrations", body: `{"tenant":"%s","to":0,"dry_run":true}`, everyTenant: true},
	"GET /v1/migrations/{migration}":             {who: keepers, path: "/v1/migrations/77", everyTenant: true},
	"POST /v1/migrations/{migration}/cancel":     {who: keepers, path: "/v1/migrations/77/cancel", everyTenant: true},
	"POST /v1/migrations/{migration}/rollback":   {who: keepers, path: "/v1/migrations/77/rollback", everyTenant: true},
	"GET /v1/tenants":                            {who: tenantRuns, path: "/v1/tenants", everyTenant: true},
	"POST /v1/tenants":                           {who: keepers, path: "/v1/tenants", body: `{"tenant":"%s"}`, everyTenant: true},
	"GET /v1/tenants/{tenant}":                   {who: tenantRuns, path: "/v1/tenants/%s"},
	"POST /v1/tenants/{tenant}":                  {who: keepers, path: "/v1/tenants/%s", body: `{}`},
	"PATCH /v1/tenants/{tenant}":                 {who: keepers, path: "/v1/tenants/%s", body: `{"tier":"gold"}`},
	"DELETE /v1/tenants/{tenant}":                {who: keepers, path: "/v1/tenants/%s"},
	"POST /v1/tenants/{tenant}/undelete":         {who: keepers, path: "/v1/tenants/%s/undelete", body: `{}`},
	"GET /v1/tenants/{tenant}/settings":          {who: tenantRuns, path: "/v1/tenants/%s/settings"},
	"POST /v1/tenants/{tenant}/override":         {who: keepers, path: "/v1/tenants/%s/override", body: `{"factor":2,"for":"1m","reason":"test"}`},
	"DELETE /v1/tenants/{tenant}/override":       {who: keepers, path: "/v1/tenants/%s/override"},
	"GET /v1/tiers":                              {who: keepers, path: "/v1/tiers", everyTenant: true},
	"POST /v1/tiers":                             {who: keepers, path: "/v1/tiers", body: `{"name":"bronze"}`, everyTenant: true},
	"GET /v1/tiers/{tier}":                       {who: keepers, path: "/v1/tiers/gold", everyTenant: true},
	"PATCH /v1/tiers/{tier}":                     {who: keepers, path: "/v1/tiers/gold", body: `{}`, everyTenant: true},
	"DELETE /v1/tiers/{tier}":                    {who: keepers, path: "/v1/tiers/none", everyTenant: true},
	"GET /v1/settings":                           {who: keepers, path: "/v1/settings", everyTenant: true},
	"PATCH /v1/settings":                         {who: keepers, path: "/v1/settings", body: `{}`, everyTenant: true},
	"GET /v1/audit":                              {who: tenantRuns, path: "/v1/audit?tenant=%s"},
	"GET /v1/audit/verify":                       {who: keepers, path: "/v1/audit/verify", everyTenant: true},
	"GET /v1/keys":                               {who: tenantRuns, path: "/v1/keys?tenant=%s"},
	"POST /v1/keys":                              {who: tenantRuns, path: "/v1/keys", body: `{"role":"reader","tenant":"%s","expires":"1h"}`},
	"DELETE /v1/keys/{key}":                      {who: tenantRuns, path: "/v1/keys/none", everyTenant: true},
	"GET /v1/tenants/{tenant}/cache":             {who: tenantRuns, path: "/v1/tenants/%s/cache"},
	"POST /v1/tenants/{tenant}/cache/invalidate": {who: tenantRuns, path: "/v1/tenants/%s/cache/invalidate"},
	"POST /v1/search":                            {who: "admin", path: "/v1/search", body: `{"topK":3,"vector":[1]}`, everyTenant: true},
	"GET /v1/usage":                              {who: tenantRuns, path: "/v1/usage?tenant=%s"},
	"GET /v1/usage/prices":                       {who: keepers, path: "/v1/usage/prices", everyTenant: true},
	"PUT /v1/usage/prices":                       {who: keepers, path: "/v1/usage/prices", body: `{}`, everyTenant: true},

	"GET /debug/pprof":           {who: keepers, path: "/debug/pprof", everyTenant: true},
	"GET /debug/pprof/cmdline":   {who: keepers, path: "/debug/pprof/cmdline", everyTenant: true},
	"GET /debug/pprof/profile":   {who: keepers, path: "/debug/pprof/profile?unknown=x", everyTenant: true},
	"GET /debug/pprof/trace":     {who: keepers, path: "/debug/pprof/trace?unknown=x", everyTenant: true},
	"GET /debug/pprof/{profile}": {who: keepers, path: "/debug/pprof/cmdlines", everyTenant: true},
}

// caller is one kind of principal.
type caller struct {
	name   string
	text   string // of the credential
	group  string // of the groups above; empty: the credential is good for nothing
	tenant string // empty: all
}

// The tenants of the tests, with marks in all that is theirs.
const (
	acme   = "acme-7f3a"
	other  = "other-c91e"
	absent = "absent-0000"
	gone   = "gone-55d2"
)

func markOf(tenant string) string { return "mark-of-" + tenant }

// town is a handler with two tenants and everybody who may come.
type town struct {
	*client
	node    *cluster.Node
	debug   *client
	callers []caller
	logs    *strings.Builder
}

func newTown(t testing.TB) *town {
	t.Helper()
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&signing.PublicKey)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	disk := vfs.NewMem()
	f, err := disk.Create("/keys")
	require.NoError(t, err)
	_, err = f.Write(public)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	keys, err := token.OpenKeys(token.KeysOptions{Source: token.FromFile(disk, "/keys")}, slog.New(slog.DiscardHandler), time.Now())
	require.NoError(t, err)
	verifier, err := token.New(keys, token.Options{Issuer: "i", Audience: "croft"})
	require.NoError(t, err)

	node := openNode(t)
	logs := new(strings.Builder)
	h := newHandler(t, node, func(o *Options) {
		o.Auth.Source, o.Auth.Tokens, o.Auth.Uses = node, verifier, node
		o.Logger, o.SlowLog = slog.New(slog.NewTextHandler(logs, nil)), time.Nanosecond
	})
	h.seeker.pause = time.Millisecond // many keys that nobody knows come one after the other
	w := &town{client: &client{t, h}, node: node, debug: &client{t, h.Debug()}, logs: logs}
	w.index("demo", `"dimension":1`)
	for _, tenant := range []string{acme, other, gone} {
		w.settle(tenant)
	}
	w.invite(signing, public)
	return w
}

// settle gives a tenant records again, each with its mark.
func (w *town) settle(tenant string) {
	w.ok("POST", "/vectors/upsert", fmt.Sprintf(`{"vectors":[{"id":"a","values":[1],"metadata":{"mark":%q}},{"id":%q,"values":[2],"metadata":{"mark":%q}}],"namespace":%q}`,
		markOf(tenant), markOf(tenant), markOf(tenant), tenant))
}

// key makes an API key.
func (w *town) key(role tenancy.Role, tenant string, change ...func(*tenancy.Key)) string {
	text, k := tenancy.NewKey("test", role, time.Now())
	k.Tenant = tenant
	for _, f := range change {
		f(&k)
	}
	require.NoError(w.t, w.node.AddKey(context.Background(), k))
	return text
}

// invite makes a caller of each kind.
func (w *town) invite(signing *ecdsa.PrivateKey, public []byte) {
	add := func(name, text, group, tenant string) {
		w.callers = append(w.callers, caller{name, text, group, tenant})
	}
	add("nobody", "", "nobody", "")
	add("admin", testKey, "admin", "")
	add("stored admin", w.key(tenancy.RoleAdmin, ""), "admin", "")
	add("operator", w.key(tenancy.RoleOperator, ""), "operator", "")
	add("writer of all", w.key(tenancy.RoleWriter, ""), "all-writer", "")
	add("reader of all", w.key(tenancy.RoleReader, ""), "all-reader", "")
	for _, tenant := range []string{acme, other} {
		add("tenant-admin of "+tenant, w.key(tenancy.RoleTenantAdmin, tenant), "tenant-admin", tenant)
		add("writer of "+tenant, w.key(tenancy.RoleWriter, tenant), "writer", tenant)
		add("reader of "+tenant, w.key(tenancy.RoleReader, tenant), "reader", tenant)
	}

	expired := w.key(tenancy.RoleTenantAdmin, acme, func(k *tenancy.Key) { k.Expires = time.Now().Add(-time.Second) })
	add("expired", expired, "", "")
	revoked := w.key(tenancy.RoleAdmin, "")
	id, err := tenancy.ParseKey(revoked)
	require.NoError(w.t, err)
	require.NoError(w.t, w.node.RevokeKey(context.Background(), id))
	add("revoked", revoked, "", "")
	good := w.key(tenancy.RoleAdmin, "")
	add("wrong secret", good[:len(good)-4]+"0000", "", "")
	made, _ := tenancy.NewKey("never stored", tenancy.RoleAdmin, time.Now())
	add("never stored", made, "", "")
	add("garbage", "garbage", "", "")
	add("admin key, cut", testKey[:len(testKey)-1], "", "")
	ofGone := w.key(tenancy.RoleWriter, gone)
	_, err = w.node.DeleteTenant(context.Background(), gone)
	require.NoError(w.t, err)
	add("of a deleted tenant", ofGone, "", "")

	sign := func(m jwt.SigningMethod, key any, change map[string]any) string {
		c := jwt.MapClaims{"iss": "i", "aud": "croft", "exp": time.Now().Add(time.Hour).Unix(), "sub": "ann", "tenant": acme, "role": "writer"}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		text, err := jwt.NewWithClaims(m, c).SignedString(key)
		require.NoError(w.t, err)
		return text
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	add("token of a writer", sign(jwt.SigningMethodES256, signing, nil), "writer", acme)
	add("token of a tenant-admin", sign(jwt.SigningMethodES256, signing, map[string]any{"role": "tenant-admin", "tenant": other}), "tenant-admin", other)
	add("token, expired", sign(jwt.SigningMethodES256, signing, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "", "")
	add("token, alg none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), "", "")
	add("token, wrong signature", sign(jwt.SigningMethodES256, foreign, nil), "", "")
	add("token, wrong audience", sign(jwt.SigningMethodES256, signing, map[string]any{"aud": "x"}), "", "")
	add("token, wrong issuer", sign(jwt.SigningMethodES256, signing, map[string]any{"iss": "x"}), "", "")
	add("token, public key as secret", sign(jwt.SigningMethodHS256, public, nil), "", "")
	add("token, no tenant", sign(jwt.SigningMethodES256, signing, map[string]any{"tenant": nil}), "", "")
	add("token of an admin", sign(jwt.SigningMethodES256, signing, map[string]any{"role": "admin", "tenant": nil}), "", "")
}

// expected is the status that a caller must get for a row: 401, 403, or 200 for anything else.
func (c *caller) expected(row *accessRow, about string) int {
	switch {
	case row.who == everybody:
		return 200
	case c.group == "" || c.group == "nobody":
		return 401
	case !strings.Contains(" "+row.who+" ", " "+c.group+" "):
		return 403
	case c.tenant != "" && !row.everyTenant && c.tenant != about:
		return 403
	}
	return 200
}

// TestAccessMatrix has every kind of caller make every request about each tenant: his own, another, and one that does not exist.
// Who may not gets the same words for the last two.
func TestAccessMatrix(t *testing.T) {
	w := newTown(t)
	all := append(routes(), debugRoutes()...)
	kinds := map[string]bool{}
	requests := 0
	seen := newSeen(w)
	for i := range all {
		r := &all[i]
		name := r.method + " " + r.pattern
		row, ok := accessRows[name]
		require.True(t, ok, "%s has no row in accessRows: say there who may", name)
		for _, c := range w.callers {
			kinds[c.name] = true
			refusals := map[string]string{}
			for _, about := range []string{acme, other, absent} {
				a := w.ask(r, &row, &c, about)
				requests++
				seen.note(r, &row, &c, about, a.status)
				want := c.expected(&row, about)
				switch {
				case want == 200:
					require.NotContains(t, []int{401, 403}, a.status, "%s by %s about %s: %s", name, c.name, about, a.body)
				default:
					require.Equal(t, want, a.status, "%s by %s about %s: %s", name, c.name, about, a.body)
					refusals[strings.ReplaceAll(a.body, about, "X")] = about
				}
				require.NotEqual(t, 500, a.status, "%s by %s: %s", name, c.name, a.body)
				w.requireNothingOfOthers(&c, about, name, a)
				if want == 200 && r.method != "GET" {
					w.restore()
				}
			}
			require.LessOrEqual(t, len(refusals), 1, "%s by %s: a refusal tells what exists: %v", name, c.name, refusals)
		}
	}
	require.GreaterOrEqual(t, len(kinds), 12)
	seen.compare()
	t.Logf("%d requests, %d kinds of callers, %d routes", requests, len(kinds), len(all))
}

// seen counts along what the report of isolation is to have.
type seen struct {
	w      *town
	before map[string]isolationShown
	want   map[string]*isolationShown
}

func newSeen(w *town) *seen {
	return &seen{w, isolationOf(w.client), map[string]*isolationShown{"": {}, acme: {}, other: {}, gone: {}}}
}

// note counts an answer. What a caller's role may not do is foreign where the path names another tenant; what nobody of a tenant may do is
// the system's, or not for that role.
func (s *seen) note(r *route, row *accessRow, c *caller, about string, status int) {
	n := s.want[c.tenant]
	path, _, _ := strings.Cut(row.path, "?")
	switch foreign := c.tenant != "" && !row.everyTenant && c.tenant != about; {
	case status == 401 && c.name == "expired":
		s.want[acme].ExpiredKey++
	case status == 401 && c.name == "of a deleted tenant":
		s.want[gone].UnknownKey++
	case status == 401 && c.name == "token, expired":
		n.ExpiredKey++
	case status == 401:
		n.UnknownKey++
	case status == 403 && foreign && (strings.Contains(" "+row.who+" ", " "+c.group+" ") || strings.Contains(path, "%s")):
		n.Foreign++
	case status == 403:
		n.Role++
	case status < 300 && c.tenant != "" && (r.scope == oneTenant || r.scope == oneNamespace || r.scope == inSight):
		n.Checked++
	}
}

// compare looks for the same numbers in the report.
func (s *seen) compare() {
	found := isolationOf(s.w.client)
	for name, want := range s.want {
		is, was := found[name], s.before[name]
		require.Equal(s.w.t, []uint64{want.Foreign, want.Role, want.ExpiredKey, want.UnknownKey, want.Checked, 0}, []uint64{
			is.Foreign - was.Foreign, is.Role + is.System - was.Role - was.System, is.ExpiredKey - was.ExpiredKey, is.UnknownKey - was.UnknownKey,
			is.Checked - was.Checked, is.Strayed,
		}, "foreign, role and system, expired, unknown, checked, strayed of %q", name)
	}
	require.Positive(s.w.t, found[other].Targeted)
}

// ask sends a row's request. The request id is fixed, so that answers can be compared.
func (w *town) ask(r *route, row *accessRow, c *caller, about string) answer {
	fill := func(s string) string { return strings.ReplaceAll(s, "%s", about) }
	to := w.client
	if strings.HasPrefix(r.pattern, "/debug/") {
		to = w.debug
	}
	extras := []string{"Api-Key: " + c.text, "X-Request-Id: 1"}
	if c.text != "" && len(c.text)%2 == 1 { // both ways to send a key
		extras = []string{"Api-Key: ", "Authorization: Bearer " + c.text, "X-Request-Id: 1"}
	}
	return to.do(r.method, fill(row.path), fill(row.body), extras...)
}

// requireNothingOfOthers looks for the marks and names of tenants that a caller does not reach.
func (w *town) requireNothingOfOthers(c *caller, about, what string, a answer) {
	w.t.Helper()
	if c.group != "" && c.group != "nobody" && c.tenant == "" {
		return
	}
	text := a.body + fmt.Sprint(a.header)
	for _, tenant := range []string{acme, other, gone} {
		if tenant == c.tenant {
			continue
		}
		require.False(w.t, strings.Contains(text, markOf(tenant)), "%s by %s: %.500s", what, c.name, text)
		// A name that was sent may be told back, and a tenant's audit log has the names that its own have sent.
		if tenant != about && what != "GET /v1/audit" {
			require.False(w.t, strings.Contains(text, tenant), "%s by %s: %.500s", what, c.name, text)
		}
	}
}

// restore brings back what a request may have removed.
func (w *town) restore() {
	if w.do("GET", "/indexes/demo", "").status == 404 {
		w.index("demo", `"dimension":1`)
	}
	for _, tenant := range []string{acme, other} {
		if w.do("GET", "/v1/tenants/"+tenant, "").status == 404 {
			w.ok("POST", "/v1/tenants/"+tenant+"/undelete", "{}")
		}
		w.settle(tenant)
	}
	if w.do("GET", "/v1/tenants/"+absent, "").status == 200 {
		w.ok("DELETE", "/v1/tenants/"+absent, "")
	}
}

// TestTenantsSeeThemselvesAlone: lists and counts of a tenant's caller are as if there were nobody else.
func TestTenantsSeeThemselvesAlone(t *testing.T) {
	w := newTown(t)
	key := "Api-Key: " + w.key(tenancy.RoleTenantAdmin, acme)
	require.Equal(t, `{"namespaces":[{"name":"acme-7f3a","record_count":"2"}],"total_count":1}`, w.ok("GET", "/namespaces", "", key).body)
	require.Equal(t, `{"namespaces":[],"total_count":0}`, w.ok("GET", "/namespaces?prefix=other", "", key).body)
	require.Equal(t, 2.0, w.ok("GET", "/describe_index_stats", "", key).get(t, "totalVectorCount"))
	require.Equal(t, 1.0, w.ok("GET", "/v1/tenants", "", key).get(t, "total_count"))
	require.Equal(t, 0.0, w.ok("GET", "/v1/tenants?prefix=other", "", key).get(t, "total_count"))
	for _, k := range w.ok("GET", "/v1/keys", "", key).get(t, "keys").([]any) {
		require.Equal(t, acme, k.(map[string]any)["tenant"])
	}
	// Another index, where the tenant has nothing yet: it is empty, and the first write makes the namespace.
	w.index("second", `"dimension":1`)
	require.Equal(t, `{"namespaces":[],"total_count":0}`, w.ok("GET", "/i/second/namespaces", "", key).body)
	require.Equal(t, 0.0, w.ok("GET", "/i/second/describe_index_stats", "", key).get(t, "totalVectorCount"))
	w.ok("POST", "/i/second/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}],"namespace":"acme-7f3a"}`, key)
	require.Equal(t, 1.0, w.ok("GET", "/i/second/namespaces", "", key).get(t, "total_count"))
}

// TestTokensOfPages: who sees something else cannot go on with another's listing.
func TestTokensOfPages(t *testing.T) {
	w := newTown(t)
	own, writer, foreign := w.key(tenancy.RoleReader, acme), w.key(tenancy.RoleWriter, acme), w.key(tenancy.RoleReader, other)
	path := "/vectors/list?limit=1&namespace=" + acme
	next := w.ok("GET", path, "", "Api-Key: "+own).get(t, "pagination.next").(string)
	require.Equal(t, []string{markOf(acme)}, w.ok("GET", path+"&paginationToken="+next, "", "Api-Key: "+writer).ids(t))
	requireError(t, w.do("GET", path+"&paginationToken="+next, ""), 400, "paginationToken")
	requireError(t, w.do("GET", path+"&paginationToken="+next, "", "Api-Key: "+foreign), 403)
	requireError(t, w.do("GET", "/vectors/list?limit=1&namespace="+other+"&paginationToken="+next, "", "Api-Key: "+foreign), 400, "paginationToken")
}

// TestTenantsAreNotMadeByTheirOwnKeys: a tenant that a token names, and nobody has made, is not made by a write.
func TestTenantsAreNotMadeByTheirOwnKeys(t *testing.T) {
	w := newTown(t)
	upsert := `{"vectors":[{"id":"a","values":[1]}],"namespace":"%s"}`
	text := w.key(tenancy.RoleWriter, acme)
	_, err := w.node.DeleteTenant(context.Background(), acme)
	require.NoError(t, err)
	requireError(t, w.do("POST", "/vectors/upsert", fmt.Sprintf(upsert, acme), "Api-Key: "+text), 401)
	for _, c := range w.callers {
		if c.name == "token of a writer" {
			requireError(t, w.do("POST", "/vectors/upsert", fmt.Sprintf(upsert, acme), "Api-Key: "+c.text), 404, "may not make one")
			requireError(t, w.do("POST", "/namespaces", `{"name":"`+acme+`"}`, "Api-Key: "+c.text), 404, "may not make one")
		}
	}
	w.ok("POST", "/vectors/upsert", fmt.Sprintf(upsert, acme), "Api-Key: "+w.key(tenancy.RoleWriter, ""))
	requireError(t, w.do("POST", "/query", `{"topK":1,"vector":[1],"namespace":"`+acme+`"}`, "Api-Key: "+text), 401)
}

func TestKeysOverHTTP(t *testing.T) {
	w := newTown(t)
	tadmin := "Api-Key: " + w.key(tenancy.RoleTenantAdmin, acme)
	operator := "Api-Key: " + w.key(tenancy.RoleOperator, "")
	made := w.ok("POST", "/v1/keys", `{"role":"writer","name":"ci","expires":"24h"}`, tadmin)
	require.Equal(t, acme, made.get(t, "tenant"), "a tenant's key makes those of its tenant")
	text, id := made.get(t, "key").(string), made.get(t, "id").(string)
	w.ok("POST", "/query", `{"topK":1,"vector":[1],"namespace":"`+acme+`"}`, "Api-Key: "+text)
	require.NotContains(t, w.ok("GET", "/v1/keys", "", tadmin).body, text)
	require.Contains(t, w.ok("GET", "/v1/keys?tenant="+acme, "", operator).body, id)

	for _, c := range []struct {
		body, key string
		status    int
	}{
		{`{"role":"reader","tenant":"` + other + `"}`, tadmin, 403},
		{`{"role":"admin"}`, tadmin, 400},
		{`{"role":"operator"}`, operator, 403},
		{`{"role":"writer"}`, operator, 403},
		{`{"role":"tenant-admin"}`, operator, 400},
		{`{"role":"root"}`, operator, 400},
		{`{"role":"reader","tenant":"absent"}`, operator, 404},
		{`{"role":"reader","expires":"soon"}`, tadmin, 400},
		{`{"role":"reader","expires":"-1h"}`, tadmin, 400},
		{`{"role":"reader","expires":"2001-01-01T00:00:00Z"}`, tadmin, 400},
		{`{}`, tadmin, 400},
		{`{"role":"admin"}`, "Api-Key: " + testKey, 201},
	} {
		require.Equal(t, c.status, w.do("POST", "/v1/keys", c.body, c.key).status, c.body)
	}
	foreignText := w.key(tenancy.RoleReader, other)
	foreign, err := tenancy.ParseKey(foreignText)
	require.NoError(t, err)
	hidden := w.do("DELETE", "/v1/keys/"+foreign, "", tadmin, "X-Request-Id: 1")
	missing := w.do("DELETE", "/v1/keys/000000000000", "", tadmin, "X-Request-Id: 1")
	requireError(t, hidden, 404)
	require.Equal(t, missing.body, strings.ReplaceAll(hidden.body, foreign, "000000000000"))
	w.ok("POST", "/query", `{"topK":1,"vector":[1],"namespace":"`+other+`"}`, "Api-Key: "+foreignText)

	w.ok("DELETE", "/v1/keys/"+id, "", tadmin)
	requireError(t, w.do("POST", "/query", `{"topK":1,"vector":[1],"namespace":"`+acme+`"}`, "Api-Key: "+text), 401)
	requireError(t, w.do("DELETE", "/v1/keys/"+id, "", tadmin), 404)
	page := w.ok("GET", "/v1/keys?limit=1", "", operator)
	next := page.get(t, "pagination.next").(string)
	require.NotEqual(t, page.get(t, "keys.0.id"), w.ok("GET", "/v1/keys?limit=1&paginationToken="+next, "", operator).get(t, "keys.0.id"))
}

// late is a node that learns of a key when it looks for newer metadata.
type late struct {
	*cluster.Node
	looks atomic.Int32
	hide  string
}

func (l *late) Key(id string) (tenancy.Key, bool) {
	if id == l.hide && l.looks.Load() == 0 {
		return tenancy.Key{}, false
	}
	return l.Node.Key(id)
}

func (l *late) Refresh(ctx context.Context) error {
	l.looks.Add(1)
	return l.Node.Refresh(ctx)
}

// TestNewKeyIsSought: a key that was made through another node a moment ago is good here, and a flood of made-up ones makes the
// node look rarely.
func TestNewKeyIsSought(t *testing.T) {
	n := &late{Node: openNode(t)}
	c := &client{t, newHandler(t, n, func(o *Options) { o.Auth.Source = n })}
	text, k := tenancy.NewKey("test", tenancy.RoleReader, time.Now())
	require.NoError(t, n.AddKey(context.Background(), k))
	n.hide = k.ID
	c.ok("GET", "/indexes", "", "Api-Key: "+text)
	require.EqualValues(t, 1, n.looks.Load())

	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 5 {
				made, _ := tenancy.NewKey("", tenancy.RoleAdmin, time.Now())
				r := httptest.NewRequest("GET", "/indexes", http.NoBody)
				r.Header.Set("Api-Key", made)
				w := httptest.NewRecorder()
				c.h.ServeHTTP(w, r)
				assert.Equal(t, 401, w.Code)
			}
		})
	}
	callers.Wait()
	require.Less(t, n.looks.Load(), int32(30), "40 requests of 8 callers share looks")
	before := n.looks.Load()
	requireError(t, c.do("GET", "/indexes", "", "Api-Key: garbage"), 401)
	requireError(t, c.do("GET", "/indexes", "", "Api-Key: "+text[:len(text)-1]+"0"), 401)
	require.Equal(t, before, n.looks.Load(), "what is no key, or a known one, is not looked for")
}
