package engine

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/croftdb/croft/engine/internal/segment"
)

// place is where a row is in memory: a block's number and an offset in units of segment.Unit bytes. Zero is nowhere.
type place uint64

func placeOf(block, off uint32) place { return place(block)<<32 | place(off) }
func (p place) block() uint32         { return uint32(p >> 32) }
func (p place) offset() uint32        { return uint32(p) }

// block is a run of rows: a mapped segment, or memory of the growing buffer. Its memory stays valid until it has
// been dropped and every reader pinned before has gone.
type block struct {
	base unsafe.Pointer
	seg  *segment.Segment // nil for memory
}

// blocks is a shard's table of blocks. Readers load the table after they have loaded a place, so that it is never
// older than the place.
type blocks struct {
	table atomic.Pointer[[]block]

	mu   sync.Mutex
	free []uint32
}

func newBlocks() *blocks {
	b := &blocks{}
	b.table.Store(&[]block{{}}) // block 0 is nowhere
	return b
}

// add enters a block and returns its number.
func (b *blocks) add(nb block) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.table.Load()
	n := uint32(len(old))
	if k := len(b.free); k > 0 {
		n, b.free = b.free[k-1], b.free[:k-1]
	}
	table := make([]block, max(len(old), int(n)+1))
	copy(table, old)
	table[n] = nb
	b.table.Store(&table)
	return n
}

// drop forgets blocks that no reader can see any more.
func (b *blocks) drop(nums ...uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	table := append([]block(nil), *b.table.Load()...)
	for _, n := range nums {
		table[n] = block{}
	}
	b.table.Store(&table)
	b.free = append(b.free, nums...)
}

// row views the dim values at p, nil for nowhere. The caller is pinned.
func (b *blocks) row(p place, dim int) []float32 {
	if p == 0 {
		return nil
	}
	base := (*b.table.Load())[p.block()].base
	return unsafe.Slice((*float32)(unsafe.Add(base, uintptr(p.offset())*segment.Unit)), dim)
}

// segment returns the segment that p lies in, nil if it is in memory.
func (b *blocks) segment(p place) *segment.Segment {
	return (*b.table.Load())[p.block()].seg
}

const (
	minArenaChunk = 64 << 10
	maxArenaChunk = 1 << 20
)

// arena hands out rows of the growing buffer from chunks that are blocks of the shard.
type arena struct {
	blocks *blocks
	chunks []uint32 // block numbers
	block  uint32   // the chunk being filled
	chunk  []float32
	used   int // in values
	next   int // size of the next chunk in bytes
}

// alloc returns a zeroed row of dim values and its place.
func (a *arena) alloc(dim int) (place, []float32) {
	units := int(segment.Stride(dim))
	size := units * segment.Unit / 4
	if a.used+size > len(a.chunk) {
		a.grow(size)
	}
	p := placeOf(a.block, uint32(a.used*4/segment.Unit))
	row := a.chunk[a.used : a.used+dim : a.used+dim]
	a.used += size
	return p, row
}

func (a *arena) grow(size int) {
	a.next = min(max(2*a.next, minArenaChunk), maxArenaChunk)
	a.chunk = make([]float32, max(size, a.next/4))
	a.used = 0
	a.block = a.blocks.add(block{base: unsafe.Pointer(unsafe.SliceData(a.chunk))})
	a.chunks = append(a.chunks, a.block)
}
