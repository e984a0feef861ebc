package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// UsageQuery says what is asked of usage; its zero fields are the server's choice.
type UsageQuery struct {
	Page
	Tenant   string
	From, To string // RFC 3339, or dates of UTC
	By       string // hour or day; of SLA tenant or tier; of Isolation tenant, hour, day or all
}

// UsageReport is what tenants have used, a page of tenants at a time.
type UsageReport struct {
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	By         string      `json:"by"`
	Currency   string      `json:"currency,omitempty"`
	Usage      []Used      `json:"usage"`
	Pagination *Pagination `json:"pagination,omitempty"`
}

// Used is what a tenant has used in an hour or a day.
type Used struct {
	UsageOwner
	Time         time.Time `json:"time"`
	Queries      uint64    `json:"queries"`
	Reads        uint64    `json:"reads"`
	Writes       uint64    `json:"writes"`
	Upserted     uint64    `json:"upserted"`
	Deleted      uint64    `json:"deleted"`
	ReadUnits    uint64    `json:"read_units"`
	WrittenBytes uint64    `json:"written_bytes"`
	ScannedBytes uint64    `json:"scanned_bytes"`
	Distances    uint64    `json:"distances"`
	Compute      float64   `json:"compute_seconds"`
	CacheHits    uint64    `json:"cache_hits"`
	Refused      uint64    `json:"refused"`
	Violations   uint64    `json:"violations"`
	Errors       uint64    `json:"errors"`
	Vectors      uint64    `json:"vectors"`
	VectorsPeak  uint64    `json:"vectors_peak"`
	Bytes        uint64    `json:"stored_bytes"`
	BytesPeak    uint64    `json:"stored_bytes_peak"`
	GiBHours     float64   `json:"gib_hours"`
	Latency      Latency   `json:"latency_ms"`
	Cost         float64   `json:"cost"`
}

// UsageOwner is whose figures a line of a report has. Several tenants may have had a name, one after the other.
type UsageOwner struct {
	Tenant  string     `json:"tenant"` // empty: no tenant's, or that of all
	ID      string     `json:"tenant_id,omitzero"`
	Tier    string     `json:"tier,omitzero"`
	Deleted *time.Time `json:"deleted_at,omitzero"`
}

// Usage returns a page of a report.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (out UsageReport, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/usage", query: q.usageValues()}, &out)
	return out, err
}

func (q *UsageQuery) usageValues() url.Values {
	values := q.values()
	setNonEmpty(values, "tenant", q.Tenant)
	setNonEmpty(values, "from", q.From)
	setNonEmpty(values, "to", q.To)
	setNonEmpty(values, "by", q.By)
	return values
}

// SLAReport tells which share of requests was answered within the deadline, by tenant or by tier.
type SLAReport struct {
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	By         string      `json:"by"`
	SLA        []SLA       `json:"sla"`
	Pagination *Pagination `json:"pagination,omitempty"`
}

// SLA is a tenant's figures, or a tier's.
type SLA struct {
	UsageOwner
	Tenants  int      `json:"tenants"`
	Requests uint64   `json:"requests"` // those that were let in, or whose deadline passed before
	InTime   uint64   `json:"in_time"`
	Late     uint64   `json:"late"`
	Errors   uint64   `json:"errors"`
	Refused  uint64   `json:"refused"` // no part of the share
	Share    *float64 `json:"share"`   // in time, of all requests; nil if there were none
	Latency  Latency  `json:"latency_ms"`
}

// SLA returns a page of a report, by tenant unless q.By is tier.
func (c *Client) SLA(ctx context.Context, q UsageQuery) (out SLAReport, err error) {
	values := q.usageValues()
	values.Set("report", "sla")
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/usage", query: values}, &out)
	return out, err
}

// IsolationReport tells what was refused of what it asked for, and what was answered.
type IsolationReport struct {
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	By         string      `json:"by"`
	Isolation  []Isolation `json:"isolation"`
	Pagination *Pagination `json:"pagination,omitempty"`
}

// Isolation is a tenant's figures, those of an hour or a day, or the sum of all.
type Isolation struct {
	UsageOwner
	Time       *time.Time `json:"time,omitzero"`
	Refused    uint64     `json:"refused"` // the sum of the next five
	Foreign    uint64     `json:"foreign"` // for what is another tenant's
	System     uint64     `json:"system"`  // for what is the store's, or all tenants'
	Role       uint64     `json:"role"`    // not for this role
	ExpiredKey uint64     `json:"expired_key"`
	UnknownKey uint64     `json:"unknown_key"`
	Targeted   uint64     `json:"targeted"` // refused to others, for what is this tenant's
	Checked    uint64     `json:"answers_checked"`
	Strayed    uint64     `json:"answers_foreign"` // found to be another's, and not sent
}

// Isolation returns a page of a report.
func (c *Client) Isolation(ctx context.Context, q UsageQuery) (out IsolationReport, err error) {
	values := q.usageValues()
	values.Set("report", "isolation")
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/usage", query: values}, &out)
	return out, err
}

// Prices is the cost model: prices by name.
type Prices struct {
	Currency string             `json:"currency,omitempty"`
	Prices   map[string]float64 `json:"prices,omitempty"`
}

// Prices returns what use costs.
func (c *Client) Prices(ctx context.Context) (out Prices, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/usage/prices"}, &out)
	return out, err
}

// SetPrices changes the prices that are given.
func (c *Client) SetPrices(ctx context.Context, change Prices) (out Prices, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPut, path: "/v1/usage/prices", in: change}, &out)
	return out, err
}

// TenantLoad is a tenant and what it takes of its shard.
type TenantLoad struct {
	Tenant
	Load struct {
		Queries      float64 `json:"queries_per_second"`
		Compute      float64 `json:"compute"`
		P95          float64 `json:"p95_ms"`
		QueryShare   float64 `json:"query_share"`
		ComputeShare float64 `json:"compute_share"`
		CacheShare   float64 `json:"cache_share"`
		Hot          bool    `json:"hot"`
	} `json:"load"`
}

// TenantLoads are the tenants that take most.
type TenantLoads struct {
	Tenants []TenantLoad `json:"tenants"`
}

// TenantLoads returns the tenants that take most of their shards.
func (c *Client) TenantLoads(ctx context.Context, limit int) (out TenantLoads, err error) {
	q := Page{Limit: limit}.values()
	q.Set("sort", "load")
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/tenants", query: q}, &out)
	return out, err
}

// TenantCache is what the nodes keep of a tenant's results.
type TenantCache struct {
	Hits    uint64  `json:"hits"`
	Misses  uint64  `json:"misses"`
	Skipped uint64  `json:"skipped"`
	Evicted uint64  `json:"evicted"`
	Entries int     `json:"entries"`
	Bytes   int64   `json:"bytes"`
	Off     bool    `json:"off"`
	HitRate float64 `json:"hit_rate"`
}

// TenantCache returns the figures of a tenant's result cache; with invalidate it is emptied first.
func (c *Client) TenantCache(ctx context.Context, name string, invalidate bool) (out TenantCache, err error) {
	in := call{method: http.MethodGet, path: tenantPath(name) + "/cache"}
	if invalidate {
		in = call{method: http.MethodPost, path: tenantPath(name) + "/cache/invalidate"}
	}
	err = c.do(ctx, c.root, in, &out)
	return out, err
}
