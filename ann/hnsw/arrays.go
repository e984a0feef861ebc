package hnsw

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/croftdb/croft/ann/internal/kernel"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/hugemem"
)

// A slot's state is one word: flags, level, and where the lists of its upper levels begin.
const (
	statePresent = 1 << 31 // in the graph
	stateDead    = 1 << 30 // deleted: walks pass through, results leave it out
	stateLeaving = 1 << 29 // being unlinked by repair: no new link may lead to it
	stateBusy    = 1 << 28 // its insert is under way: repair lets it be

	levelShift = 24
	maxLevel   = 15
	blockMask  = 1<<levelShift - 1 // upper blocks are numbered by 24 bits, enough for 250 million slots at M 16
)

func levelOf(state uint32) int    { return int(state>>levelShift) & maxLevel }
func blockOf(state uint32) uint32 { return state & blockMask }

const (
	chunkBits = 10 // slots in a chunk: 132 KiB at M 16, and their codes
	chunkSize = 1 << chunkBits
	upperBits = 8 // upper blocks in a chunk: 16 KiB at M 16
	upperSize = 1 << upperBits
)

// chunk holds chunkSize slots: a list of level 0 for each, and its code if the graph has codes.
type chunk struct {
	state []uint32
	links []uint32
	codes []byte
}

// directory is all chunks, with their lists and codes once more in the form that kernels take.
type directory struct {
	chunks []chunk
	links  kernel.Rows
	codes  kernel.Rows
}

// arrays are the graph's memory: chunks under a directory that is replaced as a whole when it grows, so that readers
// need no lock. Words are read and written atomically. A reader may meet a list while it is rewritten and see links
// of before and after; every one of them is a slot of the directory, which is all that a walk relies on.
type arrays struct {
	width, upperWidth int // words in a list of level 0, and of an upper level
	codeBytes         int // bytes of a slot's code, 0 in a graph without codes

	nodes atomic.Pointer[directory]
	upper atomic.Pointer[[][]uint32]

	grow  sync.Mutex // held to replace a directory, or to take or give back upper blocks
	spare []byte     // for chunks to come
	used  uint32     // upper blocks taken so far, free ones included
	free  [maxLevel + 1][]uint32
}

func (a *arrays) init(m, codeBytes int) {
	a.width, a.upperWidth, a.codeBytes = 2*m, m, codeBytes
	a.setChunks(nil)
	a.upper.Store(new([][]uint32))
}

// setChunks publishes a new directory.
func (a *arrays) setChunks(chunks []chunk) {
	d := &directory{
		chunks: chunks,
		links:  kernel.Rows{Shift: chunkBits, Stride: 4 * a.width},
		codes:  kernel.Rows{Shift: chunkBits, Stride: a.codeBytes},
	}
	for i := range chunks {
		d.links.Chunks = append(d.links.Chunks, unsafe.Pointer(&chunks[i].links[0]))
		if a.codeBytes > 0 {
			d.codes.Chunks = append(d.codes.Chunks, unsafe.Pointer(&chunks[i].codes[0]))
		}
	}
	a.nodes.Store(d)
}

// newChunk makes the chunk behind the n that there are, of slots that are not in use. Links and codes, which walks read
// at random, are cut from pieces that are large enough for huge pages and small beside what there is.
func (a *arrays) newChunk(n int) chunk {
	links, codes := 4*chunkSize*a.width, chunkSize*a.codeBytes
	if len(a.spare) < links+codes {
		count := 1
		if n >= 8 {
			count = max(n/4, (leastPiece+links+codes-1)/(links+codes))
		}
		a.spare = hugemem.Make(count * (links + codes))
	}
	c := chunk{
		state: make([]uint32, chunkSize),
		links: unsafe.Slice((*uint32)(unsafe.Pointer(&a.spare[0])), chunkSize*a.width),
		codes: a.spare[links : links+codes : links+codes],
	}
	a.spare = a.spare[links+codes:]
	list(c.links).clear()
	return c
}

// leastPiece is the size from which huge pages are used.
const leastPiece = 4 << 20

func (l list) clear() {
	for i := range l {
		l[i] = noLink
	}
}

// slots returns how many slots the directory has room for.
func (a *arrays) slots() int { return len(a.nodes.Load().chunks) << chunkBits }

func (a *arrays) bytes() int64 {
	slot := 4 + 4*a.width + a.codeBytes
	return int64(a.slots())*int64(slot) + int64(len(*a.upper.Load())*upperSize*a.upperWidth)*4
}

// code returns where slot's code is kept; there is room for slot.
func (a *arrays) code(slot uint32) []byte {
	i := int(slot&(chunkSize-1)) * a.codeBytes
	return a.nodes.Load().chunks[slot>>chunkBits].codes[i : i+a.codeBytes : i+a.codeBytes]
}

// reserve makes room for slot.
func (a *arrays) reserve(slot uint32) {
	if int(slot) < a.slots() {
		return
	}
	a.grow.Lock()
	defer a.grow.Unlock()
	chunks := a.nodes.Load().chunks
	for len(chunks) <= int(slot>>chunkBits) {
		chunks = append(chunks, a.newChunk(len(chunks)))
	}
	a.setChunks(chunks)
}

// stateWord returns where slot's state is kept, nil if there is no room for such a slot.
func (a *arrays) stateWord(slot uint32) *uint32 {
	chunks := a.nodes.Load().chunks
	if c := int(slot >> chunkBits); c < len(chunks) {
		return &chunks[c].state[slot&(chunkSize-1)]
	}
	return nil
}

func (a *arrays) state(slot uint32) uint32 {
	if w := a.stateWord(slot); w != nil {
		return atomic.LoadUint32(w)
	}
	return 0
}

// setFlags and clearFlags change flags of a state word that others may be changing too.
func (a *arrays) setFlags(slot uint32, flags uint32)   { atomic.OrUint32(a.stateWord(slot), flags) }
func (a *arrays) clearFlags(slot uint32, flags uint32) { atomic.AndUint32(a.stateWord(slot), ^flags) }

// list is a slot's links on a level, up to the first noLink; what stands behind that means nothing.
type list []uint32

// noLink ends a list that is not full.
const noLink = ^uint32(0)

// listAt returns slot's list on a level, nil if it has none there.
func (a *arrays) listAt(slot uint32, level int) list {
	chunks := a.nodes.Load().chunks
	c := int(slot >> chunkBits)
	if c >= len(chunks) {
		return nil
	}
	i := int(slot & (chunkSize - 1))
	if level == 0 {
		return chunks[c].links[i*a.width : (i+1)*a.width : (i+1)*a.width]
	}
	state := atomic.LoadUint32(&chunks[c].state[i])
	if levelOf(state) < level {
		return nil
	}
	return a.block(blockOf(state) + uint32(level-1))
}

// prefetch asks for the slots' lists of level 0.
func (a *arrays) prefetch(slots []uint32) {
	kernel.PrefetchRows(&a.nodes.Load().links, slots, (4*a.width+63)/64)
}

// block returns an upper list by number.
func (a *arrays) block(n uint32) list {
	c := (*a.upper.Load())[n>>upperBits]
	i := int(n&(upperSize-1)) * a.upperWidth
	return c[i : i+a.upperWidth : i+a.upperWidth]
}

// len returns the number of links.
func (l list) len() int {
	for i := range l {
		if l.at(i) == noLink {
			return i
		}
	}
	return len(l)
}

func (l list) at(i int) uint32 { return atomic.LoadUint32(&l[i]) }

func (l list) room() int { return len(l) }

// append adds a link behind the n that are there; there is room for it. The new end is written first, so that
// readers see only links.
func (l list) append(n int, slot uint32) {
	if n+1 < len(l) {
		atomic.StoreUint32(&l[n+1], noLink)
	}
	atomic.StoreUint32(&l[n], slot)
}

// set replaces the links.
func (l list) set(slots []uint32) {
	for i, s := range slots {
		atomic.StoreUint32(&l[i], s)
	}
	if len(slots) < len(l) {
		atomic.StoreUint32(&l[len(slots)], noLink)
	}
}

func (l list) contains(slot uint32) bool {
	for i := range l {
		switch l.at(i) {
		case slot:
			return true
		case noLink:
			return false
		}
	}
	return false
}

func (l list) appendTo(dst []uint32) []uint32 {
	for i := range l {
		slot := l.at(i)
		if slot == noLink {
			break
		}
		dst = append(dst, slot)
	}
	return dst
}

// takeBlocks returns the first of n consecutive upper blocks with empty lists, n up to maxLevel.
func (a *arrays) takeBlocks(n int) (uint32, error) {
	if n == 0 {
		return 0, nil
	}
	a.grow.Lock()
	defer a.grow.Unlock()
	if runs := a.free[n]; len(runs) > 0 {
		a.free[n] = runs[:len(runs)-1]
		return runs[len(runs)-1], nil
	}
	if int(a.used)+n > blockMask {
		return 0, errs.New(errs.FailedPrecondition, "graph is full: all %d upper blocks are in use", blockMask)
	}
	first := a.used
	a.used += uint32(n)
	a.reserveUpper()
	return first, nil
}

// reserveUpper makes room for the blocks in use; the caller holds grow.
func (a *arrays) reserveUpper() {
	chunks := *a.upper.Load()
	for len(chunks)<<upperBits < int(a.used) {
		lists := make(list, upperSize*a.upperWidth)
		lists.clear()
		chunks = append(chunks, lists)
	}
	a.upper.Store(&chunks)
}

// giveBlocks takes n blocks with empty lists back.
func (a *arrays) giveBlocks(first uint32, n int) {
	if n == 0 {
		return
	}
	a.grow.Lock()
	defer a.grow.Unlock()
	a.free[n] = append(a.free[n], first)
}
