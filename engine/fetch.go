package engine

import (
	"sync/atomic"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/segment"
)

var _ ann.Fetcher = (*space)(nil)

const (
	// lookEvery is how many fetches pass between two looks at whether rows are in memory, while they are. A look is a
	// system call, of about a microsecond.
	lookEvery = 64
	// coldFetches is how many looks in a row must find their row in memory before that is taken for the rule. Asking for
	// a row costs another such call, and gains 100 µs if the row is on the disk: with one row in a hundred missing, a
	// fetch of a dozen rows is as good without.
	coldFetches = 64
)

// warmth guesses whether a space's rows are in memory. It is wrong for a few searches after each change.
type warmth struct {
	fetches atomic.Uint32
	cold    atomic.Int32 // fetches to go until rows are taken to be in memory, if all looks find them there
}

// Fetch implements ann.Fetcher: where rows are likely to be missing it asks for all of them, so that the disk reads
// them side by side, while the caller would wait for one after the other.
func (sp *space) Fetch(slots []uint32) {
	n := sp.warmth.fetches.Add(1)
	cold := sp.warmth.cold.Load()
	if len(slots) == 0 || cold == 0 && n%lookEvery != 0 {
		return
	}
	switch look := slots[n*0x9E3779B1>>16%uint32(len(slots))]; { // any one, and not always the nearest
	case !sp.inMemory(look):
		sp.warmth.cold.Store(coldFetches)
	case cold == 0:
		return
	default:
		sp.warmth.cold.CompareAndSwap(cold, cold-1)
	}
	sp.willNeed(slots)
}

// inMemory tells whether the row of a slot can be read without the disk.
func (sp *space) inMemory(slot uint32) bool {
	p := place(sp.place(slot).Load())
	seg := sp.shard.blocks.segment(p)
	return seg == nil || seg.InMemory(p.offset())
}

// willNeed asks for the rows of slots, those that lie one behind the other in one go.
func (sp *space) willNeed(slots []uint32) {
	var run rowRun
	for _, slot := range slots {
		p := place(sp.place(slot).Load())
		seg := sp.shard.blocks.segment(p)
		if seg == nil {
			continue
		}
		if run.seg == seg && run.end == p.offset() {
			run.end += segment.Stride(sp.dim)
			continue
		}
		run.ask()
		run = rowRun{seg: seg, start: p.offset(), end: p.offset() + segment.Stride(sp.dim)}
	}
	run.ask()
}

// rowRun is rows of a segment that lie one behind the other; start and end in units.
type rowRun struct {
	seg        *segment.Segment
	start, end uint32
}

func (r *rowRun) ask() {
	if r.seg != nil {
		r.seg.WillNeed(r.start, int(r.end-r.start)*segment.Unit)
	}
}
