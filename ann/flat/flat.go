// Package flat finds nearest neighbours exactly, by measuring every candidate.
//
// It owns no vectors and no state: Scan reads the slots that it is given through an ann.Source and keeps the nearest
// in the caller's ann.TopK, so that one result can be gathered from several places. The engine scans growing
// buffers, small partitions and the matches of selective filters with it; Index wraps a whole Source as an
// ann.Searcher. It allocates nothing and never reorders, remembers or locks anything.
package flat

import (
	"context"
	"sync"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// batch is how many slots are measured at once, and between two looks at the context.
const batch = 256

// Scan offers every slot that filter allows (nil allows all) and that has a vector to into. It stops early with
// ctx's error; what it has offered by then stays in into.
func Scan(ctx context.Context, q *ann.Query, src ann.Source, slots []uint32, filter ann.Filter, into *ann.TopK) error {
	var room [batch]uint32
	var distances [batch]float32
	for len(slots) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(batch, len(slots))
		allowed := slots[:n]
		if filter != nil {
			allowed = appendAllowed(room[:0], allowed, filter)
		}
		q.Measure(src, allowed, distances[:len(allowed)])
		for i, slot := range allowed {
			into.Offer(ann.Candidate{Slot: slot, Distance: distances[i]})
		}
		slots = slots[n:]
	}
	return nil
}

func appendAllowed(dst, slots []uint32, filter ann.Filter) []uint32 {
	for _, slot := range slots {
		if filter.Allow(slot) {
			dst = append(dst, slot)
		}
	}
	return dst
}

// Slots tells which slots an Index holds. The slice stays unchanged while a search runs.
type Slots interface {
	Slots() []uint32
}

// Index is an exact ann.Searcher over the slots of an owner, who keeps track of them.
type Index struct {
	metric  ann.Metric
	dim     int
	src     ann.Source
	slots   Slots
	scratch sync.Pool // of *scratch
}

type scratch struct {
	top  ann.TopK
	both both
}

// both is a filter within a set.
type both struct {
	among  ann.Set
	filter ann.Filter // may be nil
}

// Allow implements ann.Filter.
func (b *both) Allow(slot uint32) bool {
	return b.among.Has(slot) && (b.filter == nil || b.filter.Allow(slot))
}

// New makes an Index over vectors of dim values.
func New(metric ann.Metric, dim int, src ann.Source, slots Slots) *Index {
	return &Index{
		metric: metric, dim: dim, src: src, slots: slots,
		scratch: sync.Pool{New: func() any { return new(scratch) }},
	}
}

// Search implements ann.Searcher; req.Ef is ignored.
func (x *Index) Search(ctx context.Context, req *ann.Request, dst []ann.Candidate) ([]ann.Candidate, error) {
	if len(req.Vector) != x.dim {
		return dst, errs.New(errs.Invalid, "search: vector has %d values, the index %d", len(req.Vector), x.dim)
	}
	s := x.scratch.Get().(*scratch)
	defer x.scratch.Put(s)
	filter := req.Filter
	if req.Among != nil {
		s.both = both{req.Among, filter}
		filter = &s.both
		defer func() { s.both = both{} }()
	}
	s.top.Reset(req.K)
	q := ann.Bind(x.metric, req.Vector)
	if err := Scan(ctx, &q, x.src, x.slots.Slots(), filter, &s.top); err != nil {
		return dst, err
	}
	return s.top.Sorted(dst), nil
}
