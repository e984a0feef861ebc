package quant

import (
	"encoding/binary"
	"math"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/internal/kernel"
)

// A row is its codes, in the layout of kernel.CodeDots, then its factors. That codes begin with a cache line, where rows
// do, is worth more than that the kernel asks for the factors' line beside theirs: with factors first, lists of 32
// random rows out of cache took 3 to 20 % longer.
const factorBytes = 16

// factors are what an estimate needs of a row, beside its codes. With r for the vector less the centre, rotated, and x
// for what its codes stand for, in steps of the grid:
type factors struct {
	norm   float32 // |r|, or negative where there is no direction to measure
	gain   float32 // |r|/<x,r>: norm·gain·<x,q> is <r,q> on average over rotations
	spread float32 // standard deviation of that for |r| = |q| = 1, r and q at right angles
	sum    float32 // Σ x, exact
}

// noDirection marks a row of zeros under Cosine, which is at distance 1 from everything.
const noDirection = -1

func (f *factors) put(to []byte) {
	for i, v := range [...]float32{f.norm, f.gain, f.spread, f.sum} {
		binary.LittleEndian.PutUint32(to[4*i:], math.Float32bits(v))
	}
}

// encodedFactors are factors in a row; each is read where it is wanted.
type encodedFactors [factorBytes]byte

func (e *encodedFactors) norm() float64   { return e.at(0) }
func (e *encodedFactors) gain() float64   { return e.at(4) }
func (e *encodedFactors) spread() float64 { return e.at(8) }
func (e *encodedFactors) sum() float64    { return e.at(12) }

func (e *encodedFactors) at(i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(e[i:])))
}

// Scratch is the memory that Encode works in, of one goroutine at a time. The zero Scratch is ready for use.
type Scratch struct {
	values []float32
	codes  []uint8
}

// Encode writes the code of a vector to row, which has room for RowBytes. It panics unless there are Dim values. scale
// is what ann.Source has beside them: the reciprocal of their norm under Cosine.
func (z *Quantizer) Encode(s *Scratch, values []float32, scale float32, row []byte) {
	row = row[:z.RowBytes()]
	s.values, s.codes = sized(s.values, z.dims), sized(s.codes, z.dims)
	factor := z.scaleOf(values, scale)
	norm, unit := z.rotate(values, factor, z.cfg.Centre, s.values)
	sums := kernel.EncodeCodes(s.values, float32(z.scale*unit), z.grid.levels, s.codes)
	f := z.factors(norm, unit, sums)
	if factor == 0 {
		f = factors{norm: noDirection}
	}
	codes, rest := row[:z.codeBytes()], row[z.codeBytes():]
	kernel.Pack(z.cfg.Bits, s.codes, codes)
	f.put(rest)
	clear(rest[factorBytes:])
}

// factors are those of a vector of length norm that was encoded with these sums; norm and unit are rotate's.
func (z *Quantizer) factors(norm, unit float64, sums kernel.CodeSums) factors {
	f := factors{sum: float32(float64(sums.U) - z.grid.centre()*float64(z.dims))}
	if norm == 0 {
		return f
	}
	along := sums.XU * unit / z.rotation.growth          // <x,r>/|r|
	across := math.Sqrt(max(sums.UU/(along*along)-1, 0)) // tangent of the angle between x and r
	f.norm = toFloat32(norm)
	f.gain = toFloat32(1 / along)
	f.spread = toFloat32(across / math.Sqrt(float64(z.dims-1)))
	return f
}

// scaleOf is what values are multiplied by: what brings them to length 1 under Cosine, 0 if nothing does, else 1.
func (z *Quantizer) scaleOf(values []float32, scale float32) float64 {
	switch {
	case z.cfg.Metric != ann.Cosine:
		return 1
	case scale == 0 || 0x1p-126 <= scale && scale <= math.MaxFloat32:
		return float64(scale)
	}
	return 1 / ann.Norm(values) // out of the range in which a float32 is exact to 24 bits
}

// rotate sets out to the direction of values·scale-centre, as rotation.apply returns it. It returns the length of the
// vector, and what out is to be multiplied by to be as long as rotation.apply makes vectors of length 1. A vector of
// length 0 gives zeros.
func (z *Quantizer) rotate(values []float32, scale float64, centre, out []float32) (norm, unit float64) {
	if len(values) != z.cfg.Dim {
		panic("quant: a vector of another dimension")
	}
	clear(out[len(values):])
	norm, unit = z.direct(values, scale, centre, out)
	if norm == 0 {
		clear(out)
		return 0, 1
	}
	z.rotation.apply(out)
	return norm, unit
}

// direct is rotate without the rotation. Lengths far from the ends of what a float32 holds, which are all that one meets,
// need one pass and stay; others are brought to 1 by way of float64.
func (z *Quantizer) direct(values []float32, scale float64, centre, out []float32) (norm, unit float64) {
	const least, most = 0x1p-30, 0x1p30
	if len(centre) == 0 {
		norm = z.length(values, scale)
		if norm != 0 {
			multiplied(values, scale/norm, out)
		}
		return norm, 1
	}
	if norm = shifted(values, float32(scale), centre, out); norm > least && norm < most {
		return norm, 1 / norm
	}
	if norm = distance(values, scale, centre); norm != 0 {
		moved(values, scale/norm, centre, 1/norm, out)
	}
	return norm, 1
}

// shifted sets out to values·scale-centre and returns its length. Products are converted, though they are float32 already:
// some CPUs would else round them together with the difference, and codes would not be the same everywhere.
func shifted(values []float32, scale float32, centre, out []float32) float64 {
	centre, out = centre[:len(values)], out[:len(values)]
	var s0, s1, s2, s3 float64 // an addition need not wait for the one before
	i := 0
	for ; i+4 <= len(values); i += 4 {
		v, c, o := values[i:i+4:i+4], centre[i:i+4:i+4], out[i:i+4:i+4]
		d0, d1 := float32(v[0]*scale)-c[0], float32(v[1]*scale)-c[1]
		d2, d3 := float32(v[2]*scale)-c[2], float32(v[3]*scale)-c[3]
		o[0], o[1], o[2], o[3] = d0, d1, d2, d3
		s0 += float64(float64(d0) * float64(d0))
		s1 += float64(float64(d1) * float64(d1))
		s2 += float64(float64(d2) * float64(d2))
		s3 += float64(float64(d3) * float64(d3))
	}
	for ; i < len(values); i++ {
		out[i] = float32(values[i]*scale) - centre[i]
		s0 += float64(float64(out[i]) * float64(out[i]))
	}
	return math.Sqrt(s0 + s1 + s2 + s3)
}

// length returns |values·scale|, which under Cosine is 1 as far as a float32 can tell.
func (z *Quantizer) length(values []float32, scale float64) float64 {
	if z.cfg.Metric == ann.Cosine && scale != 0 {
		return 1
	}
	return ann.Norm(values) * scale
}

// distance returns |a·scale-b|, in float64, as values may be of any size that float32 has. Here and in moved products are
// converted, though they are float64 already: some CPUs would else round them together with the difference, and codes
// would not be the same everywhere.
func distance(a []float32, scale float64, b []float32) float64 {
	b = b[:len(a)]
	var sums [4]float64 // an addition need not wait for the one before
	for i, v := range a {
		d := float64(float64(v)*scale) - float64(b[i])
		sums[i%4] += float64(d * d)
	}
	return math.Sqrt(sums[0] + sums[1] + sums[2] + sums[3])
}

// moved sets out to a·scaleA-b·scaleB.
func moved(a []float32, scaleA float64, b []float32, scaleB float64, out []float32) {
	b, out = b[:len(a)], out[:len(a)]
	for i, v := range a {
		out[i] = float32(float64(float64(v)*scaleA) - float64(float64(b[i])*scaleB))
	}
}

// multiplied sets out to values·by, in float32 where by is as exact there as values are.
func multiplied(values []float32, by float64, out []float32) {
	out = out[:len(values)]
	if by < 0x1p-126 || by > math.MaxFloat32 {
		for i, v := range values {
			out[i] = float32(float64(v) * by)
		}
		return
	}
	factor := float32(by)
	for i, v := range values {
		out[i] = v * factor
	}
}

// toFloat32 returns the nearest finite float32.
func toFloat32(v float64) float32 {
	return float32(max(-math.MaxFloat32, min(v, math.MaxFloat32)))
}

// sized returns a slice of n elements, in s if it has room.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
