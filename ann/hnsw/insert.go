package hnsw

import (
	"context"
	"sync/atomic"

	"github.com/croftdb/croft/internal/errs"
)

// Insert links slot, whose vector src already returns, into the graph on the levels 0 to level (see LevelFor; at
// most 15). It may run beside other inserts, searches, deletes and repair. It looks at ctx before it begins, and
// is done within milliseconds after that.
func (g *Graph) Insert(ctx context.Context, slot uint32, level int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	values, scale := g.src.Vector(slot)
	if len(values) != g.cfg.Dim {
		return errs.New(errs.Invalid, "insert slot %d: its vector has %d values, the index %d", slot, len(values), g.cfg.Dim)
	}
	level = min(max(level, 0), maxLevel)
	if err := g.claim(slot, level); err != nil {
		return err
	}
	s := g.getScratch()
	defer g.putScratch(s)
	g.encode(s, slot, values, scale)
	w := g.linkWalker(s, slot, values, scale)
	w.admit.barred = stateLeaving
	for !g.place(&w, level) {
	}
	g.clearFlags(slot, stateBusy)
	return nil
}

// claim makes slot present, without links.
func (g *Graph) claim(slot uint32, level int) error {
	if slot > maxSlot {
		return errs.New(errs.Invalid, "insert slot %d: slots end at %d", slot, maxSlot)
	}
	g.reserve(slot)
	block, err := g.takeBlocks(level)
	if err != nil {
		return err
	}
	state := statePresent | stateBusy | uint32(level)<<levelShift | block
	if !atomic.CompareAndSwapUint32(g.stateWord(slot), 0, state) {
		g.giveBlocks(block, level)
		return errs.New(errs.FailedPrecondition, "insert slot %d: it is in the graph already", slot).
			WithHint("delete it, and reuse it once repair has handed it back")
	}
	g.present.Add(1)
	return nil
}

// place links the walker's slot. It returns false if the entry point that it walked from was replaced while it found
// nothing to link to: then it is to be called again.
func (g *Graph) place(w *walker, level int) bool {
	entry := g.entryPoint()
	if raises := !entry.valid() || entry.level() < level; raises {
		g.top.Lock() // one at a time, so that the nodes of a new top level are linked with each other
		defer g.top.Unlock()
		entry = g.entryPoint()
		if !entry.valid() || !g.connect(w, entry, level) || entry.level() < level {
			g.entry.Store(uint64(makeEntry(w.salt, level)))
		}
		return true
	}
	return g.connect(w, entry, level) || g.takeEntry(entry, w.salt, level)
}

// takeEntry makes slot the entry point in the place of one from which nothing could be reached that may be linked
// to: all there is has been deleted and is being unlinked.
func (g *Graph) takeEntry(old entryPoint, slot uint32, level int) bool {
	g.top.Lock()
	defer g.top.Unlock()
	return g.entry.CompareAndSwap(uint64(old), uint64(makeEntry(slot, level)))
}

// connect links the walker's slot on all its levels and reports whether it has links on level 0. Neighbours are found
// from the top down, links are made from the bottom up: whoever meets the slot on a level finds its lists below
// filled, and a search that comes down through it does not end there.
func (g *Graph) connect(w *walker, entry entryPoint, level int) bool {
	top := min(level, entry.level())
	emptied := g.emptied.Load()
	best := w.descend(w.keyOf(entry.slot()), entry.level(), top)
	for l := top; l >= 0; l-- {
		best = w.findNeighbours(best, l)
	}
	if again := g.entryPoint(); g.emptied.Load() != emptied && again.valid() { // walks may have ended early, see search
		return g.connect(w, again, level)
	}
	for l := range top + 1 {
		g.linkOut(w.salt, l, w.s.plan[l])
		for _, slot := range w.s.plan[l] {
			g.linkBack(&w.s.other, slot, w.salt, l)
		}
	}
	return g.listAt(w.salt, 0).len() > 0
}

// findNeighbours plans the links of the walker's slot on one level, from a start found on the level above, and
// returns the nearest node, if any.
func (w *walker) findNeighbours(start uint64, level int) (nearest uint64) {
	g, own := w.g, &w.s.own
	// Nothing cancels an insert that has begun: the context would only add a state to get out of.
	_ = w.walk(context.Background(), start, level, g.cfg.EfConstruction)
	own.keys = w.s.pool.appendAdmitted(own.keys[:0])
	own.pick(g, w.salt, g.cfg.M)
	w.s.plan[level] = append(w.s.plan[level][:0], own.picked...)
	if len(own.keys) == 0 {
		return start
	}
	return own.keys[0]
}

// linkable reports whether a link on a level may lead to slot. Whoever writes a link asks while holding the lock of
// the list: repair marks slots before it goes over the lists, so that no link to a leaving slot escapes it.
func (g *Graph) linkable(slot uint32, level int) bool {
	state := g.state(slot)
	return state&(statePresent|stateLeaving) == statePresent && levelOf(state) >= level
}

// linkOut adds links from a new slot, whose list has none but those that others have offered meanwhile.
func (g *Graph) linkOut(slot uint32, level int, to []uint32) {
	defer g.lock(slot).Unlock()
	links := g.listAt(slot, level)
	for _, t := range to {
		if n := links.len(); n < links.room() && g.linkable(t, level) && !links.contains(t) {
			links.append(n, t)
		}
	}
}

// linkBack offers slot a link to target. If its list is full, the heuristic decides which links it keeps.
func (g *Graph) linkBack(c *chooser, slot, target uint32, level int) {
	defer g.lock(slot).Unlock()
	if !g.linkable(slot, level) || !g.linkable(target, level) {
		return
	}
	links := g.listAt(slot, level)
	if links.contains(target) {
		return
	}
	if n := links.len(); n < links.room() {
		links.append(n, target)
		return
	}
	c.slots = g.appendLinkable(c.slots[:0], links, level)
	c.slots = append(c.slots, target)
	if c.rank(g, slot) {
		c.pick(g, slot, links.room())
		links.set(c.picked)
	}
}

// appendLinkable appends the links that may stay.
func (g *Graph) appendLinkable(dst []uint32, links list, level int) []uint32 {
	for i := range links {
		slot := links.at(i)
		if slot == noLink {
			break
		}
		if g.linkable(slot, level) {
			dst = append(dst, slot)
		}
	}
	return dst
}

// Delete marks slot: no search that begins after it returns slot, walks still pass through it. It reports whether
// slot was there. The slot may be inserted again once Repair has handed it back.
func (g *Graph) Delete(slot uint32) bool {
	word := g.stateWord(slot)
	for word != nil {
		state := atomic.LoadUint32(word)
		if state&(statePresent|stateDead) != statePresent {
			return false
		}
		if atomic.CompareAndSwapUint32(word, state, state|stateDead) {
			g.dead.Add(1)
			g.repair.note(slot)
			return true
		}
	}
	return false
}
