package hnsw

import (
	"slices"

	"github.com/croftdb/croft/ann"
)

// chooser picks the neighbours of one slot, its owner, among candidates.
type chooser struct {
	slots  []uint32 // candidates
	out    []float32
	keys   []uint64 // candidates by distance from the owner, salted with the owner
	picked []uint32
}

// rank measures c.slots from owner into c.keys, nearest first, without those that have no vector. It returns false
// if the owner has none.
func (c *chooser) rank(g *Graph, owner uint32) bool {
	values, scale := g.src.Vector(owner)
	if values == nil {
		return false
	}
	c.out = slices.Grow(c.out[:0], len(c.slots))[:len(c.slots)]
	query := ann.BindScaled(g.cfg.linkMetric(), values, scale)
	query.Measure(g.src, c.slots, c.out)
	c.keys = c.keys[:0]
	for i, slot := range c.slots {
		if !ann.IsGone(c.out[i]) {
			c.keys = append(c.keys, ann.Key(ann.Candidate{Slot: slot ^ owner, Distance: c.out[i]}))
		}
	}
	slices.Sort(c.keys)
	return true
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
		if slot := uint32(key) ^ owner; all || c.diverse(g, slot, key) {
			c.picked = append(c.picked, slot)
		}
	}
}

// diverse reports whether slot, of that key, is nearer to the owner than to everything picked.
func (c *chooser) diverse(g *Graph, slot uint32, key uint64) bool {
	values, scale := g.src.Vector(slot)
	if values == nil {
		return false
	}
	query := ann.BindScaled(g.cfg.linkMetric(), values, scale)
	for _, other := range c.picked {
		values, scale := g.src.Vector(other)
		if values == nil {
			continue
		}
		distance := query.Distance(values, scale)
		if ann.Key(ann.Candidate{Slot: other ^ slot, Distance: distance}) < key {
			return false
		}
	}
	return true
}
