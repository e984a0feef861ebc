package client

import (
	"context"
	"net/http"
	"time"
)

// Health is what there is to say about a cluster.
type Health struct {
	Status   string    `json:"status"` // healthy, warning or critical
	Checked  time.Time `json:"checked_at"`
	Warnings []Warning `json:"warnings"`
	Routing  *Routing  `json:"routing"` // nil: nobody has looked yet
	Shards   []Shard   `json:"shards"`
	Silent   []string  `json:"silent_nodes"`
}

// Warning is one thing that is not as it should be.
type Warning struct {
	Type           string   `json:"type"`
	Severity       string   `json:"severity"` // advice, warning or critical
	Shards         []int    `json:"shards,omitempty"`
	Nodes          []string `json:"nodes,omitempty"`
	Tenants        []string `json:"tenants,omitempty"`
	Measure        string   `json:"measure"`
	Value          float64  `json:"value"`
	Threshold      float64  `json:"threshold"`
	Message        string   `json:"message"`
	Recommendation string   `json:"recommendation"`
}

// Routing is what a comparison of routing with where tenants' data is has found.
type Routing struct {
	At      time.Time `json:"at"`
	Took    float64   `json:"took_seconds"`
	Node    string    `json:"node"`
	Tenants int       `json:"tenants"`
	Strays  []Stray   `json:"strays"`
	Silent  []int     `json:"silent_shards"`
}

// Stray is a tenant whose data is not where routing leads.
type Stray struct {
	Kind    string `json:"kind"` // misrouted, copy, unknown or lost
	Tenant  string `json:"tenant"`
	ID      string `json:"id"`
	Home    int    `json:"home"`  // where requests go, -1: nowhere
	Shard   int    `json:"shard"` // where the data is
	Vectors uint64 `json:"vectors"`
	Bytes   uint64 `json:"bytes"`
	Healed  string `json:"healed,omitempty"` // what was done about it; empty: nothing
	Error   string `json:"error,omitempty"`  // why not, where that was tried
}

// ClusterHealth judges the cluster.
func (c *Client) ClusterHealth(ctx context.Context) (out Health, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/cluster/health"}, &out)
	return out, err
}

// VerifyRouting compares routing with where tenants' data is, and judges the cluster.
func (c *Client) VerifyRouting(ctx context.Context) (out Health, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/cluster/health/verify"}, &out)
	return out, err
}
