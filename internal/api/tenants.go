package api

import (
	"math"
	"strings"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// tenantShown tells where a tenant lives, why, and what it is served under.
type tenantShown struct {
	Tenant    string             `json:"tenant"`
	ID        string             `json:"id"`
	Shard     int                `json:"shard"`
	Placement string             `json:"placement"`  // ring, or pin: it was put there
	RingShard int                `json:"ring_shard"` // where the ring says it should live
	Tier      string             `json:"tier"`
	Limits    limitsShown        `json:"limits"` // of its own
	Override  *overrideShown     `json:"override,omitzero"`
	Residency *cluster.Residency `json:"residency,omitzero"`
	Deleted   *time.Time         `json:"deleted_at,omitzero"`
	KeptUntil *time.Time         `json:"kept_until,omitzero"` // it can be brought back until then
	Load      *loadShown         `json:"load,omitzero"`
}

func (c *call) showTenant(t cluster.Tenant) tenantShown {
	s := tenantShown{
		Tenant: t.Name, ID: t.ID, Shard: t.Shard, Placement: "ring", RingShard: t.RingShard,
		Tier: t.Tier, Limits: showLimits(&t.Limits), Override: c.showOverride(&t.Override),
	}
	if t.Pinned {
		s.Placement = "pin"
	}
	if !t.Residency.IsZero() {
		s.Residency = &t.Residency
	}
	if !t.Deleted.IsZero() {
		s.Deleted = &t.Deleted
		if !t.Purging {
			s.KeptUntil = &t.KeptUntil
		}
	}
	return s
}

// newTenant is the body that asks for a tenant.
type newTenant struct {
	name      string
	shard     int
	tier      string
	limits    tenancy.Change
	residency cluster.ResidencyChange
}

const maxShardID = 1 << 16

var newTenantFields = []field[newTenant]{
	textField("tenant", func(t *newTenant) *string { return &t.name }),
	intField("shard", 0, maxShardID, func(t *newTenant) *int { return &t.shard }),
	textField("tier", func(t *newTenant) *string { return &t.tier }),
	limitsField("limits", func(t *newTenant) *tenancy.Change { return &t.limits }),
	residencyField("residency", func(t *newTenant) *cluster.ResidencyChange { return &t.residency }),
}

// createTenant makes a tenant, on the shard that the body names or where the policy of placement says. The name is in the body,
// or in the path.
func createTenant(c *call) (reply, error) {
	asked := newTenant{shard: cluster.AnyShard}
	if err := c.decodeOptional(func() error { return decodeObject(c.body, &asked, newTenantFields) }); err != nil {
		return nil, err
	}
	switch {
	case len(c.args) > 0 && asked.name != "" && asked.name != c.args[0]:
		return nil, invalid("tenant", "%q is not the one of the path", clip(asked.name))
	case len(c.args) > 0:
		asked.name = c.args[0]
	case asked.name == "":
		return nil, invalid("tenant", "is missing")
	}
	c.namespace = asked.name
	t, err := c.h.node.CreateTenant(c.ctx, asked.name, asked.shard, cluster.Plan{
		Tier: asked.tier, Limits: asked.limits.Set, Residency: asked.residency.Of(cluster.Residency{}),
	})
	if err != nil {
		return nil, err
	}
	return document{c.showTenant(t)}, nil
}

// decodeOptional decodes a body that may be left out.
func (c *call) decodeOptional(decode func() error) error {
	if len(c.body) == 0 {
		return nil
	}
	return decode()
}

// tenantPatchFields are those of the body that changes a tenant.
var tenantPatchFields = []field[cluster.TenantChange]{
	textField("tier", func(p *cluster.TenantChange) *string { return &p.Tier }),
	limitsField("limits", func(p *cluster.TenantChange) *tenancy.Change { return &p.Limits }),
	residencyField("residency", func(p *cluster.TenantChange) *cluster.ResidencyChange { return &p.Residency }),
}

func setTenant(c *call) (reply, error) {
	var p cluster.TenantChange
	if err := decodeObject(c.body, &p, tenantPatchFields); err != nil {
		return nil, err
	}
	if p.IsEmpty() {
		return nil, errs.New(errs.Invalid, "there is nothing to change: give a tier, limits or a residency")
	}
	return c.tenantReply(c.h.node.SetTenant(c.ctx, c.args[0], p))
}

func deleteTenant(c *call) (reply, error) {
	return c.tenantReply(c.h.node.DeleteTenant(c.ctx, c.args[0]))
}

// undeletion is the body that brings a tenant back.
type undeletion struct{ id, as string }

var undeletionFields = []field[undeletion]{
	textField("id", func(u *undeletion) *string { return &u.id }),
	textField("as", func(u *undeletion) *string { return &u.as }),
}

func undeleteTenant(c *call) (reply, error) {
	var u undeletion
	if err := c.decodeOptional(func() error { return decodeObject(c.body, &u, undeletionFields) }); err != nil {
		return nil, err
	}
	return c.tenantReply(c.h.node.UndeleteTenant(c.ctx, c.args[0], u.id, u.as))
}

func (c *call) tenantReply(t cluster.Tenant, err error) (reply, error) {
	if err != nil {
		return nil, err
	}
	return document{c.showTenant(t)}, nil
}

func describeTenant(c *call) (reply, error) {
	return c.tenantReply(c.h.node.DescribeTenant(c.ctx, c.args[0]))
}

type tenantPage struct {
	Tenants    []tenantShown `json:"tenants"`
	Pagination *nextPage     `json:"pagination,omitzero"`
	Total      int           `json:"total_count"`
}

func (t tenantShown) owners() []string { return []string{t.Tenant} }
func (p tenantPage) owners() []string {
	return namesOf(p.Tenants, func(t *tenantShown) string { return t.Tenant })
}

func listTenants(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	deleted, err := c.params.boolean("deleted")
	if err != nil {
		return nil, err
	}
	if deleted {
		return c.listDeleted()
	}
	switch by := c.params.text("sort"); by {
	case "load":
		return c.listLoads(limit)
	case "", "name":
	default:
		return nil, invalid("sort", "%q is neither name nor load", clip(by))
	}
	prefix := c.params.text("prefix")
	at := c.listing("", prefix)
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	found, more, total, err := c.tenants(prefix, after, limit)
	if err != nil {
		return nil, err
	}
	page := tenantPage{Tenants: make([]tenantShown, len(found)), Total: total}
	for i, t := range found {
		page.Tenants[i] = c.showTenant(t)
	}
	if more {
		page.Pagination = &nextPage{c.h.tokens.seal(at, found[len(found)-1].Name)}
	}
	return document{page}, nil
}

// loadShown is what a tenant takes of its shard, about of the last minute.
type loadShown struct {
	Queries      float64 `json:"queries_per_second"`
	Compute      float64 `json:"compute"` // processors
	P95          float64 `json:"p95_ms"`
	CacheBytes   int64   `json:"cache_bytes"`
	QueryShare   float64 `json:"query_share"`
	ComputeShare float64 `json:"compute_share"`
	CacheShare   float64 `json:"cache_share"`
	Hot          bool    `json:"hot"`
}

// listLoads lists the tenants that take most of their shards.
func (c *call) listLoads(limit int) (reply, error) {
	own, all := c.sight()
	found, silent, err := c.h.node.TenantLoads(c.ctx, maxListed)
	if err != nil {
		return nil, err
	}
	if len(silent) > 0 {
		c.warn("these nodes did not tell of their tenants: " + strings.Join(silent, " "))
	}
	page := tenantPage{Tenants: []tenantShown{}}
	for i := range found {
		l := &found[i]
		if !all && l.Tenant.Name != own || len(page.Tenants) == limit {
			continue
		}
		shown := c.showTenant(l.Tenant)
		round := func(f float64) float64 { return math.Round(f*1000) / 1000 }
		shown.Load = &loadShown{
			round(l.Queries), round(l.Compute), float64(l.P95.Microseconds()) / 1000, l.Cache, l.QueryShare, l.ComputeShare, l.CacheShare, l.Hot,
		}
		page.Tenants = append(page.Tenants, shown)
	}
	page.Total = len(page.Tenants)
	return document{page}, nil
}

// listDeleted lists the tenants that can be brought back, and those that are just being dropped.
func (c *call) listDeleted() (reply, error) {
	if _, all := c.sight(); !all {
		return nil, c.deny(tenancy.System, "", errForOneTenant())
	}
	found := c.h.node.DeletedTenants()
	page := tenantPage{Tenants: make([]tenantShown, len(found)), Total: len(found)}
	for i, t := range found {
		page.Tenants[i] = c.showTenant(t)
	}
	return document{page}, nil
}

// tenants lists those that the principal reaches: all, or its own.
func (c *call) tenants(prefix, after string, limit int) (page []cluster.Tenant, more bool, total int, err error) {
	own, all := c.sight()
	if all {
		page, more, total = c.h.node.Tenants(prefix, after, limit)
		return page, more, total, nil
	}
	t, err := c.h.node.DescribeTenant(c.ctx, own)
	if errs.Is(err, errs.NotFound) || err == nil && !strings.HasPrefix(own, prefix) {
		return nil, false, 0, nil
	}
	if err == nil && after < own {
		page = []cluster.Tenant{t}
	}
	return page, false, 1, err
}
