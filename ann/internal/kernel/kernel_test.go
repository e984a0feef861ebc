package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// ways lists what this machine can run.
func ways() []way {
	var ws []way
	for w := generic; w <= best(); w++ {
		ws = append(ws, w)
	}
	return ws
}

func forEachWay(t *testing.T, f func(t *testing.T, w way)) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) { f(t, w) })
	}
}

var lengths = func() []int {
	ns := []int{96, 100, 127, 128, 129, 255, 768, 784, 1000, 1536, 4097, 20000}
	for n := range 68 {
		ns = append(ns, n)
	}
	return ns
}()

// reference returns Σ f(a,b) and Σ |f(a,b)| in float64.
func reference(a, b []float32, f func(x, y float64) float64) (sum, scale float64) {
	for i := range a {
		v := f(float64(a[i]), float64(b[i]))
		sum += v
		scale += math.Abs(v)
	}
	return sum, scale
}

func product(x, y float64) float64      { return x * y }
func squaredDelta(x, y float64) float64 { return (x - y) * (x - y) }

// row returns n values at an address that is 4-byte aligned and no better for odd offsets.
func row(r *rand.Rand, n, offset int, scale float64) []float32 {
	v := make([]float32, n+offset)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v[offset:]
}

func TestAgreesWithFloat64(t *testing.T) {
	const seed = 1
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, n := range lengths {
			for offset := range 9 {
				for _, scale := range []float64{1e-12, 1, 255, 1e12} {
					a, b := row(r, n, offset, scale), row(r, n, (offset*5)%9, scale)
					what := fmt.Sprintf("seed %d n %d offset %d scale %g", seed, n, offset, scale)
					tolerance := 1e-5 * math.Sqrt(float64(n))

					want, size := reference(a, b, product)
					require.InDelta(t, want, float64(dot(w, a, b)), tolerance*size, what)
					want, size = reference(a, b, squaredDelta)
					require.InDelta(t, want, float64(squaredL2(w, a, b)), tolerance*size, what)
				}
			}
		}
	})
}

func TestReadsNothingBeyondTheEnd(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for _, n := range lengths {
			a, b := make([]float32, n+64), make([]float32, n+64)
			for i := range a {
				a[i], b[i] = float32(math.NaN()), float32(math.NaN())
			}
			for i := range n {
				a[32+i], b[32+i] = 1, 3
			}
			require.Equal(t, float32(3*n), dot(w, a[32:32+n], b[32:32+n]), "n %d", n)
			require.Equal(t, float32(4*n), squaredL2(w, a[32:32+n], b[32:32+n]), "n %d", n)
		}
	})
}

func TestEveryPositionCounts(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for _, n := range lengths {
			if n > 200 {
				continue
			}
			a, b := make([]float32, n), make([]float32, n)
			for i := range n {
				a[i], b[i] = 3, 5
				require.Equal(t, float32(15), dot(w, a, b), "n %d i %d", n, i)
				require.Equal(t, float32(4), squaredL2(w, a, b), "n %d i %d", n, i)
				a[i], b[i] = 0, 0
			}
		}
	})
}

func TestEqualRowsAreAtZero(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(2, 0))
		for _, n := range lengths {
			a := row(r, n, 0, 1e6)
			require.Zero(t, squaredL2(w, a, append([]float32(nil), a...)))
		}
	})
}

func TestExtremeValues(t *testing.T) {
	inf := float32(math.Inf(1))
	tests := []struct {
		name    string
		a, b    float32
		dot, l2 float32
	}{
		{"overflow", math.MaxFloat32, -math.MaxFloat32, -inf, inf},
		{"underflow", 1e-30, -1e-30, 0, 0},
		{"denormal against one", math.SmallestNonzeroFloat32, 1, 8 * math.SmallestNonzeroFloat32, 8},
		{"small integers are exact", 3, 7, 168, 128},
		{"infinite", inf, 1, inf, inf},
	}
	forEachWay(t, func(t *testing.T, w way) {
		for _, tt := range tests {
			a, b := make([]float32, 8), make([]float32, 8)
			for i := range a {
				a[i], b[i] = tt.a, tt.b
			}
			require.Equal(t, tt.dot, dot(w, a, b), tt.name)
			require.Equal(t, tt.l2, squaredL2(w, a, b), tt.name)
		}
		nan := []float32{float32(math.NaN())}
		require.True(t, math.IsNaN(float64(dot(w, nan, nan))))
		require.True(t, math.IsNaN(float64(squaredL2(w, nan, nan))))
	})
}

func TestManyAgreesWithOne(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(3, 0))
		for _, n := range lengths {
			query := row(r, n, n%3, 1)
			rows := [][]float32{nil, row(r, n, 1, 1), nil, row(r, n, 3, 1), row(r, n, 0, 1), nil}
			dots, squares := make([]float32, 7), make([]float32, 7)
			wantDots, wantSquares := make([]float32, 7), make([]float32, 7)
			for i := range dots {
				dots[i], squares[i], wantDots[i], wantSquares[i] = -1, -1, -1, -1
			}
			for i, row := range rows {
				if row != nil {
					wantDots[i], wantSquares[i] = dot(w, query, row), squaredL2(w, query, row)
				}
			}
			dotMany(w, query, rows, dots)
			squaredL2Many(w, query, rows, squares)
			require.Equal(t, wantDots, dots, "n %d", n)
			require.Equal(t, wantSquares, squares, "n %d", n)
		}
		dotMany(w, []float32{1}, nil, nil)
		squaredL2Many(w, []float32{1}, nil, nil)
	})
}

func TestNothingIsAllocated(t *testing.T) {
	x, y, out, signs := make([]float32, 128), make([]float32, 128), make([]float32, 2), make([]uint64, 2)
	rows, quants, codes := [][]float32{x, y}, make([]int8, 128), make([]uint8, 128)
	forEachWay(t, func(t *testing.T, w way) {
		require.Zero(t, testing.AllocsPerRun(10, func() {
			out[0] = dot(w, x, y) + squaredL2(w, x, y) + maxAbs(w, x)
			dotMany(w, x, rows, out)
			squaredL2Many(w, x, rows, out)
			flipSigns(w, x, signs)
			hadamard(w, x)
			quantize(w, x, 1, quants)
			encode(w, x, 1, 16, codes)
		}))
	})
}

func TestLengthsMustMatch(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		a := make([]float32, 3)
		require.Panics(t, func() { dot(w, a, a[:2]) })
		require.Panics(t, func() { squaredL2(w, nil, a) })
		out := make([]float32, 2)
		for _, many := range []func(way, []float32, [][]float32, []float32){dotMany, squaredL2Many} {
			require.Panics(t, func() { many(w, a, [][]float32{a, a[:2]}, out) })
			require.Panics(t, func() { many(w, a, [][]float32{a, {}}, out) })
			require.Panics(t, func() { many(w, a, [][]float32{a, a}, out[:1:1]) })
		}
	})
}

func TestChoose(t *testing.T) {
	tests := []struct {
		name string
		best way
		want way
		ok   bool
	}{
		{"", generic, generic, true},
		{"", avx2, avx2, true},
		{"generic", avx2, generic, true},
		{"avx2", avx2, avx2, true},
		{"avx2", generic, generic, false},
		{"", avx512, avx512, true},
		{"avx2", avx512, avx2, true},
		{"avx512", avx512, avx512, true},
		{"avx512", avx2, generic, false},
		{"AVX2", avx2, generic, false},
		{"avx1024", avx2, generic, false},
	}
	for _, tt := range tests {
		got, err := choose(tt.name, tt.best)
		require.Equal(t, tt.want, got, "%+v", tt)
		require.Equal(t, tt.ok, err == nil, "%+v", tt)
		if !tt.ok {
			require.True(t, errs.Is(err, errs.Invalid))
		}
	}
	require.Equal(t, chosen.String(), Name())
}
