package quant_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/internal/kernel"
	"github.com/croftdb/croft/ann/quant"
)

func TestConfig(t *testing.T) {
	good := quant.Config{Metric: ann.Cosine, Dim: 3, Bits: 4}
	nan := float32(math.NaN())
	cases := []struct {
		name string
		edit func(c *quant.Config)
		want string
	}{
		{"good", func(*quant.Config) {}, ""},
		{"largest", func(c *quant.Config) { c.Dim = 20480 }, ""},
		{"centre", func(c *quant.Config) { c.Centre = []float32{1, 2, 3} }, ""},
		{"no metric", func(c *quant.Config) { c.Metric = 0 }, "metric"},
		{"no dimension", func(c *quant.Config) { c.Dim = 0 }, "dimension 0"},
		{"too large", func(c *quant.Config) { c.Dim = 20481 }, "20480"},
		{"bits", func(c *quant.Config) { c.Bits = 3 }, "1, 2, 4 or 8"},
		{"short centre", func(c *quant.Config) { c.Centre = []float32{1} }, "centre of 1"},
		{"centre not finite", func(c *quant.Config) { c.Centre = []float32{0, nan, 0} }, "finite"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.edit(&cfg)
			err := cfg.Validate()
			if c.want == "" {
				require.NoError(t, err)
				require.NotPanics(t, func() { quant.New(cfg) })
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Panics(t, func() { quant.New(cfg) })
		})
	}
	err := (&quant.Config{}).Validate()
	require.Equal(t, 3, strings.Count(err.Error(), "\n")+1, "all faults: %v", err)
}

func TestRowBytes(t *testing.T) {
	for _, c := range []struct{ dim, bits, want int }{
		{1, 1, 24}, {64, 1, 24}, {65, 4, 80}, {128, 4, 80}, {128, 8, 160}, {784, 1, 128}, {784, 2, 224}, {784, 4, 448}, {784, 8, 896},
		{1536, 1, 224}, {1536, 2, 448}, {1536, 4, 832}, {1536, 8, 1600}, {20000, 8, 20096},
	} {
		z := quant.New(quant.Config{Metric: ann.Euclidean, Dim: c.dim, Bits: c.bits})
		require.Equal(t, c.want, z.RowBytes(), "%d values, %d bits", c.dim, c.bits)
	}
}

// TestZeros: what has no direction is at distance 1 under Cosine; elsewhere it is a vector like others, and estimates for
// it are exact.
func TestZeros(t *testing.T) {
	for _, metric := range metrics {
		for _, bits := range widths {
			for _, centre := range [][]float32{nil, normals(newRand(1), 100)} {
				z := quant.New(quant.Config{Metric: metric, Dim: 100, Bits: bits, Centre: centre})
				zero, other := make([]float32, 100), normals(newRand(2), 100)
				s := encode(z, metric, [][]float32{zero, other})
				for _, b := range bindings {
					var q quant.Query
					b.bind(z, &q, zero, ann.Scale(metric, zero))
					got := s.measure(&q)
					if metric == ann.Cosine {
						require.Equal(t, []float32{1, 1}, got, b.name)
						require.Zero(t, q.Margin(&s.rows, 1))
						require.Zero(t, q.MarginAt(&s.rows, 1, 1))
					} else if centre == nil {
						require.InDelta(t, 0, got[0], 1e-9, b.name)
						require.InEpsilon(t, 1+exact(b.metric(metric), zero, other), 1+got[1], 1e-6, b.name)
					}
					b.bind(z, &q, other, ann.Scale(metric, other))
					if metric == ann.Cosine {
						require.Equal(t, float32(1), s.measure(&q)[0], b.name)
						require.Zero(t, q.Margin(&s.rows, 0))
					}
				}
			}
		}
	}
}

// TestCentre: a vector that is the centre has no error, and estimates for it no doubt.
func TestCentre(t *testing.T) {
	r := newRand(3)
	centre := normals(r, 90)
	other := normals(r, 90)
	for _, metric := range []ann.Metric{ann.DotProduct, ann.Euclidean} {
		for _, bits := range widths {
			z := quant.New(quant.Config{Metric: metric, Dim: 90, Bits: bits, Centre: centre})
			s := encode(z, metric, [][]float32{centre, other})
			for _, b := range bindings[:2] {
				var q quant.Query
				b.bind(z, &q, other, 1)
				require.InEpsilon(t, exact(b.metric(metric), other, centre), s.measure(&q)[0], 1e-6, b.name)
				require.Zero(t, q.Margin(&s.rows, 0))
				b.bind(z, &q, centre, 1)
				require.InDelta(t, exact(b.metric(metric), centre, other), s.measure(&q)[1], 5*float64(q.Margin(&s.rows, 1))+1e-4)
			}
		}
	}
}

// TestExtremes: estimates are numbers, and as good as margins say, for vectors of any size that float32 has.
func TestExtremes(t *testing.T) {
	sizes := []float64{1e-41, 1e-39, 1e-30, 1e-18, 1, 1e18, 1e30, 1e36}
	for _, dim := range []int{1, 2, 3, 65, 20000} {
		for _, bits := range widths {
			for _, metric := range metrics {
				t.Run(fmt.Sprintf("%d/%d/%v", dim, bits, metric), func(t *testing.T) {
					z := quant.New(quant.Config{Metric: metric, Dim: dim, Bits: bits, Seed: 5})
					r := newRand(uint64(dim))
					vectors := make([][]float32, 0, len(sizes))
					for _, size := range sizes {
						v := normals(r, dim)
						for i := range v {
							v[i] = float32(math.Max(-3.4e38, math.Min(float64(v[i])*size, 3.4e38)))
						}
						vectors = append(vectors, v)
					}
					s := encode(z, metric, vectors)
					for _, b := range bindings {
						for _, v := range vectors {
							checkFinite(t, s, z, b, metric, v)
						}
					}
				})
			}
		}
	}
}

func checkFinite(t *testing.T, s *set, z *quant.Quantizer, b binding, metric ann.Metric, v []float32) {
	t.Helper()
	var q quant.Query
	b.bind(z, &q, v, ann.Scale(metric, v))
	for i, got := range s.measure(&q) {
		want := exact(b.metric(metric), v, s.vectors[i])
		want = math.Max(-math.MaxFloat32, math.Min(want, math.MaxFloat32))
		margin := float64(q.Margin(&s.rows, uint32(i)))
		near := float64(q.MarginAt(&s.rows, uint32(i), got))
		require.False(t, math.IsInf(float64(got), 0) || math.IsNaN(float64(got)))
		require.False(t, math.IsInf(margin+near, 0) || math.IsNaN(margin+near))
		slack := 6*margin + 1e-3*math.Abs(want) + 1e-30
		if b.name == "row" {
			slack += 3*margin + 0.012*alike(metric, v, s.vectors[i])
		}
		require.InDelta(t, want, got, slack, "%s of %d: margin %g", b.name, i, margin)
	}
}

// alike is what BindRow's bias at 4 bits, for vectors of one direction, is in proportion to.
func alike(metric ann.Metric, a, b []float32) float64 {
	if metric == ann.Cosine {
		return 1
	}
	return 2 * ann.Norm(a) * ann.Norm(b)
}

// TestNearestFirst: what codes rank first, measured once more, are the neighbours.
func TestNearestFirst(t *testing.T) {
	const n, dim, k = 2000, 96, 10
	rerank := map[int]int{1: 80, 2: 30, 4: 16, 8: 11}
	for _, metric := range metrics {
		for _, bits := range widths {
			t.Run(fmt.Sprintf("%v/%d bits", metric, bits), func(t *testing.T) {
				r := newRand(9)
				vectors := make([][]float32, n+20)
				for i := range vectors {
					vectors[i] = normals(newRand(uint64(r.IntN(50))), dim)
					for j := range vectors[i] {
						vectors[i][j] += float32(0.5 * r.NormFloat64())
					}
				}
				z := quant.New(quant.Config{Metric: metric, Dim: dim, Bits: bits, Seed: 1})
				s := encode(z, metric, vectors[:n])
				var q quant.Query
				found := 0
				for _, v := range vectors[n:] {
					z.Bind(&q, v, ann.Scale(metric, v))
					want := first(n, k, func(i int) float64 { return exact(metric, v, vectors[i]) })
					estimates := s.measure(&q)
					got := first(n, rerank[bits], func(i int) float64 { return float64(estimates[i]) })
					for _, w := range want {
						if slices.Contains(got, w) {
							found++
						}
					}
				}
				recall := float64(found) / float64(20*k)
				t.Logf("recall@10 %.3f of %d measured again", recall, rerank[bits])
				require.GreaterOrEqual(t, recall, 0.97)
			})
		}
	}
}

// first returns the k of n with the least keys.
func first(n, k int, key func(i int) float64) []int {
	keys, order := make([]float64, n), make([]int, n)
	for i := range order {
		keys[i], order[i] = key(i), i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	return order[:k]
}

// TestAnyFiniteVector: whatever finite vectors are, no estimate is without meaning, whole and rotten rows alike.
func TestAnyFiniteVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.IntRange(1, 80).Draw(t, "dim")
		cfg := quant.Config{
			Metric: rapid.SampledFrom(metrics).Draw(t, "metric"),
			Dim:    dim,
			Bits:   rapid.SampledFrom(widths).Draw(t, "bits"),
			Seed:   rapid.Uint64().Draw(t, "seed"),
		}
		vector := rapid.SliceOfN(rapid.Float32(), dim, dim)
		if rapid.Bool().Draw(t, "centred") {
			cfg.Centre = vector.Draw(t, "centre")
		}
		z := quant.New(cfg)
		vectors := rapid.SliceOfN(vector, 1, 4).Draw(t, "vectors")
		s := encode(z, cfg.Metric, vectors)
		if rapid.Bool().Draw(t, "rotten") {
			copy(s.row(0), rapid.SliceOfN(rapid.Byte(), z.RowBytes(), z.RowBytes()).Draw(t, "row"))
		}
		v := vector.Draw(t, "query")
		for _, b := range bindings {
			var q quant.Query
			b.bind(z, &q, v, ann.Scale(cfg.Metric, v))
			expectNumbers(t, s, &q)
		}
		var q quant.Query
		z.BindRow(&q, s.row(0))
		expectNumbers(t, s, &q)
	})
}

func expectNumbers(t *rapid.T, s *set, q *quant.Query) {
	for i, d := range s.measure(q) {
		for _, x := range []float32{d, q.Margin(&s.rows, uint32(i)), q.MarginAt(&s.rows, uint32(i), d)} {
			if x-x != 0 {
				t.Fatalf("row %d: %v", i, x)
			}
		}
	}
}

func TestWrongUse(t *testing.T) {
	z := quant.New(quant.Config{Metric: ann.Cosine, Dim: 70, Bits: 4})
	var q quant.Query
	row := make([]byte, z.RowBytes())
	require.Panics(t, func() { z.Bind(&q, make([]float32, 69), 1) })
	require.Panics(t, func() { z.Encode(new(quant.Scratch), make([]float32, 71), 1, row) })
	require.Panics(t, func() { z.Encode(new(quant.Scratch), make([]float32, 70), 1, row[1:]) })
	s := encode(z, ann.Cosine, [][]float32{normals(newRand(1), 70)})
	z.BindRow(&q, s.row(0))
	require.Panics(t, func() { q.Measure(&s.rows, []uint32{1}, make([]float32, 1)) })
	require.Panics(t, func() { q.Margin(&s.rows, 1) })
	require.NotPanics(t, func() { q.Measure(&kernel.Rows{Stride: z.RowBytes()}, nil, nil) })
}
