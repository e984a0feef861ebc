// Package cold owns reading rows of mapped files that are not in memory: it guesses whether that is so, and where it is,
// reads the rows that somebody is about to measure side by side and, most of them, past the page cache. It decides nothing
// about what is read, and answers are the same without it: a row that it did not bring is read through its mapping.
//
// Spaces call it for the vectors of a re-rank (ann.Fetcher), as does the race against other libraries in bench/peers.
package cold

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	// lookEvery is how many fetches pass between two looks at whether rows are in memory, while they are. A look is a
	// system call, of about a microsecond.
	lookEvery = 64
	// warmLooks is how many looks in a row must find their row in memory before that is taken for the rule. Looking at
	// each row costs another such call, and gains some 40 µs if the row is on the disk: with one row in a hundred missing, a
	// fetch of a dozen rows is as good without.
	warmLooks = 64
	// probeEvery is how many fetches lie between two probes, and probes how many are out: a row is looked at again when
	// that many more fetches have passed, here 2,048.
	probeEvery = 256
	probes     = 8
	// maxSpare bounds how few rows are read into the page cache, so that one that is asked for often comes into it: one in
	// 32.
	maxSpare = 5
)

// Rows are vectors in memory or in mapped files.
type Rows interface {
	ann.Source
	// Where returns the mapping that the values of a slot lie in, and from which byte on; nil if they are in memory for
	// good.
	Where(slot uint32) (m vfs.Mapping, off int)
}

// Reader reads the rows of one Rows. The zero Reader takes them to be on the disk until it has looked, and memory to have
// room for them until it has not.
type Reader struct {
	fetches atomic.Uint32
	warm    atomic.Int32 // looks in a row that found their row in memory, up to warmLooks

	// One missing row in 1<<spare is read into the page cache, the others past it. Where there is room, rows are best kept;
	// where each pushes out another before anybody asks for it again, that costs more than the read. What there is, is told
	// by rows that were kept: those still there after a while make it one more in two, those gone one less.
	spare  atomic.Int32
	probed [probes]atomic.Uint64 // slots of kept rows, plus one
}

// Fetch is ann.Fetcher's Fetch for rows of dim values.
func (r *Reader) Fetch(rows Rows, dim int, slots []uint32) ann.Fetched {
	n := r.fetches.Add(1)
	if !r.missing(rows, slots, n) {
		return nil
	}
	f := pool.Get().(*fetched)
	f.Rows, f.reader, f.size, f.n, f.missing, f.slots = rows, r, size(dim), n, 0, f.slots[:0]
	f.batch.Reset()
	if f.Add(slots); len(f.slots) == 0 {
		f.Release()
		return nil
	}
	return f
}

// Ahead has rows of dim values that are about to be read one after the other brought into memory, where some are likely to
// be missing, and does not wait for them: those of a scan, or of a graph being built.
func (r *Reader) Ahead(rows Rows, dim int, slots []uint32) {
	if !r.missing(rows, slots, r.fetches.Add(1)) {
		return
	}
	var run Run
	for _, slot := range slots {
		if m, off := rows.Where(slot); m != nil {
			run.Add(m, off, size(dim))
		}
	}
	run.Ask()
}

// missing tells whether rows of slots are likely to be missing, to judge by one of them every now and then. n is the number
// of this fetch.
func (r *Reader) missing(rows Rows, slots []uint32, n uint32) bool {
	warm := r.warm.Load()
	if len(slots) == 0 || warm == warmLooks && n%lookEvery != 0 {
		return false
	}
	switch look := slots[n*0x9E3779B1>>16%uint32(len(slots))]; { // any one, and not always the nearest
	case !inMemory(rows, look):
		r.warm.Store(0)
	case warm == warmLooks:
		return false
	default:
		r.warm.CompareAndSwap(warm, warm+1)
	}
	return true
}

// keep tells whether a row that is missing is to be read into the page cache; i is its place among those of fetch n.
func (r *Reader) keep(rows Rows, slot, n, i uint32) bool {
	spare := r.spare.Load()
	if i > 0 || n%probeEvery != 0 {
		return (n+i)&(1<<spare-1) == 0
	}
	old := r.probed[n/probeEvery%probes].Swap(uint64(slot) + 1)
	switch {
	case old == 0:
	case inMemory(rows, uint32(old-1)):
		r.spare.CompareAndSwap(spare, max(spare-1, 0))
	default:
		r.spare.CompareAndSwap(spare, min(spare+1, maxSpare))
	}
	return true
}

// size is how many bytes dim values take.
func size(dim int) int { return dim * int(unsafe.Sizeof(float32(0))) }

// Run gathers rows that are about to be read, in their order, to ask at once for those that lie one behind the other. The
// zero Run is empty.
type Run struct {
	mapping    vfs.Mapping
	start, end int
}

// padding is more than what fills up the last unit of a row, which lies between neighbours.
const padding = 64

// Add adds the n bytes of m from off; it asks for those before, unless these lie behind them.
func (r *Run) Add(m vfs.Mapping, off, n int) {
	if m != r.mapping || off < r.end || off-r.end >= padding {
		r.Ask()
		*r = Run{mapping: m, start: off}
	}
	r.end = off + n
}

// Ask asks for what has been added last, and does not wait for it.
func (r *Run) Ask() {
	if a, ok := r.mapping.(vfs.Adviser); ok {
		a.WillNeed(r.start, r.end-r.start)
	}
}

func inMemory(rows Rows, slot uint32) bool {
	m, off := rows.Where(slot)
	a, ok := m.(vfs.Adviser)
	return !ok || a.InMemory(off)
}

var pool = sync.Pool{New: func() any { return &fetched{} }}

// fetched is Rows of which some are being read, or have been.
type fetched struct {
	Rows
	reader *Reader
	size   int    // of a row, in bytes
	n      uint32 // number of the fetch
	batch  vfs.Batch
	slots  []uint32 // those in batch, in its order

	missing uint32 // rows that were, so far
}

var _ ann.Fetched = (*fetched)(nil)

// Add implements ann.Fetched.
func (f *fetched) Add(slots []uint32) {
	for _, slot := range slots {
		if slices.Contains(f.slots, slot) {
			continue
		}
		m, off := f.Where(slot)
		a, ok := m.(vfs.Adviser)
		if !ok || a.InMemory(off) {
			continue
		}
		if !f.reader.keep(f.Rows, slot, f.n, f.missing) && f.batch.Add(m, off, f.size) {
			f.slots = append(f.slots, slot)
		} else {
			a.WillNeed(off, f.size)
		}
		f.missing++
	}
	f.batch.Start()
}

// Vector implements ann.Source.
func (f *fetched) Vector(slot uint32) ([]float32, float32) {
	values, scale := f.Rows.Vector(slot)
	if values == nil {
		return nil, scale
	}
	for i, s := range f.slots {
		if s != slot {
			continue
		}
		f.batch.Wait()
		if b := f.batch.Bytes(i); b != nil {
			return codec.Float32sFromBytes(b), scale
		}
		break
	}
	return values, scale
}

// Release implements ann.Fetched.
func (f *fetched) Release() {
	f.batch.Wait()
	f.Rows, f.reader = nil, nil
	pool.Put(f)
}
