package engine

import (
	"sync/atomic"

	"github.com/croftdb/croft/engine/metadata"
)

// memtable is the growing buffer of a shard: what has been applied and is not yet in records.db. The Raft log holds
// it too, so it may be lost. Guarded by Shard.mu; the records in it never change but for their place.
type memtable struct {
	arena   arena
	parts   map[*partition]*memPart
	touched map[Key]struct{}   // partitions whose head is to be written or removed
	garbage []uint64           // numbers of partitions emptied or dropped
	schemas map[IndexID]Schema // defined; a zero Schema is a dropped index
	once    onceTable
	costate map[TenantID]*costatePart
	dropped map[TenantID]struct{} // tenants
	bytes   int64
	dirty   bool // anything at all

	residents map[TenantID]*Residence // changed; nil: zero
}

func newMemtable(b *blocks) *memtable {
	return &memtable{
		arena:   arena{blocks: b},
		parts:   map[*partition]*memPart{},
		touched: map[Key]struct{}{},
		schemas: map[IndexID]Schema{},
		once:    newOnceTable(),
		costate: map[TenantID]*costatePart{},
		dropped: map[TenantID]struct{}{},

		residents: map[TenantID]*Residence{},
	}
}

// memPart is one partition's part of a memtable.
type memPart struct {
	number  uint64 // head.Number that the records belong to
	records map[string]*memRecord
}

// memRecord is the newest state of a record.
type memRecord struct {
	version uint64
	deleted bool
	place   atomic.Uint64 // of the values; moves when they are flushed or rewritten
	scale   float32
	sparse  Sparse
	meta    []byte // binary form
	digest  digest
}

// part returns the partition's part of m for its present number, made if missing.
func (m *memtable) part(p *partition) *memPart {
	mp := m.parts[p]
	if mp == nil || mp.number != p.head.Number {
		mp = &memPart{number: p.head.Number, records: map[string]*memRecord{}}
		m.parts[p] = mp
	}
	return mp
}

// find returns the record that m holds for id, which may be a deletion, or nil.
func (m *memtable) find(p *partition, id string) *memRecord {
	if m == nil {
		return nil
	}
	mp := m.parts[p]
	if mp == nil || mp.number != p.head.Number {
		return nil
	}
	return mp.records[id]
}

// put enters a record.
func (m *memtable) put(p *partition, id string, r *memRecord) {
	m.part(p).records[id] = r
	m.bytes += int64(len(id)+len(r.meta)+8*len(r.sparse.Indices)) + memRecordBytes
}

// memRecordBytes is about what a record costs beside its contents: map entry, struct, headers.
const memRecordBytes = 200

// touch notes that the partition's head changes.
func (m *memtable) touch(k Key) {
	m.touched[k] = struct{}{}
	m.dirty = true
}

// found is the newest state of a record, wherever it is kept. Its values are at place.
type found struct {
	version uint64
	place   place
	scale   float32
	sparse  Sparse
	meta    []byte
	digest  digest
}

func (r *memRecord) found() found {
	return found{
		version: r.version, place: place(r.place.Load()), scale: r.scale, sparse: r.sparse, meta: r.meta, digest: r.digest,
	}
}

// size is the logical size of a record: what a user would count.
func (f *found) size(id string, dim int) uint64 {
	return logicalSize(id, dim, f.place != 0, f.sparse, f.meta)
}

func logicalSize(id string, dim int, dense bool, sparse Sparse, meta []byte) uint64 {
	n := len(id) + 8*len(sparse.Indices) + len(meta)
	if dense {
		n += 4 * dim
	}
	return uint64(n)
}

func (f *found) metadata() (metadata.Map, error) {
	if len(f.meta) == 0 {
		return nil, nil
	}
	return metadata.Decode(f.meta)
}

// countBuffer publishes the size of the growing buffer. The caller holds mu.
func (s *Shard) countBuffer() {
	n := s.active.bytes
	if s.frozen != nil {
		n += s.frozen.bytes
	}
	s.buffered.Store(n)
}
