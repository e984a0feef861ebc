package engine

import (
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/internal/codec"
)

// partition is what is always in memory of one tenant's records in one index: a few hundred bytes. What a search
// needs is in its space, which is loaded on first use and may be dropped at any time.
type partition struct {
	key    Key
	schema *Schema

	head    head // under Shard.mu
	loading *loading
	loadMu  sync.Mutex // one load at a time; taken before Shard.mu

	space atomic.Pointer[space]
}

// registry finds partitions by key without a lock. Additions and removals are serialised by Shard.mu.
type registry struct {
	table atomic.Pointer[registryTable]
}

// registryTable is an open-addressed hash table of a power of two slots, at most half full. Removed entries leave a
// tombstone; the table is rebuilt when entries and tombstones fill half of it.
type registryTable struct {
	slots []atomic.Pointer[partition]
	used  int // slots not nil
	live  int
}

// tombstone takes the place of a removed partition.
var tombstone = &partition{}

func newRegistry() *registry {
	r := &registry{}
	r.table.Store(&registryTable{slots: make([]atomic.Pointer[partition], 16)})
	return r
}

func hashKey(k Key) uint64 {
	var b [keySize]byte
	return codec.Hash(appendKey(b[:0], k))
}

// find returns the partition of a key, or nil.
func (r *registry) find(k Key) *partition {
	t := r.table.Load()
	mask := uint64(len(t.slots) - 1)
	for i := hashKey(k) & mask; ; i = (i + 1) & mask {
		p := t.slots[i].Load()
		if p == nil {
			return nil
		}
		if p != tombstone && p.key == k {
			return p
		}
	}
}

func (r *registry) add(p *partition) {
	t := r.table.Load()
	if 2*(t.used+1) > len(t.slots) {
		t = t.rebuilt()
	}
	t.put(p)
	r.table.Store(t)
}

func (t *registryTable) put(p *partition) {
	mask := uint64(len(t.slots) - 1)
	i := hashKey(p.key) & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].Store(p)
	t.used++
	t.live++
}

// rebuilt returns a table without tombstones, at most a quarter full.
func (t *registryTable) rebuilt() *registryTable {
	size := 16
	for size < 4*(t.live+1) {
		size *= 2
	}
	n := &registryTable{slots: make([]atomic.Pointer[partition], size)}
	for i := range t.slots {
		if p := t.slots[i].Load(); p != nil && p != tombstone {
			n.put(p)
		}
	}
	return n
}

func (r *registry) remove(k Key) {
	t := r.table.Load()
	mask := uint64(len(t.slots) - 1)
	for i := hashKey(k) & mask; ; i = (i + 1) & mask {
		p := t.slots[i].Load()
		if p == nil {
			return
		}
		if p != tombstone && p.key == k {
			t.slots[i].Store(tombstone)
			t.live--
			return
		}
	}
}

// all calls f for every partition until it returns false.
func (r *registry) all(f func(*partition) bool) {
	t := r.table.Load()
	for i := range t.slots {
		if p := t.slots[i].Load(); p != nil && p != tombstone && !f(p) {
			return
		}
	}
}

// len counts the partitions; under Shard.mu.
func (r *registry) len() int { return r.table.Load().live }
