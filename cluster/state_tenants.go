package cluster

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// tenantLife is where a tenant is in its life. Numbers are on disk: append only.
type tenantLife uint8

const (
	tenantLive    tenantLife = iota
	tenantDeleted            // its name is free, its data is kept for undeletedFor
	tenantPurged             // its data is being dropped: there is no way back
)

// terms are what a tenant is served under, where that is more than its tier as it was made with. They are immutable but for
// what is remembered of them.
type terms struct {
	own      tenancy.Limits
	override tenancy.Override
	changed  uint64 // entry that last changed them or the tenant's tier
	memo     atomic.Pointer[tenancy.Settings]
}

// tier is a tier as the metadata plane knows it.
type tier struct {
	tenancy.Tier
	changed  uint64            // entry that last changed it; 0: as it was shipped
	gone     bool              // it was shipped, and deleted
	settings *tenancy.Settings // of tenants that have nothing of their own
}

// maxTiers bounds the tiers of a cluster, deleted ones that were shipped included.
const maxTiers = 64

// shippedTiers are the tiers of a state that has changed nothing, by name.
func shippedTiers() []tier {
	var all []tier
	for _, t := range tenancy.ShippedTiers() {
		all = append(all, newTier(t, 0, false))
	}
	slices.SortFunc(all, func(a, b tier) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func newTier(t tenancy.Tier, changed uint64, gone bool) tier {
	settings := tenancy.Resolve(&t, &tenancy.Limits{}, &tenancy.Override{}, settingsVersion(changed, false), time.Time{})
	return tier{t, changed, gone, &settings}
}

// settingsVersion numbers the settings that follow from what an entry has changed last, before and after an override ended.
func settingsVersion(changed uint64, ended bool) uint64 { return 2*changed + uint64(boolByte(ended)) }

// tier finds a tier by name.
func (s *state) tier(name string) (*tier, bool) {
	for i := range s.tiers {
		if t := &s.tiers[i]; t.Name == name {
			return t, !t.gone
		}
	}
	return nil, false
}

// tierOf is a tenant's tier. One that is not there, since another version shipped it, is the default.
func (s *state) tierOf(t *tenant) *tier {
	if found, ok := s.tier(t.tierName()); ok {
		return found
	}
	found, _ := s.tier(tenancy.DefaultTier) // is never deleted
	return found
}

func (t *tenant) tierName() string { return cmp.Or(t.tier, tenancy.DefaultTier) }

// ownLimits and override are what a tenant has of its own.
func (t *tenant) ownLimits() (own tenancy.Limits) {
	if t.terms != nil {
		own = t.terms.own
	}
	return own
}

// resides is where its data may be.
func (t *tenant) resides() (r Residency) {
	if t.residency != nil {
		r = *t.residency
	}
	return r
}

func (t *tenant) override() (o tenancy.Override) {
	if t.terms != nil {
		o = t.terms.override
	}
	return o
}

// The methods below execute commands on a copy that is not yet published.

func (s *state) executeTenant(op metaOp, id engine.TenantID, c *tenantCommand) error {
	switch op {
	case metaSetTier:
		return s.setTier(c)
	case metaDeleteTier:
		return s.deleteTier(c.tier)
	case metaSetTenant:
		return s.setTenant(id, c)
	case metaOverride:
		return s.setOverride(id, c.override)
	case metaDeleteTenant:
		return s.deleteTenant(id, c.at)
	case metaUndeleteTenant:
		return s.undeleteTenant(id, c.as)
	case metaPurgeTenant:
		return s.purgeTenant(id, c.done)
	default: // metaSetStrict
		s.strict = c.strict
		return nil
	}
}

func (s *state) setTier(c *tenantCommand) error {
	old, ok := s.tier(c.tier)
	switch {
	case c.create && ok:
		return errs.New(errs.AlreadyExists, "tier %q already exists", c.tier)
	case !c.create && !ok:
		return errNoTier(c.tier)
	case old == nil && len(s.tiers) >= maxTiers:
		return errs.New(errs.QuotaExceeded, "there are %d tiers, which is the limit", maxTiers)
	}
	if err := tenancy.CheckTierName(c.tier); err != nil {
		return err
	}
	if err := c.limits.Check(); err != nil {
		return err
	}
	var limits tenancy.Limits
	if ok {
		limits = old.Limits
	}
	s.putTier(newTier(tenancy.Tier{Name: c.tier, Limits: c.limits.Of(limits)}, s.index, false))
	return nil
}

func (s *state) putTier(t tier) {
	i, ok := slices.BinarySearchFunc(s.tiers, t.Name, func(o tier, name string) int { return cmp.Compare(o.Name, name) })
	s.tiers = slices.Clone(s.tiers)
	if ok {
		s.tiers[i] = t
	} else {
		s.tiers = slices.Insert(s.tiers, i, t)
	}
}

// deleteTier deletes a tier that no tenant has. A deleted tenant may come back, and keeps its tier.
func (s *state) deleteTier(name string) error {
	if _, ok := s.tier(name); !ok {
		return errNoTier(name)
	}
	if name == tenancy.DefaultTier {
		return errs.New(errs.FailedPrecondition, "tier %q is that of new tenants, and stays", name)
	}
	if n := s.tenantsIn(name); n > 0 {
		return errs.New(errs.FailedPrecondition, "tier %q has %d tenants", name, n).
			WithHint("give them another tier first: croft tenants set TENANT --tier NAME; deleted ones that may still come back count")
	}
	if slices.ContainsFunc(tenancy.ShippedTiers(), func(t tenancy.Tier) bool { return t.Name == name }) {
		s.putTier(newTier(tenancy.Tier{Name: name}, s.index, true))
		return nil
	}
	s.tiers = slices.DeleteFunc(slices.Clone(s.tiers), func(t tier) bool { return t.Name == name })
	return nil
}

// tenantsIn counts the tenants of a tier, deleted ones included.
func (s *state) tenantsIn(tier string) (n int) {
	for t := range s.byID.all() {
		if t.tierName() == tier {
			n++
		}
	}
	return n
}

func errNoTier(name string) error {
	return errs.New(errs.NotFound, "there is no tier %q", name).WithHint("`croft tiers list` shows those that there are")
}

func errNoTenantID(id engine.TenantID) error {
	return errs.New(errs.NotFound, "there is no tenant %s", id)
}

// liveTenant finds a tenant that is not deleted.
func (s *state) liveTenant(id engine.TenantID) (*tenant, error) {
	t, ok := s.tenantByID(id)
	if !ok || t.life != tenantLive {
		return nil, errNoTenantID(id)
	}
	return t, nil
}

// keptTenant finds a tenant that is there or may be brought back.
func (s *state) keptTenant(id engine.TenantID) (*tenant, error) {
	t, ok := s.tenantByID(id)
	if !ok || t.life == tenantPurged {
		return nil, errNoTenantID(id)
	}
	return t, nil
}

// setTenant changes a tenant's tier, limits and residency.
func (s *state) setTenant(id engine.TenantID, c *tenantCommand) error {
	t, err := s.liveTenant(id)
	if err != nil {
		return err
	}
	if err := c.limits.Check(); err != nil {
		return err
	}
	next := *t
	if c.tier != "" {
		if err := s.checkTier(c.tier); err != nil {
			return err
		}
		next.setTier(c.tier)
	}
	if c.tier != "" || !c.limits.IsEmpty() {
		next.terms = &terms{own: c.limits.Of(t.ownLimits()), override: t.override(), changed: s.index}
	}
	if !c.residency.IsEmpty() {
		r := c.residency.Of(t.resides())
		if err := s.setResidency(&next, &r); err != nil {
			return err
		}
	}
	s.putTenant(&next)
	return nil
}

func (s *state) checkTier(name string) error {
	if _, ok := s.tier(name); !ok {
		return errNoTier(name)
	}
	return nil
}

// setTier notes a tier's name, the default one as none.
func (t *tenant) setTier(name string) {
	if t.tier = name; name == tenancy.DefaultTier {
		t.tier = ""
	}
}

func (s *state) setOverride(id engine.TenantID, o tenancy.Override) error {
	t, err := s.liveTenant(id)
	if err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	if o.Factor == 0 {
		o = tenancy.Override{}
	}
	next := *t
	next.terms = &terms{own: t.ownLimits(), override: o, changed: s.index}
	s.putTenant(&next)
	return nil
}

// deleteTenant frees a tenant's name. The tenant is kept under its id.
func (s *state) deleteTenant(id engine.TenantID, now time.Time) error {
	t, err := s.liveTenant(id)
	if err != nil {
		return err
	}
	next := *t
	next.life, next.deletedAt = tenantDeleted, now.UnixNano()
	s.dropName(t)
	s.putTenant(&next)
	s.abortMove(&next, now)
	return nil
}

// undeleteTenant brings a deleted tenant back, under its own name if none is given.
func (s *state) undeleteTenant(id engine.TenantID, name string) error {
	t, ok := s.tenantByID(id)
	switch {
	case !ok:
		return errNoTenantID(id)
	case t.life == tenantLive:
		return errs.New(errs.FailedPrecondition, "tenant %q is not deleted", t.name)
	case t.life == tenantPurged:
		return errs.New(errs.NotFound, "the data of tenant %q is being dropped, it cannot come back", t.name)
	}
	name = cmp.Or(name, t.name)
	if other, taken := s.tenant(name); taken {
		return errs.New(errs.AlreadyExists, "the name %q is that of tenant %s by now", name, other.id).
			WithHint("bring it back under another name")
	}
	next := *t
	next.name, next.life, next.deletedAt = name, tenantLive, 0
	s.putTenant(&next)
	return nil
}

// purgeTenant makes a deletion final, and with done forgets the tenant: its shard has dropped the data, and refuses what
// comes late.
func (s *state) purgeTenant(id engine.TenantID, done bool) error {
	t, ok := s.tenantByID(id)
	switch {
	case !ok:
		return nil // somebody was faster
	case t.life == tenantLive || done && t.life != tenantPurged:
		return errs.New(errs.FailedPrecondition, "tenant %s is not to be dropped", id)
	case t.moving != 0:
		return errs.New(errs.FailedPrecondition, "tenant %s is being moved, by migration %d: its data is dropped afterwards", id, t.moving)
	case !done:
		next := *t
		next.life = tenantPurged
		s.putTenant(&next)
		return nil
	}
	s.byID = s.byID.remove(codec.Hash(id[:]), func(o *tenant) bool { return o.id == id })
	s.residents = slices.Clone(s.residents)
	s.residents[s.home(t)]--
	s.dropKeysOf(id)
	if t.residency != nil {
		s.regroup(&tenant{id: id})
	}
	s.endMoves(id)
	return nil
}

// dropName frees a tenant's name.
func (s *state) dropName(t *tenant) {
	s.byName = s.byName.remove(codec.HashString(t.name), func(o *tenant) bool { return o.name == t.name })
}
