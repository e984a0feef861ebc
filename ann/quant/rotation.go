package quant

import (
	"math"
	"math/bits"

	"github.com/croftdb/croft/ann/internal/kernel"
)

// rotation is a random orthogonal map, at a cost of n·log n: rounds of random signs and a Hadamard transform. As that wants
// a power of two, it takes in turns the first and the last such number of values; what both have mixes them.
type rotation struct {
	window  int     // values that a transform takes, at least half of all
	stretch float32 // what a transform multiplies lengths by
	growth  float64 // what all of them do
	signs   [rounds][]uint64
}

// rounds is enough for the values of any vector, a one-hot one too, to come out as good as normal: after one a value of
// the first window is spread over that, after two over all, and two more mix what is left of patterns.
const rounds = 4

func newRotation(seed uint64, dims int) rotation {
	r := rotation{window: 1 << (bits.Len(uint(dims)) - 1)}
	r.stretch = float32(math.Sqrt(float64(r.window)))
	r.growth = math.Pow(float64(r.window), rounds/2)
	words := (dims + 63) / 64
	for i := range r.signs {
		r.signs[i] = make([]uint64, words)
		for j := range r.signs[i] {
			r.signs[i][j] = random(seed, uint64(i*words+j))
		}
	}
	return r
}

// apply rotates x in place and makes it growth times as long: what a transform leaves out is stretched as what it takes.
func (r *rotation) apply(x []float32) {
	rest := len(x) - r.window
	for i := range r.signs {
		kernel.FlipSigns(x, r.signs[i])
		if i%2 == 0 {
			kernel.Hadamard(x[:r.window])
			kernel.Scale(x[r.window:], r.stretch)
		} else {
			kernel.Hadamard(x[rest:])
			kernel.Scale(x[:rest], r.stretch)
		}
	}
}

// random is number n of the sequence SplitMix64 (Steele, Lea & Flood, 2014), which is part of what codes are: it must
// never change.
func random(seed, n uint64) uint64 {
	x := seed + (n+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
