package hnsw

import (
	"context"
	"math"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// Search implements ann.Searcher. The filter is applied inside the walk: every slot is a way, only allowed ones are
// results, so the walk goes on until it has Ef allowed ones or has seen all that is reachable.
func (g *Graph) Search(ctx context.Context, req *ann.Request, dst []ann.Candidate) ([]ann.Candidate, error) {
	if len(req.Vector) != g.cfg.Dim {
		return dst, errs.New(errs.Invalid, "search: vector has %d values, the index %d", len(req.Vector), g.cfg.Dim)
	}
	if err := ctx.Err(); err != nil || req.K <= 0 {
		return dst, err
	}
	s := g.getScratch()
	defer g.putScratch(s)
	w := walker{g: g, s: s, query: ann.Bind(g.cfg.Metric, req.Vector)}
	w.admit.filter = req.Filter
	if err := w.search(ctx, max(req.K, req.Ef)); err != nil {
		return dst, err
	}
	keys := s.results.SortedKeys()
	for _, key := range keys[:min(req.K, len(keys))] {
		dst = append(dst, ann.FromKey(key))
	}
	return dst, nil
}

// search leaves the ef nearest slots that it finds in s.results. A walk that passes through deleted slots while repair
// takes their links away ends early; it is walked again, over what repair has put in their place.
func (w *walker) search(ctx context.Context, ef int) error {
	for {
		emptied := w.g.emptied.Load()
		if w.g.dead.Load() > 0 {
			w.admit.barred = stateDead
		}
		entry := w.g.entryPoint()
		if !entry.valid() {
			w.s.results.Reset(0)
			return nil
		}
		start := w.descend(w.keyOf(entry.slot()), entry.level(), 0)
		err := w.walk(ctx, start, 0, ef)
		if err != nil || w.g.emptied.Load() == emptied {
			return err
		}
	}
}

// admission decides which slots a walk may return.
type admission struct {
	barred uint32 // state flags that keep a slot out
	filter ann.Filter
}

func (a *admission) allows(g *Graph, slot uint32) bool {
	if a.barred != 0 && g.state(slot)&a.barred != 0 {
		return false
	}
	return a.filter == nil || a.filter.Allow(slot)
}

// walker is one walk: a bound query with its scratch.
//
// Candidates are compared by keys (ann.Key), which order by distance and then by slot XOR salt. A search has salt
// 0, so ties come out in slot order; an insert has its own slot as salt, so that "nearest" among equal vectors means
// nearest by XOR of slots. That is again a metric, and graphs over it are navigable: many copies of one vector then
// form a sound graph instead of all linking to the same few and losing the rest.
type walker struct {
	g     *Graph
	s     *scratch
	query ann.Query
	salt  uint32
	self  bool // the slot equal to salt is the one being inserted, and not to be found
	admit admission
}

func (w *walker) key(slot uint32, distance float32) uint64 {
	return ann.Key(ann.Candidate{Slot: slot ^ w.salt, Distance: distance})
}

func (w *walker) slot(key uint64) uint32 { return uint32(key) ^ w.salt }

// keyOf measures one slot; without a vector it counts as farthest.
func (w *walker) keyOf(slot uint32) uint64 {
	values, scale := w.g.src.Vector(slot)
	if values == nil {
		return w.key(slot, math.MaxFloat32)
	}
	return w.key(slot, w.query.Distance(values, scale))
}

// descend goes from a level down to, but not into, another, each time to the nearest node that single steps reach.
func (w *walker) descend(best uint64, from, to int) uint64 {
	for level := from; level > to; level-- {
		for {
			next := w.nearest(best, level)
			if next == best {
				break
			}
			best = next
		}
	}
	return best
}

// nearest returns the nearest of a node and its neighbours.
func (w *walker) nearest(best uint64, level int) uint64 {
	slots := w.g.listAt(w.slot(best), level).appendTo(w.s.slots[:0])
	out := w.s.out[:len(slots)]
	w.query.Measure(w.g.src, slots, out)
	for i, slot := range slots {
		if ann.IsGone(out[i]) {
			continue
		}
		if key := w.key(slot, out[i]); key < best {
			best = key
		}
	}
	return best
}

// pollEvery is how many distances lie between two looks at the context.
const pollEvery = 256

// walk leaves the ef nearest admitted slots that it finds on a level in s.results.
func (w *walker) walk(ctx context.Context, start uint64, level, ef int) error {
	s := w.s
	s.results.Reset(ef)
	s.frontier = append(s.frontier[:0], start)
	s.seen.reset(w.g.slots())
	if w.self {
		s.seen.add(w.salt)
	}
	s.seen.add(w.slot(start))
	w.offerStart(start)
	worst, measured := s.results.Bound(), 0
	for len(s.frontier) > 0 {
		nearest := s.frontier.pop()
		if nearest > worst {
			break
		}
		n := w.measureNeighbours(nearest, level)
		worst = w.offer(nearest, s.slots[:n], s.out[:n], worst)
		if measured += n; measured >= pollEvery {
			measured = 0
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) offerStart(start uint64) {
	slot := w.slot(start)
	if w.self && slot == w.salt { // linked on upper levels already
		return
	}
	if values, _ := w.g.src.Vector(slot); values != nil && w.admit.allows(w.g, slot) {
		w.s.results.OfferKey(start)
	}
}

// measureNeighbours measures the unseen neighbours of a node and returns their number.
func (w *walker) measureNeighbours(node uint64, level int) int {
	s := w.s
	links := w.g.listAt(w.slot(node), level)
	slots := s.slots[:0]
	for i := range links.len() {
		if slot := links.at(i); s.seen.add(slot) {
			slots = append(slots, slot)
		}
	}
	s.slots = slots
	w.query.Measure(w.g.src, slots, s.out[:len(slots)])
	return len(slots)
}

// offer takes in the neighbours of a node and returns the new bound. A slot without a vector is a way as good as the
// node that leads to it, and no result.
func (w *walker) offer(node uint64, slots []uint32, distances []float32, worst uint64) uint64 {
	s := w.s
	for i, slot := range slots {
		distance := distances[i]
		if ann.IsGone(distance) {
			s.frontier.push(w.key(slot, ann.FromKey(node).Distance))
			continue
		}
		key := w.key(slot, distance)
		if key >= worst {
			continue
		}
		s.frontier.push(key)
		if w.admit.allows(w.g, slot) && s.results.OfferKey(key) {
			worst = s.results.Bound()
		}
	}
	return worst
}
