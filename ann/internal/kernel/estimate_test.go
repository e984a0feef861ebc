package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// oddFactors are those that a row of any bytes may have.
var oddFactors = []float32{
	0, float32(math.Copysign(0, -1)), -1, 1e-40, math.MaxFloat32, -math.MaxFloat32,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

func factorsOf(n, g float32) uint64 {
	return uint64(math.Float32bits(g))<<32 | uint64(math.Float32bits(n))
}

func TestDistance(t *testing.T) {
	e := &Estimator{Base: 10, Weight: 2, Slope: 3, Unit: 0.5, Shift: 4}
	require.Equal(t, float32(10+2*9-3*(0.5*3*7*(6-4))), e.Distance(6, factorsOf(3, 7)))
	require.Equal(t, float32(10), e.Distance(6, factorsOf(0, 7)))
	require.Equal(t, float32(1), e.Distance(6, factorsOf(-1, 7)), "no direction")
	nan := float32(math.NaN())
	require.Equal(t, float32(math.MaxFloat32), e.Distance(6, factorsOf(nan, 1)))
	require.Equal(t, float32(math.MaxFloat32), e.Distance(6, factorsOf(1, nan)))
	require.Equal(t, float32(-math.MaxFloat32), e.Distance(math.MaxInt32, factorsOf(1, math.MaxFloat32)))
	require.Equal(t, float32(math.MaxFloat32), e.Distance(math.MinInt32, factorsOf(1, math.MaxFloat32)))
}

// TestNear compares every way with what Distance says, bit by bit.
func TestNear(t *testing.T) {
	const seed = 11
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		factor := func() float32 {
			if r.IntN(8) == 0 {
				return oddFactors[r.IntN(len(oddFactors))]
			}
			return float32(math.Exp(r.NormFloat64()))
		}
		for n := 1; n <= 40; n++ {
			for _, reach := range []float32{-1, 0.5, 1, 2, math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN())} {
				e := &Estimator{Base: r.Float64(), Weight: float64(r.IntN(2)), Slope: 2, Unit: 1e-9, Shift: 1e6 * r.Float64()}
				sums, factors, ids := make([]int32, n), make([]uint64, n), make([]uint32, n+1)
				var wantIDs []uint32
				var want []uint32 // bits
				for i := range n {
					sums[i], factors[i], ids[i] = int32(r.Uint32()), factorsOf(factor(), factor()), r.Uint32()
					if d := e.Distance(sums[i], factors[i]); d <= reach {
						wantIDs, want = append(wantIDs, ids[i]), append(want, math.Float32bits(d))
					}
				}
				out := make([]float32, n+1)
				ids[n], out[n] = 7, 7
				found := near(w, e, sums, factors, reach, ids[:n], out[:n])
				require.Len(t, want, found, "seed %d n %d reach %v", seed, n, reach)
				for i := range found {
					require.Equal(t, wantIDs[i], ids[i], "seed %d n %d reach %v", seed, n, reach)
					require.Equal(t, want[i], math.Float32bits(out[i]), "seed %d n %d reach %v", seed, n, reach)
				}
				require.Equal(t, uint32(7), ids[n], "writes nothing beyond")
				require.Equal(t, float32(7), out[n], "writes nothing beyond")
			}
		}
	})
}

func TestNearArguments(t *testing.T) {
	e := &Estimator{}
	require.Zero(t, e.Near(nil, nil, 1, nil, nil))
	sums, factors, ids, out := make([]int32, 2), make([]uint64, 2), make([]uint32, 2), make([]float32, 2)
	require.Equal(t, 2, e.Near(sums, factors, 1, ids, out))
	require.Panics(t, func() { e.Near(sums[:1], factors, 1, ids, out) })
	require.Panics(t, func() { e.Near(sums, factors[:1], 1, ids, out) })
	require.Panics(t, func() { e.Near(sums, factors, 1, ids[:1], out) })
	require.Panics(t, func() { e.Near(sums, factors, 1, ids, out[:1]) })
	require.Zero(t, testing.AllocsPerRun(10, func() { e.Near(sums, factors, 1, ids, out) }))
}

// TestCodeDotsAnd looks for what stands behind codes.
func TestCodeDotsAnd(t *testing.T) {
	const seed = 13
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, width := range codeWidths {
			for _, dims := range []int{64, 128, 320, 832} {
				s := newCodeSet(width, dims+64, 5, 3, 1, randomByte(r)) // its rows are longer than the query
				query, size := s.query[:dims], dims/8*width
				for _, n := range []int{1, 3, 4, 19} {
					ids, sums, alone, behind := s.randomIDs(r, n), make([]int32, n), make([]int32, n), make([]uint64, n+1)
					behind[n] = 7
					codeDots(w, width, query, &s.rows, s.offset, ids, sums, behind[:n])
					codeDots(w, width, query, &s.rows, s.offset, ids, alone, nil)
					require.Equal(t, alone, sums, "seed %d width %d dims %d", seed, width, dims)
					for i, id := range ids {
						want := uint64(0)
						for j, b := range s.bytes[id][size : size+8] {
							want |= uint64(b) << (8 * j)
						}
						require.Equal(t, want, behind[i], "seed %d width %d dims %d", seed, width, dims)
					}
					require.Equal(t, uint64(7), behind[n])
				}
			}
		}
	})
	s := newCodeSet(4, 128, 2, 0, 0, func() byte { return 1 })
	ids, sums, behind := []uint32{0, 1}, make([]int32, 2), make([]uint64, 2)
	require.Panics(t, func() { CodeDotsAnd(4, s.query, &s.rows, 0, ids, sums, behind) }, "three bytes behind codes")
	require.Panics(t, func() { CodeDotsAnd(4, s.query[:64], &s.rows, 0, ids, sums, behind[:1:1]) }, "too few")
	CodeDotsAnd(4, s.query[:0], &s.rows, 0, ids, sums, behind)
	require.Equal(t, []int32{0, 0}, sums, "no dimensions")
	require.Equal(t, []uint64{0x0101010101010101, 0x0101010101010101}, behind)
}
