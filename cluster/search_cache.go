package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// searches is what a node knows of the searches over many tenants that came in here.
type searches struct {
	cache  searchCache
	meter  meter
	counts [searchResults]atomic.Uint64
	parts  atomic.Uint64 // partitions searched here, whoever was asked
}

// Results of a search, as metrics name them.
const (
	searchWhole = iota
	searchPartial
	searchCached
	searchRefused
	searchFailed

	searchResults
)

var searchResultNames = [searchResults]string{"whole", "partial", "cached", "refused", "failed"}

// note counts a search that has ended.
func (s *searches) note(a *SearchAnswer, err error, begun time.Time) {
	result := searchWhole
	switch {
	case errs.Is(err, errs.RateLimited):
		result = searchRefused
	case err != nil:
		result = searchFailed
	case a.Cached:
		result = searchCached
	case a.Partial():
		result = searchPartial
	}
	s.counts[result].Add(1)
	if err == nil {
		s.meter.observe(begun, time.Since(begun))
	}
}

// lately counts the searches of the last minute.
func (s *searches) lately(m *meters, now time.Time) queryCounts {
	c := s.meter.sum(windowNumber(now))
	if len(c) == 0 {
		return queryCounts{}
	}
	return queryCounts{m.rate(c, now), c}
}

// SearchRate tells how often many tenants were searched at once over the last minute, through all nodes that answer.
type SearchRate struct {
	PerSecond float64  `json:"per_second"`
	Share     float64  `json:"share"`               // of all queries, those of single tenants included; 0 where there were none
	Latency   *Latency `json:"latency_ms,omitzero"` // nil: there were none
}

// searchRate adds up what the nodes tell, beside the queries of single tenants.
func searchRate(all map[string]*nodeStatus) (r SearchRate) {
	r.PerSecond, r.Latency = sumQueries(all, func(st *nodeStatus) queryCounts { return st.Searches })
	var single, many uint64
	for _, st := range all { // any order: a sum
		for _, n := range st.Searches.Buckets {
			many += n
		}
		for _, c := range st.Queries {
			for _, n := range c.Buckets {
				single += n
			}
		}
	}
	if many > 0 {
		r.Share = float64(many) / float64(many+single)
	}
	return r
}

// maxSearchAge bounds the age of an answer that was found for another, whatever the tier allows.
const maxSearchAge = 5 * time.Second

// searchCache keeps whole answers for moments: the next page, or a page that many look at, need not search again. Unlike a tenant's
// results they are not those of the newest state, so an answer tells its age.
type searchCache struct {
	mu      sync.Mutex
	entries map[string]*keptSearch
	bytes   int64
}

// keptSearch is an answer that was kept, and not changed since, or one that may be.
type keptSearch struct {
	key   string // empty: it is not kept
	at    time.Time
	life  time.Duration
	room  int64 // of all that is kept
	bytes int64
	a     SearchAnswer
}

// entry says how a search would be kept, under all that makes its answer what it is but for the page, and finds what was kept of
// another like it.
func (c *searchCache) entry(r *searchRun, s *Search, settings *tenancy.Settings) (e, old *keptSearch) {
	e = &keptSearch{life: min(settings.Duration(tenancy.CacheTTL), maxSearchAge), room: settings.Get(tenancy.CacheBytes), at: time.Now()}
	if r.ask.level == Strong || e.life <= 0 {
		return e, nil
	}
	b := r.ask.append(nil)
	b = append(b, boolByte(s.Tenants == nil))
	for _, name := range slices.Sorted(slices.Values(s.Tenants)) {
		b = codec.AppendString(b, name)
	}
	e.key = string(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if old = c.entries[e.key]; old != nil && (s.Fresh || time.Since(old.at) >= min(old.life, e.life)) {
		return e, nil
	}
	return e, old
}

// keep keeps an answer, if it is whole and there is room. What is too old goes, and then what is oldest.
func (c *searchCache) keep(e *keptSearch, a *SearchAnswer) {
	e.bytes = int64(len(e.key)) + 256
	for i := range a.Hits {
		e.bytes += int64(matchSize(&a.Hits[i].Match))
	}
	if e.key == "" || a.Partial() || e.bytes > e.room {
		return
	}
	e.a = *a
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[string]*keptSearch{}
	}
	c.drop(c.entries[e.key])
	for _, old := range c.entries { // any order: all that are too old
		if time.Since(old.at) >= old.life {
			c.drop(old)
		}
	}
	for c.bytes+e.bytes > e.room && len(c.entries) > 0 {
		c.drop(c.oldest())
	}
	c.entries[e.key] = e
	c.bytes += e.bytes
}

func (c *searchCache) drop(e *keptSearch) {
	if e != nil {
		delete(c.entries, e.key)
		c.bytes -= e.bytes
	}
}

func (c *searchCache) oldest() (found *keptSearch) {
	for _, e := range c.entries { // any order: of equals, either will do
		if found == nil || e.at.Before(found.at) {
			found = e
		}
	}
	return found
}

// searchKept answers with what was kept. Whoever was deleted since is not told of: then it is searched again.
func (n *Node) searchKept(ctx context.Context, e *keptSearch) (a SearchAnswer, ok bool) {
	if e == nil {
		return a, false
	}
	ctx, cancel := turnTime(ctx)
	defer cancel()
	newer := n.Refresh
	if ReadingOf(ctx).level() == Any {
		newer = n.CatchUp
	}
	if newer(ctx) != nil {
		return a, false
	}
	s := n.meta.state()
	for i := range e.a.Hits {
		if t, ok := s.tenant(e.a.Hits[i].Tenant); !ok || t.id != e.a.Hits[i].tenantID {
			return a, false
		}
	}
	a = e.a
	a.Cached, a.Age = true, time.Since(e.at)
	return a, true
}
