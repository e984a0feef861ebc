package tenancy

import (
	"hash/maphash"
	"sync"
	"time"
)

// CacheOptions of a node's result cache. Zero fields get their defaults from NewCache.
type CacheOptions struct {
	Now   func() time.Time // nil: time.Now
	Bytes int64            // of all tenants together; 0: 256 MiB
}

// CacheKey names a result: what was asked, of which state of which partition, under which settings. A write makes another
// state, and so makes results unreachable; what is found is never stale.
type CacheKey struct {
	Tenant    ID
	Index     uint64
	Partition uint64    // number that stands for the partition's incarnation
	Version   uint64    // of the partition
	Settings  uint64    // version of the tenant's settings
	Request   [2]uint64 // from Cache.Hash
}

// Cache keeps results of searches for tenants, each within a quota and for a time of its own. It has no goroutine and no timer;
// memory is bounded by the quotas, and over all of them by Bytes: where that is less, whoever uses most of its quota gives
// way, and a tenant that uses a smaller part of its own loses nothing.
type Cache struct {
	opts  CacheOptions
	seeds [2]maphash.Seed

	mu      sync.Mutex // held for an instant; guards all below
	tenants map[ID]*tenantCache
	entries map[CacheKey]*cacheEntry // of all tenants: a map of each one's own would take more than its few results
	order   []*tenantCache           // all of them, in any order
	hand    int                      // in order: where to look next for who gives way
	bytes   int64
	sums    CacheStats // of tenants that were forgotten
	tiers   map[string]*tierSearches
}

// tenantCache are a tenant's results, a ring in order of use.
type tenantCache struct {
	id    ID
	tier  *tierSearches
	place int        // in Cache.order
	ring  cacheEntry // next: used last; prev: first to go
	quota int64
	ttl   time.Duration
	used  int64 // when it was last asked, in ns since 1970
	stats CacheStats
	habit habit
}

type cacheEntry struct {
	next, prev *cacheEntry
	key        CacheKey
	result     []byte
	until      int64 // ns since 1970
	life       time.Duration
}

// CacheStats tell what a cache has done and holds.
type CacheStats struct {
	Hits    uint64 `json:"hits"`
	Misses  uint64 `json:"misses"`
	Skipped uint64 `json:"skipped"` // while it was off
	Evicted uint64 `json:"evicted"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Off     bool   `json:"off"` // it hardly helped, and is tried again later
}

// Add adds up the figures of several nodes, or tenants; it is off where all are.
func (s *CacheStats) Add(o CacheStats) {
	s.Hits, s.Misses, s.Skipped, s.Evicted = s.Hits+o.Hits, s.Misses+o.Misses, s.Skipped+o.Skipped, s.Evicted+o.Evicted
	s.Entries, s.Bytes, s.Off = s.Entries+o.Entries, s.Bytes+o.Bytes, s.Off && o.Off
}

const (
	cacheEntryBytes  = 256 // about what a result takes beside its bytes
	cacheTenantBytes = 512
	cacheShare       = 8                // a result may take this part of a quota; and lives for this part of the TTL until it is asked for again
	cacheIdle        = int64(time.Hour) // after which a tenant is forgotten that has no results
	cacheLook        = 8                // tenants that are looked at for one to give way
	tidyLook         = 1000             // by Tidy: some 100 µs
)

// NewCache returns an empty cache.
func NewCache(o CacheOptions) *Cache {
	if o.Now == nil {
		o.Now = time.Now
	}
	setDefault(&o.Bytes, 256<<20)
	return &Cache{opts: o, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, tenants: map[ID]*tenantCache{}, entries: map[CacheKey]*cacheEntry{}, tiers: map[string]*tierSearches{}}
}

// Hash tells requests apart. It differs between processes: nobody can make two requests that have the same.
func (c *Cache) Hash(request []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(c.seeds[0], request), maphash.Bytes(c.seeds[1], request)}
}

// Wants reports whether a tenant's results are kept at present; if not there is no need to look.
func (c *Cache) Wants(t ID, s *Settings) bool {
	quota, ttl := s.Get(CacheBytes), s.Duration(CacheTTL)
	if quota <= 0 || ttl <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now().UnixNano()
	tc := c.tenants[t]
	if tc == nil {
		tc = c.welcome(t, now)
	}
	tc.quota, tc.ttl, tc.used = quota, ttl, now
	if tc.tier == nil || tc.tier.name != s.Tier {
		tc.tier = c.tier(s.Tier)
	}
	if tc.habit.wants(now) {
		return true
	}
	tc.stats.Skipped++
	return false
}

// welcome makes room for a tenant.
func (c *Cache) welcome(t ID, now int64) *tenantCache {
	c.forgetIdle(now, cacheLook)
	tc := &tenantCache{id: t, place: len(c.order)}
	tc.ring.next, tc.ring.prev = &tc.ring, &tc.ring
	c.tenants[t] = tc
	c.order = append(c.order, tc)
	c.bytes += cacheTenantBytes
	return tc
}

// Tidy looks at some tenants, and drops what is too old. Called now and then, it frees memory where nobody comes any more.
func (c *Cache) Tidy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetIdle(c.opts.Now().UnixNano(), tidyLook)
}

// forgetIdle looks at some tenants: those without results that were idle for long are forgotten, those with results lose what is
// too old.
func (c *Cache) forgetIdle(now int64, looks int) {
	for range min(looks, len(c.order)) {
		tc := c.look()
		c.expire(tc, now)
		if tc.stats.Entries == 0 && now-tc.used > cacheIdle {
			c.forget(tc)
		}
	}
}

// look returns the tenant at the hand and moves on.
func (c *Cache) look() *tenantCache {
	c.hand = (c.hand + 1) % len(c.order)
	return c.order[c.hand]
}

func (c *Cache) forget(tc *tenantCache) {
	last := c.order[len(c.order)-1]
	c.order[tc.place], last.place = last, tc.place
	c.order = c.order[:len(c.order)-1]
	delete(c.tenants, tc.id)
	c.bytes -= cacheTenantBytes
	c.sums.Add(tc.stats)
}

// Get returns what is kept under a key, which must not be changed; nil if nothing is. Each time that a result is found it is kept
// twice as long again, up to the TTL.
func (c *Cache) Get(k *CacheKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	tc := c.tenants[k.Tenant]
	if tc == nil {
		return nil
	}
	now := c.opts.Now().UnixNano()
	e := c.entries[*k]
	if e != nil && e.until <= now {
		c.drop(tc, e)
		e = nil
	}
	if tc.habit.note(e != nil, now) {
		c.empty(tc)
		e = nil
	}
	if e == nil {
		tc.stats.Misses++
		tc.tier.misses++
		return nil
	}
	tc.stats.Hits++
	tc.tier.hits++
	e.life = min(2*e.life, tc.ttl)
	e.until = now + int64(e.life)
	e.unlink()
	tc.push(e)
	return e.result
}

// Put keeps a result, which the cache owns from now on. Older ones of the same tenant give way.
func (c *Cache) Put(k *CacheKey, result []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tc := c.tenants[k.Tenant]
	size := int64(len(result)) + cacheEntryBytes
	if tc == nil || tc.habit.off || size > min(tc.quota, c.opts.Bytes)/cacheShare {
		return
	}
	now := c.opts.Now().UnixNano()
	if old := c.entries[*k]; old != nil {
		c.drop(tc, old)
	}
	c.expire(tc, now)
	for tc.stats.Bytes+size > tc.quota {
		c.evict(tc)
	}
	life := max(tc.ttl/cacheShare, 1)
	e := &cacheEntry{key: *k, result: result, life: life, until: now + int64(life)}
	c.entries[*k] = e
	tc.push(e)
	tc.stats.Entries++
	tc.stats.Bytes += size
	c.bytes += size
	c.shrink(tc, now)
}

// shrink has those give way who use most of their quotas, until all fit; some of them are looked at, tc always.
func (c *Cache) shrink(tc *tenantCache, now int64) {
	for c.bytes > c.opts.Bytes {
		most := tc
		for range min(cacheLook, len(c.order)) {
			other := c.look()
			c.expire(other, now)
			if other.fullness() > most.fullness() {
				most = other
			}
		}
		if most.stats.Entries == 0 {
			return // it is tenants alone, or the hand comes by those with results later
		}
		c.evict(most)
	}
}

// told are the figures as others see them.
func (tc *tenantCache) told() CacheStats {
	s := tc.stats
	s.Off = tc.habit.off
	return s
}

func (tc *tenantCache) fullness() float64 { return float64(tc.stats.Bytes) / float64(max(tc.quota, 1)) }

// expire drops what is too old from the end of the ring, where little is that was asked for lately.
func (c *Cache) expire(tc *tenantCache, now int64) {
	for e := tc.ring.prev; e != &tc.ring && e.until <= now; e = tc.ring.prev {
		c.drop(tc, e)
	}
}

func (c *Cache) evict(tc *tenantCache) {
	tc.stats.Evicted++
	c.drop(tc, tc.ring.prev)
}

func (c *Cache) drop(tc *tenantCache, e *cacheEntry) {
	e.unlink()
	delete(c.entries, e.key)
	size := int64(len(e.result)) + cacheEntryBytes
	tc.stats.Entries--
	tc.stats.Bytes -= size
	c.bytes -= size
}

func (c *Cache) empty(tc *tenantCache) {
	for tc.stats.Entries > 0 {
		c.drop(tc, tc.ring.prev)
	}
}

func (e *cacheEntry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (tc *tenantCache) push(e *cacheEntry) {
	e.next, e.prev = tc.ring.next, &tc.ring
	e.next.prev, e.prev.next = e, e
}

// Invalidate drops all that is kept for a tenant.
func (c *Cache) Invalidate(t ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tc := c.tenants[t]; tc != nil {
		c.empty(tc)
	}
}

// Stats tells of a tenant's results.
func (c *Cache) Stats(t ID) CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tc := c.tenants[t]; tc != nil {
		return tc.told()
	}
	return CacheStats{}
}

// Total tells of all tenants' results, and what the cache takes in all.
func (c *Cache) Total() (sum CacheStats, bytes int64, tenants, off int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum = c.sums
	for _, tc := range c.order {
		sum.Add(tc.stats)
		if tc.habit.off {
			off++
		}
	}
	return sum, c.bytes, len(c.order), off
}

// tierSearches are searches of a tier's tenants whose result was looked for; as those of a gate, they stay.
type tierSearches struct {
	name         string
	hits, misses uint64
}

func (c *Cache) tier(name string) *tierSearches {
	s := c.tiers[name]
	if s == nil {
		s = &tierSearches{name: name}
		c.tiers[name] = s
	}
	return s
}

// ByTier tells how many searches of each tier's tenants were answered from the cache, and how many were not in it.
func (c *Cache) ByTier(tell func(tier string, hits, misses uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.tiers {
		tell(s.name, s.hits, s.misses)
	}
}

// habit finds out whether a cache helps a tenant: of so many searches, a share must be found. One that does not help is off for
// a while, longer each time, and then tried again.
type habit struct {
	asked, found int
	off          bool
	until        int64 // ns since 1970: when it is tried again
	pause        time.Duration
}

const (
	habitSearches = 256
	habitShare    = 0.2
	firstOff      = time.Minute
	longestOff    = 16 * time.Minute
)

// wants reports whether it is on, or to be tried again.
func (h *habit) wants(now int64) bool {
	if h.off && now >= h.until {
		h.off, h.asked, h.found = false, 0, 0
	}
	return !h.off
}

// note counts a search, and reports whether it has turned off.
func (h *habit) note(found bool, now int64) (off bool) {
	h.asked++
	if found {
		h.found++
	}
	if h.off || h.asked < habitSearches {
		return false
	}
	h.off = float64(h.found) < habitShare*habitSearches
	h.asked, h.found = 0, 0
	if !h.off {
		h.pause = 0
		return false
	}
	h.pause = min(max(firstOff, 2*h.pause), longestOff)
	h.until = now + int64(h.pause)
	return true
}
