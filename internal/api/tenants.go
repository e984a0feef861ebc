package api

import (
	"strings"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// tenantShown tells where a tenant lives, and why.
type tenantShown struct {
	Tenant    string `json:"tenant"`
	ID        string `json:"id"`
	Shard     int    `json:"shard"`
	Placement string `json:"placement"`  // ring, or pin: it was put there
	RingShard int    `json:"ring_shard"` // where the ring says it should live
}

func showTenant(t cluster.Tenant) tenantShown {
	s := tenantShown{t.Name, t.ID, t.Shard, "ring", t.RingShard}
	if t.Pinned {
		s.Placement = "pin"
	}
	return s
}

// newTenant is the body that asks for a tenant.
type newTenant struct {
	name  string
	shard int
}

const maxShardID = 1 << 16

var newTenantFields = []field[newTenant]{
	textField("tenant", func(t *newTenant) *string { return &t.name }),
	intField("shard", 0, maxShardID, func(t *newTenant) *int { return &t.shard }),
}

// createTenant makes a tenant, on the shard that the body names or where the policy of placement says.
func createTenant(c *call) (reply, error) {
	asked := newTenant{shard: cluster.AnyShard}
	if err := decodeObject(c.body, &asked, newTenantFields); err != nil {
		return nil, err
	}
	if asked.name == "" {
		return nil, invalid("tenant", "is missing")
	}
	t, err := c.h.node.CreateTenant(c.ctx, asked.name, asked.shard, cluster.Plan{})
	if err != nil {
		return nil, err
	}
	return document{showTenant(t)}, nil
}

func describeTenant(c *call) (reply, error) {
	t, err := c.h.node.DescribeTenant(c.ctx, c.args[0])
	if err != nil {
		return nil, err
	}
	return document{showTenant(t)}, nil
}

type tenantPage struct {
	Tenants    []tenantShown `json:"tenants"`
	Pagination *nextPage     `json:"pagination,omitzero"`
	Total      int           `json:"total_count"`
}

func listTenants(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
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
		page.Tenants[i] = showTenant(t)
	}
	if more {
		page.Pagination = &nextPage{c.h.tokens.seal(at, found[len(found)-1].Name)}
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
