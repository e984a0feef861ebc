package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// loadsShown is how many tenants of each shard are told of.
const loadsShown = 100

// TenantLoad is how much of its shard a tenant takes.
type TenantLoad struct {
	Tenant Tenant
	tenancy.Load
}

// loadOf is a tenant's load with the shard that it was measured on.
type loadOf struct {
	Shard uint16 `json:"shard"`
	tenancy.Load
}

// hottest returns the tenants that take most of each shard that is led here.
func (n *Node) hottest(limit int) (all []loadOf) {
	now := time.Now()
	kept := func(t tenancy.ID) int64 {
		if n.cache == nil {
			return 0
		}
		return n.cache.Stats(t).Bytes
	}
	for _, sh := range n.replicas().sorted() {
		if !sh.group.leads() {
			continue
		}
		for _, l := range n.usage.shard(sh.id).heat.Top(now, limit, kept) {
			all = append(all, loadOf{sh.id, l})
		}
	}
	return all
}

// throttler is a gate that can hold a tenant back for a while.
type throttler interface {
	Throttle(t tenancy.ID, until time.Time)
}

// tidy has the gate and the cache drop what nobody will ask for.
func (n *Node) tidy() {
	if gate, ok := n.gate.(interface{ Tidy() }); ok {
		gate.Tidy()
	}
	if n.cache != nil {
		n.cache.Tidy()
	}
}

// watchHeat counts the tenants that are hot, tells of those that were not, and has the gate hold back those who compute too much,
// if it is to.
func (n *Node) watchHeat(known map[tenancy.ID]bool, every time.Duration) map[tenancy.ID]bool {
	hot := map[tenancy.ID]bool{}
	gate, can := n.gate.(throttler)
	for _, l := range n.hottest(hotLooked) {
		if !l.Hot {
			continue
		}
		hot[l.Tenant] = true
		if !known[l.Tenant] {
			n.logger.Warn("a tenant takes a large part of its shard", "tenant", engine.TenantID(l.Tenant).String(), "shard", l.Shard,
				"queries", l.QueryShare, "compute", l.ComputeShare, "cache", l.CacheShare)
		}
		if can && n.opts.ThrottleHot && l.Computes() {
			gate.Throttle(l.Tenant, time.Now().Add(2*every))
		}
	}
	n.hot.Store(int64(len(hot)))
	return hot
}

// hotLooked is how many tenants of a shard may be hot at all: each takes a fifth of one of three things.
const hotLooked = 3 * 5

// TenantLoads returns the tenants that take most of the shards, by what they compute, and which nodes did not tell of theirs.
func (n *Node) TenantLoads(ctx context.Context, limit int) (all []TenantLoad, silent []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s := n.meta.state()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range s.present() {
		wg.Go(func() {
			found, err := n.loadsOf(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, node)
			}
			for _, l := range found {
				if t, ok := s.tenantByID(engine.TenantID(l.Tenant)); ok && s.home(t) == l.Shard {
					all = append(all, TenantLoad{n.describeTenant(s, t), l.Load})
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(silent)
	slices.SortFunc(all, func(a, b TenantLoad) int {
		return cmp.Or(cmp.Compare(b.Compute, a.Compute), cmp.Compare(b.Queries, a.Queries), cmp.Compare(a.Tenant.Name, b.Tenant.Name))
	})
	return all[:min(limit, len(all))], silent, nil
}

// loadsOf asks a node; this one needs no link for it.
func (n *Node) loadsOf(ctx context.Context, node string) (all []loadOf, err error) {
	if node == n.id.NodeID {
		return n.hottest(loadsShown), nil
	}
	b, err := n.peers.call(ctx, node, methodLoads, nil, nil)
	if err != nil {
		return nil, err
	}
	return all, errs.Wrap(errs.Corrupt, json.Unmarshal(b, &all), "read the loads of node %s", node)
}

// answerLoads serves methodLoads.
func (n *Node) answerLoads(_ context.Context, from string, _, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	b, err := json.Marshal(n.hottest(loadsShown))
	return append(dst, b...), err
}
