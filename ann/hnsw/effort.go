package hnsw

import (
	"math"
	"slices"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// DefaultRecall is the share of the true nearest that a search is to find when nobody asks for another.
const DefaultRecall = 0.99

// leashMargin is how much farther than the leash says a walk goes, in standard deviations of the k-th's error. Between
// near copies of a vector, which differ by less than their codes can tell, it is what keeps the walk going; elsewhere,
// 0, 0.5 and 1 find the same share with the same number of distances (clustered-1536 at 2 bits).
const leashMargin = 1

// leash ends a walk early where that is easy to tell, and lets it go on where it is not: candidates are expanded while
// they are not farther than (1+stretch) times the k-th nearest found so far (Al-Jazzazi et al. 2025). The zero leash
// ends no walk.
type leash struct {
	k       int
	stretch float32
	offset  float32 // added to distances, so that they are positive
	kth     uint64  // what the leash was last fastened to
}

// tighten fastens the leash to the k-th nearest found by now.
func (w *walker) tighten() {
	l, p := &w.leash, &w.s.pool
	kth, ok := p.nearest(l.k)
	if kth &^= keyFlagsMask; !ok || kth == l.kth {
		return
	}
	l.kth = kth
	distance := keyDistance(kth)
	reach := distance + l.stretch*max(distance+l.offset, 0)
	if w.g.quant != nil {
		reach += leashMargin * w.s.from.coded.MarginAt(&w.g.nodes.Load().codes, w.slot(kth), distance)
	}
	p.cut(reach)
}

// An effort is measured for a few k, at a grid of stretches for walks on a leash and of breadths beyond k for others.
var (
	effortKs  = [...]int{1, 10, 100}
	stretches = [...]float64{0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4, 2.2}
	breadths  = [...]float64{0, 4, 10, 20, 40, 80, 160, 320, 640}
)

// Effort is what a graph's searches take: the share of the true nearest that a sample of them found, by how far they
// went. Calibrator measures it; it is not changed any more.
type Effort struct {
	Slots   int     // in the graph when it was measured
	longest float32 // norm in the sample
	byK     [len(effortKs)]struct {
		stretch [len(stretches)]float32
		breadth [len(breadths)]float32
	}
}

// effortSize is that of an Effort in a checkpoint, in bytes.
const effortSize = 8 + 4*len(effortKs)*(len(stretches)+len(breadths))

// append appends e to b, or as many zeros if e is nil: the number of slots is never 0 in an Effort.
func (e *Effort) append(b []byte) []byte {
	if e == nil {
		return append(b, make([]byte, effortSize)...)
	}
	b = codec.AppendUint32(b, uint32(e.Slots))
	for _, v := range e.values() {
		b = codec.AppendUint32(b, math.Float32bits(*v))
	}
	return b
}

// values returns what is in a checkpoint beside the number of slots, in its order.
func (e *Effort) values() []*float32 {
	all := []*float32{&e.longest}
	for i := range e.byK {
		for j := range e.byK[i].stretch {
			all = append(all, &e.byK[i].stretch[j])
		}
		for j := range e.byK[i].breadth {
			all = append(all, &e.byK[i].breadth[j])
		}
	}
	return all
}

// parseEffort undoes append. b is effortSize bytes.
func parseEffort(b []byte) (*Effort, error) {
	r := codec.NewReader(b)
	e := &Effort{Slots: int(r.Uint32())}
	if e.Slots == 0 {
		return nil, nil
	}
	for i, v := range e.values() {
		*v = math.Float32frombits(r.Uint32())
		if longest := i == 0; !(*v >= 0 && (*v <= 1 || longest)) {
			return nil, errs.New(errs.Corrupt, "load graph: value %d of its effort is %v", i, *v)
		}
	}
	return e, r.Err()
}

// Leashed reports whether stretches were measured, so that the effort of each walk depends on what it finds on its way.
// That takes searches that were made; before, all walks are as broad as Ef says.
func (e *Effort) Leashed() bool { return e.byK[0].stretch[len(stretches)-1] > 0 }

// Stretch returns the stretch of a leash that finds a share of the k nearest.
func (e *Effort) Stretch(k int, recall float64) float64 {
	return e.between(k, func(i int) float64 { return knobFor(stretches[:], e.byK[i].stretch[:], recall) })
}

// Ef returns the breadth of a walk without a leash that finds a share of the k nearest.
func (e *Effort) Ef(k int, recall float64) int {
	beyond := e.between(k, func(i int) float64 { return knobFor(breadths[:], e.byK[i].breadth[:], recall) })
	return k + int(math.Ceil(beyond))
}

// between interpolates what was measured for the k around one, by their logarithm.
func (e *Effort) between(k int, at func(i int) float64) float64 {
	i, _ := slices.BinarySearch(effortKs[:], k)
	switch {
	case i == 0:
		return at(0)
	case i == len(effortKs):
		return at(i - 1)
	}
	low, high := float64(effortKs[i-1]), float64(effortKs[i])
	t := math.Log(float64(k)/low) / math.Log(high/low)
	return at(i-1)*(1-t) + at(i)*t
}

// knobFor returns where on a grid a recall is reached, or the highest that is: what some searches miss no effort finds.
// The share missed falls about exponentially.
func knobFor(grid []float64, recalls []float32, recall float64) float64 {
	const least = 1e-5
	recall = min(recall, float64(slices.Max(recalls)))
	missed := func(r float64) float64 { return math.Log(max(1-r, least)) }
	best := 0.0
	for i, r := range recalls {
		r := float64(r)
		if r >= recall && i == 0 {
			return grid[0]
		}
		if r >= recall {
			t := (missed(best) - missed(recall)) / (missed(best) - missed(r))
			return grid[i-1] + min(t, 1)*(grid[i]-grid[i-1])
		}
		best = max(best, r)
	}
	return grid[len(grid)-1]
}

// maxBreadth bounds a walk on a leash, for data in which everything is about as far away as everything else.
const maxBreadth = 2048

// Effort returns what was measured of the graph's searches, nil before.
func (g *Graph) Effort() *Effort { return g.effort.Load() }

// SetEffort makes searches heed what a Calibrator measured.
func (g *Graph) SetEffort(e *Effort) { g.effort.Store(e) }

// EfFor returns the breadth of a walk that is to find a share of the k nearest; recall 0 stands for DefaultRecall.
func (g *Graph) EfFor(k int, recall float32) int {
	if e := g.effort.Load(); e != nil {
		return e.Ef(k, orDefault(recall))
	}
	return DefaultEf(k)
}

func orDefault(recall float32) float64 {
	if recall == 0 {
		return DefaultRecall
	}
	return float64(recall)
}

// aim sets how far the walk of a search goes and returns its breadth. A walk among a set has both a leash and the breadth
// that does without one: the slots that are nearest to a query far away from the set are all about as far, and a leash
// alone would lead to most of them (five times the work on clustered-1536 for a recall of 0.99 instead of 0.96).
func (w *walker) aim(req *ann.Request) (ef int) {
	e := w.g.effort.Load()
	switch {
	case req.Ef > 0:
		return max(req.K, req.Ef)
	case e == nil || !e.Leashed():
		return w.g.EfFor(req.K, req.Recall)
	}
	w.leash = leash{
		k:       req.K,
		stretch: float32(e.Stretch(req.K, orDefault(req.Recall))),
		offset:  offsetFor(w.g.cfg.Metric, req.Vector, float64(e.longest)),
	}
	if req.Among != nil {
		w.leash.stretch *= amongStretch
		return w.g.EfFor(req.K, req.Recall)
	}
	return max(maxBreadth, 2*req.K)
}

// amongStretch is how much longer a leash is for a walk among a set: in the graph that it goes over, ways around are longer.
const amongStretch = 1.25

// offsetFor returns what makes distances from a vector positive, but for longer ones than any in the sample. Inner
// products are then half of squared distances in the space of one more dimension where all vectors are equally long.
func offsetFor(metric ann.Metric, values []float32, longest float64) float32 {
	if metric != ann.DotProduct {
		return 0
	}
	return float32(min(longest*ann.Norm(values), math.MaxFloat32))
}
