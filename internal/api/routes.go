package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// cost is the class of work that a route asks for: it decides how many may run at once, and for how long.
type cost uint8

const (
	light  cost = iota // answered from memory
	search             // reads records
	write              // goes through a log
)

// scope is what a route touches, and so which principals it is out of reach for.
type scope uint8

const (
	scopeMissing scope = iota // of a row that forgot it: a test refuses it, and serve too
	noTenant                  // nothing of a tenant's
	allTenants                // the whole store: refused to a tenant's own credential
	sharedByAll               // what tenants share and may all see: indexes
	oneNamespace              // the namespace that the request names; the handler asks inNamespace
	oneTenant                 // the tenant that the path names first
	inSight                   // a list of what the principal reaches; the handler asks sight
)

// route is one row of the inventory.
type route struct {
	method  string
	pattern string // segments; {name} matches any one, percent-decoded
	op      string // in metrics and logs
	perm    tenancy.Permission
	scope   scope
	cost    cost
	status  int      // of success
	index   bool     // works on an index, which must be found first
	body    bool     // reads a JSON body
	query   []string // parameters that it knows
	handle  func(*call) (reply, error)
}

// routes is all that this server answers on its client port and on those of the indexes. With debugRoutes it is the one place
// that says who may do what; access.go reads it. A new route without a permission is Open, which a test refuses.
func routes() []route {
	const (
		rr, wr, ri, wi = tenancy.ReadRecords, tenancy.WriteRecords, tenancy.ReadIndexes, tenancy.WriteIndexes
		rn, rc, wc     = tenancy.ReadNamespaces, tenancy.ReadCluster, tenancy.WriteCluster
		rt, wt, mk     = tenancy.ReadTenants, tenancy.WriteTenants, tenancy.ManageKeys
		ra             = tenancy.ReadAudit
	)
	return []route{
		{"POST", "/vectors/upsert", "upsert", wr, oneNamespace, write, 200, true, true, nil, upsert},
		{"POST", "/query", "query", rr, oneNamespace, search, 200, true, true, nil, query},
		{"GET", "/vectors/fetch", "fetch", rr, oneNamespace, search, 200, true, false, []string{"ids", "namespace"}, fetch},
		{"POST", "/vectors/fetch_by_metadata", "fetch_by_metadata", rr, oneNamespace, search, 200, true, true, nil, fetchByMetadata},
		{"POST", "/vectors/update", "update", wr, oneNamespace, write, 200, true, true, nil, update},
		{"POST", "/vectors/delete", "delete", wr, oneNamespace, write, 200, true, true, nil, deleteRecords},
		{"DELETE", "/vectors/delete", "delete", wr, oneNamespace, write, 200, true, true, nil, deleteRecords},
		{"GET", "/vectors/list", "list", rr, oneNamespace, search, 200, true, false, []string{"prefix", "limit", "paginationToken", "namespace"}, list},
		{"POST", "/describe_index_stats", "describe_index_stats", rn, inSight, light, 200, true, true, nil, describeIndexStats},
		{"GET", "/describe_index_stats", "describe_index_stats", rn, inSight, light, 200, true, false, nil, describeIndexStats},
		{"GET", "/namespaces", "list_namespaces", rn, inSight, light, 200, true, false, []string{"prefix", "limit", "paginationToken"}, listNamespaces},
		{"POST", "/namespaces", "create_namespace", wr, oneNamespace, write, 200, true, true, nil, createNamespace},
		{"GET", "/namespaces/{namespace}", "describe_namespace", rn, oneNamespace, light, 200, true, false, nil, describeNamespace},
		{"DELETE", "/namespaces/{namespace}", "delete_namespace", wr, oneNamespace, write, 200, true, false, nil, deleteNamespace},

		{"GET", "/indexes", "list_indexes", ri, sharedByAll, light, 200, false, false, nil, listIndexes},
		{"POST", "/indexes", "create_index", wi, allTenants, write, 201, false, true, nil, createIndex},
		{"GET", "/indexes/{index}", "describe_index", ri, sharedByAll, light, 200, false, false, nil, describeIndex},
		{"PATCH", "/indexes/{index}", "configure_index", wi, allTenants, write, 200, false, true, nil, configureIndex},
		{"DELETE", "/indexes/{index}", "delete_index", wi, allTenants, write, 202, false, false, nil, deleteIndex},

		{"GET", "/healthz", "healthz", tenancy.Open, noTenant, light, 200, false, false, nil, live},
		{"GET", "/livez", "livez", tenancy.Open, noTenant, light, 200, false, false, nil, live},
		{"GET", "/readyz", "readyz", tenancy.Open, noTenant, light, 200, false, false, []string{"verbose", "noleader"}, ready},
		{"GET", "/metrics", "metrics", tenancy.Open, noTenant, light, 200, false, false, nil, metrics},
		{"GET", "/v1/cluster", "cluster", rc, allTenants, light, 200, false, false, nil, clusterInfo},
		{"GET", "/v1/cluster/health", "cluster_health", rc, allTenants, search, 200, false, false, nil, clusterHealth},
		{"POST", "/v1/cluster/health/verify", "verify_routing", wc, allTenants, write, 200, false, false, nil, verifyRouting},
		{"POST", "/v1/cluster/nodes", "add_node", wc, allTenants, write, 201, false, false, []string{"ttl"}, addNode},
		{"POST", "/v1/cluster/nodes/{node}/drain", "drain_node", wc, allTenants, write, 200, false, false, nil, drainNode},
		{"DELETE", "/v1/cluster/nodes/{node}", "remove_node", wc, allTenants, write, 200, false, false, []string{"force"}, removeNode},
		{"GET", "/v1/shards", "shards", rc, allTenants, light, 200, false, false, nil, shards},
		{"POST", "/v1/shards", "add_shard", wc, allTenants, write, 201, false, true, nil, addShard},
		{"GET", "/v1/shards/{shard}", "describe_shard", rc, allTenants, light, 200, false, false, nil, describeShard},
		{"PATCH", "/v1/shards/{shard}", "bind_shard", wc, allTenants, write, 200, false, true, nil, bindShard},
		{"DELETE", "/v1/shards/{shard}", "remove_shard", wc, allTenants, write, 200, false, false, nil, removeShard},
		{"POST", "/v1/shards/{shard}/drain", "drain_shard", wc, allTenants, write, 202, false, false, nil, drainShard},
		{"DELETE", "/v1/shards/{shard}/drain", "keep_shard", wc, allTenants, write, 200, false, false, nil, keepShard},
		{"GET", "/v1/rebalance", "rebalancing", rc, allTenants, light, 200, false, false, nil, rebalancing},
		{"POST", "/v1/rebalance", "rebalance", wc, allTenants, write, 202, false, true, nil, rebalance},
		{"DELETE", "/v1/rebalance", "abort_rebalance", wc, allTenants, write, 200, false, false, nil, abortRebalance},
		{"GET", "/v1/rebalance/plan", "rebalance_plan", rc, allTenants, search, 200, false, false, nil, rebalancePlan},
		{"GET", "/v1/rebalance/rules", "rebalance_rules", rc, allTenants, light, 200, false, false, nil, rebalanceRules},
		{"PUT", "/v1/rebalance/rules", "set_rebalance_rules", wc, allTenants, write, 200, false, true, nil, setRebalanceRules},
		{"GET", "/v1/capacity", "capacity", rc, allTenants, search, 200, false, false, []string{"tenants", "vectors"}, capacity},
		{"GET", "/v1/placement", "placement", rc, allTenants, light, 200, false, false, nil, getPlacement},
		{"PUT", "/v1/placement", "set_placement", wc, allTenants, write, 200, false, true, nil, setPlacement},
		{"GET", "/v1/migrations", "list_migrations", rc, allTenants, light, 200, false, false, migrationParams, listMigrations},
		{"POST", "/v1/migrations", "create_migration", wc, allTenants, write, 202, false, true, nil, createMigration},
		{"GET", "/v1/migrations/{migration}", "describe_migration", rc, allTenants, light, 200, false, false, nil, describeMigration},
		{"POST", "/v1/migrations/{migration}/cancel", "cancel_migration", wc, allTenants, write, 202, false, false, nil, cancelMigration},
		{"POST", "/v1/migrations/{migration}/rollback", "rollback_migration", wc, allTenants, write, 202, false, false, nil, rollbackMigration},
		{"GET", "/v1/tenants", "list_tenants", rt, inSight, light, 200, false, false, []string{"prefix", "limit", "paginationToken", "deleted", "sort"}, listTenants},
		{"POST", "/v1/tenants", "create_tenant", wt, allTenants, write, 201, false, true, nil, createTenant},
		{"POST", "/v1/tenants/{tenant}", "create_tenant", wt, oneTenant, write, 201, false, true, nil, createTenant},
		{"GET", "/v1/audit", "list_audit", ra, inSight, search, 200, false, false, auditParams, listAudit},
		{"GET", "/v1/audit/verify", "verify_audit", ra, allTenants, search, 200, false, false, nil, verifyAudit},
		{"GET", "/v1/keys", "list_keys", mk, inSight, light, 200, false, false, []string{"tenant", "limit", "paginationToken"}, listKeys},
		{"POST", "/v1/keys", "create_key", mk, inSight, write, 201, false, true, nil, createKey},
		{"DELETE", "/v1/keys/{key}", "revoke_key", mk, inSight, write, 200, false, false, nil, revokeKey},
		{"GET", "/v1/tenants/{tenant}", "describe_tenant", rt, oneTenant, light, 200, false, false, nil, describeTenant},
		{"PATCH", "/v1/tenants/{tenant}", "set_tenant", wt, oneTenant, write, 200, false, true, nil, setTenant},
		{"DELETE", "/v1/tenants/{tenant}", "delete_tenant", wt, oneTenant, write, 200, false, false, nil, deleteTenant},
		{"POST", "/v1/tenants/{tenant}/undelete", "undelete_tenant", wt, oneTenant, write, 200, false, true, nil, undeleteTenant},
		{"GET", "/v1/tenants/{tenant}/settings", "tenant_settings", rt, oneTenant, light, 200, false, false, nil, tenantSettings},
		{"POST", "/v1/tenants/{tenant}/override", "set_override", wt, oneTenant, write, 200, false, true, nil, setOverride},
		{"DELETE", "/v1/tenants/{tenant}/override", "delete_override", wt, oneTenant, write, 200, false, false, nil, deleteOverride},
		{"GET", "/v1/tenants/{tenant}/cache", "tenant_cache", rt, oneTenant, light, 200, false, false, nil, tenantCache},
		{"POST", "/v1/tenants/{tenant}/cache/invalidate", "invalidate_cache", tenancy.RunTenants, oneTenant, write, 200, false, false, nil, invalidateCache},
		{"POST", "/v1/search", "search", tenancy.SearchTenants, allTenants, search, 200, false, true, nil, searchTenants},
		{"GET", "/v1/usage", "usage", rt, inSight, search, 200, false, false, []string{"report", "tenant", "from", "to", "by", "format", "prefix", "limit", "paginationToken"}, usage},
		{"GET", "/v1/usage/prices", "prices", rt, allTenants, light, 200, false, false, nil, getPrices},
		{"PUT", "/v1/usage/prices", "set_prices", wt, allTenants, write, 200, false, true, nil, setPrices},
		{"GET", "/v1/tiers", "list_tiers", rt, allTenants, light, 200, false, false, nil, listTiers},
		{"POST", "/v1/tiers", "create_tier", wt, allTenants, write, 201, false, true, nil, createTier},
		{"GET", "/v1/tiers/{tier}", "describe_tier", rt, allTenants, light, 200, false, false, nil, describeTier},
		{"PATCH", "/v1/tiers/{tier}", "set_tier", wt, allTenants, write, 200, false, true, nil, setTier},
		{"DELETE", "/v1/tiers/{tier}", "delete_tier", wt, allTenants, write, 200, false, false, nil, deleteTier},
		{"GET", "/v1/settings", "settings", rt, allTenants, light, 200, false, false, nil, getSettings},
		{"PATCH", "/v1/settings", "set_settings", wt, allTenants, write, 200, false, true, nil, setSettings},
	}
}

// router finds the route of a request. Patterns are few, so a list per number of segments is searched in order; those without
// wildcards that nothing before them takes are found at once.
type router struct {
	paths map[int][]*pathEntry // by number of segments
	exact map[string]*pathEntry
}

type pathEntry struct {
	segments []string // "" matches any
	methods  map[string]*route
}

func newRouter(rs []route) *router {
	rt := &router{paths: map[int][]*pathEntry{}}
	for i := range rs {
		r := &rs[i]
		segs := strings.Split(r.pattern[1:], "/")
		for j, s := range segs {
			if strings.HasPrefix(s, "{") {
				segs[j] = ""
			}
		}
		rt.entry(segs).methods[r.method] = r
	}
	rt.exact = map[string]*pathEntry{}
	for i := range rs {
		pattern := rs[i].pattern
		if e, _ := rt.find(pattern); !slices.Contains(e.segments, "") {
			rt.exact[pattern] = e
		}
	}
	return rt
}

// find returns the entry of an escaped path, nil if there is none, and its wildcards decoded.
func (rt *router) find(escaped string) (e *pathEntry, args []string) {
	segs := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for _, e := range rt.paths[len(segs)] {
		if args, ok := e.match(segs); ok {
			return e, args
		}
	}
	return nil, nil
}

func (rt *router) entry(segs []string) *pathEntry {
	for _, e := range rt.paths[len(segs)] {
		if slices.Equal(e.segments, segs) {
			return e
		}
	}
	e := &pathEntry{segments: segs, methods: map[string]*route{}}
	rt.paths[len(segs)] = append(rt.paths[len(segs)], e)
	return e
}

// match returns the route of a method and an escaped path, and its wildcards decoded. HEAD is answered as GET. A
// known path with another method is MethodNotAllowed, with the methods that it has in allow.
func (rt *router) match(method, escaped string) (r *route, args []string, allow string, err error) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	e := rt.exact[escaped]
	if e == nil {
		e, args = rt.find(escaped)
	}
	if e == nil {
		return nil, nil, "", errNoSuchPath(method, escaped)
	}
	if r := e.methods[method]; r != nil {
		return r, args, "", nil
	}
	allow = strings.Join(slices.Sorted(maps.Keys(e.methods)), ", ")
	return nil, nil, allow, errs.New(errs.MethodNotAllowed, "%s has no method %s, it has %s", clip(escaped), clip(method), allow)
}

func errNoSuchPath(method, escaped string) error {
	return errs.New(errs.NotFound, "no such path: %s %s", clip(method), clip(escaped)).
		WithHint("see docs/pinecone.md for what is served; paths have no trailing slash")
}

func (e *pathEntry) match(segs []string) (args []string, ok bool) {
	for i, want := range e.segments {
		if want != "" {
			if segs[i] != want {
				return nil, false
			}
			continue
		}
		arg, err := url.PathUnescape(segs[i])
		if err != nil || arg == "" {
			return nil, false
		}
		args = append(args, arg)
	}
	return args, true
}
