// Package quant makes small codes of vectors, 1 to 8 bits per dimension, and estimates distances from them.
//
// It owns the codes: RaBitQ (Gao & Long, 2024) and its extension to more bits (2025), that is a random rotation, a uniform
// grid, and per vector the factor that makes estimated inner products unbiased, with the size of their error. Nothing is
// trained: a Quantizer follows from its Config alone, so that the first vector of an index can be encoded, and the
// same vectors give the same codes on every machine. It promises that estimates are numbers for all finite vectors, and
// that nothing is allocated once a Query or Scratch has grown to its size. ann/hnsw calls it, for walks, builds and
// to know how many exact distances a walk must be followed by; only kernel looks at codes. It keeps no rows: those are
// its caller's memory. It never returns an exact distance.
package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/croftdb/croft/ann"
)

// Config is all that codes depend on, besides their vectors.
type Config struct {
	Metric ann.Metric
	Dim    int    // values in a vector, at most 20,480
	Bits   int    // of a code: 1, 2, 4 or 8
	Seed   uint64 // of the rotation; to be kept from those who choose vectors, if they could mean harm
	// Centre is subtracted from vectors first, under Cosine from those of length 1: the nearer it is to them, the smaller
	// are the errors. It has Dim values, or none, which stands for zeros.
	Centre []float32
}

// maxDim is what kernel.CodeDots can sum.
const maxDim = 20480

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	var faults []error
	if c.Metric < ann.Cosine || c.Metric > ann.Euclidean {
		faults = append(faults, fmt.Errorf("metric %v is unknown", c.Metric))
	}
	if c.Dim < 1 || c.Dim > maxDim {
		faults = append(faults, fmt.Errorf("dimension %d is outside 1 to %d", c.Dim, maxDim))
	}
	if _, ok := grids[c.Bits]; !ok {
		faults = append(faults, fmt.Errorf("codes of %d bits are not known: take 1, 2, 4 or 8", c.Bits))
	}
	if len(c.Centre) != 0 && len(c.Centre) != c.Dim {
		faults = append(faults, fmt.Errorf("a centre of %d values does not fit dimension %d", len(c.Centre), c.Dim))
	}
	if slices.ContainsFunc(c.Centre, func(v float32) bool { return v-v != 0 }) {
		faults = append(faults, errors.New("the centre has values that are not finite"))
	}
	return errors.Join(faults...)
}

// A code u of b bits stands for the value u-(2^b-1)/2 on a grid whose steps are as wide as suits the values of a rotated
// vector: nearly normal ones, of variance 1/D.
type grid struct {
	levels int
	// step, in standard deviations, is where the squared error of a normal variable is least (Max, 1960). With one bit
	// it does not matter: the code is the sign.
	step float64
	// bend tells what the inner product c of two rounded vectors, each made unbiased, is to that of the vectors: c plus
	// bend[0]·c³ + bend[1]·c⁵ + bend[2]·c⁷, for vectors of length 1. With one bit it is the sine; with two it was fitted to
	// c as a function of the correlation of normal variables, by least squares, and is right to 0.004 where c would be
	// wrong by 0.13; with more c itself is right to 0.012.
	bend [3]float64
}

var grids = map[int]grid{
	1: {levels: 2, step: 1e-3, bend: [3]float64{-1. / 6, 1. / 120, -1. / 5040}},
	2: {levels: 4, step: 0.9957, bend: [3]float64{-0.0944, 0.2054, -0.1580}},
	4: {levels: 16, step: 0.3352},
	8: {levels: 256, step: 0.0308},
}

// centre is the mean of the codes.
func (g grid) centre() float64 { return float64(g.levels-1) / 2 }

// Quantizer encodes vectors and binds queries. It does not change: any number of goroutines may use one.
type Quantizer struct {
	cfg      Config
	grid     grid
	rotation rotation
	dims     int     // Dim made a multiple of 64: what is rotated and encoded
	scale    float64 // from a rotated unit vector to steps of the grid
}

// New returns the Quantizer of cfg. It panics if cfg is not valid.
func New(cfg Config) *Quantizer {
	if err := cfg.Validate(); err != nil {
		panic("quant: " + err.Error())
	}
	cfg.Centre = slices.Clone(cfg.Centre)
	z := &Quantizer{cfg: cfg, grid: grids[cfg.Bits], dims: (cfg.Dim + 63) / 64 * 64}
	z.rotation = newRotation(cfg.Seed, z.dims)
	z.scale = math.Sqrt(float64(z.dims)) / (z.grid.step * z.rotation.growth)
	return z
}

// RowBytes is the size of an encoded row, and the stride of a matrix of them: a multiple of 16, and of 64 or 32 where
// that adds less than an eighth. Rows that begin with a cache line are read faster: out of cache, 1,536 values of 2
// bits take a fifth less time at 448 bytes than at 400.
func (z *Quantizer) RowBytes() int {
	size := z.codeBytes() + factorBytes
	for _, unit := range []int{64, 32} {
		if up := (size + unit - 1) / unit * unit; 8*(up-size) < size {
			return up
		}
	}
	return size
}

func (z *Quantizer) codeBytes() int { return z.dims / 8 * z.cfg.Bits }
