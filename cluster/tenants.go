package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/croftdb/croft/internal/errs"
)

// Tenant is a tenant as the metadata plane knows it.
type Tenant struct {
	Name      string
	ID        string // never used again
	Shard     int    // where it lives
	Pinned    bool   // that is where it was put, though the ring may say otherwise
	RingShard int    // where the ring says it should live
}

func (s *state) describeTenant(t *tenant) Tenant {
	return Tenant{Name: t.name, ID: t.id.String(), Shard: int(s.home(t)), Pinned: t.pin != noPin, RingShard: int(s.ring[t.slot])}
}

// AnyShard stands for the shard that the policy of placement chooses.
const AnyShard = -1

// CreateTenant makes a tenant, on a shard of the caller's choice or on AnyShard. AlreadyExists if there is one of that name:
// it may have data, which only a migration moves. NotFound if there is no such shard.
func (n *Node) CreateTenant(ctx context.Context, name string, shard int) (Tenant, error) {
	if err := checkNamespace(name); err != nil {
		return Tenant{}, err
	}
	if err := n.Refresh(ctx); err != nil {
		return Tenant{}, err
	}
	if err := n.disk.check(); err != nil {
		return Tenant{}, err
	}
	t := newTenant(name)
	switch s := n.meta.state(); {
	case shard == AnyShard:
		n.loads.place(ctx, []*tenant{t})
	case shard < 0 || shard >= maxShardIDs || !s.hasShard(uint16(shard)):
		return Tenant{}, errNoShard(shard)
	default:
		t.pin = int32(shard)
	}
	if old, ok := n.meta.state().tenant(name); ok {
		return Tenant{}, n.errTenantExists(old, shard)
	}
	if _, err := n.changeMeta(ctx, &metaCommand{op: metaCreateTenants, tenants: []*tenant{t}}); err != nil {
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
		return s.describeTenant(made), errs.New(errs.NotFound, "there is no shard %d: tenant %q was put on shard %d", shard, name, s.home(made))
	}
	return s.describeTenant(made), nil
}

func errNoTenant(name string) error {
	return errs.New(errs.NotFound, "there is no tenant %q", name).WithHint("`croft tenants list` shows those that there are")
}

func errNoShard(shard int) error {
	return errs.New(errs.NotFound, "there is no shard %d", shard).WithHint("`croft shards list` shows those that are there")
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
	s := n.meta.state()
	t, ok := s.tenant(name)
	if !ok {
		if err := n.Refresh(ctx); err != nil {
			return Tenant{}, err
		}
		s = n.meta.state()
		t, ok = s.tenant(name)
	}
	if !ok {
		return Tenant{}, errNoTenant(name)
	}
	return s.describeTenant(t), nil
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
		page = append(page, s.describeTenant(t))
	}
	return page, more, total
}
