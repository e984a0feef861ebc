package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// sectorSize is the unit that a disk writes whole or not at all.
const sectorSize = 512

// Clone returns the disk as the death of the process leaves it: all that was written is there, since the page cache
// lives on. Nothing of it is more durable than before.
func (m *Mem) Clone() *Mem {
	return m.cloneBy(func(n *memNode) *memNode {
		c := *n
		c.data, c.synced = append(alignedBytes(len(n.data))[:0], n.data...), slices.Clone(n.synced)
		c.names, c.syncedNames = maps.Clone(n.names), maps.Clone(n.syncedNames)
		c.pending = slices.Clone(n.pending)
		return &c
	})
}

// CrashClone returns the disk as a power cut at this moment may leave it. What was synced is there. Of the rest a
// share drawn from rng is: of each file's contents all, nothing or any sectors of 512 bytes, of its unsynced length
// any part; of each directory's changes any selection, kept in their order. With a nil rng everything unsynced is lost.
// The disk itself is left as it is and may be written meanwhile. Equal states and seeds give equal clones.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	return m.cloneBy(func(n *memNode) *memNode {
		if n.dir {
			names := crashNames(n, rng)
			return &memNode{dir: true, names: names, syncedNames: maps.Clone(names)}
		}
		data := crashData(n, rng)
		return &memNode{data: append(alignedBytes(len(data))[:0], data...), synced: data}
	})
}

// cloneBy copies each node once by copyNode, then points the copies' names at copies. The walk is in the order of
// names, so that a seed means the same clone each time.
func (m *Mem) cloneBy(copyNode func(*memNode) *memNode) *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := cloner{copyNode: copyNode, done: map[*memNode]*memNode{}}
	clone := newMemAt(c.node(m.root), m.capacity)
	for n := range maps.Values(c.done) {
		if !n.gone {
			clone.used += int64(len(n.data))
		}
	}
	return clone
}

type cloner struct {
	copyNode func(*memNode) *memNode
	done     map[*memNode]*memNode
}

func (c *cloner) node(n *memNode) *memNode {
	if done := c.done[n]; done != nil {
		return done
	}
	cp := c.copyNode(n)
	c.done[n] = cp
	c.names(cp.names)
	c.names(cp.syncedNames)
	for i, ch := range cp.pending {
		if ch.node != nil {
			cp.pending[i].node = c.node(ch.node)
		}
	}
	return cp
}

func (c *cloner) names(names map[string]*memNode) {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		names[name] = c.node(names[name])
	}
}

// crashNames draws which changes of a directory survive.
func crashNames(d *memNode, rng *rand.Rand) map[string]*memNode {
	names := maps.Clone(d.syncedNames)
	keep := drawShare(rng)
	for _, c := range d.pending {
		if keep() {
			d.apply(names, c)
		}
	}
	return names
}

// crashData draws which sectors of a file survive, and how long it is.
func crashData(n *memNode, rng *rand.Rand) []byte {
	if n.dirtyLo == n.dirtyHi {
		return slices.Clone(n.synced)
	}
	keep := drawShare(rng)
	size := len(n.synced)
	if keep() {
		size = len(n.data)
		if lo := len(n.synced); lo < size && !keep() {
			size = lo + rng.IntN(size-lo+1) // an extension may stop anywhere
		}
	}
	out := resized(slices.Clone(n.synced), size)
	for lo := n.dirtyLo - n.dirtyLo%sectorSize; lo < n.dirtyHi; lo += sectorSize {
		hi := min(lo+sectorSize, n.dirtyHi, size, len(n.data))
		if from := max(lo, n.dirtyLo); from < hi && keep() {
			copy(out[from:hi], n.data[from:hi])
		}
	}
	return out
}

// drawShare decides for one file or directory whether a cut keeps all, nothing or a mixture, and returns the draw for
// each part. The extremes are drawn often, and in a mixture neighbours often share their fate, since many bugs only
// show where something larger than a sector is whole and something else is missing.
func drawShare(rng *rand.Rand) func() bool {
	if rng == nil {
		return func() bool { return false }
	}
	switch rng.IntN(4) {
	case 0:
		return func() bool { return false }
	case 1:
		return func() bool { return true }
	}
	run := 1 << rng.IntN(6)
	kept, left := false, 0
	return func() bool {
		if left == 0 {
			kept, left = rng.IntN(2) == 0, 1+rng.IntN(run)
		}
		left--
		return kept
	}
}
