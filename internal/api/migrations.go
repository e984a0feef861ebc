package api

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// migrationShown tells how far a tenant's way to another shard is. A dry run has no id, and a phase of what would be.
type migrationShown struct {
	ID         uint64     `json:"id"`
	Tenant     string     `json:"tenant"`
	TenantID   string     `json:"tenant_id"`
	From       int        `json:"from"`
	To         int        `json:"to"`
	Phase      string     `json:"phase"`
	Running    bool       `json:"running"` // the tenant is still to be brought somewhere
	Attempt    uint64     `json:"attempt"`
	Reason     string     `json:"reason,omitzero"`
	By         string     `json:"by,omitzero"`
	Error      string     `json:"error,omitzero"`
	RollbackOf uint64     `json:"rollback_of,omitzero"`
	Epoch      uint64     `json:"epoch,omitzero"` // of the tenant, since its home was flipped
	Started    *time.Time `json:"started_at,omitzero"`
	Changed    *time.Time `json:"changed_at,omitzero"` // when it came to its phase
	Ended      *time.Time `json:"ended_at,omitzero"`
	KeptUntil  *time.Time `json:"kept_until,omitzero"` // it can be rolled back until then

	Copied uint64  `json:"copied_bytes"`
	Total  uint64  `json:"total_bytes"`
	Rate   float64 `json:"bytes_per_second"`
	ETA    float64 `json:"eta_seconds"` // of the copy
	Lag    uint64  `json:"lag_entries"` // of the source's log, that the target has not seen
	Failed uint64  `json:"failed_requests"`

	Phases []phaseShown `json:"phases,omitempty"` // of the present attempt
	Digest string       `json:"digest,omitzero"`  // of the tenant at the fence, at both homes
}

type phaseShown struct {
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`
}

func showMigration(m *cluster.Migration) migrationShown {
	s := migrationShown{
		ID: m.ID, Tenant: m.Tenant, TenantID: m.TenantID, From: m.From, To: m.To, Phase: m.Phase, Running: m.Running(), Attempt: m.Attempt,
		Reason: m.Reason, By: m.By, Error: m.Error, RollbackOf: m.RollbackOf, Epoch: m.Epoch,
		Started: momentOf(m.Started), Changed: momentOf(m.Changed), Ended: momentOf(m.Ended), KeptUntil: momentOf(m.KeptUntil),
		Copied: m.Copied, Total: m.Total, Rate: m.Rate, ETA: m.ETA.Seconds(), Lag: m.Lag, Failed: m.Failed, Digest: m.Digest,
	}
	for _, p := range m.Phases {
		s.Phases = append(s.Phases, phaseShown(p))
	}
	return s
}

// momentOf is nil for no time.
func momentOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// newMigration is the body that asks for one.
type newMigration struct {
	tenant, reason string
	to             int
	dryRun         bool
}

var newMigrationFields = []field[newMigration]{
	textField("tenant", func(m *newMigration) *string { return &m.tenant }),
	intField("to", 0, maxShardID, func(m *newMigration) *int { return &m.to }),
	textField("reason", func(m *newMigration) *string { return &m.reason }),
	boolField("dry_run", func(m *newMigration) *bool { return &m.dryRun }),
}

// createMigration plans a move, or looks only whether it could be.
func createMigration(c *call) (reply, error) {
	asked := newMigration{to: cluster.AnyShard}
	if err := decodeObject(c.body, &asked, newMigrationFields); err != nil {
		return nil, err
	}
	switch {
	case asked.tenant == "":
		return nil, invalid("tenant", "is missing")
	case asked.to == cluster.AnyShard:
		return nil, invalid("to", "is missing: say the shard that the tenant is to live on")
	}
	c.namespace = asked.tenant
	c.object = fmt.Sprintf("%q to shard %d", asked.tenant, asked.to)
	if asked.dryRun {
		c.object += ", dry run"
	}
	o := cluster.MoveOptions{Reason: asked.reason, By: c.principal.String(), DryRun: asked.dryRun}
	return migrationReply(c.h.node.MoveTenant(c.ctx, asked.tenant, asked.to, o))
}

func migrationReply(m cluster.Migration, err error) (reply, error) {
	if err != nil {
		return nil, err
	}
	return document{showMigration(&m)}, nil
}

type migrationPage struct {
	Migrations []migrationShown `json:"migrations"`
	Pagination *nextPage        `json:"pagination,omitzero"`
}

var migrationParams = []string{"tenant", "phase", "running", "limit", "paginationToken"}

// listMigrations lists migrations, the newest first.
func listMigrations(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	open, err := c.params.boolean("running")
	if err != nil {
		return nil, err
	}
	f := cluster.MigrationFilter{Tenant: c.params.text("tenant"), Phase: c.params.text("phase"), Open: open, Limit: limit + 1}
	at := c.listing("", f.Tenant+"\x00"+f.Phase+"\x00"+strconv.FormatBool(f.Open))
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	if after != "" {
		if f.Before, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, errBadToken()
		}
	}
	found, err := c.h.node.Migrations(c.ctx, f)
	if err != nil {
		return nil, err
	}
	page := migrationPage{Migrations: make([]migrationShown, 0, len(found))}
	for i := range found[:min(limit, len(found))] {
		page.Migrations = append(page.Migrations, showMigration(&found[i]))
	}
	if len(found) > limit {
		page.Pagination = &nextPage{c.h.tokens.seal(at, strconv.FormatUint(found[limit-1].ID, 10))}
	}
	return document{page}, nil
}

func describeMigration(c *call) (reply, error) {
	id, err := c.migrationID()
	if err != nil {
		return nil, err
	}
	return migrationReply(c.h.node.Migration(c.ctx, id))
}

// cancelMigration has what was begun taken back, while the tenant still lives where it did.
func cancelMigration(c *call) (reply, error) {
	return c.changeMigration(c.h.node.CancelMigration)
}

// rollbackMigration moves the tenant back to where it came from.
func rollbackMigration(c *call) (reply, error) {
	return c.changeMigration(c.h.node.RollbackMigration)
}

func (c *call) changeMigration(change func(context.Context, uint64) (cluster.Migration, error)) (reply, error) {
	id, err := c.migrationID()
	if err != nil {
		return nil, err
	}
	m, err := change(c.ctx, id)
	c.namespace = m.Tenant
	return migrationReply(m, err)
}

// migrationID reads the id in the path.
func (c *call) migrationID() (uint64, error) {
	id, err := strconv.ParseUint(c.args[0], 10, 64)
	if err != nil || strconv.FormatUint(id, 10) != c.args[0] {
		return 0, errs.New(errs.NotFound, "there is no migration %q", clip(c.args[0])).WithHint("GET /v1/migrations lists them")
	}
	return id, nil
}
