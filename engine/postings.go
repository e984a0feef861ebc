package engine

import (
	"cmp"
	"slices"
	"sync"
)

// postings is the inverted index of a partition's sparse vectors: for each index the slots that have it, with their
// weights, in order of slot. It tells inner products exactly.
type postings struct {
	mu    sync.RWMutex
	lists map[uint32][]posting
	n     int64
}

type posting struct {
	slot   uint32
	weight float32
}

func bySlot(p posting, slot uint32) int { return cmp.Compare(p.slot, slot) }

func (ps *postings) add(slot uint32, v Sparse) {
	if len(v.Indices) == 0 {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.lists == nil {
		ps.lists = map[uint32][]posting{}
	}
	for i, index := range v.Indices {
		list := ps.lists[index]
		at, _ := slices.BinarySearchFunc(list, slot, bySlot)
		ps.lists[index] = slices.Insert(list, at, posting{slot, v.Values[i]})
		ps.n++
	}
}

func (ps *postings) remove(slot uint32, v Sparse) {
	if len(v.Indices) == 0 {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, index := range v.Indices {
		list := ps.lists[index]
		at, ok := slices.BinarySearchFunc(list, slot, bySlot)
		if !ok {
			continue
		}
		ps.n--
		if list = slices.Delete(list, at, at+1); len(list) == 0 {
			delete(ps.lists, index)
		} else {
			ps.lists[index] = list
		}
	}
}

// accumulate adds the inner products with query to sums, which has a place for every slot, and appends the slots
// that it touches for the first time to touched.
func (ps *postings) accumulate(query Sparse, sums *sums) {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	for i, index := range query.Indices {
		for _, p := range ps.lists[index] {
			sums.add(p.slot, query.Values[i]*p.weight)
		}
	}
}

func (ps *postings) bytes() int64 {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	return ps.n*12 + int64(len(ps.lists))*64
}

// sums collects a figure per slot; it is reused without being cleared as a whole.
type sums struct {
	value   []float32
	seen    []bool
	touched []uint32
}

func (s *sums) reset() {
	for _, slot := range s.touched {
		s.value[slot], s.seen[slot] = 0, false
	}
	s.touched = s.touched[:0]
}

func (s *sums) add(slot uint32, v float32) {
	if int(slot) >= len(s.value) {
		n := int(slot) + 1 + len(s.value)/2
		s.value = append(s.value, make([]float32, n-len(s.value))...)
		s.seen = append(s.seen, make([]bool, n-len(s.seen))...)
	}
	if !s.seen[slot] {
		s.seen[slot] = true
		s.touched = append(s.touched, slot)
	}
	s.value[slot] += v
}

// at returns the sum of a slot, zero if it was never added to.
func (s *sums) at(slot uint32) float32 {
	if int(slot) >= len(s.value) {
		return 0
	}
	return s.value[slot]
}

// used tells whether any record has sparse values.
func (ps *postings) used() bool {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	return ps.n > 0
}
