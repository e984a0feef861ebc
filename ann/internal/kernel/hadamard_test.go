package kernel

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// sylvester returns the transform by its definition, and the sum of magnitudes that its error is measured by.
func sylvester(x []float32) (sums []float64, scale float64) {
	sums = make([]float64, len(x))
	for i := range sums {
		for j, v := range x {
			if bits.OnesCount(uint(i&j))%2 == 0 {
				sums[i] += float64(v)
			} else {
				sums[i] -= float64(v)
			}
		}
	}
	for _, v := range x {
		scale += math.Abs(float64(v))
	}
	return sums, scale
}

func TestHadamardIsTheMatrixOfSylvester(t *testing.T) {
	const seed = 11
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for n := 1; n <= 1024; n *= 2 {
			for offset := range 3 {
				x := row(r, n, offset, 1)
				want, scale := sylvester(x)
				hadamard(w, x)
				for i := range x {
					require.InDelta(t, want[i], float64(x[i]), 1e-6*scale, "seed %d n %d offset %d i %d", seed, n, offset, i)
				}
			}
		}
	})
}

func TestHadamardIsTheSameInEveryWay(t *testing.T) {
	const seed = 12
	forEachWay(t, func(t *testing.T, w way) {
		r := rand.New(rand.NewPCG(seed, 0))
		for n := 1; n <= 1<<15; n *= 2 {
			for _, scale := range []float64{1e-42, 1e-3, 1, 1e30} {
				x := row(r, n, 1, scale)
				want := append([]float32(nil), x...)
				hadamardGeneric(want)
				hadamard(w, x)
				require.Equal(t, want, x, "seed %d n %d scale %g", seed, n, scale)
			}
		}
	})
}

// Small integers make every sum exact: twice applied the transform is n times the row, whatever its length.
func TestHadamardTwiceIsTheRowAgain(t *testing.T) {
	forEachWay(t, func(t *testing.T, w way) {
		for n := 1; n <= 1<<15; n *= 2 {
			around := make([]float32, n+64)
			for i := range around {
				around[i] = float32(i%5 - 2)
			}
			want := append([]float32(nil), around...)
			x := around[32 : 32+n]
			for i := range x {
				want[32+i] *= float32(n)
			}
			hadamard(w, x)
			hadamard(w, x)
			require.Equal(t, want, around, "n %d", n)
		}
	})
}

func TestHadamardWantsAPowerOfTwo(t *testing.T) {
	for _, n := range []int{0, 3, 15, 17, 48, 1000} {
		require.Panics(t, func() { Hadamard(make([]float32, n)) }, "n %d", n)
	}
	x := []float32{1, 2}
	Hadamard(x)
	require.Equal(t, []float32{3, -1}, x)
}

func BenchmarkHadamard(b *testing.B) {
	for _, n := range []int{64, 128, 512, 1024, 2048, 16384} {
		for _, w := range ways() {
			b.Run(fmt.Sprintf("%d/%s", n, w), func(b *testing.B) {
				x := make([]float32, n)
				for b.Loop() {
					hadamard(w, x)
				}
			})
		}
	}
}
