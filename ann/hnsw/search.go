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
	s.from.bind(g, req.Vector)
	w := walker{g: g, s: s, limit: req.Limit}
	defer w.release()
	if g.fetcher != nil && req.K <= ann.FetchLen/2 { // a fetch has room for the others that will be measured, too
		w.likely = req.K
	}
	w.admit.filter, w.admit.among = req.Filter, members(req.Among)
	err := w.search(ctx, w.aim(req))
	if req.Work = w.work; err != nil {
		return dst, err
	}
	return w.rank(req.K, dst), nil
}

// search leaves the ef nearest slots that it finds in s.pool. A walk that passes through deleted slots while repair
// takes their links away ends early; it is walked again, over what repair has put in their place.
func (w *walker) search(ctx context.Context, ef int) error {
	for {
		w.leash.kth = 0
		emptied := w.g.emptied.Load()
		if w.g.dead.Load() > 0 {
			w.admit.barred = stateDead
		}
		entry := w.g.entryPoint()
		if !entry.valid() {
			w.s.pool.reset(0)
			return nil
		}
		start := w.descend(w.keyOf(entry.slot()), entry.level(), 0)
		err := w.walkLowest(ctx, start, ef)
		if err != nil || w.g.emptied.Load() == emptied {
			return err
		}
	}
}

func (w *walker) walkLowest(ctx context.Context, start uint64, ef int) error {
	if w.admit.among != nil {
		return w.walkAmong(ctx, start, ef)
	}
	return w.walk(ctx, start, 0, ef)
}

// admission decides which slots a walk may return.
type admission struct {
	barred uint32 // state flags that keep a slot out
	filter ann.Filter
	among  members // nil: all slots
}

func (a *admission) allows(g *Graph, slot uint32) bool {
	if a.barred != 0 && g.state(slot)&a.barred != 0 {
		return false
	}
	if a.among != nil && !a.among.Has(slot) {
		return false
	}
	return a.filter == nil || a.filter.Allow(slot)
}

// walker is one walk towards what its scratch is bound to.
//
// Candidates are compared by keys, which order by distance and then by slot XOR salt. A search has salt 0, so ties
// come out in slot order; an insert has its own slot as salt, so that "nearest" among equal vectors means nearest by
// XOR of slots. That is again a metric, and graphs over it are navigable: many copies of one vector then form a
// sound graph instead of all linking to the same few and losing the rest.
type walker struct {
	g     *Graph
	s     *scratch
	salt  uint32
	self  bool // the slot equal to salt is the one being inserted, and not to be found
	admit admission

	leash leash
	near  ann.Fetched // vectors for the re-rank; nil: they are read from g.src

	likely int // how many of the nearest to fetch when half of them have been expanded; 0: none, or no more

	wanted         int // links to slots of a set that a node is to have
	limit          int // work after which to give up, 0: none
	work, unpolled int // done so far, and since the context was looked at
}

// linkWalker walks towards a slot's own vector to find links for it.
func (g *Graph) linkWalker(s *scratch, slot uint32, values []float32, scale float32) walker {
	s.from.bindLinks(g, values, scale)
	return walker{g: g, s: s, salt: slot, self: true}
}

func (w *walker) key(slot uint32, distance float32) uint64 { return makeKey(slot^w.salt, distance) }

func (w *walker) slot(key uint64) uint32 { return keySlot(key) ^ w.salt }

// keyOf measures one slot; without a vector it counts as farthest.
func (w *walker) keyOf(slot uint32) uint64 {
	slots, out := append(w.s.slots[:0], slot), w.s.out[:1]
	w.s.from.measure(w.g, slots, out)
	if isGone(out[0]) {
		out[0] = math.MaxFloat32
	}
	return w.key(slot, out[0])
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
	w.s.from.measure(w.g, slots, out)
	for i, slot := range slots {
		if isGone(out[i]) {
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

// walk leaves the ef nearest admitted slots that it finds on a level in s.pool, among others.
func (w *walker) walk(ctx context.Context, start uint64, level, ef int) error {
	s := w.s
	s.pool.reset(ef)
	s.seen.reset(w.g.slots())
	if w.self {
		s.seen.add(w.salt)
	}
	s.seen.add(w.slot(start))
	s.pool.insert(w.flagged(start))
	return w.expand(ctx, level, false)
}

// flagged marks the key of a slot that may not be returned.
func (w *walker) flagged(key uint64) uint64 {
	slot := w.slot(key)
	if w.self && slot == w.salt || !w.admit.allows(w.g, slot) { // its own, linked on upper levels already
		return key | keyWay
	}
	return key
}

// offer takes in slots that were reached. One without a vector is a way as good as the node that leads to it, and no
// result.
func (w *walker) offer(node uint64, slots []uint32, distances []float32) {
	p := &w.s.pool
	for i, slot := range slots {
		distance := distances[i]
		if distance > p.reach {
			continue
		}
		if isGone(distance) {
			if key := w.key(slot, keyDistance(node)) | keyWay; key < p.bound {
				p.insert(key)
			}
			continue
		}
		if key := w.key(slot, distance); key < p.bound {
			p.insert(w.flagged(key))
		}
	}
}
