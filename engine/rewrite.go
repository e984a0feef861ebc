package engine

import (
	"errors"
	"io/fs"
	"runtime/debug"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	// rewriteUnits bounds the rows that one rewrite copies, in units of segment.Unit bytes: 256 MiB.
	rewriteUnits = 256 << 20 / segment.Unit
	// tierFan is how many segments of one size class are merged into one of the next; each row is so copied at most
	// once for every factor of tierFan that the shard grows.
	tierFan = 8
	// tierFloor is the size, in units, below which all segments are of one class: 1 MiB.
	tierFloor = 1 << 20 / segment.Unit
)

// rewrite gives space back and keeps segments few: it copies the live rows of segments that are mostly dead, and of
// many small ones, into a new one.
func (s *Shard) rewrite() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if err := s.failure(); err != nil || s.isFrozen() {
		return err // a flush that waits for space remembers places by partition, also of partitions dropped since
	}
	for {
		uses, err := s.segmentUses()
		if err != nil {
			return s.fail("rewrite", err)
		}
		victims := chooseVictims(uses)
		if len(victims) == 0 {
			return nil
		}
		if err := s.rewriteSegments(victims); err != nil {
			return err
		}
		if s.isClosing() {
			return nil
		}
	}
}

type usedSegment struct {
	id uint64
	segmentUse
}

func (u usedSegment) live() uint64 { return u.Units - min(u.Units, u.Dead) }

func (s *Shard) segmentUses() (uses []usedSegment, err error) {
	err = s.kv.View(func(tx store.Tx) error {
		ids, err := keysOf(tx, bucketSegments)
		if err != nil {
			return err
		}
		for _, id := range ids {
			v, err := tx.Get(bucketSegments, uint64Key(id))
			if err != nil {
				return err
			}
			u, err := decodeSegmentUse(v)
			if err != nil {
				return err
			}
			if !s.damaged[id] {
				uses = append(uses, usedSegment{id, u})
			}
		}
		return nil
	})
	return uses, err
}

// chooseVictims picks the segments to rewrite together: those at least half dead, else tierFan of one size class.
// Nothing is picked when nothing is worth it.
func chooseVictims(uses []usedSegment) []uint64 {
	var picked []uint64
	var live uint64
	for _, u := range uses {
		if 2*u.Dead >= u.Units && live+u.live() <= rewriteUnits {
			picked = append(picked, u.id)
			live += u.live()
		}
	}
	if len(picked) > 0 {
		return picked
	}
	classes := map[int][]uint64{}
	for _, u := range uses {
		c := sizeClass(u.live())
		classes[c] = append(classes[c], u.id)
		if len(classes[c]) == tierFan && u.live()*tierFan <= rewriteUnits {
			return classes[c]
		}
	}
	return nil
}

func sizeClass(units uint64) (class int) {
	for n := uint64(tierFloor); n < units; n *= tierFan {
		class++
	}
	return class
}

// rewriting is one rewrite.
type rewriting struct {
	shard   *Shard
	victims []victim
	extents []segment.Extent
	owners  []Key      // of extents
	keys    [][][]byte // record keys of the rows of extents
	from    [][]place
	moved   map[Key]*moves
}

// victim is a segment to be rewritten.
type victim struct {
	seg   *segment.Segment
	block uint32
}

func ownerKey(o segment.Owner) Key { return readKey(codec.NewReader(o[:])) }

func (s *Shard) rewriteSegments(victims []uint64) (err error) {
	defer catchFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	rw := &rewriting{shard: s, moved: map[Key]*moves{}}
	for _, id := range victims {
		b := (*s.segments.Load())[id]
		v := victim{seg: (*s.blocks.table.Load())[b].seg, block: b}
		// Afresh: what has rotted since must not get a new checksum. A damaged segment stays as it is, for as long as
		// this process runs, and its rows answer with errors; the others are rewritten without it.
		if err := v.seg.VerifyAll(); err != nil {
			s.damaged[id] = true
			return err
		}
		rw.victims = append(rw.victims, v)
	}
	if err := s.kv.View(rw.collect); err != nil {
		return s.fail("rewrite", err)
	}
	nb := newBlock{}
	if len(rw.extents) > 0 {
		if nb, err = s.writeSegment(rw.extents, rw.place); err != nil {
			if vfs.IsFull(err) {
				return err // nothing is lost, there is just no room to tidy up
			}
			return s.fail("rewrite", err)
		}
	}
	if err := s.kv.Update(func(tx store.RW) error { return rw.commit(tx, nb) }); err != nil {
		return s.fail("rewrite", err)
	}
	rw.publish()
	return nil
}

// collect finds the rows of the victims that records still name: records.db's records, which may be behind what has
// been applied.
func (rw *rewriting) collect(tx store.Tx) error {
	for _, v := range rw.victims {
		for i, ext := range v.seg.Extents() {
			stored, err := tx.Get(bucketPartitions, ext.Owner[:])
			if err != nil {
				return err
			}
			if stored == nil {
				continue
			}
			h, err := decodeHead(stored)
			if err != nil {
				return err
			}
			if err := rw.collectExtent(tx, &v, i, ext, h.Number); err != nil {
				return err
			}
		}
	}
	return nil
}

func (rw *rewriting) collectExtent(tx store.Tx, vic *victim, i int, ext segment.ExtentInfo, number uint64) error {
	ids, err := vic.seg.IDs(i)
	if err != nil {
		return err
	}
	out := segment.Extent{Owner: ext.Owner, Dim: ext.Dim}
	var keys [][]byte
	var from []place
	for row, id := range ids {
		off := ext.Off + uint32(row)*segment.Stride(ext.Dim)
		key := recordKey(number, id)
		v, err := tx.Get(bucketRecords, key)
		if err != nil {
			return err
		}
		live, err := namesRow(v, vic.seg.ID(), off)
		if err != nil {
			return err
		}
		if live {
			out.IDs = append(out.IDs, id)
			out.Rows = append(out.Rows, vic.seg.Row(off, ext.Dim))
			keys, from = append(keys, key), append(from, placeOf(vic.block, off))
		}
	}
	if len(out.IDs) > 0 {
		rw.extents, rw.owners = append(rw.extents, out), append(rw.owners, ownerKey(ext.Owner))
		rw.keys, rw.from = append(rw.keys, keys), append(rw.from, from)
	}
	return nil
}

func namesRow(v []byte, seg uint64, off uint32) (bool, error) {
	if v == nil {
		return false, nil
	}
	r, err := decodeStoredRecord(v)
	return err == nil && r.Segment == seg && r.Offset == off, err
}

func (rw *rewriting) place(extent, row int, to place) {
	k := rw.owners[extent]
	if rw.moved[k] == nil {
		rw.moved[k] = newMoves()
	}
	rw.moved[k].add(rw.from[extent][row], to)
}

func (rw *rewriting) commit(tx store.RW, nb newBlock) error {
	for i, keys := range rw.keys {
		for row, key := range keys {
			v, err := tx.Get(bucketRecords, key)
			if err != nil {
				return err
			}
			r, err := decodeStoredRecord(v)
			if err != nil {
				return err
			}
			to, _ := rw.moved[rw.owners[i]].find(rw.from[i][row])
			r.Segment, r.Offset = nb.id, to.offset()
			if err := tx.Put(bucketRecords, key, r.append(nil)); err != nil {
				return err
			}
		}
	}
	for _, v := range rw.victims {
		if err := tx.Delete(bucketSegments, uint64Key(v.seg.ID())); err != nil {
			return err
		}
	}
	if nb.units > 0 {
		if err := tx.Put(bucketSegments, uint64Key(nb.id), segmentUse{Units: nb.units}.encode()); err != nil {
			return err
		}
	}
	return rw.commitState(tx)
}

// commitState stores the next segment id; all else of the shard's state belongs to flushes.
func (rw *rewriting) commitState(tx store.RW) error {
	st, err := storedShardState(tx)
	if err != nil {
		return err
	}
	st.NextSegment = rw.shard.nextSegment
	return tx.Put(bucketMeta, shardStateKey, st.encode())
}

// publish points all at the new rows and removes the old segments once no reader is left in them.
func (rw *rewriting) publish() {
	s := rw.shard
	var parts []*partition
	nums := map[uint32]bool{}
	s.mu.Lock()
	for k, m := range rw.moved {
		if p := s.registry.find(k); p != nil {
			s.relocate(p, m)
		}
	}
	for _, v := range rw.victims {
		nums[v.block] = true
		for _, ext := range v.seg.Extents() {
			if p := s.registry.find(ownerKey(ext.Owner)); p != nil {
				parts = append(parts, p)
			}
		}
	}
	s.mu.Unlock()
	s.vacate(parts, nums, func() {
		for _, v := range rw.victims {
			s.report(s.removeSegment(v))
		}
	})
}

func (s *Shard) removeSegment(v victim) error {
	id := v.seg.ID()
	s.changeSegments(func(m map[uint64]uint32) { delete(m, id) })
	s.blocks.drop(v.block)
	if err := v.seg.Close(); err != nil {
		return err
	}
	return segment.Remove(s.fs, s.path(segmentsDir), id)
}

// vacate calls remove once no reader can be in the given blocks any more. What is left in them by then are rows of
// versions that have ended: first wait for the searches that could still see those, then let graphs, which may still
// walk over them, forget where they were, then wait for the walks under way.
func (s *Shard) vacate(parts []*partition, nums map[uint32]bool, remove func()) {
	s.epochs.retire(func() {
		s.mu.Lock()
		for _, p := range parts {
			if sp := p.space.Load(); sp != nil {
				sp.forget(nums)
			}
		}
		s.mu.Unlock()
		s.epochs.retire(remove)
	})
}

func (s *Shard) isFrozen() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.frozen != nil
}

func removeIfThere(fsys vfs.FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
