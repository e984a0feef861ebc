package client

import (
	"context"
	"net/http"
	"net/url"
)

// Placement is how new tenants are placed, and what a shard is meant to hold.
type Placement struct {
	Policy       string `json:"policy"` // ring or least-loaded
	ShardTenants int    `json:"shard_tenants"`
	ShardVectors int    `json:"shard_vectors"`
	Growth       int    `json:"tenant_growth"` // vectors that a tenant is expected to add
}

// PlacementChange is a Placement of which zero fields stay as they are.
type PlacementChange struct {
	Policy       string `json:"policy,omitzero"`
	ShardTenants int    `json:"shard_tenants,omitzero"`
	ShardVectors int    `json:"shard_vectors,omitzero"`
	Growth       int    `json:"tenant_growth,omitzero"`
}

// Placement returns the rules in force.
func (c *Client) Placement(ctx context.Context) (out Placement, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/placement"}, &out)
	return out, err
}

// SetPlacement changes the rules, for tenants made from then on.
func (c *Client) SetPlacement(ctx context.Context, change PlacementChange) (out Placement, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPut, path: "/v1/placement", in: change}, &out)
	return out, err
}

// AddShard makes a shard with part of the ring, or a dedicated one, which may have a name and be bound to zones. It is repeated only when
// the server has done nothing.
func (c *Client) AddShard(ctx context.Context, dedicated bool, name string, zones ...string) (out Shard, err error) {
	in := struct {
		Kind  string   `json:"kind"`
		Name  string   `json:"name,omitzero"`
		Zones []string `json:"zones,omitempty"`
	}{"shared", name, zones}
	if dedicated {
		in.Kind = "dedicated"
	}
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/shards", in: in, once: true}, &out)
	return out, err
}

// BindShard has a shard's replicas on nodes of some zones, of any if there are none.
func (c *Client) BindShard(ctx context.Context, id string, zones []string) (out Shard, err error) {
	in := struct {
		Zones []string `json:"zones"`
	}{append([]string{}, zones...)}
	err = c.do(ctx, c.root, call{method: http.MethodPatch, path: shardPath(id), in: in}, &out)
	return out, err
}

// RemoveShard takes out a shard off the ring that holds no tenant. It is repeated only when the server has done nothing.
func (c *Client) RemoveShard(ctx context.Context, id string) error {
	return c.do(ctx, c.root, call{method: http.MethodDelete, path: shardPath(id), once: true}, nil)
}

func shardPath(id string) string { return "/v1/shards/" + url.PathEscape(id) }
