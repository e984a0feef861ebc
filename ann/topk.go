package ann

import (
	"math"
	"slices"
)

// TopK keeps the k nearest candidates of those offered to it, in the order of Compare. It is reused: once grown to
// its k it allocates nothing. The zero TopK keeps none; Reset sets k.
type TopK struct {
	k     int
	limit uint64   // keys from here on do not enter
	heap  []uint64 // keys, the farthest on top
}

// Key packs a candidate into a number whose order is that of Compare, so that heaps compare one word. The distance
// is not NaN.
func Key(c Candidate) uint64 {
	bits := math.Float32bits(c.Distance + 0) // -0 becomes 0: they are equal distances
	if bits>>31 != 0 {
		bits = ^bits
	} else {
		bits |= 1 << 31
	}
	return uint64(bits)<<32 | uint64(c.Slot)
}

// FromKey undoes Key.
func FromKey(key uint64) Candidate {
	bits := uint32(key >> 32)
	if bits>>31 != 0 {
		bits &^= 1 << 31
	} else {
		bits = ^bits
	}
	return Candidate{Slot: uint32(key), Distance: math.Float32frombits(bits)}
}

// Reset empties the heap and sets how many it keeps.
func (t *TopK) Reset(k int) {
	t.k, t.limit = max(k, 0), math.MaxUint64
	t.heap = t.heap[:0]
}

// Within keeps out, until the next Reset, what is farther than a distance. It comes before any offer.
func (t *TopK) Within(distance float32) {
	t.limit = Key(Candidate{Slot: math.MaxUint32, Distance: distance}) + 1
}

// Len returns how many candidates are kept now.
func (t *TopK) Len() int { return len(t.heap) }

// Full reports whether k candidates are kept, so that only nearer ones enter.
func (t *TopK) Full() bool { return len(t.heap) >= t.k }

// Worst returns the farthest candidate kept. ok is false while there is room for any candidate, or k is 0.
func (t *TopK) Worst() (c Candidate, ok bool) {
	if !t.Full() || t.k == 0 {
		return Candidate{}, false
	}
	return FromKey(t.heap[0]), true
}

// Bound returns a key that a candidate's must stay below to enter.
func (t *TopK) Bound() uint64 {
	switch {
	case t.k == 0:
		return 0
	case len(t.heap) < t.k:
		return t.limit
	}
	return t.heap[0]
}

// Offer keeps c if it is among the k nearest so far and tells whether it did. A gone candidate is never kept.
func (t *TopK) Offer(c Candidate) bool {
	if IsGone(c.Distance) {
		return false
	}
	return t.OfferKey(Key(c))
}

// OfferKey is Offer for a key made by Key.
func (t *TopK) OfferKey(key uint64) bool {
	if key >= t.limit {
		return false
	}
	if len(t.heap) < t.k {
		t.heap = append(t.heap, key)
		siftUp(t.heap)
		return true
	}
	if t.k == 0 || key >= t.heap[0] {
		return false
	}
	siftDown(t.heap, key)
	return true
}

// Sorted appends the candidates to dst, nearest first, and empties the heap.
func (t *TopK) Sorted(dst []Candidate) []Candidate {
	for _, key := range t.SortedKeys() {
		dst = append(dst, FromKey(key))
	}
	return dst
}

// SortedKeys returns the keys, nearest first, and empties the heap; they are valid until the next offer.
func (t *TopK) SortedKeys() []uint64 {
	keys := t.heap
	slices.Sort(keys)
	t.heap = t.heap[:0]
	return keys
}

// siftUp moves the last key of a max-heap to its place.
func siftUp(h []uint64) {
	i := len(h) - 1
	key := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent] >= key {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = key
}

// siftDown replaces the top of a max-heap by key.
func siftDown(h []uint64, key uint64) {
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] > h[child] {
			child++
		}
		if h[child] <= key {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = key
}
