package tenancy

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestResolve compares the cascade with a plain reading of its rules.
func TestResolve(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	draw := rapid.Custom(func(t *rapid.T) Limits {
		var ls Limits
		for l := range limitCount {
			if rapid.Bool().Draw(t, l.String()) {
				ls.Set(l, rapid.Int64Range(0, 1<<40).Draw(t, "value"))
			}
		}
		return ls
	})
	rapid.Check(t, func(t *rapid.T) {
		tier, own := Tier{"t", draw.Draw(t, "tier")}, draw.Draw(t, "own")
		o := Override{Factor: float64(rapid.IntRange(0, 16).Draw(t, "factor")), Until: now.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "left")) * time.Minute)}
		got := Resolve(&tier, &own, &o, 7, now)
		for l := range limitCount {
			want, from := limitTable[l].system, FromSystem
			if v, ok := tier.Limits.Get(l); ok {
				want, from = v, FromTier
			}
			if v, ok := own.Get(l); ok {
				want, from = v, FromTenant
			}
			if limitTable[l].scaled && o.Factor > 1 && o.Until.After(now) && want != Unlimited {
				want, from = want*int64(o.Factor), FromOverride
			}
			require.Equal(t, want, got.Get(l), "%s", l)
			require.Equal(t, from, got.Source(l), "%s", l)
		}
		require.Equal(t, uint64(7), got.Version)
		require.Equal(t, o.Factor > 1 && o.Until.After(now), !got.Until.IsZero() && o.Factor > 1)
	})
}

func TestSettingsOfShippedTiers(t *testing.T) {
	names := map[string]bool{}
	for _, tier := range ShippedTiers() {
		s := Resolve(&tier, &Limits{}, &Override{}, 1, time.Time{})
		names[tier.Name] = true
		for l, row := range limitTable {
			require.GreaterOrEqual(t, s.values[l], row.least, "%s of %s", row.name, tier.Name)
		}
	}
	require.Len(t, names, len(ShippedTiers()))
	require.True(t, names[DefaultTier])
}

func TestDurationsDoNotOverflow(t *testing.T) {
	var own Limits
	own.Set(Deadline, Unlimited)
	s := Resolve(&Tier{}, &own, &Override{}, 1, time.Time{})
	require.Equal(t, time.Duration(math.MaxInt64), s.Duration(Deadline))
	require.Equal(t, 15*time.Minute, s.Duration(CacheTTL))
	require.Equal(t, int64(5), s.Tighten(TopK, 5))
	require.Equal(t, int64(10_000), s.Tighten(TopK, 20_000))
}
