package cluster

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

func TestRingSpread(t *testing.T) {
	rows, err := MeasureRing([]int{5, 256, 1000}, []int{1000, 100_000}, 1)
	require.NoError(t, err)
	require.Len(t, rows, 6)
	for _, r := range rows {
		require.True(t, r.Within, "%+v", r)
		require.InEpsilon(t, r.StddevExpected, r.Stddev, 0.6)
	}
	again, err := MeasureRing([]int{5, 256, 1000}, []int{1000, 100_000}, 1)
	require.NoError(t, err)
	require.Equal(t, rows, again, "the same seed draws the same tenants")
}

// TestRingSpreadSeesFaults shows rings to the judge that it must refuse.
func TestRingSpreadSeesFaults(t *testing.T) {
	const tenants = 100_000
	table := newRing(firstShards(16))
	grown := table.with(16)
	sample := sampleSlots(tenants, 1)
	require.True(t, spreadOf(table, grown, sample, tenants).Within)

	skewed := slices.Clone(sample) // a hash that prefers a slot: some 1 % of tenants sit in it
	for slot := 0; slot < Slots; slot += 16 {
		skewed[0] += min(1, skewed[slot])
		skewed[slot] -= min(1, skewed[slot])
	}
	require.Greater(t, spreadOf(table, grown, skewed, tenants).SpreadSigmas, 3.0)

	modulo := make(ringTable, Slots) // what a hash modulo the number of shards would move
	for slot := range modulo {
		modulo[slot] = uint16(slot % 17)
	}
	r := spreadOf(table, modulo, sample, tenants)
	require.Positive(t, r.Astray)
	require.False(t, r.Within)

	greedy := slices.Clone(grown)
	for slot := range greedy[:Slots/5] {
		greedy[slot] = 16
	}
	require.Greater(t, spreadOf(table, greedy, sample, tenants).MovedSigmas, 3.0)

	heavy := slices.Clone(table)
	for slot := range heavy[:Slots/8] {
		heavy[slot] = 0
	}
	r = spreadOf(heavy, heavy.with(16), sample, tenants)
	require.Greater(t, r.SlotsMax, r.SlotsBound)
	require.False(t, r.Within)
}

func TestRingSpreadRefusesNonsense(t *testing.T) {
	for _, shards := range []int{0, 1, Slots} {
		_, err := MeasureRing([]int{shards}, []int{1000}, 1)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	}
	_, err := MeasureRing([]int{5}, []int{0}, 1)
	require.Equal(t, errs.Invalid, errs.KindOf(err))
}

func TestChiSquaredSigmas(t *testing.T) {
	// Quantiles of the chi-squared distribution at 0.99865 (3 sigma), from tables.
	for freedom, quantile := range map[float64]float64{4: 17.80, 15: 36.30, 99: 147.16} {
		require.InDelta(t, 3, chiSquaredSigmas(quantile, freedom), 0.08, "%v degrees of freedom", freedom)
	}
	require.InDelta(t, 0, chiSquaredSigmas(999.33, 1000), 0.01, "the median of many degrees is just below their number")
	require.False(t, math.IsNaN(chiSquaredSigmas(0, 4)))
}
