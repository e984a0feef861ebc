package cluster

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

const (
	// Slots is the number of slots that tenants are hashed to. With 256 shards, more than a node carries, a shard
	// still has 64, so that shares differ by hashing alone and not by rounding; the table takes 32 KiB, which stays
	// in the CPU's cache.
	Slots = 16384
	// virtualNodes is the number of points of a shard on the circle: shares differ by about 1/√128 = 9 %.
	virtualNodes = 128
	// No shard has more than loadNum/loadDen of its even share of slots.
	loadNum, loadDen = 5, 4
)

// slotOf returns the slot of a tenant, for ever the same.
func slotOf(t engine.TenantID) uint16 { return uint16(codec.Hash(t[:]) % Slots) }

// ringTable says which shard each slot belongs to: consistent hashing with virtual nodes and bounded load
// (Mirrokni, Thorup, Zadimoghaddam 2016). It is immutable. A table is computed once per epoch, from the one before,
// and stored: computed anew from the set of shards, a changed bound would also move slots between shards that stay.
type ringTable []uint16

// newRing lays out the slots for shards, which must not be empty.
func newRing(shards []uint16) ringTable {
	t := make(ringTable, Slots)
	load := make([]int, int(slices.Max(shards))+1)
	circle := newCircle(shards)
	bound := loadBound(len(shards))
	for slot := range t {
		t[slot] = circle.place(slot, load, bound)
		load[t[slot]]++
	}
	return t
}

// with returns the table after shard joined the others: slots move to it and nowhere else. Those whose place on the
// circle it takes go first, as long as room is left for what others hold above the new, lower bound; then that. It
// is at most 1/(N+1) of all, so there is room.
func (t ringTable) with(shard uint16) ringTable {
	shards := append(t.shards(), shard)
	next := slices.Clone(t)
	load := next.loads(slices.Max(shards))
	bound := loadBound(len(shards))
	circle := newCircle(shards)
	excess := 0
	for _, n := range load {
		excess += max(0, n-bound)
	}
	take := func(slot int) {
		if load[next[slot]] > bound {
			excess--
		}
		load[next[slot]]--
		next[slot] = shard
		load[shard]++
	}
	for slot, owner := range t {
		if circle.first(slot) == shard && (load[owner] > bound || load[shard]+excess < bound) {
			take(slot)
		}
	}
	for slot, owner := range next {
		if load[owner] > bound {
			take(slot)
		}
	}
	return next
}

// without returns the table after shard left: its slots go on to the next shard on the circle with room, all others
// stay. The table must have another shard.
func (t ringTable) without(shard uint16) ringTable {
	shards := slices.DeleteFunc(t.shards(), func(s uint16) bool { return s == shard })
	next := slices.Clone(t)
	load := next.loads(slices.Max(t))
	circle := newCircle(shards)
	bound := loadBound(len(shards))
	for slot, owner := range t {
		if owner == shard {
			next[slot] = circle.place(slot, load, bound)
			load[next[slot]]++
		}
	}
	return next
}

// shards returns the shards that have slots, ascending.
func (t ringTable) shards() []uint16 {
	if len(t) == 0 {
		return nil
	}
	var ids []uint16
	for shard, n := range t.loads(slices.Max(t)) {
		if n > 0 {
			ids = append(ids, uint16(shard))
		}
	}
	return ids
}

// loads counts the slots of each shard up to highest.
func (t ringTable) loads(highest uint16) []int {
	load := make([]int, int(highest)+1)
	for _, shard := range t {
		load[shard]++
	}
	return load
}

// loadBound is the most slots that one of n shards may have.
func loadBound(n int) int { return (Slots*loadNum + n*loadDen - 1) / (n * loadDen) }

// circle is the virtual nodes of some shards in order of their hash.
type circle []virtualNode

type virtualNode struct {
	hash  uint64
	shard uint16
}

func newCircle(shards []uint16) circle {
	c := make(circle, 0, len(shards)*virtualNodes)
	for _, s := range shards {
		for v := range uint32(virtualNodes) {
			c = append(c, virtualNode{pointOf('v', uint32(s), v), s})
		}
	}
	slices.SortFunc(c, func(a, b virtualNode) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.shard, b.shard))
	})
	return c
}

// pointOf hashes a virtual node or a slot onto the circle; kind keeps them apart.
func pointOf(kind byte, a, b uint32) uint64 {
	var key [9]byte
	key[0] = kind
	binary.LittleEndian.PutUint32(key[1:], a)
	binary.LittleEndian.PutUint32(key[5:], b)
	return codec.Hash(key[:])
}

// after returns the position of the first virtual node at or behind a slot's point.
func (c circle) after(slot int) int {
	p := pointOf('s', uint32(slot), 0)
	return sort.Search(len(c), func(i int) bool { return c[i].hash >= p })
}

// first returns the shard that a slot belongs to when no bound is in the way.
func (c circle) first(slot int) uint16 { return c[c.after(slot)%len(c)].shard }

// place returns the first shard from a slot's point on that has room. There is one: the bounds add up to more than
// all slots.
func (c circle) place(slot int, load []int, bound int) uint16 {
	i := c.after(slot)
	for load[c[i%len(c)].shard] >= bound {
		i++
	}
	return c[i%len(c)].shard
}
