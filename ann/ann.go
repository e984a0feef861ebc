// Package ann owns nearest-neighbour search over vectors that live elsewhere: metrics, the candidate type and the
// contracts that its algorithms share. ann/flat scans exactly, ann/hnsw walks a graph; ann/internal/kernel is the
// only place that measures distances, and the only door to vek.
//
// An index knows vectors by slot, a small integer that its owner hands out and reuses, and reads them through a
// Source; it has no I/O, no clock and no goroutine of its own. The engine and bench call it. Distances are always
// "smaller is nearer"; Metric.Score turns one into the figure that users see.
package ann

import (
	"cmp"
	"fmt"
)

// Metric says how two vectors are compared.
type Metric uint8

const (
	// Cosine is 1 - cos(a, b); vectors are stored as given and scaled by their reciprocal norms while measuring.
	Cosine Metric = iota + 1
	// DotProduct is the negated inner product.
	DotProduct
	// Euclidean is the squared euclidean distance.
	Euclidean
)

// ParseMetric reads the names of Pinecone's API.
func ParseMetric(s string) (Metric, error) {
	switch s {
	case "cosine":
		return Cosine, nil
	case "dotproduct":
		return DotProduct, nil
	case "euclidean":
		return Euclidean, nil
	}
	return 0, fmt.Errorf("metric %q is none of cosine, dotproduct, euclidean", s)
}

func (m Metric) String() string {
	switch m {
	case Cosine:
		return "cosine"
	case DotProduct:
		return "dotproduct"
	case Euclidean:
		return "euclidean"
	}
	return fmt.Sprintf("metric(%d)", uint8(m))
}

// Score turns a distance into the score of Pinecone's API: cosine similarity, inner product, or squared euclidean
// distance (the one where smaller is better).
func (m Metric) Score(distance float32) float32 {
	switch m {
	case Cosine:
		return 1 - distance
	case DotProduct:
		return -distance
	}
	return max(distance, 0)
}

// Candidate is a slot with its distance from the query.
type Candidate struct {
	Slot     uint32
	Distance float32
}

// Compare orders candidates nearest first, ties by slot, so that results are deterministic.
func Compare(a, b Candidate) int {
	if c := cmp.Compare(a.Distance, b.Distance); c != 0 {
		return c
	}
	return cmp.Compare(a.Slot, b.Slot)
}

// Source gives an index the vectors of its slots. It is called from many goroutines at once and must not block.
type Source interface {
	// Vector returns the values of a slot and the factor that its inner products are multiplied by: the reciprocal
	// of its norm under Cosine, else 1. The values stay valid and unchanged while the caller's search or insert
	// runs. It returns nil for a slot whose vector is gone; such a slot is passed over.
	Vector(slot uint32) (values []float32, scale float32)
}

// Filter decides which slots may be in a result. It is called from the search's goroutine only.
type Filter interface {
	Allow(slot uint32) bool
}
