package cluster

import (
	"context"
	"time"

	"github.com/croftdb/croft/tenancy"
)

// Standing is what a node knows of a namespace's tenant without asking anybody.
type Standing struct {
	Settings *tenancy.Settings // in force now, never changed: look again for each request; without a tenant those of new ones
	ID       tenancy.ID
	Shard    int  // where it lives; NoShard without a tenant
	Known    bool // there is a tenant of that name, as far as this node has heard
}

// Standing finds a namespace's tenant, from memory and without allocation.
func (n *Node) Standing(namespace string) Standing {
	s := n.meta.state()
	t, ok := s.tenant(namespace)
	if !ok {
		return Standing{Settings: s.tierOf(&tenant{}).settings, Shard: NoShard}
	}
	return Standing{s.settings(t), tenancy.ID(t.id), int(s.home(t)), true}
}

// CreatesOnWrite reports whether a write to a namespace that does not exist makes it, as far as this node knows.
func (n *Node) CreatesOnWrite() bool { return !n.meta.state().strict }

// SetCreatesOnWrite says so for the whole cluster.
func (n *Node) SetCreatesOnWrite(ctx context.Context, on bool) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaSetStrict, tenantCommand: tenantCommand{strict: !on}})
	return err
}

// settings are a tenant's as they are in force now. Nothing is computed, nor the clock read, unless what they follow from has changed.
func (s *state) settings(t *tenant) *tenancy.Settings {
	tier := s.tierOf(t)
	if t.terms == nil {
		return tier.settings
	}
	var now time.Time
	if t.terms.override.Factor != 0 {
		now = time.Now()
	}
	return t.terms.resolve(tier, now)
}

func (w *terms) resolve(in *tier, now time.Time) *tenancy.Settings {
	ended := w.override.Factor != 0 && !w.override.Active(now)
	version := settingsVersion(max(in.changed, w.changed), ended)
	if known := w.memo.Load(); known != nil && known.Version == version {
		return known
	}
	settings := tenancy.Resolve(&in.Tier, &w.own, &w.override, version, now)
	w.memo.Store(&settings)
	return &settings
}
