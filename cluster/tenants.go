package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Tenant is a tenant as the metadata plane knows it.
type Tenant struct {
	Name      string
	ID        string // never used again
	Shard     int    // where it lives
	Pinned    bool   // that is where it was put, though the ring may say otherwise
	RingShard int    // where the ring says it should live

	Epoch     uint64 // how often it has moved to another home
	Migration uint64 // that is under way, or planned; 0: none

	Tier      string
	Limits    tenancy.Limits   // of its own
	Override  tenancy.Override // the last one, which may have ended; factor 0: none
	Residency Residency

	Deleted   time.Time // zero: it is not
	KeptUntil time.Time // its data is dropped then, or soon after
	Purging   bool      // there is no way back
}

// Plan is what a tenant is to be served under.
type Plan struct {
	Tier      string // empty: tenancy.DefaultTier
	Limits    tenancy.Limits
	Residency Residency
}

func (n *Node) describeTenant(s *state, t *tenant) Tenant {
	shown := Tenant{
		Name: t.name, ID: t.id.String(), Shard: int(s.home(t)), Pinned: t.pin != noPin, RingShard: int(s.ring[t.slot]),
		Epoch: t.epoch, Migration: t.moving,
		Tier: t.tierName(), Limits: t.ownLimits(), Override: t.override(), Residency: t.resides(), Purging: t.life == tenantPurged,
	}
	if t.life != tenantLive {
		shown.Deleted = time.Unix(0, t.deletedAt).UTC()
		shown.KeptUntil = shown.Deleted.Add(n.opts.UndeleteFor)
	}
	return shown
}

// AnyShard stands for the shard that the policy of placement chooses.
const AnyShard = -1

// CreateTenant makes a tenant, on a shard of the caller's choice or on AnyShard. AlreadyExists if there is one of that name:
// it may have data, which only a migration moves. NotFound if there is no such shard or tier, Invalid if the name or a limit
// cannot be, FailedPrecondition if the tenant may not live there, or on AnyShard that is shared.
func (n *Node) CreateTenant(ctx context.Context, name string, shard int, plan Plan) (Tenant, error) {
	if err := cmp.Or(checkNamespace(name), plan.Limits.Check(), plan.Residency.check()); err != nil {
		return Tenant{}, err
	}
	if err := n.Refresh(ctx); err != nil {
		return Tenant{}, err
	}
	if err := n.disk.check(); err != nil {
		return Tenant{}, err
	}
	t := newTenant(name)
	if t.setTier(plan.Tier); !plan.Limits.IsEmpty() {
		t.terms = &terms{own: plan.Limits}
	}
	if !plan.Residency.IsZero() {
		t.residency = &plan.Residency
	}
	switch s := n.meta.state(); {
	case shard == AnyShard: // it is chosen below
	case shard < 0 || shard >= maxShardIDs || !s.hasShard(uint16(shard)):
		return Tenant{}, errNoShard(shard)
	case s.isDraining(uint16(shard)):
		return Tenant{}, errDraining(uint16(shard))
	default:
		t.pin = int32(shard)
	}
	if old, ok := n.meta.state().tenant(name); ok {
		return Tenant{}, n.errTenantExists(old, shard)
	}
	if err := n.createTenant(ctx, t, shard == AnyShard); err != nil {
		return Tenant{}, err
	}
	s := n.meta.state()
	made, ok := s.tenant(name)
	switch {
	case !ok:
		return Tenant{}, errs.New(errs.Internal, "tenant %q was created and is not there", name)
	case made.id != t.id: // somebody was faster
		return Tenant{}, n.errTenantExists(made, shard)
	case shard != AnyShard && int(s.home(made)) != shard: // it was taken out meanwhile
		return n.describeTenant(s, made), errs.New(errs.NotFound, "there is no shard %d: tenant %q was put on shard %d", shard, name, s.home(made))
	}
	return n.describeTenant(s, made), nil
}

// createTenant makes a tenant that does not exist, where it is pinned or anywhere it may live.
func (n *Node) createTenant(ctx context.Context, t *tenant, anywhere bool) error {
	switch {
	case anywhere && t.residency != nil:
		return n.createBound(ctx, t)
	case anywhere:
		n.loads.place(ctx, []*tenant{t})
	}
	return n.proposeTenant(ctx, t)
}

func (n *Node) proposeTenant(ctx context.Context, t *tenant) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaCreateTenants, tenants: []*tenant{t}})
	return err
}

func errNoTenant(name string) error {
	return errs.New(errs.NotFound, "there is no tenant %q", name).WithHint("`croft tenants list` shows those that there are")
}

func errNoShard(shard int) error {
	return errs.New(errs.NotFound, "there is no shard %d", shard).WithHint("`croft shards list` shows those that are there")
}

func errDraining(shard uint16) error {
	return errs.New(errs.FailedPrecondition, "shard %d is being drained, it takes no tenants", shard)
}

func (n *Node) errTenantExists(t *tenant, wanted int) error {
	home := n.meta.state().home(t)
	err := errs.New(errs.AlreadyExists, "tenant %q exists already, on shard %d", t.name, home)
	if wanted != AnyShard && wanted != int(home) {
		err = err.WithHint("it may have data there: only a tenant that does not exist yet can be put on a shard of your choice")
	}
	return err
}

// DescribeTenant returns a tenant. NotFound if there is none of that name.
func (n *Node) DescribeTenant(ctx context.Context, name string) (Tenant, error) {
	t, err := n.tenantNamed(ctx, name)
	if err != nil {
		return Tenant{}, err
	}
	return n.describeTenant(n.meta.state(), t), nil
}

// tenantNamed finds a tenant, in newer metadata where that may help.
func (n *Node) tenantNamed(ctx context.Context, name string) (*tenant, error) {
	if t, ok := n.meta.state().tenant(name); ok {
		return t, nil
	}
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	if t, ok := n.meta.state().tenant(name); ok {
		return t, nil
	}
	return nil, errNoTenant(name)
}

// TenantChange says what is to change of a tenant.
type TenantChange struct {
	Tier      string // empty: it stays
	Limits    tenancy.Change
	Residency ResidencyChange
}

// IsEmpty reports whether nothing is to change.
func (c *TenantChange) IsEmpty() bool {
	return c.Tier == "" && c.Limits.IsEmpty() && c.Residency.IsEmpty()
}

// SetTenant changes a tenant. NotFound; Invalid; FailedPrecondition: it has data where it may not be then.
func (n *Node) SetTenant(ctx context.Context, name string, c TenantChange) (Tenant, error) {
	return n.changeTenant(ctx, name, metaSetTenant, tenantCommand{tier: c.Tier, limits: c.Limits, residency: c.Residency})
}

// OverrideTenant multiplies a tenant's limits until the override ends; one without a factor takes back what was set.
func (n *Node) OverrideTenant(ctx context.Context, name string, o tenancy.Override) (Tenant, error) {
	if err := o.Check(); err != nil {
		return Tenant{}, err
	}
	return n.changeTenant(ctx, name, metaOverride, tenantCommand{override: o})
}

// DeleteTenant frees a tenant's name at once. Its data is kept for Options.UndeleteFor and then dropped.
func (n *Node) DeleteTenant(ctx context.Context, name string) (Tenant, error) {
	return n.changeTenant(ctx, name, metaDeleteTenant, tenantCommand{at: time.Now()})
}

// changeTenant executes a command about one tenant, and returns what has become of it.
func (n *Node) changeTenant(ctx context.Context, name string, op metaOp, c tenantCommand) (Tenant, error) {
	t, err := n.tenantNamed(ctx, name)
	if err != nil {
		return Tenant{}, err
	}
	return n.commandTenant(ctx, t, op, c)
}

func (n *Node) commandTenant(ctx context.Context, t *tenant, op metaOp, c tenantCommand) (Tenant, error) {
	if _, err := n.changeMeta(ctx, &metaCommand{op: op, tenantID: t.id, tenantCommand: c}); err != nil {
		return Tenant{}, err
	}
	s := n.meta.state()
	changed, ok := s.tenantByID(t.id)
	if !ok {
		return Tenant{}, errNoTenant(t.name)
	}
	return n.describeTenant(s, changed), nil
}

// UndeleteTenant brings a deleted tenant back, under another name unless as is empty. Of several that had the name it is the one
// that was deleted last, or the one with the given id. NotFound if there is none, or none any more; AlreadyExists if the name
// has been taken since.
func (n *Node) UndeleteTenant(ctx context.Context, name, id, as string) (Tenant, error) {
	if as != "" {
		if err := checkNamespace(as); err != nil {
			return Tenant{}, err
		}
	}
	if err := n.Refresh(ctx); err != nil {
		return Tenant{}, err
	}
	var found *tenant
	for t := range n.meta.state().byID.all() {
		if t.life == tenantLive || t.name != name || id != "" && t.id.String() != id {
			continue
		}
		if found == nil || t.deletedAt > found.deletedAt {
			found = t
		}
	}
	if found == nil {
		return Tenant{}, errs.New(errs.NotFound, "there is no deleted tenant %q", name).
			WithHint("`croft tenants list --deleted` shows those that can come back")
	}
	return n.commandTenant(ctx, found, metaUndeleteTenant, tenantCommand{as: as})
}

// DeletedTenants returns the tenants that were deleted and are still kept, the last one first.
func (n *Node) DeletedTenants() (all []Tenant) {
	s := n.meta.state()
	if s.byID.n == s.byName.n {
		return nil
	}
	for t := range s.byID.all() {
		if t.life != tenantLive {
			all = append(all, n.describeTenant(s, t))
		}
	}
	slices.SortFunc(all, func(a, b Tenant) int { return cmp.Or(b.Deleted.Compare(a.Deleted), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Tenants returns the tenants whose name has prefix, in order of name, after the given one, up to limit; total counts all
// with the prefix. They are those that this node knows of.
func (n *Node) Tenants(prefix, after string, limit int) (page []Tenant, more bool, total int) {
	s := n.meta.state()
	var found []*tenant
	for t := range s.byName.all() {
		if !strings.HasPrefix(t.name, prefix) {
			continue
		}
		total++
		if t.name > after || after == "" {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *tenant) int { return cmp.Compare(a.name, b.name) })
	more = len(found) > limit
	for _, t := range found[:min(limit, len(found))] {
		page = append(page, n.describeTenant(s, t))
	}
	return page, more, total
}
