package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Limits are limits by name: numbers, or words such as unlimited. In a change, nil has one inherited.
type Limits map[string]any

// Tenant tells where a tenant lives, why, and what it is served under.
type Tenant struct {
	Tenant    string     `json:"tenant"`
	ID        string     `json:"id"`
	Shard     int        `json:"shard"`
	Placement string     `json:"placement"`  // ring, or pin: it was put there
	RingShard int        `json:"ring_shard"` // where the ring says it should live
	Tier      string     `json:"tier"`
	Limits    Limits     `json:"limits"` // of its own
	Override  *Override  `json:"override,omitempty"`
	Residency *Residency `json:"residency,omitempty"`
	Deleted   time.Time  `json:"deleted_at,omitzero"`
	KeptUntil time.Time  `json:"kept_until,omitzero"` // it can be brought back until then
}

// Residency says where a tenant's data may be. In a change, a list that is nil stays, and an empty one takes back what there was.
type Residency struct {
	Zones     []string `json:"zones,omitzero"`      // one that ends in * stands for all whose names begin so
	ApartFrom []string `json:"apart_from,omitzero"` // groups: two tenants of the same one are never on one shard
}

// Override multiplies a tenant's limits until it ends.
type Override struct {
	Factor float64   `json:"factor"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
}

// TenantList is a page of tenants, in order of name; TotalCount counts all pages.
type TenantList struct {
	Tenants    []Tenant    `json:"tenants"`
	Pagination *Pagination `json:"pagination,omitempty"`
	TotalCount int         `json:"total_count"`
}

// Tenants returns a page of tenants.
func (c *Client) Tenants(ctx context.Context, p Page) (out TenantList, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/tenants", query: p.values()}, &out)
	return out, err
}

// DeletedTenants returns the tenants that were deleted and are still kept, the last one first.
func (c *Client) DeletedTenants(ctx context.Context) (out TenantList, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/tenants", query: url.Values{"deleted": {"true"}}}, &out)
	return out, err
}

// DescribeTenant returns one tenant.
func (c *Client) DescribeTenant(ctx context.Context, name string) (out Tenant, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: tenantPath(name)}, &out)
	return out, err
}

// NewTenant says where a new tenant is to live, and under what. Its zero fields are the server's choice.
type NewTenant struct {
	Tenant    string     `json:"tenant"`
	Shard     *int       `json:"shard,omitempty"`
	Tier      string     `json:"tier,omitzero"`
	Limits    Limits     `json:"limits,omitempty"`
	Residency *Residency `json:"residency,omitempty"`
}

// CreateTenant makes a tenant. It is repeated only when the server has done nothing.
func (c *Client) CreateTenant(ctx context.Context, t NewTenant) (out Tenant, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/tenants", in: t, once: true}, &out)
	return out, err
}

// TenantChange says what is to change of a tenant; an empty tier stays as it is.
type TenantChange struct {
	Tier      string     `json:"tier,omitzero"`
	Limits    Limits     `json:"limits,omitempty"`
	Residency *Residency `json:"residency,omitempty"`
}

// SetTenant changes a tenant's tier, limits and residency.
func (c *Client) SetTenant(ctx context.Context, name string, change TenantChange) (out Tenant, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPatch, path: tenantPath(name), in: change}, &out)
	return out, err
}

// OverrideTenant multiplies a tenant's limits by factor for a time such as 30m.
func (c *Client) OverrideTenant(ctx context.Context, name string, factor float64, duration, reason string) (out Tenant, err error) {
	in := struct {
		Factor float64 `json:"factor"`
		For    string  `json:"for"`
		Reason string  `json:"reason,omitzero"`
	}{factor, duration, reason}
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: tenantPath(name) + "/override", in: in}, &out)
	return out, err
}

// EndOverride takes an override back.
func (c *Client) EndOverride(ctx context.Context, name string) (out Tenant, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodDelete, path: tenantPath(name) + "/override"}, &out)
	return out, err
}

// DeleteTenant deletes a tenant, which can be brought back for a while. It is repeated only when the server has done nothing.
func (c *Client) DeleteTenant(ctx context.Context, name string) (out Tenant, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodDelete, path: tenantPath(name), once: true}, &out)
	return out, err
}

// UndeleteTenant brings a deleted tenant back: the one with an id, if that is not empty, and under another name, if as is not.
func (c *Client) UndeleteTenant(ctx context.Context, name, id, as string) (out Tenant, err error) {
	in := struct {
		ID string `json:"id,omitzero"`
		As string `json:"as,omitzero"`
	}{id, as}
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: tenantPath(name) + "/undelete", in: in, once: true}, &out)
	return out, err
}

func tenantPath(name string) string { return "/v1/tenants/" + url.PathEscape(name) }

// Setting is a limit in force, and where it came from: system, tier, tenant or override.
type Setting struct {
	Value any    `json:"value"`
	From  string `json:"from"`
	Unit  string `json:"unit,omitempty"`
}

// Settings are all limits of a tenant as they are in force.
type Settings struct {
	Tenant   string             `json:"tenant"`
	Tier     string             `json:"tier"`
	Version  uint64             `json:"version"`
	Override *Override          `json:"override,omitempty"`
	Settings map[string]Setting `json:"settings"`
}

// TenantSettings returns what a tenant is served under.
func (c *Client) TenantSettings(ctx context.Context, name string) (out Settings, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: tenantPath(name) + "/settings"}, &out)
	return out, err
}

// Tier is a named set of limits.
type Tier struct {
	Tier     string             `json:"tier"`
	Limits   Limits             `json:"limits"`
	Changed  bool               `json:"changed"` // it is not as it was shipped
	Tenants  int                `json:"tenants"`
	Settings map[string]Setting `json:"settings,omitempty"` // of a tenant with nothing of its own; not in lists
}

// TierList are all tiers.
type TierList struct {
	Tiers []Tier `json:"tiers"`
}

// Tiers returns all tiers, by name.
func (c *Client) Tiers(ctx context.Context) (out TierList, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/tiers"}, &out)
	return out, err
}

// DescribeTier returns one tier.
func (c *Client) DescribeTier(ctx context.Context, name string) (out Tier, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: tierPath(name)}, &out)
	return out, err
}

// CreateTier makes a tier. It is repeated only when the server has done nothing.
func (c *Client) CreateTier(ctx context.Context, name string, limits Limits) (out Tier, err error) {
	in := struct {
		Tier   string `json:"tier"`
		Limits Limits `json:"limits,omitempty"`
	}{name, limits}
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/tiers", in: in, once: true}, &out)
	return out, err
}

// SetTier changes a tier's limits, for its tenants at once.
func (c *Client) SetTier(ctx context.Context, name string, limits Limits) (out Tier, err error) {
	in := struct {
		Limits Limits `json:"limits"`
	}{limits}
	err = c.do(ctx, c.root, call{method: http.MethodPatch, path: tierPath(name), in: in}, &out)
	return out, err
}

// DeleteTier deletes a tier that no tenant has. It is repeated only when the server has done nothing.
func (c *Client) DeleteTier(ctx context.Context, name string) error {
	return c.do(ctx, c.root, call{method: http.MethodDelete, path: tierPath(name), once: true}, nil)
}

func tierPath(name string) string { return "/v1/tiers/" + url.PathEscape(name) }
