package engine

import (
	"slices"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
)

// sweepBatch is how many records of dropped partitions one transaction removes: some milliseconds of work.
const sweepBatch = 4096

// sweep removes a batch of the records of partitions that were dropped or emptied, and tells whether there are more.
func (s *Shard) sweep() (more bool, err error) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if len(s.garbage) == 0 || s.failure() != nil {
		return false, nil
	}
	done := 0
	if err := s.kv.Update(func(tx store.RW) (err error) {
		done, err = s.sweepSome(tx)
		return err
	}); err != nil {
		return false, s.fail("sweep", err)
	}
	for _, n := range s.garbage[:done] {
		s.report(removeIfThere(s.fs, s.graphPath(n)))
	}
	s.garbage = s.garbage[done:]
	return len(s.garbage) > 0, nil
}

// sweepSome removes up to sweepBatch records of dropped partitions, and the notes of those partitions that are swept;
// of these it returns the number.
func (s *Shard) sweepSome(tx store.RW) (done int, err error) {
	dead := map[uint64]uint64{}
	left := sweepBatch
	for _, number := range s.garbage {
		keys, err := s.garbageOf(tx, number, left, dead)
		if err != nil {
			return 0, err
		}
		for _, k := range keys {
			if err := tx.Delete(bucketRecords, k); err != nil {
				return 0, err
			}
		}
		if left -= len(keys) + 1; left <= 0 { // the note counts as well: there may be many empty ones
			break
		}
		if err := tx.Delete(bucketGarbage, uint64Key(number)); err != nil {
			return 0, err
		}
		done++
	}
	return done, addDead(tx, dead)
}

// garbageOf lists up to limit keys of a dropped partition and counts the units that die with them.
func (s *Shard) garbageOf(tx store.Tx, number uint64, limit int, dead map[uint64]uint64) (keys [][]byte, err error) {
	err = tx.Ascend(bucketRecords, uint64Key(number), func(k, v []byte) (bool, error) {
		if n, _ := splitRecordKey(k); n != number || len(keys) == limit {
			return false, nil
		}
		keys = append(keys, slices.Clone(k))
		r, err := decodeStoredRecord(v)
		if err != nil || r.Segment == 0 {
			return err == nil, err
		}
		units, err := s.unitsAt(r.Segment, r.Offset)
		dead[r.Segment] += units
		return true, err
	})
	return keys, err
}

// unitsAt returns the length of the row at an offset, by the extent that it lies in: the partition's schema may be
// gone by now.
func (s *Shard) unitsAt(id uint64, off uint32) (uint64, error) {
	b, ok := (*s.segments.Load())[id]
	if !ok {
		return 0, nil
	}
	dim, err := (*s.blocks.table.Load())[b].seg.DimAt(off)
	return uint64(segment.Stride(dim)), err
}
