package ann_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
)

var metrics = []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean}

// reference measures in float64.
func reference(m ann.Metric, a, b []float32) float64 {
	var dot, squared float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot += x * y
		squared += (x - y) * (x - y)
	}
	switch m {
	case ann.Cosine:
		return 1 - dot/(ann.Norm(a)*ann.Norm(b))
	case ann.DotProduct:
		return -dot
	}
	return squared
}

func TestMetricNames(t *testing.T) {
	for _, m := range metrics {
		got, err := ann.ParseMetric(m.String())
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	_, err := ann.ParseMetric("Cosine")
	require.ErrorContains(t, err, `"Cosine"`)
	require.Equal(t, "metric(9)", ann.Metric(9).String())
}

func TestScore(t *testing.T) {
	require.Equal(t, float32(0.75), ann.Cosine.Score(0.25))
	require.Equal(t, float32(3), ann.DotProduct.Score(-3))
	require.Equal(t, float32(3), ann.Euclidean.Score(3))
}

func TestDistance(t *testing.T) {
	const seed = 1
	all := anntest.Clustered(seed, 200, 37)
	for _, m := range metrics {
		for i, a := range all[1:] {
			b := all[i]
			q := ann.Bind(m, a)
			want := reference(m, a, b)
			require.InDelta(t, want, float64(q.Distance(b, ann.Scale(m, b))), 1e-4*max(1, math.Abs(want)), "%v row %d", m, i)
			back := ann.Bind(m, b)
			require.Equal(t, q.Distance(b, ann.Scale(m, b)), back.Distance(a, ann.Scale(m, a)), "%v: the same both ways", m)
		}
	}
}

func TestDistanceOfExtremeVectors(t *testing.T) {
	row := func(values ...float32) []float32 { return values }
	const huge, tiny = 3e38, 1e-42
	tests := []struct {
		name   string
		metric ann.Metric
		a, b   []float32
		want   float32
	}{
		{"cosine of huge", ann.Cosine, row(huge, 0), row(huge, huge), float32(1 - math.Sqrt2/2)},
		{"cosine of tiny", ann.Cosine, row(tiny, 0), row(tiny, tiny), float32(1 - math.Sqrt2/2)},
		{"cosine of huge and tiny", ann.Cosine, row(huge, huge), row(tiny, tiny), 0},
		{"cosine of zeros", ann.Cosine, row(0, 0), row(1, 1), 1},
		{"cosine opposite", ann.Cosine, row(1, 0), row(-2, 0), 2},
		{"dot product overflows", ann.DotProduct, row(huge, 0), row(huge, 0), -math.MaxFloat32},
		{"dot product overflows on the way", ann.DotProduct, row(huge, huge, 1), row(huge, -huge, 1), -1},
		{"euclidean overflows", ann.Euclidean, row(huge), row(-huge), math.MaxFloat32},
		{"euclidean is exact", ann.Euclidean, row(0, 0), row(3, 4), 25},
		{"euclidean of equals", ann.Euclidean, row(0.1, huge), row(0.1, huge), 0},
	}
	for _, tt := range tests {
		q := ann.Bind(tt.metric, tt.a)
		got := q.Distance(tt.b, ann.Scale(tt.metric, tt.b))
		require.InDelta(t, tt.want, got, 1e-3, tt.name)
		require.False(t, ann.IsGone(got), tt.name)
	}
}

func TestMeasureAgreesWithDistance(t *testing.T) {
	const n, dim = 100, 20
	all := anntest.Clustered(2, n+1, dim)
	for _, m := range metrics {
		src := anntest.NewVectors(m, n)
		var slots []uint32
		for i := range n {
			slots = append(slots, uint32(i))
			if i%7 != 0 {
				src.Set(uint32(i), all[i])
			}
		}
		for _, count := range []int{0, 1, 15, 16, 17, 33, n} {
			q := ann.Bind(m, all[n])
			out := make([]float32, count)
			q.Measure(src, slots[:count], out)
			for i, got := range out {
				if i%7 == 0 {
					require.True(t, ann.IsGone(got))
					continue
				}
				require.Equal(t, q.Distance(all[i], ann.Scale(m, all[i])), got)
			}
		}
	}
}

func TestScale(t *testing.T) {
	require.Equal(t, float32(1), ann.Scale(ann.Euclidean, []float32{3, 4}))
	require.Equal(t, float32(1), ann.Scale(ann.DotProduct, []float32{3, 4}))
	require.Equal(t, float32(0.2), ann.Scale(ann.Cosine, []float32{3, 4}))
	require.Equal(t, float32(0), ann.Scale(ann.Cosine, []float32{0, 0}))
	require.InDelta(t, 3e38*math.Sqrt(3), ann.Norm([]float32{3e38, 3e38, 3e38}), 1e32)
}

func TestKeysOrderAsCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) ann.Candidate {
			return ann.Candidate{
				Slot:     rapid.Uint32().Draw(t, name),
				Distance: rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{0, 1, -1, float32(math.Copysign(0, -1))})).Draw(t, name),
			}
		}
		a, b := draw("a"), draw("b")
		if ann.IsGone(a.Distance) || ann.IsGone(b.Distance) {
			return
		}
		require.Equal(t, ann.Compare(a, b) < 0, ann.Key(a) < ann.Key(b))
		require.Equal(t, 0, ann.Compare(a, ann.FromKey(ann.Key(a))))
	})
}

func TestTopKAgreesWithSorting(t *testing.T) {
	var top ann.TopK
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(0, 20).Draw(t, "k")
		top.Reset(k)
		var all []ann.Candidate
		for i := range rapid.IntRange(0, 60).Draw(t, "n") {
			c := ann.Candidate{Slot: uint32(i), Distance: float32(rapid.IntRange(-5, 5).Draw(t, "distance"))}
			all = append(all, c)
			slices.SortFunc(all, ann.Compare)
			kept := slices.Contains(all[:min(k, len(all))], c)
			require.Equal(t, kept, top.Offer(c))
			worst, full := top.Worst()
			require.Equal(t, k > 0 && len(all) >= k, full)
			if full {
				require.Equal(t, all[k-1], worst)
				require.Equal(t, ann.Key(worst), top.Bound())
			}
			require.Equal(t, min(k, len(all)), top.Len())
		}
		want := append([]ann.Candidate{{Slot: 99}}, all[:min(k, len(all))]...)
		require.Equal(t, want, top.Sorted([]ann.Candidate{{Slot: 99}}))
		require.Zero(t, top.Len())
	})
}

func TestTopKLeavesOutGoneOnes(t *testing.T) {
	var top ann.TopK
	top.Reset(2)
	require.False(t, top.Offer(ann.Candidate{Distance: float32(math.NaN())}))
	require.True(t, top.Offer(ann.Candidate{Distance: math.MaxFloat32}))
	require.Equal(t, 1, top.Len())
}

func TestTopKAllocatesNothing(t *testing.T) {
	var top ann.TopK
	r := rand.New(rand.NewPCG(1, 1))
	dst := make([]ann.Candidate, 0, 10)
	run := func() {
		top.Reset(10)
		for slot := range uint32(1000) {
			top.Offer(ann.Candidate{Slot: slot, Distance: r.Float32()})
		}
		top.Sorted(dst)
	}
	run()
	require.Zero(t, testing.AllocsPerRun(10, run))
}

func TestKernelIsNamed(t *testing.T) {
	require.NoError(t, ann.CheckKernel())
	require.Contains(t, []string{"generic", "avx2", "avx512"}, ann.Kernel())
}
