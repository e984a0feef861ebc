package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// hard are values that rounding, clamping and overflow go wrong at.
var hard = []float32{
	0, float32(math.Copysign(0, -1)), 0.5, -0.5, 1.5, -1.5, 2.5, 126.49999, 126.5, 127, 127.5, -127.5, 128, -128, 1e9, -1e9,
	3e9, 1e30, -1e30, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-40,
	float32(math.Inf(1)), float32(math.Inf(-1)), math.Nextafter32(1, 0), math.Nextafter32(8, 0), -1, 7.9999995, -8,
}

// mixed returns n normal values of that scale with hard ones strewn in, at an address no better than 4-byte aligned.
func mixed(r *rand.Rand, n int, scale float64) []float32 {
	x := row(r, n, 1+n%7, scale)
	for i := range x {
		if r.IntN(4) == 0 {
			x[i] = hard[r.IntN(len(hard))]
		}
	}
	return x
}

// framed returns a slice of n zero values between others that must stay as they are, and a check that they did.
func framed[T int8 | uint8](t *testing.T, n int) ([]T, func()) {
	around := make([]T, n+128)
	for i := range around {
		around[i] = 77
	}
	return around[64 : 64+n : 64+n], func() {
		for i := range 64 {
			require.EqualValues(t, 77, around[i], "before a row of %d", n)
			require.EqualValues(t, 77, around[64+n+i], "after a row of %d", n)
		}
	}
}

func TestMaxAbs(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(21, 0))
		for _, n := range lengths {
			x := row(r, n, n%5, 1)
			var want float32
			for _, v := range x {
				want = max(want, v, -v)
			}
			require.Equal(t, want, maxAbs(w, x), "n %d", n)
		}
		for n := range 140 { // each position counts, whatever its sign
			x := make([]float32, n)
			for i := range x {
				x[i] = -math.MaxFloat32
				require.Equal(t, float32(math.MaxFloat32), maxAbs(w, x))
				x[i] = 1e-45
				require.Equal(t, float32(1e-45), maxAbs(w, x))
				x[i] = float32(math.Copysign(0, -1))
			}
			require.Zero(t, maxAbs(w, x))
		}
	})
}

func TestScale(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for n := range 200 {
			around := make([]float32, n+64)
			for i := range around {
				around[i] = float32(i)*0.37 - 20
			}
			want := append([]float32(nil), around...)
			for i := range n {
				want[32+i] *= -1.7
			}
			scale(w, around[32:32+n], -1.7)
			require.Equal(t, want, around, "n %d", n)
		}
	})
}

func TestFlipSigns(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(22, 0))
		for _, n := range lengths {
			around := row(r, n+64, n%3, 1)
			want := append([]float32(nil), around...)
			signs := make([]uint64, (n+63)/64)
			for i := range signs {
				signs[i] = r.Uint64()
			}
			for i := range n {
				if signs[i/64]>>(i%64)&1 == 1 {
					want[32+i] = -want[32+i]
				}
			}
			flipSigns(w, around[32:32+n], signs)
			require.Equal(t, want, around, "n %d", n)
		}
		zeros := []float32{0, 0}
		flipSigns(w, zeros, []uint64{1})
		require.Equal(t, []bool{true, false}, []bool{math.Signbit(float64(zeros[0])), math.Signbit(float64(zeros[1]))})
	})
	require.Panics(t, func() { FlipSigns(make([]float32, 65), make([]uint64, 1)) })
	FlipSigns(nil, nil)
}

// quantized is Quantize of one value by its definition.
func quantized(v, scale float32) int8 {
	return int8(min(max(math.RoundToEven(float64(v*scale)), -127), 127))
}

func TestQuantize(t *testing.T) {
	const seed = 23
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, n := range lengths {
			for _, scale := range []float32{1, 40, 1e-3, 1e30, 1e-38} {
				what := fmt.Sprintf("seed %d n %d scale %g", seed, n, scale)
				x := mixed(r, n, 127/3/float64(scale))
				want, sum := make([]int8, n), int32(0)
				for i, v := range x {
					want[i] = quantized(v, scale)
					sum += int32(want[i])
				}
				got, unharmed := framed[int8](t, n)
				require.Equal(t, sum, quantize(w, x, scale, got), what)
				require.Equal(t, want, got, what)
				unharmed()
			}
		}
		got := make([]int8, 70)
		nan := make([]float32, 70)
		for i := range nan {
			nan[i] = float32(math.NaN())
		}
		require.Equal(t, int32(-127*70), quantize(w, nan, 1, got))
	})
	require.Panics(t, func() { Quantize(make([]float32, 2), 1, make([]int8, 3)) })
	require.Zero(t, Quantize(nil, 1, nil))
}

// encoded returns code and sums by their definition; the sums of products with the sum of their magnitudes.
func encoded(x []float32, scale float32, levels int) (codes []uint8, want CodeSums, size float64) {
	codes = make([]uint8, len(x))
	centre := float64(levels-1) / 2
	for i, v := range x {
		shifted := v*scale + float32(levels)/2
		u := min(max(math.Floor(float64(shifted)), 0), float64(levels-1))
		codes[i] = uint8(u)
		want.U += int64(u)
		want.UU += (u - centre) * (u - centre)
		want.XU += float64(v) * (u - centre)
		size += math.Abs(float64(v) * (u - centre))
	}
	return codes, want, size
}

func finite(x []float32) []float32 {
	for i, v := range x {
		if v-v != 0 {
			x[i] = math.MaxFloat32
		}
	}
	return x
}

func TestEncodeCodes(t *testing.T) {
	const seed = 24
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, n := range lengths {
			for _, levels := range []int{2, 4, 16, 100, 256} {
				for _, x := range [][]float32{row(r, n, 1, 1), row(r, n, 3, 1e-30), finite(mixed(r, n, 1))} {
					scale := float32(levels) / 6 / max(maxAbsGeneric(x[:min(n, 3)]), 1e-30)
					what := fmt.Sprintf("seed %d n %d levels %d scale %g", seed, n, levels, scale)
					want, sums, size := encoded(x, scale, levels)
					got, unharmed := framed[uint8](t, n)
					totals := encode(w, x, scale, levels, got).centred(levels, n)
					require.Equal(t, want, got, what)
					unharmed()
					require.Equal(t, sums.U, totals.U, what)
					require.Equal(t, sums.UU, totals.UU, what)
					require.InDelta(t, sums.XU, totals.XU, 1e-5*math.Sqrt(float64(n))*size, what)
				}
			}
		}
	})
}

// Rows of this length are encoded in more than one run, with sums of squares that fill 32 bits.
func TestEncodeCodesOfExtremes(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		const n = 1<<17 + 77
		x, out := make([]float32, n), make([]uint8, n)
		for i := range x {
			x[i] = math.MaxFloat32
		}
		sums := encode(w, x, 1, 256, out).centred(256, n)
		require.Equal(t, int64(255*n), sums.U)
		require.Equal(t, 127.5*127.5*n, sums.UU)
		require.InEpsilon(t, 127.5*n*math.MaxFloat32, sums.XU, 1e-9)
		for i := range x {
			x[i] = float32(math.NaN())
		}
		require.Zero(t, encode(w, x, 1, 256, out).u)
	})
}

func TestEncodeCodesChecksItsArguments(t *testing.T) {
	x, out := make([]float32, 4), make([]uint8, 4)
	for _, levels := range []int{-1, 0, 1, 257} {
		require.Panics(t, func() { EncodeCodes(x, 1, levels, out) }, "levels %d", levels)
	}
	require.Panics(t, func() { EncodeCodes(x, 1, 4, out[:3]) })
	require.Equal(t, CodeSums{}, EncodeCodes(nil, 1, 4, nil))
	require.Equal(t, CodeSums{U: 8, UU: 1}, EncodeCodes(x, 1, 4, out))
	require.Equal(t, []uint8{2, 2, 2, 2}, out)
}

// Any bits make valid values: every way gives the integers of the portable one.
func TestEveryWayGivesTheSameIntegers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOfN(rapid.Uint32(), 0, 300).Draw(rt, "bits")
		scale := rapid.OneOf(rapid.Float32(), rapid.SampledFrom(hard)).Draw(rt, "scale")
		levels := rapid.IntRange(2, 256).Draw(rt, "levels")
		x := make([]float32, len(words))
		for i, b := range words {
			x[i] = math.Float32frombits(b)
		}
		codes, quants := make([]uint8, len(x)), make([]int8, len(x))
		totals, sum := encodeGeneric(x, scale, levels, codes), quantizeGeneric(x, scale, quants)
		for _, w := range ways() {
			gotCodes, gotQuants := make([]uint8, len(x)), make([]int8, len(x))
			gotTotals := encode(w, x, scale, levels, gotCodes)
			require.Equal(rt, codes, gotCodes, w)
			require.Equal(rt, []int64{totals.u, totals.uu}, []int64{gotTotals.u, gotTotals.uu}, w)
			require.Equal(rt, sum, quantize(w, x, scale, gotQuants), w)
			require.Equal(rt, quants, gotQuants, w)
		}
	})
}

func BenchmarkRow(b *testing.B) {
	const n = 1536
	x, codes, quants := row(rand.New(rand.NewPCG(25, 0)), n, 0, 1), make([]uint8, n), make([]int8, n)
	signs := make([]uint64, n/64)
	for _, w := range ways() {
		work := []struct {
			name string
			on   func(x []float32)
		}{
			{"maxabs", func(x []float32) { maxAbs(w, x) }},
			{"flip", func(x []float32) { flipSigns(w, x, signs) }},
			{"quantize", func(x []float32) { quantize(w, x, 40, quants) }},
			{"encode", func(x []float32) { encode(w, x, 40, 256, codes) }},
		}
		for _, f := range work {
			b.Run(f.name+"/cache/"+w.String(), func(b *testing.B) {
				for b.Loop() {
					f.on(x)
				}
			})
			b.Run(f.name+"/memory/"+w.String(), func(b *testing.B) {
				all := cut(n)
				for i := 0; b.Loop(); i++ {
					f.on(all[i%len(all)])
				}
			})
		}
	}
}
