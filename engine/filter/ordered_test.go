package filter

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestOrderedAgainstModel drives chunks through splits, joins and removal, in ascending and in random order, with
// values that have one slot and several.
func TestOrderedAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o ordered
		var mem int64
		model := map[float64]map[uint32]bool{}
		put := func(f float64, slot uint32) {
			if model[f] == nil {
				model[f] = map[uint32]bool{}
			}
			model[f][slot] = true
			o.add(f, slot, &mem)
		}
		drop := func(f float64, slot uint32) {
			o.remove(f, slot, &mem)
			if delete(model[f], slot); len(model[f]) == 0 {
				delete(model, f)
			}
		}
		step := rapid.SampledFrom([]int{1, 7919, -1}).Draw(t, "step")
		n := rapid.IntRange(0, 4*maxChunk).Draw(t, "n")
		for i := range n {
			put(float64(((i*step)%4096+4096)%4096), uint32(i))
		}
		for i := range rapid.IntRange(0, 100).Draw(t, "shared") {
			put(float64(i*37%4096), uint32(100_000+i))
		}
		checkOrdered(t, &o, model)
		keep := rapid.IntRange(1, 20).Draw(t, "keep")
		for _, f := range slices.Sorted(maps.Keys(model)) {
			for _, s := range slices.Sorted(maps.Keys(model[f])) {
				if int(s)%20 >= keep {
					drop(f, s)
				}
			}
		}
		checkOrdered(t, &o, model)
		for f, slots := range maps.Clone(model) {
			for _, s := range slices.Sorted(maps.Keys(slots)) {
				drop(f, s)
			}
		}
		require.Empty(t, o.chunks)
		require.Zero(t, mem)
	})
}

func checkOrdered(t *rapid.T, o *ordered, model map[float64]map[uint32]bool) {
	require.Equal(t, len(model), o.count(place{}, o.end()))
	bound := rapid.OneOf(rapid.Float64Range(-10, 4200), rapid.Map(rapid.IntRange(-1, 4100), func(i int) float64 { return float64(i) }),
		rapid.SampledFrom([]float64{math.Inf(-1), math.Inf(1)}))
	for range 5 {
		s := interval{bound.Draw(t, "lo"), bound.Draw(t, "hi"), rapid.Bool().Draw(t, "loOpen"), rapid.Bool().Draw(t, "hiOpen")}
		want, numbers := []uint32{}, 0
		for f, slots := range model {
			if s.contains(f) {
				numbers++
				want = slices.AppendSeq(want, maps.Keys(slots))
			}
		}
		slices.Sort(want)
		from, to := o.bounds(s)
		require.Equal(t, numbers, o.count(from, to), "%+v", s)
		require.Equal(t, len(want), o.slots(from, to))
		var u union
		o.gather(from, to, &u)
		require.Equal(t, want, append([]uint32{}, u.bitmap().ToArray()...), "%+v", s)
	}
}

func TestOrderedFillsChunksOfAscendingNumbers(t *testing.T) {
	var o ordered
	var mem int64
	for i := range 10 * maxChunk {
		o.add(float64(i), uint32(i), &mem)
	}
	require.Len(t, o.chunks, 10)
}
