package engine

import (
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine/cold"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
)

// space is what searching a partition needs, in memory: its live records as slots, the filter and sparse postings,
// and above a size the graph. All of it is derived from the records and may be dropped and loaded again at any time.
//
// Readers take no lock: they pin the shard's epoch, load the view, and see the slots that are alive at its sequence.
// Writers (apply, builders, the janitor's clean-ups) hold mu while they change slots or swap the view.
type space struct {
	shard *Shard
	part  *partition
	dim   int

	cols   columns
	view   atomic.Pointer[view]
	filter *filter.Index
	sparse *postings
	used   atomic.Int64 // engine's clock at the last query or write
	live   atomic.Int64 // slots alive

	mu     sync.Mutex
	ids    map[string]uint32 // live records
	next   uint32            // slots below it have been handed out
	free   []uint32          // slots to hand out again
	buried []uint32          // dead slots that no search can see, to be taken out of pending and graph
	text   int64             // bytes of ids

	builder builder
	asked   asked
	sampled sampled
	cold    cold.Reader
}

// view is one consistent state for searches: at seq, every visible slot is in pending or in the graph.
type view struct {
	seq     uint64
	number  uint64   // of the partition
	version uint64   // of the partition
	stored  uint64   // bytes of its records
	pending []uint32 // in order of birth; scanned exactly
	graph   *hnsw.Graph
}

// newSpace makes the space of a partition, empty. The caller holds Shard.mu.
func newSpace(s *Shard, p *partition) *space {
	sp := &space{
		shard: s, part: p, dim: p.schema.Dim, ids: map[string]uint32{},
		filter: filter.NewIndex(), sparse: &postings{},
	}
	sp.view.Store(&view{seq: p.head.Seq, number: p.head.Number, version: p.head.Version, stored: p.head.Bytes})
	sp.touch()
	return sp
}

func (sp *space) touch() { sp.used.Store(sp.shard.engine.clock.Load()) }

// has tells whether the partition has a live record of that id.
func (sp *space) has(id string) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	_, ok := sp.ids[id]
	return ok
}

// Vector implements ann.Source: the row of a slot, in the growing buffer or in a mapped segment. The caller's pin
// keeps it there.
func (sp *space) Vector(slot uint32) ([]float32, float32) {
	col, i := sp.cols.at(slot)
	return sp.shard.blocks.row(place(col.place[i].Load()), sp.dim), col.scale[i]
}

// corpse is a slot whose record version has ended, with what its postings were made of.
type corpse struct {
	slot   uint32
	meta   metadata.Map
	sparse Sparse
}

// apply makes one entry's changes visible, all at once; h is the partition's head after it.
func (sp *space) apply(changes []change, h head) {
	sp.mu.Lock()
	born, dead := sp.change(changes)
	v := *sp.view.Load()
	v.seq, v.version, v.stored = h.Seq, h.Version, h.Bytes
	v.pending = append(v.pending, born...)
	sp.view.Store(&v)
	sp.mu.Unlock()
	sp.touch()
	if len(dead) > 0 {
		sp.shard.epochs.retire(func() { sp.bury(dead) })
	}
	if sp.wantsBuild() {
		sp.shard.engine.enqueue(sp)
	}
}

// change enters changes into the slots and returns those that began and those that ended.
func (sp *space) change(changes []change) (born []uint32, dead []corpse) {
	for i := range changes {
		c := &changes[i]
		if c.existed {
			if slot, ok := sp.ids[c.id]; ok {
				sp.end(slot, c.version)
				dead = append(dead, corpse{slot, c.old, c.oldSp})
			}
		}
		if c.record.deleted {
			delete(sp.ids, c.id)
			continue
		}
		born = append(born, sp.begin(c.id, c.version, c.record, c.meta))
	}
	return born, dead
}

// begin gives a record version a slot.
func (sp *space) begin(id string, version uint64, r *memRecord, m metadata.Map) uint32 {
	slot := sp.allocate()
	sp.insert(slot, id, version, place(r.place.Load()), r.scale, r.sparse, m)
	return slot
}

func (sp *space) insert(slot uint32, id string, version uint64, p place, scale float32, sparse Sparse, m metadata.Map) {
	sp.filter.Add(slot, m)
	sp.sparse.add(slot, sparse)
	sp.cols.set(slot, version, p, scale, id)
	sp.ids[id] = slot
	sp.text += int64(len(id))
	sp.live.Add(1)
}

func (sp *space) allocate() uint32 {
	if n := len(sp.free); n > 0 {
		slot := sp.free[n-1]
		sp.free = sp.free[:n-1]
		return slot
	}
	slot := sp.next
	sp.next++
	sp.cols.reserve(sp.next)
	return slot
}

// end makes a slot invisible to searches at sequence died and later.
func (sp *space) end(slot uint32, died uint64) {
	col, i := sp.cols.at(slot)
	col.died[i].Store(died)
	sp.live.Add(-1)
}

// bury takes over slots that no search can see any more. Their postings go now, the slots themselves when pending
// list and graph have let go of them.
func (sp *space) bury(dead []corpse) {
	sp.mu.Lock()
	for _, c := range dead {
		sp.filter.Remove(c.slot, c.meta)
		sp.sparse.remove(c.slot, c.sparse)
		col, i := sp.cols.at(c.slot)
		sp.text -= int64(len(col.id[i]))
		sp.buried = append(sp.buried, c.slot)
	}
	build := sp.wantsBuildLocked()
	sp.mu.Unlock()
	if build {
		sp.shard.engine.enqueue(sp)
	}
}

// release makes slots reusable. No view, graph or reader knows them any more.
func (sp *space) release(slots []uint32) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, slot := range slots {
		col, i := sp.cols.at(slot)
		col.place[i].Store(0)
		col.id[i] = ""
	}
	sp.free = append(sp.free, slots...)
}

// relocate follows rows to where they have moved. The caller holds Shard.mu.
func (sp *space) relocate(m *moves) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.eachPlace(func(at *atomic.Uint64) {
		if to, ok := m.find(place(at.Load())); ok {
			at.Store(uint64(to))
		}
	})
}

// forget clears the places in blocks that are about to go. Only dead slots are in them.
func (sp *space) forget(blocks map[uint32]bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.eachPlace(func(at *atomic.Uint64) {
		if p := place(at.Load()); p != 0 && blocks[p.block()] {
			at.Store(0)
		}
	})
}

func (sp *space) eachPlace(f func(*atomic.Uint64)) {
	for slot := uint32(0); slot < sp.next; slot++ {
		col, i := sp.cols.at(slot)
		f(&col.place[i])
	}
}

// bytes is about the memory that the space takes.
func (sp *space) bytes() int64 {
	const perID = 48 // map entry
	sp.mu.Lock()
	defer sp.mu.Unlock()
	n := sp.cols.bytes() + int64(len(sp.ids))*perID + sp.text + sp.filter.Bytes() + sp.sparse.bytes()
	v := sp.view.Load()
	n += int64(4 * cap(v.pending))
	if v.graph != nil {
		n += v.graph.Bytes() + sp.asked.bytes(sp.dim)
	}
	return n
}

func (sp *space) born(slot uint32) uint64 {
	col, i := sp.cols.at(slot)
	return col.born[i].Load()
}

func (sp *space) place(slot uint32) *atomic.Uint64 {
	col, i := sp.cols.at(slot)
	return &col.place[i]
}

func (sp *space) id(slot uint32) string {
	col, i := sp.cols.at(slot)
	return col.id[i]
}
