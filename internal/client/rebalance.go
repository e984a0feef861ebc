package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// RebalancePlan is what a run would do now.
type RebalancePlan struct {
	Moves    []RebalanceMove `json:"moves"`
	Homeward int             `json:"homeward"` // tenants that are to follow the ring, beside the moves
	Bytes    uint64          `json:"bytes"`
	Seconds  float64         `json:"estimated_seconds"`
	Before   []Spread        `json:"before"`
	After    []Spread        `json:"after"`
	Notes    []string        `json:"notes"`
}

// RebalanceMove takes a tenant to another shard.
type RebalanceMove struct {
	Tenant  string `json:"tenant"`
	ID      string `json:"id"`
	From    int    `json:"from"`
	To      int    `json:"to"`
	Vectors uint64 `json:"vectors"`
	Bytes   uint64 `json:"bytes"`
	Why     string `json:"why"`
}

// Spread is what a shard carries beside the mean of all on the ring.
type Spread struct {
	Shard   int                `json:"shard"`
	Load    map[string]float64 `json:"load"`
	Ratios  map[string]float64 `json:"ratios"`
	Hottest float64            `json:"hottest"`
}

// Run is one time that tenants are moved to spread the load, or to follow the ring.
type Run struct {
	ID       uint64     `json:"id"`
	State    string     `json:"state"` // running, done or aborted
	By       string     `json:"by"`
	InWindow bool       `json:"in_window"`
	Waiting  bool       `json:"waiting"` // for a window of the rules
	Began    time.Time  `json:"started_at"`
	Ended    *time.Time `json:"ended_at,omitzero"`
	Planned  int        `json:"moves"`
	Moved    int        `json:"moved"`
	Failed   int        `json:"failed"`
	Under    int        `json:"under_way"`
	Homeward int        `json:"homeward"`
	Bytes    uint64     `json:"bytes"`
	Seconds  float64    `json:"estimated_seconds"`
	Before   float64    `json:"hottest_before"`
	After    float64    `json:"hottest_after,omitzero"`
	Error    string     `json:"error,omitempty"`
}

// Running reports whether the run goes on.
func (r *Run) Running() bool { return r.State == "running" }

// Runs are the runs that are remembered, the newest first, and the rules in force.
type Runs struct {
	Runs  []Run          `json:"runs"`
	Rules RebalanceRules `json:"rules"`
}

// RebalanceRules say when and how tenants are moved to spread the load. In a change, what is nil or zero stays.
type RebalanceRules struct {
	Automatic *bool     `json:"automatic,omitzero"`
	Parallel  int       `json:"parallel,omitzero"`
	Cooldown  string    `json:"cooldown,omitzero"`
	Windows   *[]Window `json:"windows,omitzero"`
}

// Window is a part of some days, of all if none is named, in UTC.
type Window struct {
	Days []string `json:"days,omitempty"`
	From string   `json:"from"`
	To   string   `json:"to"`
}

// RebalancePlan returns what a run would do now.
func (c *Client) RebalancePlan(ctx context.Context) (out RebalancePlan, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/rebalance/plan"}, &out)
	return out, err
}

// Rebalance begins a run; with inWindow, moves begin within the windows of the rules only. It is repeated only when the server has
// done nothing.
func (c *Client) Rebalance(ctx context.Context, inWindow bool) (out Run, err error) {
	in := struct {
		InWindow bool `json:"in_window"`
	}{inWindow}
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/rebalance", in: in, once: true}, &out)
	return out, err
}

// AbortRebalance ends the run that is under way.
func (c *Client) AbortRebalance(ctx context.Context) (out Run, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodDelete, path: "/v1/rebalance", once: true}, &out)
	return out, err
}

// Rebalancing returns the runs that are remembered.
func (c *Client) Rebalancing(ctx context.Context) (out Runs, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/rebalance"}, &out)
	return out, err
}

// SetRebalanceRules changes the rules.
func (c *Client) SetRebalanceRules(ctx context.Context, change RebalanceRules) (out RebalanceRules, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPut, path: "/v1/rebalance/rules", in: change}, &out)
	return out, err
}

// DrainShard has all tenants of a shard moved to others.
func (c *Client) DrainShard(ctx context.Context, id string) (out Shard, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: shardPath(id) + "/drain", once: true}, &out)
	return out, err
}

// KeepShard takes back that a shard is drained.
func (c *Client) KeepShard(ctx context.Context, id string) (out Shard, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodDelete, path: shardPath(id) + "/drain", once: true}, &out)
	return out, err
}

// Capacity is how many shards are needed, what they cost and what to do.
type Capacity struct {
	Tenants     int     `json:"tenants"`
	Vectors     uint64  `json:"vectors"`
	Shared      int     `json:"shared_shards"`
	Dedicated   int     `json:"dedicated_shards"`
	Utilisation float64 `json:"utilisation"`
	Needed      struct {
		Shards  int    `json:"shards"`   // at 70 %
		AtLeast int    `json:"at_least"` // at 80 %
		Scarce  string `json:"scarce"`   // tenants or vectors
		Tenants int    `json:"shard_tenants"`
		Vectors int    `json:"shard_vectors"`
	} `json:"needed"`
	Cost struct {
		Currency string  `json:"currency,omitempty"`
		Month    float64 `json:"month"`
		Shard    float64 `json:"shard_month"`
		Tenant   float64 `json:"tenant_month"`
		Million  float64 `json:"million_vectors_month"`
		Wasted   float64 `json:"wasted_month"`
		Shards   int     `json:"wasted_shards"`
	} `json:"cost"`
	Merges []struct {
		Shard   int    `json:"shard"`
		Tenants int    `json:"tenants"`
		Vectors uint64 `json:"vectors"`
		Bytes   uint64 `json:"bytes"`
	} `json:"merges"`
	Top []struct {
		Tenant  string  `json:"tenant"`
		Shard   int     `json:"shard"`
		Vectors uint64  `json:"vectors"`
		Share   float64 `json:"share"`
		Month   float64 `json:"month"`
	} `json:"top_tenants"`
	TopShare   float64  `json:"top_share"`
	CrossShare float64  `json:"cross_share"`
	Advice     []Advice `json:"advice"`
}

// Advice is one thing to do.
type Advice struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Command string `json:"command,omitempty"`
}

// Capacity advises on shards, for so many tenants and vectors where they are not 0.
func (c *Client) Capacity(ctx context.Context, tenants, vectors int) (out Capacity, err error) {
	q := url.Values{}
	if tenants > 0 {
		q.Set("tenants", strconv.Itoa(tenants))
	}
	if vectors > 0 {
		q.Set("vectors", strconv.Itoa(vectors))
	}
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/capacity", query: q}, &out)
	return out, err
}
