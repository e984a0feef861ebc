package engine

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/croftdb/croft/ann"
)

// Bound is the worst score that is still of use to a search of several partitions, which go on at the same time: that of the
// last of the best matches so far. It only ever gets better. A score that equals it is of use, since ties are decided by
// names. Its methods may be called on nil, which leaves nothing out.
//
// What is left out by it could not have been among the best: the bound is that of matches which were found, so as many as are
// wanted are better. Exact scans keep no record beyond it, look for no ties and read no payload there. Of a graph walk
// nothing is cut: it has to pass through what is far to find what is near, and its breadth is what its recall was measured
// with, so that only what it has found is compared.
type Bound struct {
	metric ann.Metric
	last   atomic.Uint32 // bits of rank
}

// NewBound returns one that leaves nothing out. A sparse index has DotProduct.
func NewBound(m ann.Metric) *Bound {
	b := &Bound{metric: m}
	b.last.Store(math.Float32bits(float32(math.Inf(1))))
	return b
}

// rank turns a score round where larger ones are better.
func (b *Bound) rank(score float32) float32 {
	if b.metric == ann.Euclidean {
		return score
	}
	return -score
}

// Tighten leaves out what is worse than a score.
func (b *Bound) Tighten(score float32) {
	for r := b.rank(score); ; {
		old := b.last.Load()
		if r >= math.Float32frombits(old) || b.last.CompareAndSwap(old, math.Float32bits(r)) {
			return
		}
	}
}

// Admits reports whether a score is of use.
func (b *Bound) Admits(score float32) bool {
	return b == nil || b.rank(score) <= math.Float32frombits(b.last.Load())
}

// scoreError is more than a cosine score may be off from what it would be without rounding: half a unit in the last place of a number
// below 2, here and when the distance is rounded.
const scoreError = 1e-6

// distance returns a distance beyond which no score is of use.
func (b *Bound) distance() float32 {
	last := math.Float32frombits(b.last.Load())
	if b.metric == ann.Cosine {
		last += 1 + scoreError
	}
	return last
}

// cut drops the candidates, sorted by distance, that are of no use.
func (b *Bound) cut(found []ann.Candidate) []ann.Candidate {
	if b == nil {
		return found
	}
	n, _ := slices.BinarySearchFunc(found, b, func(c ann.Candidate, b *Bound) int {
		if b.Admits(b.metric.Score(c.Distance)) {
			return -1
		}
		return 1
	})
	return found[:n]
}
