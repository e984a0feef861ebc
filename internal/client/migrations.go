package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Migration is the way of a tenant from one shard to another.
type Migration struct {
	ID         uint64    `json:"id"` // 0: of a dry run
	Tenant     string    `json:"tenant"`
	TenantID   string    `json:"tenant_id"`
	From       int       `json:"from"`
	To         int       `json:"to"`
	Phase      string    `json:"phase"`
	Running    bool      `json:"running"` // the tenant is still to be brought somewhere
	Attempt    uint64    `json:"attempt"`
	Reason     string    `json:"reason,omitzero"`
	By         string    `json:"by,omitzero"`
	Error      string    `json:"error,omitzero"`
	RollbackOf uint64    `json:"rollback_of,omitzero"`
	Epoch      uint64    `json:"epoch,omitzero"`
	Started    time.Time `json:"started_at,omitzero"`
	Changed    time.Time `json:"changed_at,omitzero"` // when it came to its phase
	Ended      time.Time `json:"ended_at,omitzero"`
	KeptUntil  time.Time `json:"kept_until,omitzero"` // it can be rolled back until then

	Copied uint64  `json:"copied_bytes"`
	Total  uint64  `json:"total_bytes"`
	Rate   float64 `json:"bytes_per_second"`
	ETA    float64 `json:"eta_seconds"` // of the copy
	Lag    uint64  `json:"lag_entries"`
	Failed uint64  `json:"failed_requests"`

	Phases []PhaseTime `json:"phases,omitempty"` // of the present attempt
	Digest string      `json:"digest,omitzero"`  // of the tenant at the fence, at both homes: the home is flipped only if they are equal
}

// PhaseTime is when a phase began.
type PhaseTime struct {
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`
}

// Phases in which a migration has come to something.
const (
	MigrationSettled   = "settled"   // the tenant is served at its new home
	MigrationCollected = "collected" // and the old one has dropped its copy
	MigrationAborted   = "aborted"   // the tenant lives where it did
)

// MigrationList is a page of migrations, the newest first.
type MigrationList struct {
	Migrations []Migration `json:"migrations"`
	Pagination *Pagination `json:"pagination,omitempty"`
}

// MigrationFilter says which migrations to list; its zero fields exclude none.
type MigrationFilter struct {
	Tenant  string
	Phase   string
	Running bool // only those that are on their way
}

// Migrations returns a page of migrations.
func (c *Client) Migrations(ctx context.Context, f MigrationFilter, p Page) (out MigrationList, err error) {
	q := p.values()
	setNonEmpty(q, "tenant", f.Tenant)
	setNonEmpty(q, "phase", f.Phase)
	if f.Running {
		q.Set("running", "true")
	}
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/migrations", query: q}, &out)
	return out, err
}

// Migration returns one migration.
func (c *Client) Migration(ctx context.Context, id uint64) (out Migration, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: migrationPath(id)}, &out)
	return out, err
}

// NewMigration says which tenant is to live where.
type NewMigration struct {
	Tenant string `json:"tenant"`
	To     int    `json:"to"`
	Reason string `json:"reason,omitzero"`
	DryRun bool   `json:"dry_run,omitzero"` // look only whether it could be done, and how much there is to copy
}

// MoveTenant has a tenant moved, and returns at once. It is repeated only when the server has done nothing.
func (c *Client) MoveTenant(ctx context.Context, m NewMigration) (out Migration, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/migrations", in: m, once: !m.DryRun}, &out)
	return out, err
}

// CancelMigration has a migration taken back.
func (c *Client) CancelMigration(ctx context.Context, id uint64) (out Migration, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: migrationPath(id) + "/cancel"}, &out)
	return out, err
}

// RollbackMigration has a tenant moved back to where it came from. It is repeated only when the server has done nothing.
func (c *Client) RollbackMigration(ctx context.Context, id uint64) (out Migration, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: migrationPath(id) + "/rollback", once: true}, &out)
	return out, err
}

func migrationPath(id uint64) string {
	return "/v1/migrations/" + strconv.FormatUint(id, 10)
}
