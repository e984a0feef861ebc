package hnsw

import (
	"math"
	"math/bits"

	"github.com/croftdb/croft/ann"
)

// Candidates are compared as one word: the distance, then the slot (salted, see walker), then flags.
const (
	slotShift    = 2
	keyExpanded  = 1 << 0 // its neighbours have been looked at
	keyWay       = 1 << 1 // not to be returned
	maxSlot      = 1<<(32-slotShift) - 1
	keyFlagsMask = keyExpanded | keyWay
)

func makeKey(slot uint32, distance float32) uint64 {
	return ann.Key(ann.Candidate{Slot: slot << slotShift, Distance: distance})
}

func keySlot(key uint64) uint32 { return uint32(key) >> slotShift }

func keyDistance(key uint64) float32 { return ann.FromKey(key).Distance }

func isGone(distance float32) bool { return ann.IsGone(distance) }

// pool holds the nearest candidates of a walk in order, those whose neighbours have been looked at and those still to
// be expanded, until ef of them may be returned. One sorted array serves as frontier and as result: it is short, and
// moving a part of it costs less than two heaps.
type pool struct {
	keys     []uint64
	cursor   int // no candidate before it is still to be expanded
	admitted int // candidates that may be returned
	ef       int
	bound    uint64  // keys below it enter
	reach    float32 // the distance in bound
}

func (p *pool) reset(ef int) {
	*p = pool{keys: p.keys[:0], ef: ef, bound: math.MaxUint64, reach: float32(math.Inf(1))}
}

// insert takes in a key that is below p.bound.
func (p *pool) insert(key uint64) {
	at := p.rank(key)
	p.keys = append(p.keys, 0)
	copy(p.keys[at+1:], p.keys[at:])
	p.keys[at] = key
	p.cursor = min(p.cursor, at)
	if key&keyWay == 0 {
		p.admitted++
		p.trim()
	}
}

// rank returns how many keys are below key. Which half of them it goes on in is computed, as no CPU could guess it.
func (p *pool) rank(key uint64) int {
	at, n := 0, len(p.keys)
	for n > 0 {
		half := (n + 1) / 2
		_, below := bits.Sub64(p.keys[at+half-1], key, 0)
		at += half & -int(below)
		n -= half
	}
	return at
}

// trim drops what lies behind the ef-th candidate that may be returned.
func (p *pool) trim() {
	if p.admitted < p.ef {
		return
	}
	n := len(p.keys)
	for n > 0 && (p.admitted > p.ef || p.keys[n-1]&keyWay != 0) {
		n--
		if p.keys[n]&keyWay == 0 {
			p.admitted--
		}
	}
	p.keys = p.keys[:n]
	if p.keys[n-1] < p.bound { // it may have been cut
		p.bound = p.keys[n-1]
		p.reach = keyDistance(p.bound)
	}
}

// cut ends the walk at a distance: nothing farther enters or is expanded any more.
func (p *pool) cut(reach float32) {
	if reach < p.reach {
		p.bound, p.reach = makeKey(maxSlot, reach), reach
	}
}

// nearest returns the k-th nearest of the candidates that may be returned.
func (p *pool) nearest(k int) (key uint64, ok bool) {
	if p.admitted < k {
		return 0, false
	}
	if p.admitted == len(p.keys) {
		return p.keys[k-1], true
	}
	for _, key = range p.keys {
		if key&keyWay == 0 {
			k--
		}
		if k == 0 {
			break
		}
	}
	return key, true
}

// next returns the nearest candidate still to be expanded and marks it as such.
func (p *pool) next() (key uint64, ok bool) {
	for p.cursor < len(p.keys) {
		key = p.keys[p.cursor]
		if keyDistance(key) > p.reach {
			return 0, false
		}
		p.cursor++
		if key&keyExpanded == 0 {
			p.keys[p.cursor-1] |= keyExpanded
			return key, true
		}
	}
	return 0, false
}

// appendAdmitted appends the keys that may be returned, without flags, nearest first.
func (p *pool) appendAdmitted(dst []uint64) []uint64 { return p.appendNearest(dst, len(p.keys)) }

// appendNearest is appendAdmitted for the nearest n of them.
func (p *pool) appendNearest(dst []uint64, n int) []uint64 {
	for _, key := range p.keys {
		if n == 0 {
			break
		}
		if key&keyWay == 0 {
			dst = append(dst, key&^keyFlagsMask)
			n--
		}
	}
	return dst
}
