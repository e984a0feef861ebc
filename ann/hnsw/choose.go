package hnsw

import "slices"

// chooser picks the neighbours of one slot, its owner, among candidates.
type chooser struct {
	slots  []uint32 // candidates
	out    []float32
	keys   []uint64 // candidates by distance from the owner, salted with the owner
	picked []uint32
	from   measurer
}

// rank measures c.slots from owner into c.keys, nearest first, without those that have no vector. It returns false
// if the owner has none.
func (c *chooser) rank(g *Graph, owner uint32) bool {
	if !c.from.bindSlot(g, owner) {
		return false
	}
	out := c.measure(g, c.slots)
	c.keys = c.keys[:0]
	for i, slot := range c.slots {
		if !isGone(out[i]) {
			c.keys = append(c.keys, makeKey(slot^owner, out[i]))
		}
	}
	slices.Sort(c.keys)
	return true
}

// measure measures slots from what c.from is bound to.
func (c *chooser) measure(g *Graph, slots []uint32) []float32 {
	c.out = slices.Grow(c.out[:0], len(slots))[:len(slots)]
	c.from.measure(g, slots, c.out)
	return c.out
}

// pick chooses up to limit of c.keys by the heuristic of the HNSW paper: a candidate is left out if one picked before
// is nearer to it than the owner is, so that links go in different directions. Few enough are all taken.
func (c *chooser) pick(g *Graph, owner uint32, limit int) {
	c.picked = c.picked[:0]
	all := len(c.keys) <= limit
	for _, key := range c.keys {
		if len(c.picked) == limit {
			return
		}
		if slot := keySlot(key) ^ owner; all || c.diverse(g, slot, key) {
			c.picked = append(c.picked, slot)
		}
	}
}

// diverse reports whether slot, of that key, is nearer to the owner than to everything picked.
func (c *chooser) diverse(g *Graph, slot uint32, key uint64) bool {
	if len(c.picked) == 0 {
		return true
	}
	if !c.from.bindSlot(g, slot) {
		return false
	}
	for i, distance := range c.measure(g, c.picked) {
		if !isGone(distance) && makeKey(c.picked[i]^slot, distance) < key {
			return false
		}
	}
	return true
}
