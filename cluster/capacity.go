package cluster

import (
	"context"
	"maps"
	"slices"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Capacity reports how many shards what is there needs, or so many tenants and vectors where they are not 0, what that costs by the
// operator's prices, and what to do. Unavailable: a shard does not tell what it holds.
func (n *Node) Capacity(ctx context.Context, tenants int, vectors uint64) (*balance.Report, error) {
	held, silent := n.holdings(ctx, n.meta.state().shards)
	for _, id := range slices.Sorted(maps.Keys(silent)) {
		return nil, errs.Wrap(errs.Unavailable, silent[id], "advise without the figures of shard %d", id)
	}
	info := n.Info(ctx)
	s := n.meta.state()
	e := &balance.Estate{
		Capacity: info.Rules.capacity(), Nodes: len(s.present()), CrossRate: info.Searches.PerSecond, ExpectedTenants: tenants, ExpectedVectors: vectors,
		ShardCost: s.prices.Of[tenancy.PerShardMonth], NodeCost: s.prices.Of[tenancy.PerNodeMonth],
	}
	loads := s.loadsAtHome(held)
	for t := range s.byID.all() {
		l := loads[t.id]
		e.Tenants = append(e.Tenants, balance.Holding{Name: t.name, Shard: int(s.home(t)), Vectors: uint64(l[balance.Vectors])})
	}
	for i := range info.Shards {
		e.Shards = append(e.Shards, info.Shards[i].figures(0))
	}
	r := balance.Advise(e)
	r.Cost.Currency = s.prices.Currency
	return &r, nil
}
