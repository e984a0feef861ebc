package hnsw

import (
	"context"
	"math/bits"

	"github.com/croftdb/croft/ann"
)

// walkAmong is walk on level 0 for a walker that is to find slots of a set only. Slots outside of it are not measured
// but looked through, as in ACORN (Patel et al., 2024): it is a walk over the graph that the slots of the set would
// form if each were linked with the set's slots among the neighbours of its neighbours.
//
// That graph need not be connected, nor near to where the walk begins. A walk that has ended with fewer than ef slots
// goes on from slots of the set taken at random, and at last as walk does, by way of everything.
func (w *walker) walkAmong(ctx context.Context, start uint64, ef int) error {
	s := w.s
	s.pool.reset(ef)
	s.seen.reset(w.g.slots())
	s.seen.add(w.slot(start))
	s.pool.insert(w.flagged(start))
	if err := w.hop(ctx); err != nil || s.pool.full() {
		return err
	}
	w.sow()
	if err := w.hop(ctx); err != nil || s.pool.full() {
		return err
	}
	return w.flood(ctx)
}

// hop expands the pool until there is nothing left in it to expand.
func (w *walker) hop(ctx context.Context) error {
	s := w.s
	for {
		node, ok := s.pool.next()
		if !ok {
			return nil
		}
		read := w.gather(w.slot(node))
		w.prefetch()
		out := s.room(len(s.slots))
		s.from.measure(w.g, s.slots, out)
		w.offer(node, s.slots, out)
		if err := w.spend(ctx, read+len(out)); err != nil {
			return err
		}
	}
}

// gather sets s.slots to unseen neighbours of a node that are in the set, and, while they are fewer than a list has room
// for, to those of its neighbours outside of the set. It returns how many lists it has read.
func (w *walker) gather(node uint32) (read int) {
	s := w.s
	s.slots, s.around = s.slots[:0], s.around[:0]
	w.addPassing(w.g.listAt(node, 0), true)
	room := w.g.width
	if len(s.around) == 0 || len(s.slots) >= room {
		return 1
	}
	w.g.prefetch(s.around)
	for i, slot := range s.around {
		if len(s.slots) >= room {
			return 1 + i
		}
		s.seen.add(slot)
		w.addPassing(w.g.listAt(slot, 0), false)
	}
	return 1 + len(s.around)
}

// addPassing adds the unseen links of a list that are in the set to s.slots, and others to s.around if they are wanted.
func (w *walker) addPassing(links list, around bool) {
	s, among := w.s, w.admit.among
	for i := range links {
		slot := links.at(i)
		if slot == noLink {
			return
		}
		switch {
		case among.Has(slot):
			if s.seen.add(slot) {
				s.slots = append(s.slots, slot)
			}
		case around && !s.seen.has(slot):
			s.around = append(s.around, slot)
		}
	}
}

// seeds is how many slots of a set a walk begins anew from.
const seeds = 16

// sow takes slots from all over the set into the pool.
func (w *walker) sow() {
	s := w.s
	s.slots = s.slots[:0]
	among := w.admit.among
	for i := range seeds {
		part := among[i*len(among)/seeds : (i+1)*len(among)/seeds]
		slot, ok := first(part)
		slot += uint32(i*len(among)/seeds) * 64
		if ok && w.g.state(slot)&(statePresent|stateBusy) == statePresent && s.seen.add(slot) {
			s.slots = append(s.slots, slot)
		}
	}
	out := s.room(len(s.slots))
	s.from.measure(w.g, s.slots, out)
	for i, slot := range s.slots {
		if isGone(out[i]) {
			continue
		}
		if key := w.key(slot, out[i]); key < s.pool.bound {
			s.pool.insert(w.flagged(key))
		}
	}
}

// first returns the lowest slot of a set.
func first(set ann.Set) (slot uint32, ok bool) {
	for i, word := range set {
		if word != 0 {
			return uint32(i*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// flood goes on from everything in the pool as walk does, over slots outside of the set as well.
func (w *walker) flood(ctx context.Context) error {
	s := w.s
	s.seen.reset(w.g.slots())
	for i, key := range s.pool.keys {
		s.seen.add(w.slot(key))
		s.pool.keys[i] = key &^ keyExpanded
	}
	s.pool.cursor = 0
	return w.expand(ctx, 0)
}

// spend counts work, and looks at the limit and, now and then, the context.
func (w *walker) spend(ctx context.Context, work int) error {
	w.work += work
	if w.limit > 0 && w.work > w.limit {
		return ann.ErrLimit
	}
	if w.unpolled += work; w.unpolled >= pollEvery {
		w.unpolled = 0
		return ctx.Err()
	}
	return nil
}
