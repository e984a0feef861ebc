package bench

import (
	"math"
	"math/rand/v2"
	"sort"

	"github.com/croftdb/croft/ann"
)

// Recipe describes a generated data set: a mixture of Gaussians in a latent space of few axes, laid into many
// dimensions by a random projection. DESIGN.md has it in words.
type Recipe struct {
	Name    string
	Metric  ann.Metric // under Cosine, rows have length 1
	Count   int        // base vectors
	Dim     int
	Latent  int     // axes of the latent space
	Centres int     // clusters
	Spread  float64 // of a cluster, before its own factor; the centres' is 1
	Gain    float64 // standard deviation of the projection's entries
	Noise   float64 // of every value, after the projection
}

// Recipes lists the data sets that can be generated.
func Recipes() []Recipe {
	return []Recipe{
		{Name: "clustered-1536", Metric: ann.Cosine, Count: 100_000, Dim: 1536, Latent: 64, Centres: 1000, Spread: 0.7, Gain: 1 / math.Sqrt(1536), Noise: 0.007},
		{Name: "clustered-128", Metric: ann.Euclidean, Count: 1_000_000, Dim: 128, Latent: 28, Centres: 2000, Spread: 0.8, Gain: 1, Noise: 0.18},
	}
}

const (
	axisDecay     = 0.35 // latent axis i has the scale (1+i)^-axisDecay
	spreadSpread  = 0.3  // the factor of a cluster's spread is log-normal
	sizeDecay     = 0.5  // cluster n has a share of (1+n)^-sizeDecay: Zipf
	rowsPerStream = 1024 // rows drawn from one stream of numbers
)

// Streams of random numbers, one for each use.
const (
	modelStream = iota
	baseStream
	queryStream
	matrixStream
)

// stream returns the n-th stream of a kind. Seeds are scrambled, for streams of PCG with close seeds resemble each other.
func stream(seed uint64, kind, n int) *rand.Rand {
	return rand.New(rand.NewPCG(scramble(seed), scramble(uint64(kind)<<48|uint64(n))))
}

// scramble is the finaliser of splitmix64 (Steele, Lea & Flood 2014).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mixture draws rows. It is read-only once made.
//
// Sums are written so that no compiler may fuse a product with an addition: rows must be the same on every machine.
type mixture struct {
	recipe     Recipe
	axes       []float64 // scale of each latent axis
	centres    []float64 // Centres rows of Latent
	spreads    []float64 // of each cluster
	shares     []float64 // of the clusters up to each one
	projection []float64 // Latent rows of Dim
}

func newMixture(r Recipe, seed uint64) *mixture {
	rng := stream(seed, modelStream, 0)
	m := &mixture{recipe: r, axes: make([]float64, r.Latent)}
	for i := range m.axes {
		m.axes[i] = steady(math.Pow(float64(1+i), -axisDecay))
	}
	for range r.Centres {
		for _, scale := range m.axes {
			m.centres = append(m.centres, scale*rng.NormFloat64())
		}
	}
	total := 0.0
	for n := range r.Centres {
		m.spreads = append(m.spreads, r.Spread*steady(math.Exp(spreadSpread*rng.NormFloat64())))
		total += steady(math.Pow(float64(1+n), -sizeDecay))
		m.shares = append(m.shares, total)
	}
	for range r.Latent * r.Dim {
		m.projection = append(m.projection, r.Gain*rng.NormFloat64())
	}
	return m
}

// steady drops the digits in which the mathematics of machines differ.
func steady(x float64) float64 { return float64(float32(x)) }

// draw makes one row; row is room for as many values.
func (m *mixture) draw(rng *rand.Rand, row []float64, dst []float32) {
	cluster := sort.SearchFloat64s(m.shares, rng.Float64()*m.shares[len(m.shares)-1])
	centre := m.centres[cluster*len(m.axes):]
	clear(row)
	for i, scale := range m.axes {
		x := centre[i] + float64(m.spreads[cluster]*float64(scale*rng.NormFloat64()))
		addScaled(row, x, m.projection[i*len(row):(i+1)*len(row)])
	}
	for j := range row {
		row[j] += float64(m.recipe.Noise * rng.NormFloat64())
	}
	factor := 1.0
	if m.recipe.Metric == ann.Cosine {
		factor = 1 / length(row)
	}
	for j, x := range row {
		dst[j] = float32(x * factor)
	}
}

// addScaled adds x times b to a.
func addScaled(a []float64, x float64, b []float64) {
	b = b[:len(a)]
	for i := range a {
		a[i] += float64(x * b[i])
	}
}

// length is ann.Norm for float64, the same on every machine.
func length(row []float64) float64 {
	sum := 0.0
	for _, x := range row {
		sum += float64(x * x)
	}
	return math.Sqrt(sum)
}
