package hnsw

import (
	"slices"

	"github.com/croftdb/croft/ann"
)

// scratch is the memory of one walk or insert, kept in a pool.
type scratch struct {
	seen     visited
	frontier minHeap
	results  ann.TopK
	slots    []uint32 // unseen neighbours of the node being expanded
	out      []float32
	plan     [maxLevel + 1][]uint32 // links of the slot being inserted, by level
	own      chooser                // neighbours for the slot being inserted or mended
	other    chooser                // neighbours for a slot that a link back is offered to
}

func newScratch(cfg *Config) *scratch {
	return &scratch{slots: make([]uint32, 0, 2*cfg.M), out: make([]float32, 2*cfg.M)}
}

func (g *Graph) getScratch() *scratch  { return g.pool.Get().(*scratch) }
func (g *Graph) putScratch(s *scratch) { g.pool.Put(s) }

// visited is a set of slots that is emptied by counting up: a slot is in it if its tag is the current epoch.
type visited struct {
	epoch uint16
	tags  []uint16
}

// reset empties the set and makes room for n slots.
func (v *visited) reset(n int) {
	if len(v.tags) < n {
		v.tags = make([]uint16, n)
		v.epoch = 0
	}
	v.epoch++
	if v.epoch == 0 { // tags of 65,535 resets ago would count as new
		clear(v.tags)
		v.epoch = 1
	}
}

// add puts slot in and tells whether it was not there before.
func (v *visited) add(slot uint32) bool {
	if int(slot) >= len(v.tags) { // the graph has grown since reset
		v.tags = slices.Grow(v.tags, int(slot)+1-len(v.tags))
		v.tags = v.tags[:cap(v.tags)]
	}
	if v.tags[slot] == v.epoch {
		return false
	}
	v.tags[slot] = v.epoch
	return true
}

// minHeap is a heap of keys, the nearest on top.
type minHeap []uint64

func (h *minHeap) push(key uint64) {
	s := append(*h, key)
	*h = s
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if s[parent] <= key {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = key
}

func (h *minHeap) pop() uint64 {
	s := *h
	top, last := s[0], len(s)-1
	key := s[last]
	s = s[:last]
	*h = s
	if last == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && s[child+1] < s[child] {
			child++
		}
		if s[child] >= key {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = key
	return top
}
