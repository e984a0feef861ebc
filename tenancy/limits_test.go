package tenancy

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
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
				want, from = max(want*int64(o.Factor), limitTable[l].least), FromOverride
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

func TestValuesAsText(t *testing.T) {
	for _, l := range AllLimits() {
		got, err := ParseLimit(l.String())
		require.NoError(t, err)
		require.Equal(t, l, got)
		for _, v := range []int64{limitTable[l].least, limitTable[l].system} {
			back, err := l.Parse(l.Format(v))
			require.NoError(t, err, "%s", l)
			require.Equal(t, v, back, "%s", l)
		}
		for _, text := range []string{"", "-1", "1.5", "some", strconv.FormatInt(limitTable[l].least-1, 10)} {
			_, err := l.Parse(text)
			require.True(t, errs.Is(err, errs.Invalid), "%s: %q", l, text)
		}
	}
	_, err := ParseLimit("speed")
	require.True(t, errs.Is(err, errs.Invalid))
	require.Contains(t, errs.HintOf(err), "top_k")
	require.Error(t, limitCount.Check(1))
}

func TestChange(t *testing.T) {
	var ls, set Limits
	ls.Set(Rate, 1)
	ls.Set(TopK, 2)
	set.Set(Burst, 3)
	got := (&Change{Set: set, Inherit: []Limit{Rate}}).Of(ls)
	var want Limits
	want.Set(TopK, 2)
	want.Set(Burst, 3)
	require.Equal(t, want, got)
	require.False(t, got.IsEmpty())
	require.True(t, (&Change{}).IsEmpty())
	require.Error(t, (&Change{Inherit: []Limit{limitCount}}).Check())
	set.Set(Burst, 0)
	require.Error(t, set.Check())
}

func TestOverrideCheck(t *testing.T) {
	for factor, ok := range map[float64]bool{0: true, 0.1: true, 10: true, MaxFactor: true, MaxFactor + 1: false, -1: false, math.Inf(1): false} {
		require.Equal(t, ok, (&Override{Factor: factor}).Check() == nil, "%v", factor)
	}
	require.Error(t, (&Override{Factor: math.NaN()}).Check())
	require.Error(t, (&Override{Factor: 1, Reason: strings.Repeat("r", maxReason+1)}).Check())
}

// TestOverrideKeepsTheLeast: a factor below 1 leaves what a limit must at least be.
func TestOverrideKeepsTheLeast(t *testing.T) {
	var own Limits
	own.Set(Concurrency, 3)
	now := time.Unix(1, 0)
	s := Resolve(&Tier{}, &own, &Override{Factor: 0.1, Until: now.Add(1)}, 1, now)
	require.Equal(t, int64(1), s.Get(Concurrency))
}

func TestTierNames(t *testing.T) {
	for name, ok := range map[string]bool{"gold": true, "a": true, "a-1": true, "": false, "-a": false, "a-": false, "A": false, "a b": false, strings.Repeat("a", 33): false, "a\n": false} {
		require.Equal(t, ok, CheckTierName(name) == nil, "%q", name)
	}
}
