package quant_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/quant"
)

// eachShape runs a benchmark for the dimensions and codes that matter.
func eachShape(b *testing.B, run func(b *testing.B, z *quant.Quantizer, v []float32, scale float32)) {
	for _, dim := range []int{128, 784, 1536} {
		for _, bits := range widths {
			b.Run(fmt.Sprintf("%d/%dbits", dim, bits), func(b *testing.B) {
				z := quant.New(quant.Config{Metric: ann.Cosine, Dim: dim, Bits: bits})
				v := normals(newRand(1), dim)
				run(b, z, v, ann.Scale(ann.Cosine, v))
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	eachShape(b, func(b *testing.B, z *quant.Quantizer, v []float32, scale float32) {
		var work quant.Scratch
		row := make([]byte, z.RowBytes())
		for b.Loop() {
			z.Encode(&work, v, scale, row)
		}
	})
}

func BenchmarkBind(b *testing.B) {
	eachShape(b, func(b *testing.B, z *quant.Quantizer, v []float32, scale float32) {
		var q quant.Query
		for b.Loop() {
			z.Bind(&q, v, scale)
		}
	})
}

func BenchmarkBindRow(b *testing.B) {
	eachShape(b, func(b *testing.B, z *quant.Quantizer, v []float32, scale float32) {
		var q quant.Query
		row := make([]byte, z.RowBytes())
		z.Encode(new(quant.Scratch), v, scale, row)
		for b.Loop() {
			z.BindRow(&q, row)
		}
	})
}

// BenchmarkMeasure estimates 32 rows at once, in cache, for a vector and for a row.
func BenchmarkMeasure(b *testing.B) {
	eachShape(b, func(b *testing.B, z *quant.Quantizer, v []float32, scale float32) {
		vectors := make([][]float32, 32)
		for i := range vectors {
			vectors[i] = normals(newRand(uint64(i)), len(v))
		}
		s := encode(z, ann.Cosine, vectors)
		slots, out := s.slots(), make([]float32, 32)
		var q quant.Query
		for i, b2 := range bindings[1:] {
			b.Run(b2.name, func(b *testing.B) {
				bindings[i+1].bind(z, &q, v, scale)
				for b.Loop() {
					q.Measure(&s.rows, slots, out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(slots)), "ns/row")
			})
		}
	})
}

// BenchmarkError tells the error of estimated inner products, as a share of the product of the lengths, beside what
// margins say.
func BenchmarkError(b *testing.B) {
	for _, dim := range []int{128, 784, 1536} {
		for _, bits := range widths {
			b.Run(fmt.Sprintf("%d/%dbits", dim, bits), func(b *testing.B) {
				var squares, margins, n float64
				for b.Loop() {
					seed := rand.Uint64()
					z := quant.New(quant.Config{Metric: ann.Cosine, Dim: dim, Bits: bits, Seed: seed})
					r := newRand(seed)
					v := normals(r, dim)
					s := encode(z, ann.Cosine, [][]float32{normals(r, dim), normals(r, dim), normals(r, dim), normals(r, dim)})
					var q quant.Query
					z.Bind(&q, v, ann.Scale(ann.Cosine, v))
					for i, d := range s.measure(&q) {
						e := float64(d) - exact(ann.Cosine, v, s.vectors[i])
						squares, n = squares+e*e, n+1
						margins += float64(q.Margin(&s.rows, uint32(i)))
					}
				}
				b.ReportMetric(1e4*math.Sqrt(squares/n), "error/10⁴")
				b.ReportMetric(1e4*margins/n, "margin/10⁴")
			})
		}
	}
}
