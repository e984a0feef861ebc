package quant

import (
	"math"
	"unsafe"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/internal/kernel"
)

// Query is a bound vector or row, and the memory for it: of one goroutine at a time, to be bound again and again. The
// zero Query is ready to be bound, by any Quantizer.
//
// The estimate for a row is Base + Weight·|r|² - Slope·<r,q>, with q for the query less the centre, rotated, and
//
//	<r,q> ~ row.norm·row.gain·Unit·(Σ u·codes - Shift + half·row.sum)
type Query struct {
	z         *Quantizer
	factorsAt int    // in a row
	codes     []int8 // q or x, in units

	est     kernel.Estimator
	half    float64
	rounded bool // it is a row

	norm  float64 // |q|
	noise float64 // standard deviation that codes add to <r,q>, for |r| = 1

	values []float32
	sums   []int32
	behind []uint64 // the rows' first two factors
}

// Bind makes s a search's query: Measure estimates distances in the metric of the Config. values and scale are as
// for Encode; s does not keep them.
func (z *Quantizer) Bind(s *Query, values []float32, scale float32) {
	if z.cfg.Metric != ann.DotProduct {
		z.BindLinks(s, values, scale)
		return
	}
	s.reset(z)
	z.quantize(s, values, 1, nil)
	s.est.Base, s.est.Weight, s.est.Slope = -product(z.cfg.Centre, values), 0, 1
}

// BindLinks is Bind in the metric that links of a graph are chosen by: Euclidean instead of DotProduct.
func (z *Quantizer) BindLinks(s *Query, values []float32, scale float32) {
	s.reset(z)
	factor := z.scaleOf(values, scale)
	z.quantize(s, values, factor, z.cfg.Centre)
	s.measureLinks(factor != 0)
}

// BindRow is BindLinks for a vector of which only the row is at hand. Both ends of a distance are rounded then, and
// the nearer they are, the more alike: what that does to estimates on average is undone.
func (z *Quantizer) BindRow(s *Query, row []byte) {
	s.reset(z)
	f := (*encodedFactors)(row[z.codeBytes():])
	kernel.Unpack(z.cfg.Bits, row[:z.codeBytes()], s.codes)
	total := 2 * f.sum() // of codes that are 2x
	s.norm = f.norm()
	s.noise = s.norm * f.spread()
	s.est.Unit, s.half = s.norm*f.gain()/2, 0
	if z.cfg.Bits == 8 { // they are x-1/2
		total = f.sum() - float64(z.dims)/2
		s.est.Unit, s.half = 2*s.est.Unit, 0.5
	}
	s.est.Shift = z.grid.centre() * total
	s.rounded = true
	s.measureLinks(f.norm() >= 0)
}

// reset makes s a query of z, with room.
func (s *Query) reset(z *Quantizer) {
	s.z, s.factorsAt = z, z.codeBytes()
	s.codes, s.values = sized(s.codes, z.dims), sized(s.values, z.dims)
}

// quantize sets the codes of values·scale-centre, and what is known of them.
func (z *Quantizer) quantize(s *Query, values []float32, scale float64, centre []float32) {
	norm, unit := z.rotate(values, scale, centre, s.values)
	perUnit := float32(127)
	if largest := kernel.MaxAbs(s.values); largest > 0 {
		perUnit /= largest
	}
	total := kernel.Quantize(s.values, perUnit, s.codes)
	s.norm = norm
	s.est.Unit = norm * unit / (float64(perUnit) * z.rotation.growth)
	s.est.Shift, s.half = z.grid.centre()*float64(total), 0
	s.rounded = false
	s.noise = s.est.Unit / math.Sqrt(12)
}

// measureLinks sets the formula of the link metric, or, without a direction, 1 for all rows.
func (s *Query) measureLinks(direction bool) {
	switch {
	case !direction:
		s.est.Base, s.est.Weight, s.est.Slope = 1, 0, 0
	case s.z.cfg.Metric == ann.Cosine: // half of the squared distance of vectors of length 1
		s.est.Base, s.est.Weight, s.est.Slope = s.norm*s.norm/2, 0.5, 1
	default:
		s.est.Base, s.est.Weight, s.est.Slope = s.norm*s.norm, 1, 2
	}
}

func product(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// Measure sets out[i] to the estimated distance of row slots[i], in the unit of ann.Query's: it may err by some Margins
// either way, and so lie below the least distance there is. out is as long as slots. It panics if a slot is outside
// of rows, whose stride is RowBytes.
func (q *Query) Measure(rows *kernel.Rows, slots []uint32, out []float32) {
	out = out[:len(slots)]
	q.sum(rows, slots)
	if q.rounded {
		q.settleRow(rows, slots, out)
		return
	}
	for i, sum := range q.sums {
		out[i] = q.est.Distance(sum, q.behind[i])
	}
}

// Near is Measure that keeps only those whose estimate is not above reach: it moves them to the front of slots, in order,
// and returns how many they are. The query is a vector, not a row.
func (q *Query) Near(rows *kernel.Rows, slots []uint32, reach float32, out []float32) int {
	q.sum(rows, slots)
	return q.est.Near(q.sums, q.behind, reach, slots, out[:len(slots)])
}

// sum sets q.sums and q.behind to what estimates for slots are made of.
func (q *Query) sum(rows *kernel.Rows, slots []uint32) {
	q.sums, q.behind = sized(q.sums, len(slots)), sized(q.behind, len(slots))
	kernel.CodeDotsAnd(q.z.cfg.Bits, q.codes, rows, 0, slots, q.sums, q.behind)
}

// settleRow turns sums of codes into distances from a row.
func (q *Query) settleRow(rows *kernel.Rows, slots []uint32, out []float32) {
	for i, slot := range slots {
		f := q.factors(rows, slot)
		dot := q.est.Unit * f.norm() * f.gain() * (float64(q.sums[i]) - q.est.Shift + q.half*f.sum())
		out[i] = q.distance(f.norm(), q.straighten(dot, f.norm()))
	}
}

func (q *Query) distance(norm, dot float64) float32 {
	d := q.est.Base + q.est.Weight*norm*norm - q.est.Slope*dot
	if norm < 0 {
		d = 1
	}
	return kernel.Within32(d)
}

// straighten turns the inner product of two rounded vectors into that of the vectors.
func (q *Query) straighten(dot, norm float64) float64 {
	bend := &q.z.grid.bend
	if bend[0] == 0 || dot == 0 { // norms may be 0 as well
		return dot
	}
	c := dot / (norm * q.norm)
	c *= c
	return dot + dot*c*(bend[0]+c*(bend[1]+c*bend[2]))
}

// Margin returns the standard deviation of the error of the estimate for a row, over all rotations, in the unit
// of the distance. It is that of a vector at right angles to the query; MarginAt knows better.
func (q *Query) Margin(rows *kernel.Rows, slot uint32) float32 {
	f := q.factors(rows, slot)
	return q.margin(f, q.norm)
}

// MarginAt is Margin for a row whose estimate is known. Only the part of the query that is at right angles to the
// row's vector adds to the error: for the nearest of real data it is about two thirds of Margin.
func (q *Query) MarginAt(rows *kernel.Rows, slot uint32, estimate float32) float32 {
	f := q.factors(rows, slot)
	norm := f.norm()
	if norm <= 0 || q.est.Slope == 0 {
		return 0
	}
	along := math.Abs(q.est.Base+q.est.Weight*norm*norm-float64(estimate)) / (q.est.Slope * norm)
	along = max(along-q.norm*f.spread(), 0) // it errs as well
	across := max(q.norm*q.norm-along*along, 0)
	return q.margin(f, math.Sqrt(across))
}

// margin adds up the row's error, as far as the query is across it, and the query's, over all that codes stand for.
func (q *Query) margin(f *encodedFactors, across float64) float32 {
	if f.norm() < 0 {
		return 0
	}
	spread := f.spread()
	codes := 1 + spread*spread*float64(q.z.dims-1) // |gain·x|²
	return kernel.Within32(q.est.Slope * f.norm() * math.Sqrt(spread*spread*across*across+codes*q.noise*q.noise))
}

// factors finds those of a row.
func (q *Query) factors(rows *kernel.Rows, slot uint32) *encodedFactors {
	shift := rows.Shift & 63 // so that the compiler need not ask whether it is more
	chunk := rows.Chunks[uint64(slot)>>shift]
	at := int(slot)&(1<<shift-1)*rows.Stride + q.factorsAt
	return (*encodedFactors)(unsafe.Add(chunk, at))
}
