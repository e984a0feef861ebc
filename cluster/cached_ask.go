package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// cacheRequest asks a node for what it keeps of a tenant's results, or to drop it.
type cacheRequest struct {
	Tenant     engine.TenantID `json:"tenant"`
	Invalidate bool            `json:"invalidate,omitzero"`
}

// TenantCache tells what the nodes have kept of a tenant's results, by node, and which nodes did not answer. With invalidate
// those that answer drop it first. NotFound: there is no such tenant.
func (n *Node) TenantCache(ctx context.Context, name string, invalidate bool) (nodes map[string]tenancy.CacheStats, silent []string, err error) {
	if _, err := n.DescribeTenant(ctx, name); err != nil {
		return nil, nil, err
	}
	s := n.meta.state()
	t, ok := s.tenant(name)
	if !ok {
		return nil, nil, errNoTenant(name)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	nodes = map[string]tenancy.CacheStats{}
	for _, node := range s.present() {
		wg.Go(func() {
			st, err := n.cacheOf(ctx, node, cacheRequest{t.id, invalidate})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, node)
				return
			}
			nodes[node] = st
		})
	}
	wg.Wait()
	slices.Sort(silent)
	return nodes, silent, nil
}

// cacheOf asks a node; this one needs no link for it.
func (n *Node) cacheOf(ctx context.Context, node string, req cacheRequest) (st tenancy.CacheStats, err error) {
	if node == n.id.NodeID {
		return n.cacheStats(req), nil
	}
	b, err := json.Marshal(req)
	if err != nil {
		return st, err
	}
	if b, err = n.peers.call(ctx, node, methodCache, b, nil); err != nil {
		return st, err
	}
	return st, errs.Wrap(errs.Corrupt, json.Unmarshal(b, &st), "read what node %s keeps", node)
}

func (n *Node) cacheStats(req cacheRequest) tenancy.CacheStats {
	if n.cache == nil {
		return tenancy.CacheStats{Off: true}
	}
	if req.Invalidate {
		n.cache.Invalidate(tenancy.ID(req.Tenant))
	}
	return n.cache.Stats(tenancy.ID(req.Tenant))
}

// answerCache serves methodCache.
func (n *Node) answerCache(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	var req cacheRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return dst, errs.Wrap(errs.Invalid, err, "read a request for a cache")
	}
	b, err := json.Marshal(n.cacheStats(req))
	return append(dst, b...), err
}
