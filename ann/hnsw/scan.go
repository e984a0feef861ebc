package hnsw

import (
	"context"
	"math"
	"slices"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// Slots hands out slots, each once: as many as fit into dst, 0 at the end. Iterators of roaring bitmaps do.
type Slots interface {
	NextMany(dst []uint32) int
}

// scanBatch is how many slots a scan measures at once.
const scanBatch = 256

// scanMargin is how far, in standard deviations of an estimate's error, a scan mistrusts estimates. One in 700 of those
// slots that would be the k-th nearest exactly is that far off, and hardly any that is nearer.
const scanMargin = 3

// Scan appends the req.K nearest of slots to dst, nearest first, by measuring all of them: estimates from codes say
// which vectors are to be measured in full. It finds what an exact scan would but for unlikely errors of estimates, and reads
// a small part of the memory. Slots that are not in the graph are passed over; req.Ef, Among and Limit are ignored.
func (g *Graph) Scan(ctx context.Context, req *ann.Request, slots Slots, dst []ann.Candidate) ([]ann.Candidate, error) {
	if len(req.Vector) != g.cfg.Dim {
		return dst, errs.New(errs.Invalid, "scan: vector has %d values, the index %d", len(req.Vector), g.cfg.Dim)
	}
	if req.K <= 0 {
		return dst, ctx.Err()
	}
	s := g.getScratch()
	defer g.putScratch(s)
	s.from.bind(g, req.Vector)
	w := walker{g: g, s: s}
	w.admit.barred, w.admit.filter = stateDead, req.Filter
	err := w.scan(ctx, slots, req.K)
	if req.Work = w.work; err != nil {
		return dst, err
	}
	return w.rankKeys(req.K, 0, dst), nil
}

// scan leaves what may be among the k nearest in s.ranked, in order of how near each may be at best.
func (w *walker) scan(ctx context.Context, slots Slots, k int) error {
	s := w.s
	s.results.Reset(k)
	s.ranked = s.ranked[:0]
	s.slots = slices.Grow(s.slots[:0], scanBatch)
	c := gleaner{reach: float32(math.Inf(1))}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := slots.NextMany(s.slots[:scanBatch])
		if n == 0 {
			break
		}
		s.slots = slices.DeleteFunc(s.slots[:n], func(slot uint32) bool { return !w.g.findable(slot) })
		w.work += len(s.slots)
		w.glean(&c)
	}
	slices.Sort(s.ranked)
	for n := len(s.ranked); n > 0 && keyDistance(s.ranked[n-1]) > c.reach; n-- {
		s.ranked = s.ranked[:n-1]
	}
	return nil
}

// gleaner is how far a scan has come.
type gleaner struct {
	reach  float32 // how far the k-th nearest is at most
	margin float32 // the largest error reckoned with so far
}

// glean measures s.slots and adds those that may be within reach to s.ranked.
func (w *walker) glean(c *gleaner) {
	s := w.s
	out := s.room(len(s.slots))
	s.from.measure(w.g, s.slots, out)
	for i, slot := range s.slots {
		estimate := out[i]
		if !(estimate-c.margin <= c.reach) || !w.returnable(slot) {
			continue
		}
		margin := w.margin(slot, estimate)
		if c.margin = max(c.margin, margin); estimate-margin > c.reach {
			continue
		}
		s.ranked = append(s.ranked, makeKey(slot, estimate-margin))
		s.results.Offer(ann.Candidate{Slot: slot, Distance: estimate + margin})
	}
	if kth, full := s.results.Worst(); full {
		c.reach = kth.Distance
	}
}

// margin returns how far a scan mistrusts an estimate.
func (w *walker) margin(slot uint32, estimate float32) float32 {
	if w.g.quant == nil {
		return 0
	}
	return scanMargin * w.s.from.coded.MarginAt(&w.g.nodes.Load().codes, slot, estimate)
}

// returnable reports whether slot may be returned; a code outlives its vector.
func (w *walker) returnable(slot uint32) bool {
	if !w.admit.allows(w.g, slot) {
		return false
	}
	values, _ := w.g.src.Vector(slot)
	return values != nil
}
