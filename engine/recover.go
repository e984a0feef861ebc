package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// recover opens the files of the shard and removes those that a crash left without an owner. records.db says which
// segments exist; partitions stay on disk until they are used.
func (s *Shard) recover() error {
	for _, d := range []string{s.dir, s.path(segmentsDir), s.path(graphsDir)} {
		if err := s.fs.MkdirAll(d); err != nil {
			return err
		}
	}
	if err := s.openStore(); err != nil {
		return err
	}
	var segments []uint64
	err := s.kv.View(func(tx store.Tx) (err error) {
		if err := s.recoverSchemas(tx); err != nil {
			return err
		}
		if err := s.recoverPartitions(tx); err != nil {
			return err
		}
		if err := s.recoverResidents(tx); err != nil {
			return err
		}
		if segments, err = keysOf(tx, bucketSegments); err != nil {
			return err
		}
		s.garbage, err = keysOf(tx, bucketGarbage)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.openSegments(segments); err != nil {
		return err
	}
	return errors.Join(s.removeOrphanGraphs(), s.removeExports())
}

func (s *Shard) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

func (s *Shard) openStore() error {
	kv, err := openKV(s.fs, s.path(recordsFile), s.engine.opts.InMemory)
	if err != nil {
		return err
	}
	s.kv = kv
	var state []byte
	if err := s.kv.View(func(tx store.Tx) error {
		v, err := tx.Get(bucketMeta, shardStateKey)
		state = append([]byte(nil), v...)
		return err
	}); err != nil {
		return err
	}
	if len(state) == 0 {
		return s.create()
	}
	st, err := decodeShardState(state)
	s.setState(st)
	return err
}

func openKV(fsys vfs.FS, path string, inMemory bool) (store.KV, error) {
	o := store.Options{Buckets: bucketNames}
	if inMemory {
		kv, err := store.OpenMem(fsys, path, o)
		if err != nil {
			return nil, err // a nil *store.Mem in an interface would not be nil
		}
		return kv, nil
	}
	kv, err := store.Open(path, o)
	if err != nil {
		return nil, err
	}
	return kv, nil
}

// create gives a new shard its identity.
func (s *Shard) create() error {
	st := shardState{Ident: newIdent(), NextNumber: s.nextNumber, NextSegment: s.nextSegment}
	s.setState(st)
	return s.kv.Update(func(tx store.RW) error {
		return tx.Put(bucketMeta, shardStateKey, st.encode())
	})
}

func (s *Shard) setState(st shardState) {
	s.ident = segment.Ident{Shard: st.Ident}
	s.nextNumber, s.nextSegment = st.NextNumber, st.NextSegment
	s.costateTerm = st.CostateTerm
	s.applied.Store(st.Applied)
	s.flushed.Store(st.Applied)
}

func (s *Shard) recoverSchemas(tx store.Tx) error {
	return tx.Ascend(bucketSchemas, nil, func(k, v []byte) (bool, error) {
		sc := &Schema{}
		if len(v) > 0 {
			r := codec.NewReader(v)
			*sc = readSchema(r)
			if err := r.Done(); err != nil {
				return false, err
			}
		}
		s.schemas[IndexID(binary.BigEndian.Uint64(k))] = sc
		return true, nil
	})
}

func (s *Shard) recoverPartitions(tx store.Tx) error {
	return tx.Ascend(bucketPartitions, nil, func(k, v []byte) (bool, error) {
		r := codec.NewReader(k)
		key := readKey(r)
		if err := r.Done(); err != nil {
			return false, err
		}
		h, err := decodeHead(v)
		if err != nil {
			return false, err
		}
		schema := s.schemas[key.Index]
		if schema == nil {
			return false, errs.New(errs.Corrupt, "records.db has partition %s of an index without schema", key)
		}
		s.registry.add(s.newPartition(key, schema, h))
		return true, nil
	})
}

// keysOf returns the keys of a bucket whose keys are numbers.
func keysOf(tx store.Tx, b store.Bucket) (keys []uint64, err error) {
	err = tx.Ascend(b, nil, func(k, _ []byte) (bool, error) {
		if len(k) != 8 {
			return false, errs.New(errs.Corrupt, "records.db: key of %d bytes in bucket %s", len(k), bucketNames[b])
		}
		keys = append(keys, binary.BigEndian.Uint64(k))
		return true, nil
	})
	return keys, err
}

// openSegments maps the segments that records.db names and removes the others: a crash between writing a segment
// and committing it, or between committing its end and removing it, leaves them behind.
func (s *Shard) openSegments(named []uint64) error {
	keep := map[uint64]bool{}
	for _, id := range named {
		keep[id] = true
		if err := s.openSegment(id); err != nil {
			return err
		}
	}
	if _, err := segment.RemoveTemp(s.fs, s.path(segmentsDir)); err != nil {
		return err
	}
	ids, err := segment.List(s.fs, s.path(segmentsDir))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if keep[id] {
			continue
		}
		if err := segment.Remove(s.fs, s.path(segmentsDir), id); err != nil {
			return err
		}
	}
	return nil
}

// openSegment maps a segment and makes it known under a block number.
func (s *Shard) openSegment(id uint64) error {
	seg, err := segment.Open(s.fs, s.path(segmentsDir), id, s.ident)
	if err != nil {
		return err
	}
	b := s.blocks.add(block{base: seg.Base(), seg: seg})
	s.changeSegments(func(m map[uint64]uint32) { m[id] = b })
	return nil
}

// changeSegments swaps the table of segments for a changed copy.
func (s *Shard) changeSegments(change func(map[uint64]uint32)) {
	s.segmentsMu.Lock()
	defer s.segmentsMu.Unlock()
	old := *s.segments.Load()
	m := make(map[uint64]uint32, len(old)+1)
	for k, v := range old {
		m[k] = v
	}
	change(m)
	s.segments.Store(&m)
}

func (s *Shard) graphPath(number uint64) string {
	return s.path(graphsDir, fmt.Sprintf("%016x%s", number, graphSuffix))
}

// removeOrphanGraphs removes checkpoints of partitions that are gone; graphs are derived, so none is missed.
func (s *Shard) removeOrphanGraphs() error {
	keep := map[string]bool{}
	s.registry.all(func(p *partition) bool {
		keep[filepath.Base(s.graphPath(p.head.Number))] = true
		return true
	})
	names, err := s.fs.ReadDir(s.path(graphsDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if keep[name] && strings.HasSuffix(name, graphSuffix) {
			continue
		}
		if err := s.fs.Remove(s.path(graphsDir, name)); err != nil {
			return err
		}
	}
	return nil
}
