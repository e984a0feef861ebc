package hnsw

import (
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/internal/errs"
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
	chunkBits = 10 // slots in a chunk: 136 KiB at M 16
	chunkSize = 1 << chunkBits
	upperBits = 8 // upper blocks in a chunk: 17 KiB at M 16
	upperSize = 1 << upperBits
)

// chunk holds chunkSize slots. links has one list per slot: a count and room for 2M slots.
type chunk struct {
	state []uint32
	links []uint32
}

// arrays are the graph's memory: chunks under a directory that is replaced as a whole when it grows, so that readers
// need no lock. Words are read and written atomically. A reader may meet a list while it is rewritten and see links
// of before and after; every one of them is a slot of the directory, which is all that a walk relies on.
type arrays struct {
	width, upperWidth int // words in a list of level 0, and of an upper level: a count, then the links

	nodes atomic.Pointer[[]chunk]
	upper atomic.Pointer[[][]uint32]

	grow sync.Mutex // held to replace a directory, or to take or give back upper blocks
	used uint32     // upper blocks taken so far, free ones included
	free [maxLevel + 1][]uint32
}

func (a *arrays) init(m int) {
	a.width, a.upperWidth = 1+2*m, 1+m
	a.nodes.Store(new([]chunk))
	a.upper.Store(new([][]uint32))
}

// slots returns how many slots the directory has room for.
func (a *arrays) slots() int { return len(*a.nodes.Load()) << chunkBits }

func (a *arrays) bytes() int64 {
	words := len(*a.nodes.Load())*chunkSize*(1+a.width) + len(*a.upper.Load())*upperSize*a.upperWidth
	return int64(words) * 4
}

// reserve makes room for slot.
func (a *arrays) reserve(slot uint32) {
	if int(slot) < a.slots() {
		return
	}
	a.grow.Lock()
	defer a.grow.Unlock()
	chunks := *a.nodes.Load()
	for len(chunks) <= int(slot>>chunkBits) {
		chunks = append(chunks, chunk{
			state: make([]uint32, chunkSize),
			links: make([]uint32, chunkSize*a.width),
		})
	}
	a.nodes.Store(&chunks)
}

// stateWord returns where slot's state is kept, nil if there is no room for such a slot.
func (a *arrays) stateWord(slot uint32) *uint32 {
	chunks := *a.nodes.Load()
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

// list is a count followed by that many links and by room for more.
type list []uint32

// listAt returns slot's list on a level, nil if it has none there.
func (a *arrays) listAt(slot uint32, level int) list {
	chunks := *a.nodes.Load()
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

// block returns an upper list by number.
func (a *arrays) block(n uint32) list {
	c := (*a.upper.Load())[n>>upperBits]
	i := int(n&(upperSize-1)) * a.upperWidth
	return c[i : i+a.upperWidth : i+a.upperWidth]
}

// len returns the number of links; the bound keeps a reader inside whatever it meets.
func (l list) len() int {
	if len(l) == 0 {
		return 0
	}
	return min(int(atomic.LoadUint32(&l[0])), len(l)-1)
}

func (l list) at(i int) uint32 { return atomic.LoadUint32(&l[1+i]) }

func (l list) room() int { return len(l) - 1 }

// append adds a link; there is room for it. The count is written last, so that readers see only links.
func (l list) append(slot uint32) {
	n := l.len()
	atomic.StoreUint32(&l[1+n], slot)
	atomic.StoreUint32(&l[0], uint32(n+1))
}

// set replaces the links.
func (l list) set(slots []uint32) {
	for i, s := range slots {
		atomic.StoreUint32(&l[1+i], s)
	}
	atomic.StoreUint32(&l[0], uint32(len(slots)))
}

func (l list) contains(slot uint32) bool {
	for i := range l.len() {
		if l.at(i) == slot {
			return true
		}
	}
	return false
}

func (l list) appendTo(dst []uint32) []uint32 {
	for i := range l.len() {
		dst = append(dst, l.at(i))
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
		chunks = append(chunks, make([]uint32, upperSize*a.upperWidth))
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
