package hnsw

import (
	"slices"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/quant"
)

// scratch is the memory of one walk or insert, kept in a pool.
type scratch struct {
	seen    visited
	pool    pool
	from    measurer // what the walk goes towards
	slots   []uint32 // unseen neighbours of the node being expanded
	around  []uint32 // its neighbours that are not in the set
	passing []uint32 // links of a list that are in the set
	out     []float32
	ranked  []uint64 // candidates of a search, by estimate
	fetch   []uint32 // slots to be fetched
	results ann.TopK
	encoder quant.Scratch
	plan    [maxLevel + 1][]uint32 // links of the slot being inserted, by level
	own     chooser                // neighbours for the slot being inserted or mended
	other   chooser                // neighbours for a slot that a link back is offered to
}

func newScratch(cfg *Config) *scratch {
	return &scratch{slots: make([]uint32, 0, 2*cfg.M), out: make([]float32, 2*cfg.M)}
}

// room returns s.out with n values.
func (s *scratch) room(n int) []float32 {
	if cap(s.out) < n {
		s.out = make([]float32, n)
	}
	return s.out[:n]
}

func (g *Graph) getScratch() *scratch { return g.pool.Get().(*scratch) }

func (g *Graph) putScratch(s *scratch) {
	s.from.release()
	s.own.from.release()
	s.other.from.release()
	g.pool.Put(s)
}

// visited is a set of slots: a bit for each, so that the set of a walk over a million slots stays in the cache, and a
// list of those put in, to take them out again.
type visited struct {
	bits  bitmap
	added []uint32
}

// reset empties the set and makes room for n slots.
func (v *visited) reset(n int) {
	if len(v.added) > len(v.bits)/2 {
		clear(v.bits)
	} else {
		for _, slot := range v.added {
			v.bits[slot/64] = 0
		}
	}
	v.added = v.added[:0]
	v.grow(n)
}

func (v *visited) grow(n int) {
	if words := (n + 63) / 64; words > len(v.bits) {
		v.bits = append(v.bits, make([]uint64, words-len(v.bits))...)
	}
}

// add puts slot in and tells whether it was not there before.
func (v *visited) add(slot uint32) bool {
	word := int(slot / 64)
	if word >= len(v.bits) { // the graph has grown since reset
		v.grow(int(slot) + 1)
	}
	bit := uint64(1) << (slot % 64)
	if v.bits[word]&bit != 0 {
		return false
	}
	v.bits[word] |= bit
	v.added = append(v.added, slot)
	return true
}

// addLinks puts the links of a list in and appends those that were not there before to dst. It is add for all of them,
// with nothing in the loop that a walk need not pay for 30 times a node. Slots that have come since reset are passed over:
// a call in the loop, to make room for them, would cost all walks a tenth of this.
func (v *visited) addLinks(links list, dst []uint32) []uint32 {
	from, n := len(dst), 0
	dst = slices.Grow(dst, len(links))
	bits, room := v.bits, dst[from:from+len(links)]
	for i := range links {
		slot := links.at(i)
		if slot == noLink {
			break
		}
		word := int(slot / 64)
		if word >= len(bits) {
			continue
		}
		was := bits[word]
		bits[word] = was | 1<<(slot%64)
		room[n] = slot
		n += int(^was >> (slot % 64) & 1)
	}
	v.added = append(v.added, room[:n]...)
	return dst[:from+n]
}
