package tenancy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// testClock is a clock that is set.
type testClock struct{ now time.Time }

func (c *testClock) advance(d time.Duration) { c.now = c.now.Add(d) }

func newTestCache(bytes int64) (*Cache, *testClock) {
	clock := &testClock{time.Unix(1_000_000, 0)}
	return NewCache(CacheOptions{Now: func() time.Time { return clock.now }, Bytes: bytes}), clock
}

func cacheSettings(bytes, ttl int64) *Settings {
	tier := Tier{Name: "t"}
	tier.Limits.Set(CacheBytes, bytes)
	tier.Limits.Set(CacheTTL, ttl)
	s := Resolve(&tier, &Limits{}, &Override{}, 1, time.Time{})
	return &s
}

func cacheKey(tenant byte, request uint64) CacheKey {
	return CacheKey{Tenant: ID{tenant}, Request: [2]uint64{request, 1}}
}

// ask is what a search does with the cache: the result, and whether it was there.
func ask(c *Cache, s *Settings, k CacheKey, result []byte) (got []byte, hit bool) {
	if !c.Wants(k.Tenant, s) {
		return result, false
	}
	if found := c.Get(&k); found != nil {
		return found, true
	}
	c.Put(&k, result)
	return result, false
}

// TestCacheModel asks for random things of a few tenants, and compares what is found with what was put under that very key. Under
// a bound for all that is never met, each tenant's results are those of a cache of its own.
func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, clock := newTestCache(1 << 30)
		var own [3]*Cache
		for i := range own {
			own[i] = NewCache(CacheOptions{Now: func() time.Time { return clock.now }, Bytes: 1 << 30})
		}
		put := map[CacheKey]string{}
		s := cacheSettings(8000, 60)
		rt.Repeat(map[string]func(*rapid.T){
			"ask": func(rt *rapid.T) {
				k := cacheKey(rapid.ByteRange(0, 2).Draw(rt, "tenant"), rapid.Uint64Range(0, 30).Draw(rt, "request"))
				k.Version = rapid.Uint64Range(0, 1).Draw(rt, "version")
				result := fmt.Sprintf("%v %0*d", k, rapid.IntRange(1, 500).Draw(rt, "size"), len(put))
				got, hit := ask(c, s, k, []byte(result))
				alone, aloneHit := ask(own[k.Tenant[0]], s, k, []byte(result))
				require.Equal(rt, aloneHit, hit, "others' searches change nothing")
				require.Equal(rt, string(alone), string(got))
				if hit {
					require.Equal(rt, put[k], string(got))
				} else {
					put[k] = result
				}
			},
			"wait": func(rt *rapid.T) { clock.advance(time.Duration(rapid.IntRange(1, 20).Draw(rt, "s")) * time.Second) },
			"invalidate": func(rt *rapid.T) {
				n := rapid.ByteRange(0, 2).Draw(rt, "tenant")
				c.Invalidate(ID{n})
				own[n].Invalidate(ID{n})
				require.Zero(rt, c.Stats(ID{n}).Entries)
			},
			"": func(rt *rapid.T) {
				sum, bytes, _, _ := c.Total()
				for i := range own {
					st := c.Stats(ID{byte(i)})
					require.LessOrEqual(rt, st.Bytes, int64(8000))
					alone := own[i].Stats(ID{byte(i)})
					require.LessOrEqual(rt, st.Entries, alone.Entries, "what is too old may go earlier where others are")
					st.Entries, st.Bytes = alone.Entries, alone.Bytes
					require.Equal(rt, alone, st)
				}
				require.Equal(rt, sum.Bytes+int64(len(c.order))*cacheTenantBytes, bytes)
			},
		})
	})
}

// TestCacheOverfilledByOne has one tenant ask for something else each time. Under its own quota, and where all together are over
// the bound of the node, it takes nothing from the others, who use less of theirs.
func TestCacheOverfilledByOne(t *testing.T) {
	for name, bound := range map[string]int64{"own quota": 1 << 30, "bound of the node": 200_000} {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCache(bound)
			s := cacheSettings(100_000, 600)
			result := make([]byte, 1000)
			const others, results = 10, 5
			for tenant := byte(1); tenant <= others; tenant++ {
				for r := range uint64(results) {
					ask(c, s, cacheKey(tenant, r), result)
				}
			}
			for r := range uint64(5000) {
				ask(c, s, cacheKey(0, r%4000+r%2), result) // some are asked for again, or it would be off
				if r%3 == 0 {
					ask(c, s, cacheKey(0, 1), result)
				}
			}
			require.Positive(t, c.Stats(ID{0}).Evicted)
			for tenant := byte(1); tenant <= others; tenant++ {
				st := c.Stats(ID{tenant})
				require.Equal(t, results, st.Entries)
				require.Zero(t, st.Evicted)
			}
			_, bytes, _, _ := c.Total()
			require.LessOrEqual(t, bytes, bound)
		})
	}
}

// TestCacheLives keeps what is asked for again twice as long each time, up to the TTL, and what is not for a part of it.
func TestCacheLives(t *testing.T) {
	c, clock := newTestCache(0)
	s := cacheSettings(1<<20, 800)
	hit := func() bool { _, hit := ask(c, s, cacheKey(1, 1), []byte("r")); return hit }
	require.False(t, hit())
	clock.advance(101 * time.Second)
	require.False(t, hit(), "an eighth of the TTL")
	for _, wait := range []int{99, 199, 399, 799, 799} {
		clock.advance(time.Duration(wait) * time.Second)
		require.True(t, hit(), wait)
	}
	clock.advance(801 * time.Second)
	require.False(t, hit(), "never longer than the TTL")
}

// TestCacheOfRepetitiveWork asks as people do: some things often, most of them seldom. Four of five are found.
func TestCacheOfRepetitiveWork(t *testing.T) {
	c, clock := newTestCache(0)
	s := cacheSettings(10<<20, 900)
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 1, 5000)
	for range 50_000 {
		clock.advance(20 * time.Millisecond)
		ask(c, s, cacheKey(1, zipf.Uint64()), make([]byte, 600))
	}
	st := c.Stats(ID{1})
	require.Greater(t, float64(st.Hits)/float64(st.Hits+st.Misses), 0.8, "%+v", st)
}

// TestCacheThatDoesNotHelp turns off for who never asks the same again, and is tried again, later each time.
func TestCacheThatDoesNotHelp(t *testing.T) {
	c, clock := newTestCache(0)
	s := cacheSettings(1<<20, 800)
	n := uint64(0)
	search := func(times int, repeat uint64) {
		for range times {
			n++
			ask(c, s, cacheKey(1, n%repeat), []byte("r"))
		}
	}
	const never = 1 << 60
	search(habitSearches, never)
	require.True(t, c.Stats(ID{1}).Off)
	require.Zero(t, c.Stats(ID{1}).Bytes, "nothing is kept for nothing")
	search(10, never)
	require.EqualValues(t, 10, c.Stats(ID{1}).Skipped)
	clock.advance(firstOff)
	search(habitSearches, never)
	require.True(t, c.Stats(ID{1}).Off)
	clock.advance(firstOff)
	require.False(t, c.Wants(ID{1}, s), "twice as long the second time")
	clock.advance(firstOff)
	search(10*habitSearches, 4)
	require.False(t, c.Stats(ID{1}).Off)
	require.False(t, c.Wants(ID{1}, cacheSettings(0, 800)), "without a quota there is none")
	require.False(t, c.Wants(ID{1}, cacheSettings(1<<20, 0)))
}

// TestCacheForgetsTenants bounds what tenants cost that have no results any more.
func TestCacheForgetsTenants(t *testing.T) {
	c, clock := newTestCache(0)
	s := cacheSettings(1<<20, 800)
	for i := range 2000 {
		ask(c, s, CacheKey{Tenant: ID{1, byte(i), byte(i >> 8)}}, []byte("r"))
	}
	clock.advance(2 * time.Hour)
	for i := range 1000 {
		c.Wants(ID{2, byte(i), byte(i >> 8)}, s)
	}
	sum, _, tenants, _ := c.Total()
	require.LessOrEqual(t, tenants, 1001)
	require.EqualValues(t, 2000, sum.Misses, "what was counted is not forgotten")
	clock.advance(2 * time.Hour)
	c.Tidy()
	c.Tidy()
	_, bytes, tenants, _ := c.Total()
	require.Zero(t, tenants, "nobody need come for that")
	require.Zero(t, bytes)
}

func BenchmarkCacheHit(b *testing.B) {
	c, _ := newTestCache(0)
	s := cacheSettings(1<<20, 800)
	request := make([]byte, 4*768)
	k := cacheKey(1, 0)
	k.Request = c.Hash(request)
	ask(c, s, k, make([]byte, 500))
	b.ReportAllocs()
	for b.Loop() {
		c.Wants(k.Tenant, s)
		k.Request = c.Hash(request)
		if c.Get(&k) == nil {
			b.Fatal("a miss")
		}
	}
}
