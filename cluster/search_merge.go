package cluster

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"sync"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
)

// SearchHit is one match of a search over many tenants.
type SearchHit struct {
	engine.Match
	Tenant string
	Shard  int

	tenantID engine.TenantID
	part, at int // of the tenant in the request to a node
}

// hitOrder puts hits in order: the best first, equal ones by tenant and id. No two hits are equal.
type hitOrder ann.Metric

// compare is negative if a comes before b.
func (o hitOrder) compare(a, b *SearchHit) int {
	byScore := cmp.Compare(b.Score, a.Score)
	if ann.Metric(o) == ann.Euclidean {
		byScore = -byScore
	}
	if byScore != 0 {
		return byScore
	}
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func (o hitOrder) sort(hits []SearchHit) {
	slices.SortFunc(hits, func(a, b SearchHit) int { return o.compare(&a, &b) })
}

// hitLists is a heap of sorted lists, the one with the best first hit in front.
type hitLists struct {
	order hitOrder
	lists [][]SearchHit // none is empty
}

// Len implements heap.Interface.
func (h *hitLists) Len() int { return len(h.lists) }

// Less implements heap.Interface.
func (h *hitLists) Less(i, j int) bool { return h.order.compare(&h.lists[i][0], &h.lists[j][0]) < 0 }

// Swap implements heap.Interface.
func (h *hitLists) Swap(i, j int) { h.lists[i], h.lists[j] = h.lists[j], h.lists[i] }

// Push implements heap.Interface.
func (h *hitLists) Push(x any) { h.lists = append(h.lists, x.([]SearchHit)) }

// Pop implements heap.Interface.
func (h *hitLists) Pop() any {
	n := len(h.lists) - 1
	last := h.lists[n]
	h.lists = h.lists[:n]
	return last
}

// mergeHits returns the best k of several sorted lists, in order.
func mergeHits(order hitOrder, lists [][]SearchHit, k int) []SearchHit {
	h := &hitLists{order: order}
	total := 0
	for _, l := range lists {
		if len(l) > 0 {
			h.lists = append(h.lists, l)
			total += len(l)
		}
	}
	heap.Init(h)
	best := make([]SearchHit, 0, min(total, k))
	for len(best) < k && len(h.lists) > 0 {
		first := h.lists[0]
		best = append(best, first[0])
		if h.lists[0] = first[1:]; len(first) > 1 {
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
	}
	return best
}

// bestHits keeps the best k hits of those that searches of partitions find, and tells these how good a match must be. It may be
// used by several goroutines at once.
type bestHits struct {
	order hitOrder
	bound *engine.Bound

	mu    sync.Mutex
	k     int
	hits  []SearchHit // a heap, the last one in order in front
	bytes int         // of what the hits hold
}

func newBestHits(m ann.Metric, k int) *bestHits {
	return &bestHits{order: hitOrder(m), bound: engine.NewBound(m), k: k}
}

// Len implements heap.Interface, as the methods below do, for offer.
func (b *bestHits) Len() int { return len(b.hits) }

// Less implements heap.Interface.
func (b *bestHits) Less(i, j int) bool { return b.order.compare(&b.hits[i], &b.hits[j]) > 0 }

// Swap implements heap.Interface.
func (b *bestHits) Swap(i, j int) { b.hits[i], b.hits[j] = b.hits[j], b.hits[i] }

// Push implements heap.Interface.
func (b *bestHits) Push(x any) { b.hits = append(b.hits, x.(SearchHit)) }

// Pop implements heap.Interface.
func (b *bestHits) Pop() any {
	n := len(b.hits) - 1
	last := b.hits[n]
	b.hits[n] = SearchHit{}
	b.hits = b.hits[:n]
	return last
}

// offer takes in what was found in a partition, best first; hit is one of its hits without the match. It returns how many bytes
// are kept. Matches may be used again: what is kept of them is copied.
func (b *bestHits) offer(hit SearchHit, found []engine.Match) (bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range found {
		hit.Match = found[i]
		if len(b.hits) == b.k {
			if b.order.compare(&hit, &b.hits[0]) >= 0 {
				continue // one with a worse distance and the same score may come before the others
			}
			b.bytes -= matchSize(&b.hits[0].Match)
			heap.Pop(b)
		}
		hit.Values = slices.Clone(hit.Values)
		b.bytes += matchSize(&hit.Match)
		heap.Push(b, hit)
	}
	if len(b.hits) == b.k && b.k > 0 {
		b.bound.Tighten(b.hits[0].Score)
	}
	return b.bytes
}

// sorted returns the hits in order. Nothing is offered afterwards.
func (b *bestHits) sorted() []SearchHit {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.order.sort(b.hits)
	return b.hits
}

// matchSize is about how many bytes a match holds.
func matchSize(m *engine.Match) int {
	return 64 + len(m.ID) + 4*len(m.Values) + 8*len(m.Sparse.Indices) + m.Metadata.Size()
}
