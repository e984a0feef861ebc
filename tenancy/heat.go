package tenancy

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
)

// Heat knows how much each tenant of a shard has asked of it lately, with less weight to what is longer ago. Its memory is bounded.
type Heat struct {
	mu      sync.Mutex
	tenants map[ID]*warmth
	total   warmth
}

// warmth are sums that fade.
type warmth struct {
	queries, compute float64 // requests; seconds
	latency          [latencyBuckets]float32
	at               int64 // ns since 1970: when they were last faded
}

const (
	heatTime    = float64(time.Minute) // in which sums fade to 1/e
	heatTenants = 10_000
	heatLeast   = 0.05 // requests, below which a tenant is forgotten
)

func (w *warmth) fade(now int64) {
	if w.at != 0 && now > w.at {
		by := math.Exp(-float64(now-w.at) / heatTime)
		w.queries, w.compute = w.queries*by, w.compute*by
		for b := range w.latency {
			w.latency[b] *= float32(by)
		}
	}
	w.at = max(w.at, now)
}

func (w *warmth) add(u *Usage, now int64) {
	w.fade(now)
	w.queries += float64(u.Counts[Queries])
	w.compute += float64(u.Counts[ComputeNanos]) / float64(time.Second)
	for b, n := range u.Latency {
		w.latency[b] += float32(n)
	}
}

// Note takes in what a tenant has used up to now.
func (h *Heat) Note(t ID, u *Usage, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := now.UnixNano()
	h.total.add(u, at)
	w := h.tenants[t]
	if w == nil {
		if len(h.tenants) >= heatTenants {
			h.forget(at)
		}
		if len(h.tenants) >= heatTenants {
			return // the total has it
		}
		if h.tenants == nil {
			h.tenants = map[ID]*warmth{}
		}
		w = &warmth{}
		h.tenants[t] = w
	}
	w.add(u, at)
}

func (h *Heat) forget(now int64) {
	for t, w := range h.tenants {
		if w.fade(now); w.isCold() {
			delete(h.tenants, t)
		}
	}
}

// isCold reports whether a tenant has not asked for long.
func (w *warmth) isCold() bool { return w.queries < heatLeast && w.compute < heatLeast/1000 }

// Load is how much of a shard one tenant takes.
type Load struct {
	Tenant  ID            `json:"tenant"`
	Queries float64       `json:"queries"` // a second
	Compute float64       `json:"compute"` // processors
	P95     time.Duration `json:"p95"`
	Cache   int64         `json:"cache"` // bytes
	// Shares of the shard's queries, computing and kept results, 0 to 1.
	QueryShare   float64 `json:"query_share"`
	ComputeShare float64 `json:"compute_share"`
	CacheShare   float64 `json:"cache_share"`
	Hot          bool    `json:"hot"`
}

// Computes reports whether a hot tenant takes more than its part of the processors: then it helps to hold it back.
func (l *Load) Computes() bool { return l.Hot && l.ComputeShare > hotShare }

// What makes a tenant hot: a share of a shard that others use too, and that is worth a word.
const (
	hotShare   = 0.2
	hotQueries = 5.0     // a second, of the shard
	hotCompute = 0.05    // processors
	hotCache   = 1 << 20 // bytes
)

// Top returns the tenants that take most, by computing; cache tells how many bytes of results are kept for one.
func (h *Heat) Top(now time.Time, limit int, cache func(ID) int64) []Load {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := now.UnixNano()
	h.total.fade(at)
	loads, allKept := make([]Load, 0, len(h.tenants)), int64(0)
	second := heatTime / float64(time.Second)
	for t, w := range h.tenants {
		kept := cache(t)
		if w.fade(at); w.isCold() && kept == 0 {
			delete(h.tenants, t)
			continue
		}
		l := Load{Tenant: t, Queries: w.queries / second, Compute: w.compute / second, P95: w.p95(), Cache: kept}
		l.QueryShare, l.ComputeShare = share(w.queries, h.total.queries), share(w.compute, h.total.compute)
		allKept += kept
		loads = append(loads, l)
	}
	all := Load{Queries: h.total.queries / second, Compute: h.total.compute / second, Cache: allKept}
	for i := range loads {
		l := &loads[i]
		l.CacheShare = share(float64(l.Cache), float64(allKept))
		l.Hot = len(loads) > 1 && (l.QueryShare > hotShare && all.Queries >= hotQueries ||
			l.ComputeShare > hotShare && all.Compute >= hotCompute || l.CacheShare > hotShare && all.Cache >= hotCache)
	}
	slices.SortFunc(loads, func(a, b Load) int {
		return cmp.Or(cmp.Compare(b.Compute, a.Compute), cmp.Compare(b.Queries, a.Queries), slices.Compare(a.Tenant[:], b.Tenant[:]))
	})
	return loads[:min(limit, len(loads))]
}

func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return math.Round(min(part/whole, 1)*1e4) / 1e4
}

// p95 is the time that 95 % of the requests did not exceed, about.
func (w *warmth) p95() time.Duration {
	var u Usage
	for b, n := range w.latency {
		u.Latency[b] = uint32(n * 1000) // fractions of requests count
	}
	return u.Percentile(0.95)
}
