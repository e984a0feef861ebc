package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// AuditEvent is one act, or refusals of one kind.
type AuditEvent struct {
	At      time.Time `json:"at"`
	Node    string    `json:"node"`
	Seq     uint64    `json:"seq"`
	Actor   string    `json:"actor"`
	Role    string    `json:"role,omitzero"`
	Tenant  string    `json:"tenant,omitzero"`
	Action  string    `json:"action"`
	Target  string    `json:"target,omitzero"`
	From    string    `json:"from,omitzero"`
	Request string    `json:"request_id,omitzero"`
	Result  string    `json:"result"`
	Refused bool      `json:"refused"`
	Detail  string    `json:"detail,omitzero"`
	Count   uint64    `json:"count"`
	Last    time.Time `json:"last,omitzero"`
}

// AuditList is a page of events, the newest first.
type AuditList struct {
	Events     []AuditEvent `json:"events"`
	Pagination *Pagination  `json:"pagination,omitempty"`
	Silent     []string     `json:"silent_nodes"`
}

// AuditReport is what was found of the chain of a node.
type AuditReport struct {
	Node   string    `json:"node"`
	Chain  string    `json:"chain"`
	Events uint64    `json:"events"`
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	Since  time.Time `json:"since,omitzero"`
	Head   string    `json:"head"`
	Mended int       `json:"mended"`
	Breaks []struct {
		File string `json:"file"`
		What string `json:"what"`
	} `json:"breaks"`
}

// AuditCheck is what was found of all chains.
type AuditCheck struct {
	Whole  bool          `json:"whole"`
	Chains []AuditReport `json:"chains"`
	Silent []string      `json:"silent_nodes"`
}

// Audit returns a page of events. query may have tenant, actor, action, result, refused, since, until, limit and paginationToken.
func (c *Client) Audit(ctx context.Context, query url.Values) (out AuditList, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/audit", query: query}, &out)
	return out, err
}

// VerifyAudit has all nodes check their chains.
func (c *Client) VerifyAudit(ctx context.Context) (out AuditCheck, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/audit/verify"}, &out)
	return out, err
}
