package hnsw

import "slices"

// chooser picks the neighbours of one slot, its owner, among candidates.
type chooser struct {
	slots  []uint32 // candidates
	out    []float32
	keys   []uint64 // candidates by distance from the owner, salted with the owner
	left   []uint64 // of keys: not picked, and not nearer to anything picked than to the owner
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
	if len(c.keys) <= limit {
		for _, key := range c.keys {
			c.picked = append(c.picked, keySlot(key)^owner)
		}
		return
	}
	c.extend(g, owner, len(c.keys), limit)
}

// extend adds to c.picked, up to limit, by the same heuristic, which looks at the nearest of c.keys only.
func (c *chooser) extend(g *Graph, owner uint32, nearest, limit int) {
	c.left = append(c.left[:0], c.keys[:min(nearest, len(c.keys))]...)
	for _, slot := range c.picked {
		c.prune(g, owner, slot)
	}
	for len(c.left) > 0 && len(c.picked) < limit {
		slot := keySlot(c.left[0]) ^ owner
		c.left = slices.Delete(c.left, 0, 1)
		c.picked = append(c.picked, slot)
		if len(c.picked) < limit {
			c.prune(g, owner, slot)
		}
	}
}

// prune takes from c.left what is nearer to slot, which has been picked, than to the owner. A picked slot is bound once
// and measured against all that is left: there are a tenth as many of those as there are candidates.
func (c *chooser) prune(g *Graph, owner, slot uint32) {
	if len(c.left) == 0 || !c.from.bindSlot(g, slot) {
		return
	}
	c.slots = c.slots[:0]
	for _, key := range c.left {
		c.slots = append(c.slots, keySlot(key)^owner)
	}
	n := 0
	for i, distance := range c.measure(g, c.slots) {
		if key := c.left[i]; isGone(distance) || makeKey(c.slots[i]^slot, distance) >= key {
			c.left[n] = key
			n++
		}
	}
	c.left = c.left[:n]
}
