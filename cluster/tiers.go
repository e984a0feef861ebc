package cluster

import (
	"context"

	"github.com/croftdb/croft/tenancy"
)

// Tier is a tier as the metadata plane knows it.
type Tier struct {
	tenancy.Tier
	Settings *tenancy.Settings // of a tenant with nothing of its own
	Changed  bool              // it is not as it was shipped
	Tenants  int               // that have it
}

// Tiers returns all tiers, by name.
func (n *Node) Tiers() []Tier {
	s := n.meta.state()
	tenants := map[string]int{}
	for t := range s.byName.all() {
		tenants[t.tierName()]++
	}
	var all []Tier
	for i := range s.tiers {
		if t := &s.tiers[i]; !t.gone {
			all = append(all, Tier{t.Tier, t.settings, t.changed != 0, tenants[t.Name]})
		}
	}
	return all
}

// DescribeTier returns a tier. NotFound if there is none of that name.
func (n *Node) DescribeTier(ctx context.Context, name string) (Tier, error) {
	if _, ok := n.meta.state().tier(name); !ok {
		if err := n.Refresh(ctx); err != nil {
			return Tier{}, err
		}
	}
	for _, t := range n.Tiers() {
		if t.Name == name {
			return t, nil
		}
	}
	return Tier{}, errNoTier(name)
}

// SetTier makes a tier, or changes one that is there. It is in force for its tenants at once. AlreadyExists, NotFound, Invalid.
func (n *Node) SetTier(ctx context.Context, name string, create bool, limits tenancy.Change) (Tier, error) {
	c := tenantCommand{tier: name, create: create, limits: limits}
	if _, err := n.changeMeta(ctx, &metaCommand{op: metaSetTier, tenantCommand: c}); err != nil {
		return Tier{}, err
	}
	return n.DescribeTier(ctx, name)
}

// DeleteTier deletes a tier. FailedPrecondition if a tenant has it, or if it is that of new ones.
func (n *Node) DeleteTier(ctx context.Context, name string) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaDeleteTier, tenantCommand: tenantCommand{tier: name}})
	return err
}
