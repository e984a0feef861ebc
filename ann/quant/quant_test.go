package quant_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/internal/kernel"
	"github.com/croftdb/croft/ann/quant"
)

var (
	metrics = []ann.Metric{ann.Cosine, ann.DotProduct, ann.Euclidean}
	widths  = []int{1, 2, 4, 8}
)

// links is the metric of BindLinks and BindRow.
func links(m ann.Metric) ann.Metric {
	if m == ann.DotProduct {
		return ann.Euclidean
	}
	return m
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func normals(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// data are kinds of vectors that differ in how hard they are to encode.
var data = map[string]func(r *rand.Rand, dim, i int) []float32{
	"normal": func(r *rand.Rand, dim, _ int) []float32 { return normals(r, dim) },
	"one-hot": func(r *rand.Rand, dim, i int) []float32 {
		v := make([]float32, dim)
		v[i%dim] = 3
		return v
	},
	"constant": func(_ *rand.Rand, dim, i int) []float32 {
		return slices.Repeat([]float32{float32(i) + 0.5}, dim)
	},
	"clustered": func(r *rand.Rand, dim, i int) []float32 {
		v := normals(newRand(uint64(i%2)), dim)
		for j := range v {
			v[j] += float32(0.3 * r.NormFloat64())
		}
		return v
	},
	"images": func(r *rand.Rand, dim, _ int) []float32 { // whole numbers, mostly 0, each about as its neighbours
		v := make([]float32, dim)
		level := 0.0
		for j := range v {
			level = max(-100, min(255, level+60*r.NormFloat64()))
			v[j] = float32(math.Round(max(0, level)))
		}
		return v
	},
}

// set is encoded vectors.
type set struct {
	vectors [][]float32
	rows    kernel.Rows
	bytes   []byte
}

func encode(z *quant.Quantizer, metric ann.Metric, vectors [][]float32) *set {
	s := &set{vectors: vectors, rows: kernel.Rows{Stride: z.RowBytes()}}
	for 1<<s.rows.Shift < len(vectors) {
		s.rows.Shift++
	}
	s.bytes = make([]byte, z.RowBytes()<<s.rows.Shift)
	s.rows.Chunks = []unsafe.Pointer{unsafe.Pointer(&s.bytes[0])}
	var work quant.Scratch
	for i, v := range vectors {
		z.Encode(&work, v, ann.Scale(metric, v), s.row(i))
	}
	return s
}

func (s *set) row(i int) []byte { return s.bytes[i*s.rows.Stride:][:s.rows.Stride] }

func (s *set) slots() []uint32 {
	ids := make([]uint32, len(s.vectors))
	for i := range ids {
		ids[i] = uint32(i)
	}
	return ids
}

func (s *set) measure(q *quant.Query) []float32 {
	out := make([]float32, len(s.vectors))
	q.Measure(&s.rows, s.slots(), out)
	return out
}

// exact is a distance in float64.
func exact(metric ann.Metric, a, b []float32) float64 {
	var ab, aa, bb, diff float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb, diff = ab+x*y, aa+x*x, bb+y*y, diff+(x-y)*(x-y)
	}
	switch {
	case metric == ann.Euclidean:
		return diff
	case metric == ann.DotProduct:
		return -ab
	case aa == 0 || bb == 0:
		return 1
	}
	return 1 - ab/math.Sqrt(aa)/math.Sqrt(bb)
}

// tally sums up errors in units of their margin.
type tally struct{ n, sum, squares float64 }

func (t *tally) add(z float64) { t.n, t.sum, t.squares = t.n+1, t.sum+z, t.squares+z*z }

func (t *tally) mean() float64 { return t.sum / t.n }
func (t *tally) sd() float64   { return math.Sqrt(t.squares / t.n) }

// binding is one way to make a query.
type binding struct {
	name   string
	metric func(ann.Metric) ann.Metric
	bind   func(z *quant.Quantizer, q *quant.Query, v []float32, scale float32)
	check  func(t *testing.T, name string, bits int, plain, near *tally)
}

var bindings = []binding{
	{"search", func(m ann.Metric) ann.Metric { return m }, (*quant.Quantizer).Bind, checkQuery},
	{"links", links, (*quant.Quantizer).BindLinks, checkQuery},
	{"row", links, func(z *quant.Quantizer, q *quant.Query, v []float32, scale float32) {
		row := make([]byte, z.RowBytes())
		z.Encode(new(quant.Scratch), v, scale, row)
		z.BindRow(q, row)
	}, checkRow},
}

func checkRow(t *testing.T, name string, bits int, plain, near *tally) {
	if name == "constant" && bits == 4 { // one direction: the only case where what is left of the bias shows
		require.InDelta(t, 0, near.mean(), 1.2)
		return
	}
	checkQuery(t, "", bits, plain, near)
}

func checkQuery(t *testing.T, name string, _ int, plain, near *tally) {
	require.InDelta(t, 0, plain.mean(), 0.15)
	require.InDelta(t, 0, near.mean(), 0.2)
	require.LessOrEqual(t, plain.sd(), 1.05)
	require.LessOrEqual(t, near.sd(), 1.05)
	if name == "normal" { // and they are no larger than need be
		require.GreaterOrEqual(t, plain.sd(), 0.8)
		require.GreaterOrEqual(t, near.sd(), 0.9)
	}
}

// TestEstimates: errors have the size that the margins tell, and no side, whatever vectors and centre are like.
func TestEstimates(t *testing.T) {
	for name, draw := range data {
		for _, bits := range widths {
			for _, b := range bindings {
				t.Run(fmt.Sprintf("%s/%d bits/%s", name, bits, b.name), func(t *testing.T) {
					var plain, near tally
					for seed := range uint64(150) {
						r := newRand(seed)
						metric := metrics[seed%3]
						dim := 65 + r.IntN(200)
						cfg := quant.Config{Metric: metric, Dim: dim, Bits: bits, Seed: seed}
						if seed%2 == 0 {
							cfg.Centre = normals(r, dim)
						}
						judge(t, quant.New(cfg), cfg, b, func(i int) []float32 { return draw(r, dim, i) }, &plain, &near)
					}
					t.Logf("mean %.3f, deviation %.3f; knowing the estimate: %.3f, %.3f", plain.mean(), plain.sd(), near.mean(), near.sd())
					b.check(t, name, bits, &plain, &near)
				})
			}
		}
	}
}

func judge(t *testing.T, z *quant.Quantizer, cfg quant.Config, b binding, draw func(i int) []float32, plain, near *tally) {
	t.Helper()
	vectors := make([][]float32, 6)
	for i := range vectors {
		vectors[i] = draw(i)
	}
	s := encode(z, cfg.Metric, vectors)
	var q quant.Query
	v := draw(len(vectors))
	b.bind(z, &q, v, ann.Scale(cfg.Metric, v))
	for i, estimate := range s.measure(&q) {
		err := float64(estimate) - exact(b.metric(cfg.Metric), v, vectors[i])
		plain.add(err / float64(q.Margin(&s.rows, uint32(i))))
		near.add(err / float64(q.MarginAt(&s.rows, uint32(i), estimate)))
	}
}

func TestNear(t *testing.T) {
	const n, dim, seed = 50, 100, 3
	for _, metric := range metrics {
		for _, bits := range widths {
			r := newRand(seed)
			vectors := make([][]float32, n)
			for i := range vectors {
				vectors[i] = normals(r, dim)
			}
			z := quant.New(quant.Config{Metric: metric, Dim: dim, Bits: bits, Seed: seed})
			s := encode(z, metric, vectors)
			var q quant.Query
			z.Bind(&q, normals(r, dim), 0.1)
			all := s.measure(&q)
			reach := all[n/2]
			var slots []uint32
			var distances []float32
			for i, d := range all {
				if d <= reach {
					slots, distances = append(slots, uint32(i)), append(distances, d)
				}
			}
			got, out := s.slots(), make([]float32, n)
			found := q.Near(&s.rows, got, reach, out)
			require.Equal(t, slots, got[:found], "%v %d bits", metric, bits)
			require.Equal(t, distances, out[:found], "%v %d bits", metric, bits)
		}
	}
}
