package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/vfs"
)

// Flush makes all that has been applied so far durable and returns the index up to which the log is not needed.
func (s *Shard) Flush(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.flushed.Load(), nil
}

// flush writes the growing buffer out: rows into one segment, then records, heads and the applied index in one
// transaction, which is the commit point. A crash before it leaves an orphan segment, and the log to replay.
//
// A full disk before the commit point loses nothing: the buffer stays, and the next flush tries again.
func (s *Shard) flush() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	for {
		if err := s.failure(); err != nil {
			return err
		}
		f, again := s.freeze()
		if f == nil {
			return nil
		}
		err := f.write()
		s.full.Store(err != nil && vfs.IsFull(err) && s.failure() == nil)
		if err != nil || !again {
			return err
		}
	}
}

// flushing is one flush: the frozen memtable, and the state of the shard that belongs to it.
type flushing struct {
	shard *Shard
	mem   *memtable
	state shardState
	heads map[Key]*head // nil: the partition is gone
	parts []*flushPart

	segment uint64 // id, 0: there were no rows to write
	units   uint64
	moved   *moves
	dead    map[uint64]uint64 // units that died, by segment
}

// flushPart is the part of one partition, sorted by id.
type flushPart struct {
	part    *partition
	number  uint64
	ids     []string
	records []*memRecord
}

// moves maps rows from where they were to where they are now. Most rows that are asked for lie in other blocks.
type moves struct {
	to     map[place]place
	blocks map[uint32]bool
}

func newMoves() *moves { return &moves{map[place]place{}, map[uint32]bool{}} }

func (m *moves) add(from, to place) {
	m.to[from] = to
	m.blocks[from.block()] = true
}

func (m *moves) find(from place) (to place, ok bool) {
	if from == 0 || !m.blocks[from.block()] {
		return 0, false
	}
	to, ok = m.to[from]
	return to, ok
}

// freeze takes what is to be flushed; what comes later goes to a new memtable. A memtable that is frozen already,
// because the disk was full, goes first, again.
func (s *Shard) freeze() (f *flushing, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again = s.frozen != nil
	if !again {
		if !s.active.dirty {
			return nil, false
		}
		s.frozen, s.active = s.active, newMemtable(s.blocks)
		s.frozenState = shardState{Ident: s.ident.Shard, Applied: s.applied.Load(), NextNumber: s.nextNumber, CostateTerm: s.costateTerm}
		s.frozenHeads = s.headsOf(s.frozen)
	}
	return &flushing{
		shard: s, mem: s.frozen, state: s.frozenState, heads: s.frozenHeads,
		moved: newMoves(), dead: map[uint64]uint64{},
	}, again
}

func (s *Shard) headsOf(m *memtable) map[Key]*head {
	heads := make(map[Key]*head, len(m.touched))
	for k := range m.touched {
		heads[k] = nil
		if p := s.registry.find(k); p != nil {
			h := p.head
			heads[k] = &h
		}
	}
	return heads
}

// partsOf sorts the records of the partitions that still were there, under the number that they had, when the
// memtable was frozen. The records of the others are garbage before they were written. A frozen memtable does not
// change, so that no lock is needed.
func partsOf(m *memtable, heads map[Key]*head) []*flushPart {
	var parts []*flushPart
	for p, mp := range m.parts {
		h := heads[p.key]
		if h == nil || h.Number != mp.number {
			continue
		}
		fp := &flushPart{part: p, number: mp.number, ids: make([]string, 0, len(mp.records))}
		for id := range mp.records {
			fp.ids = append(fp.ids, id)
		}
		slices.Sort(fp.ids)
		for _, id := range fp.ids {
			fp.records = append(fp.records, mp.records[id])
		}
		parts = append(parts, fp)
	}
	slices.SortFunc(parts, func(a, b *flushPart) int { return cmp.Compare(a.number, b.number) })
	return parts
}

func (f *flushing) write() error {
	f.parts = partsOf(f.mem, f.heads)
	if err := f.writeRows(); vfs.IsFull(err) {
		return err // nothing refers to the segment yet
	} else if err != nil {
		return f.shard.fail("flush", err)
	}
	if err := f.shard.kv.Update(f.commit); err != nil {
		return f.shard.fail("flush", err)
	}
	f.publish()
	return nil
}

// writeRows writes the rows that are in memory into a segment, which becomes a block of the shard.
func (f *flushing) writeRows() error {
	s := f.shard
	var extents []segment.Extent
	var from [][]place
	for _, fp := range f.parts {
		ext, places := fp.extent(s)
		if len(ext.IDs) > 0 {
			extents, from = append(extents, ext), append(from, places)
		}
	}
	if len(extents) == 0 {
		return nil
	}
	b, err := s.writeSegment(extents, func(i, row int, to place) { f.moved.add(from[i][row], to) })
	if err != nil {
		return err
	}
	f.segment, f.units = b.id, b.units
	return nil
}

// extent collects the rows of a partition that are in memory.
func (fp *flushPart) extent(s *Shard) (segment.Extent, []place) {
	dim := fp.part.schema.Dim
	ext := segment.Extent{Owner: segment.Owner(appendKey(nil, fp.part.key)), Dim: dim}
	var from []place
	seen := map[place]bool{}
	for i, r := range fp.records {
		p := place(r.place.Load())
		if r.deleted || p == 0 || s.blocks.segment(p) != nil || seen[p] {
			continue
		}
		seen[p] = true
		ext.IDs = append(ext.IDs, fp.ids[i])
		ext.Rows = append(ext.Rows, s.blocks.row(p, dim))
		from = append(from, p)
	}
	return ext, from
}

// newBlock is a segment that was just written.
type newBlock struct {
	id    uint64
	units uint64 // of rows
}

// writeSegment makes a segment durable and maps it; placed is told where each row of each extent came to lie. The
// caller holds flushMu.
func (s *Shard) writeSegment(extents []segment.Extent, placed func(extent, row int, to place)) (newBlock, error) {
	nb := newBlock{id: s.nextSegment}
	s.nextSegment++
	w, err := segment.Write(s.fs, s.path(segmentsDir), nb.id, s.ident, extents)
	if err != nil {
		return nb, err
	}
	if err := s.openSegment(nb.id); err != nil {
		return nb, err
	}
	block := (*s.segments.Load())[nb.id]
	for i, ext := range extents {
		stride := segment.Stride(ext.Dim)
		nb.units += uint64(stride) * uint64(len(ext.IDs))
		for row := range ext.IDs {
			placed(i, row, placeOf(block, w.Offsets[i]+uint32(row)*stride))
		}
	}
	return nb, nil
}

// commit is the transaction of a flush.
func (f *flushing) commit(tx store.RW) error {
	for _, fp := range f.parts {
		if err := f.commitPart(tx, fp); err != nil {
			return err
		}
	}
	for k, h := range f.heads {
		if err := putOrDelete(tx, bucketPartitions, appendKey(nil, k), h != nil, func() []byte { return h.encode() }); err != nil {
			return err
		}
	}
	for id, sc := range f.mem.schemas {
		var v []byte
		if sc.ID != 0 {
			v = appendSchema(nil, sc)
		}
		if err := tx.Put(bucketSchemas, uint64Key(uint64(id)), v); err != nil {
			return err
		}
	}
	for _, n := range f.mem.garbage {
		if err := tx.Put(bucketGarbage, uint64Key(n), nil); err != nil {
			return err
		}
	}
	if err := f.commitSegments(tx); err != nil {
		return err
	}
	if err := f.commitOnce(tx); err != nil {
		return err
	}
	if err := f.commitCostate(tx); err != nil {
		return err
	}
	if err := f.commitDropped(tx); err != nil {
		return err
	}
	if err := f.commitResidents(tx); err != nil {
		return err
	}
	f.state.NextSegment = f.shard.nextSegment
	return tx.Put(bucketMeta, shardStateKey, f.state.encode())
}

func putOrDelete(tx store.RW, b store.Bucket, key []byte, put bool, value func() []byte) error {
	if !put {
		return tx.Delete(b, key)
	}
	return tx.Put(b, key, value())
}

func (f *flushing) commitPart(tx store.RW, fp *flushPart) error {
	var buf []byte
	stride := uint64(segment.Stride(fp.part.schema.Dim))
	for i, id := range fp.ids {
		key := recordKey(fp.number, id)
		r := fp.records[i]
		rec := f.stored(r)
		old, err := tx.Get(bucketRecords, key)
		if err != nil {
			return err
		}
		if err := f.bury(old, rec, stride); err != nil {
			return err
		}
		if r.deleted {
			err = tx.Delete(bucketRecords, key)
		} else {
			buf = rec.append(buf[:0])
			err = tx.Put(bucketRecords, key, buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stored is the form on disk of a record of the memtable, with its row where writeRows put it.
func (f *flushing) stored(r *memRecord) storedRecord {
	rec := storedRecord{Version: r.version, Digest: r.digest, Scale: r.scale, Sparse: r.sparse, Meta: r.meta}
	p := place(r.place.Load())
	if r.deleted || p == 0 {
		return rec
	}
	if to, ok := f.moved.find(p); ok {
		p = to
	}
	rec.Segment, rec.Offset = f.shard.blocks.segment(p).ID(), p.offset()
	return rec
}

// bury counts the row of the record that is replaced, unless the new one still uses it.
func (f *flushing) bury(old []byte, next storedRecord, stride uint64) error {
	if old == nil {
		return nil
	}
	o, err := decodeStoredRecord(old)
	if err != nil {
		return err
	}
	if o.Segment != 0 && (o.Segment != next.Segment || o.Offset != next.Offset) {
		f.dead[o.Segment] += stride
	}
	return nil
}

func (f *flushing) commitSegments(tx store.RW) error {
	if f.segment != 0 {
		if err := tx.Put(bucketSegments, uint64Key(f.segment), segmentUse{Units: f.units}.encode()); err != nil {
			return err
		}
	}
	return addDead(tx, f.dead)
}

// addDead adds to the dead units of segments.
func addDead(tx store.RW, dead map[uint64]uint64) error {
	for id, units := range dead {
		v, err := tx.Get(bucketSegments, uint64Key(id))
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		u, err := decodeSegmentUse(v)
		if err != nil {
			return err
		}
		u.Dead += units
		if err := tx.Put(bucketSegments, uint64Key(id), u.encode()); err != nil {
			return err
		}
	}
	return nil
}

// publish lets readers find the rows in their segment and gives the memory back once nobody reads it there.
func (f *flushing) publish() {
	s := f.shard
	s.mu.Lock()
	for _, fp := range f.parts {
		s.relocate(fp.part, f.moved)
	}
	s.frozen, s.frozenHeads = nil, nil
	s.flushed.Store(f.state.Applied)
	s.countBuffer()
	close(s.room)
	s.room = make(chan struct{})
	s.mu.Unlock()
	s.garbage = append(s.garbage, f.mem.garbage...)
	chunks, nums := f.mem.arena.chunks, map[uint32]bool{}
	for _, b := range chunks {
		nums[b] = true
	}
	var parts []*partition
	for p := range f.mem.parts {
		parts = append(parts, p)
	}
	s.vacate(parts, nums, func() { s.blocks.drop(chunks...) })
}

// relocate tells all that remembers places of a partition's rows that they have moved: its space, a load under way,
// the growing buffer. The caller holds mu.
func (s *Shard) relocate(p *partition, m *moves) {
	if len(m.to) == 0 {
		return
	}
	if sp := p.space.Load(); sp != nil {
		sp.relocate(m)
	}
	if p.loading != nil {
		p.loading.moved = append(p.loading.moved, m)
	}
	for _, mem := range [...]*memtable{s.active, s.frozen} {
		if mem == nil || mem.parts[p] == nil {
			continue
		}
		for _, r := range mem.parts[p].records {
			if to, ok := m.find(place(r.place.Load())); ok {
				r.place.Store(uint64(to))
			}
		}
	}
}
