package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Key is an API key. Its text is known once, when it is made.
type Key struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	Tenant    string    `json:"tenant,omitzero"` // empty: it is over all
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	LastUsed  time.Time `json:"last_used_at,omitzero"` // of a list, to a minute; zero: no use is known
	Key       string    `json:"key,omitzero"`          // of CreateKey alone
}

// NewKey asks for a key.
type NewKey struct {
	Tenant  string `json:"tenant,omitzero"` // empty: over all, or the tenant of who asks
	Role    string `json:"role"`
	Name    string `json:"name,omitzero"`
	Expires string `json:"expires,omitzero"` // a duration such as 720h or a time; empty: never
}

// KeyList is a page of keys, in order of id; TotalCount counts all pages.
type KeyList struct {
	Keys       []Key       `json:"keys"`
	Pagination *Pagination `json:"pagination,omitempty"`
	TotalCount int         `json:"total_count"`
}

// CreateKey makes a key. It is repeated only when the server has done nothing.
func (c *Client) CreateKey(ctx context.Context, k NewKey) (out Key, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/keys", in: k, once: true}, &out)
	return out, err
}

// Keys returns a page of keys: of a tenant, or with "" of all that the caller reaches.
func (c *Client) Keys(ctx context.Context, tenant string, p Page) (out KeyList, err error) {
	query := p.values()
	if tenant != "" {
		query.Set("tenant", tenant)
	}
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/keys", query: query}, &out)
	return out, err
}

// RevokeKey revokes a key by its id.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.do(ctx, c.root, call{method: http.MethodDelete, path: "/v1/keys/" + url.PathEscape(id), once: true}, nil)
}
