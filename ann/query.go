package ann

import (
	"math"

	"github.com/croftdb/croft/ann/internal/kernel"
)

// Kernel returns the name of the distance kernel in use: generic, avx2 or avx512.
func Kernel() string { return kernel.Name() }

// CheckKernel returns why the kernel that the environment asks for is not in use, or nil. A process checks it once
// when it starts; distances are right either way.
func CheckKernel() error { return kernel.Check() }

// Norm returns the euclidean length of values, summed in float64 so that it neither overflows nor vanishes.
func Norm(values []float32) float64 {
	var s0, s1, s2, s3 float64 // an addition need not wait for the one before
	i := 0
	for ; i+4 <= len(values); i += 4 {
		v := values[i : i+4 : i+4]
		s0 += float64(v[0]) * float64(v[0])
		s1 += float64(v[1]) * float64(v[1])
		s2 += float64(v[2]) * float64(v[2])
		s3 += float64(v[3]) * float64(v[3])
	}
	for ; i < len(values); i++ {
		s0 += float64(values[i]) * float64(values[i])
	}
	return math.Sqrt(s0 + s1 + s2 + s3)
}

// Scale returns what Source.Vector returns beside values: under Cosine the reciprocal of their norm (0 for a row of
// zeros, which is then at distance 1 from everything; infinite for norms below 3e-39, which are measured in float64),
// else 1.
func Scale(metric Metric, values []float32) float32 {
	if metric != Cosine {
		return 1
	}
	norm := Norm(values)
	if norm == 0 {
		return 0
	}
	return float32(1 / norm)
}

// gone is the distance of a slot without a vector: not a number, so that no real distance equals it.
var gone = float32(math.NaN())

// IsGone reports whether a distance from Measure says that the slot has no vector. Real distances are never NaN.
func IsGone(distance float32) bool { return distance != distance }

// Query is a vector bound to a metric, to be measured against many. It is a value; the zero Query is of no use.
type Query struct {
	metric Metric
	values []float32
	scale  float32
}

// Bind binds a vector that comes from outside; values must stay unchanged while the query is used.
func Bind(metric Metric, values []float32) Query {
	return BindScaled(metric, values, Scale(metric, values))
}

// BindScaled binds a vector whose scale is known, such as one from a Source.
func BindScaled(metric Metric, values []float32, scale float32) Query {
	return Query{metric: metric, values: values, scale: scale}
}

// Dim returns the length of the bound vector.
func (q *Query) Dim() int { return len(q.values) }

// Distance measures one vector; values has the query's length.
func (q *Query) Distance(values []float32, scale float32) float32 {
	if q.metric == Euclidean {
		return q.settle(kernel.SquaredL2(q.values, values), values)
	}
	return q.finish(kernel.Dot(q.values, values), values, scale)
}

// batch is how many rows go to the kernel at once: enough to overlap their cache misses.
const batch = 16

// Measure sets out[i] to the distance of slots[i], IsGone where src has no vector. out is as long as slots.
func (q *Query) Measure(src Source, slots []uint32, out []float32) {
	var rows [batch][]float32
	var scales [batch]float32
	for len(slots) > 0 {
		n := min(batch, len(slots))
		for i, slot := range slots[:n] {
			rows[i], scales[i] = src.Vector(slot)
		}
		q.measureRows(rows[:n], scales[:n], out[:n])
		slots, out = slots[n:], out[n:]
	}
}

func (q *Query) measureRows(rows [][]float32, scales, out []float32) {
	if q.metric == Euclidean {
		kernel.SquaredL2Many(q.values, rows, out)
	} else {
		kernel.DotMany(q.values, rows, out)
	}
	for i, row := range rows {
		switch {
		case row == nil:
			out[i] = gone
		case q.metric == Euclidean:
			out[i] = q.settle(out[i], row)
		default:
			out[i] = q.finish(out[i], row, scales[i])
		}
	}
}

// finish turns an inner product into a distance. The scales are multiplied first: the result is then the same
// either way round, and where their product overflows or vanishes, so does the inner product, and settle steps in.
func (q *Query) finish(dot float32, values []float32, scale float32) float32 {
	if q.metric == Cosine {
		// Rounding must not make a parallel vector nearer than the query itself.
		return min(max(q.settle(1-dot*(q.scale*scale), values), 0), 2)
	}
	return q.settle(-dot, values)
}

// settle measures again in float64 what float32 could not hold.
func (q *Query) settle(distance float32, values []float32) float32 {
	if distance-distance == 0 { // finite
		return distance
	}
	return q.exact(values)
}

// exact is Distance in float64, clamped to the range of float32; not a number becomes the farthest distance.
func (q *Query) exact(values []float32) float32 {
	var sum float64
	for i, x := range q.values {
		if q.metric == Euclidean {
			d := float64(x) - float64(values[i])
			sum += d * d
		} else {
			sum += float64(x) * float64(values[i])
		}
	}
	switch q.metric {
	case Cosine:
		sum = 1 - sum/(Norm(q.values)*Norm(values))
	case DotProduct:
		sum = -sum
	}
	if math.IsNaN(sum) {
		return math.MaxFloat32
	}
	return float32(max(-math.MaxFloat32, min(sum, math.MaxFloat32)))
}
