package tenancy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func usageOf(queries uint64, compute time.Duration) *Usage {
	u := &Usage{}
	u.Counts[Queries], u.Counts[ComputeNanos] = queries, uint64(compute)
	for range queries {
		u.Observe(compute / time.Duration(queries))
	}
	return u
}

// TestHeat has ten tenants ask the same, and then one of them much more, until it stops.
func TestHeat(t *testing.T) {
	var h Heat
	now := time.Unix(1000, 0)
	step := func(seconds int, one uint64) {
		for range seconds {
			now = now.Add(time.Second)
			for tenant := range byte(10) {
				n := uint64(10)
				if tenant == 3 {
					n = one
				}
				if n > 0 {
					h.Note(ID{tenant}, usageOf(n, time.Duration(n)*2*time.Millisecond), now)
				}
			}
		}
	}
	noCache := func(ID) int64 { return 0 }
	hot := func() (hot []byte) {
		for _, l := range h.Top(now, 100, noCache) {
			if l.Hot {
				hot = append(hot, l.Tenant[0])
			}
		}
		return hot
	}
	step(300, 10)
	require.Empty(t, hot())
	top := h.Top(now, 100, noCache)
	require.Len(t, top, 10)
	for _, l := range top {
		require.InDelta(t, 10, l.Queries, 0.5)
		require.InDelta(t, 0.02, l.Compute, 0.001)
		require.InDelta(t, 0.1, l.QueryShare, 0.01)
		require.InEpsilon(t, float64(2*time.Millisecond), float64(l.P95), 0.25)
	}
	step(60, 100)
	require.Equal(t, []byte{3}, hot())
	require.Equal(t, ID{3}, h.Top(now, 1, noCache)[0].Tenant)
	step(300, 0)
	require.Empty(t, hot(), "it has cooled down")
	kept := func(id ID) int64 { return int64(id[0]) * hotCache / 40 }
	for _, l := range h.Top(now, 100, kept) {
		require.Equal(t, l.Tenant[0] == 9, l.CacheShare > hotShare-0.001, "%v", l) // 9 of 45
	}

	var alone Heat
	alone.Note(ID{1}, usageOf(1000, time.Minute), now)
	require.False(t, alone.Top(now, 1, noCache)[0].Hot, "who is alone takes nothing from anybody")
}

// TestHeatIsBounded forgets who has asked little and long ago.
func TestHeatIsBounded(t *testing.T) {
	var h Heat
	now := time.Unix(1000, 0)
	for i := range 3 * heatTenants {
		if i%heatTenants == 0 {
			now = now.Add(10 * time.Minute)
		}
		h.Note(ID{byte(i), byte(i >> 8), byte(i >> 16)}, usageOf(1, time.Millisecond), now)
		require.LessOrEqual(t, len(h.tenants), heatTenants)
	}
	require.Len(t, h.tenants, heatTenants)
	h.Top(now.Add(10*time.Minute), 1, func(t ID) int64 { return int64(t[0] / 255) })
	require.Len(t, h.tenants, heatTenants/256, "who has asked nothing since, and has no results in the cache, is forgotten where all are looked at")
}
