// Package anntest judges implementations of ann.Searcher.
//
// It owns the conformance kit: an index package calls Run from a test and learns whether its index finds what an
// exact scan finds, never returns a slot that is deleted or not allowed, and stays sound while it is written to from
// several goroutines. It also makes the small clustered data sets that such tests need, from a seed. Only tests call
// it.
package anntest

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/croftdb/croft/ann"
)

// Index is what the kit tests. Insert and Delete may be called from several goroutines at once.
type Index interface {
	ann.Searcher
	// Insert adds a slot whose vector the Source returns already.
	Insert(slot uint32) error
	// Delete takes a slot out; no search that begins later returns it.
	Delete(slot uint32)
	// Reclaim does what must be done after deletes and returns deleted slots that may be inserted again.
	Reclaim() ([]uint32, error)
}

// Vectors is an ann.Source for tests: slots with vectors that may be replaced at any time.
type Vectors struct {
	metric ann.Metric
	rows   []atomic.Pointer[row]
}

type row struct {
	values []float32
	scale  float32
}

// NewVectors makes room for n slots, without vectors.
func NewVectors(metric ann.Metric, n int) *Vectors {
	return &Vectors{metric: metric, rows: make([]atomic.Pointer[row], n)}
}

// Set gives slot a vector; nil takes it away.
func (v *Vectors) Set(slot uint32, values []float32) {
	if values == nil {
		v.rows[slot].Store(nil)
		return
	}
	v.rows[slot].Store(&row{values, ann.Scale(v.metric, values)})
}

// Vector implements ann.Source.
func (v *Vectors) Vector(slot uint32) ([]float32, float32) {
	if r := v.rows[slot].Load(); r != nil {
		return r.values, r.scale
	}
	return nil, 1
}

// Clustered makes n vectors of dim values around centres, the shape of real embeddings: the same for a seed always.
func Clustered(seed uint64, n, dim int) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	latent := max(2, min(dim, 12))
	projection := gaussian(r, latent*dim, 1/math.Sqrt(float64(latent)))
	centres := gaussian(r, max(1, n/50)*latent, 1)
	all := make([][]float32, n)
	for i := range all {
		centre := centres[r.IntN(len(centres)/latent)*latent:][:latent]
		point := gaussian(r, latent, 0.6)
		for j := range point {
			point[j] += centre[j]
		}
		all[i] = gaussian(r, dim, 0.05)
		for j := range all[i] {
			for l, x := range point {
				all[i][j] += x * projection[l*dim+j]
			}
		}
	}
	return all
}

func gaussian(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

// Exact returns the k nearest of slots by measuring all of them.
func Exact(metric ann.Metric, src ann.Source, slots []uint32, query []float32, k int) []ann.Candidate {
	q := ann.Bind(metric, query)
	var all []ann.Candidate
	for _, slot := range slots {
		if values, scale := src.Vector(slot); values != nil {
			all = append(all, ann.Candidate{Slot: slot, Distance: q.Distance(values, scale)})
		}
	}
	slices.SortFunc(all, ann.Compare)
	return all[:min(k, len(all))]
}

// Hits counts the candidates that are among the exact ones or as near as the last of them.
func Hits(got, exact []ann.Candidate) int {
	n := 0
	for _, c := range got {
		if len(exact) > 0 && c.Distance <= exact[len(exact)-1].Distance {
			n++
		}
	}
	return min(n, len(exact))
}
