package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// Shard is a set of partitions with one log, one record store and shared segments.
//
// Threads: Apply runs on the log's goroutine; any number of readers; one janitor that flushes, sweeps and frees;
// the engine's builders, which maintain graphs. Locks, in the order in which they may be taken: partition.loadMu,
// steps, builder.mu, flushMu, mu, space.mu. A view of the store may be opened under mu; mu is never waited for inside a view.
type Shard struct {
	engine *Engine
	dir    string
	fs     vfs.FS
	kv     store.KV
	ident  segment.Ident

	registry  *registry
	residents residents
	blocks    *blocks
	epochs    *epochs
	applied   atomic.Uint64 // last entry applied
	flushed   atomic.Uint64 // last entry that records.db holds

	mu          sync.RWMutex
	schemas     map[IndexID]*Schema
	nextNumber  uint64
	costateTerm uint64 // the latest that has written co-state
	active      *memtable
	frozen      *memtable // being flushed, or waiting for space on the disk
	// What belongs to frozen: the state of the shard and the heads at that moment.
	frozenState shardState
	frozenHeads map[Key]*head // nil: the partition is gone

	flushMu     longlock.Mutex  // one flush, sweep or rewrite at a time
	nextSegment uint64          // under flushMu
	garbage     []uint64        // under flushMu: numbers of partitions to sweep
	damaged     map[uint64]bool // under flushMu: segments that a rewrite found to be damaged

	segmentsMu sync.Mutex                        // serialises changes of segments
	segments   atomic.Pointer[map[uint64]uint32] // segment id → block

	buffered atomic.Int64  // bytes of active and frozen
	full     atomic.Bool   // the last flush found no space
	room     chan struct{} // closed and replaced when a flush made room; under mu

	exports   atomic.Uint64 // files without a name, for the names that they have for a moment
	fault     atomic.Pointer[error]
	janitor   chan struct{} // wakes the janitor
	closing   chan struct{}
	closeOnce sync.Once
	done      sync.WaitGroup
	steps     longlock.RWMutex // read-held by a builder's step, so that Close can wait for it
}

const (
	recordsFile = "records.db"
	segmentsDir = "segments"
	graphsDir   = "graphs"
)

// OpenShard opens or creates the shard in dir and recovers it to its last flush; the caller replays its log from
// AppliedIndex()+1.
func (e *Engine) OpenShard(dir string) (*Shard, error) {
	s := &Shard{
		engine: e, dir: dir, fs: e.opts.FS,
		registry: newRegistry(), blocks: newBlocks(),
		schemas: map[IndexID]*Schema{}, damaged: map[uint64]bool{}, nextNumber: 1, nextSegment: 1,
		room: make(chan struct{}), janitor: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.segments.Store(&map[uint64]uint32{})
	s.epochs = newEpochs(s.wake)
	s.active = newMemtable(s.blocks)
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open shard %s: %w", dir, err), s.release())
	}
	e.add(s)
	s.done.Go(s.clean)
	return s, nil
}

// AppliedIndex is the index of the last entry applied.
func (s *Shard) AppliedIndex() uint64 { return s.applied.Load() }

// Close flushes, saves the graphs and closes the shard. Calls that are under way must have ended.
func (s *Shard) Close() error {
	var err error
	s.closeOnce.Do(func() {
		s.engine.remove(s)
		close(s.closing)
		s.done.Wait()
		s.steps.Lock() // the step under way has ended, later ones see closing
		defer s.steps.Unlock()
		err = errors.Join(s.flush(), s.saveGraphs(), s.release())
	})
	return err
}

func (s *Shard) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// release lets go of files without writing anything.
func (s *Shard) release() error {
	var err error
	for _, b := range *s.blocks.table.Load() {
		if b.seg != nil {
			err = errors.Join(err, b.seg.Close())
		}
	}
	if s.kv != nil {
		err = errors.Join(err, s.kv.Close())
	}
	return err
}

// wake makes the janitor look for work now.
func (s *Shard) wake() {
	select {
	case s.janitor <- struct{}{}:
	default:
	}
}

// clean is the janitor: it frees what readers have left, flushes what is large or old, sweeps and rewrites.
func (s *Shard) clean() {
	tick := time.NewTicker(min(s.engine.opts.FlushAfter, time.Second))
	defer tick.Stop()
	due := time.Now().Add(s.engine.opts.FlushAfter)
	untidy := false // something was flushed since the last rewrite
	for {
		select {
		case <-s.closing:
			return
		case <-s.janitor:
		case <-tick.C:
		}
		s.epochs.reclaim()
		if s.bufferBytes() >= s.engine.opts.FlushBytes || time.Now().After(due) {
			s.report(s.flush())
			due, untidy = time.Now().Add(s.engine.opts.FlushAfter), true
		}
		more, err := s.sweep()
		s.report(err)
		switch {
		case more:
			s.wake() // batch by batch, with the rest of the work in between
		case untidy:
			s.report(s.rewrite())
			untidy = false
		}
	}
}

// report logs what the janitor met; a fault that poisoned the shard is told by Apply as well.
func (s *Shard) report(err error) {
	if err != nil {
		s.engine.opts.Logger.Error("shard upkeep failed", "shard", s.dir, "err", err)
	}
}

func (s *Shard) bufferBytes() int64 { return s.buffered.Load() }

// failure returns the fault that poisoned the shard, if any.
func (s *Shard) failure() error {
	if p := s.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// fail poisons the shard: what is on its disk after a failed write is unknown, so nothing more is acknowledged.
func (s *Shard) fail(what string, err error) error {
	err = errs.Wrap(errs.Internal, err, "shard %s: %s", filepath.Base(s.dir), what)
	if s.fault.CompareAndSwap(nil, &err) && s.engine.opts.Failed != nil {
		s.engine.opts.Failed(err)
	}
	return s.failure()
}

// Admit waits until the shard's buffers have room for a write of size bytes, or fails with Unavailable or
// StorageFull. It is called before a write is proposed, never in Apply.
func (s *Shard) Admit(ctx context.Context, size int) error {
	for {
		if err := s.failure(); err != nil {
			return errs.Wrap(errs.Unavailable, err, "shard is read-only")
		}
		s.mu.RLock()
		room := s.room
		s.mu.RUnlock()
		held, limit := s.bufferBytes(), s.engine.opts.FlushBytes
		if held < limit || held+int64(size) <= 2*limit { // from limit on a flush is under way: there is something to wait for
			return nil
		}
		if s.full.Load() {
			return errs.New(errs.StorageFull, "the disk of %s is full: writes wait in memory for space", s.dir).
				WithHint("free space or delete records; writing resumes by itself").WithRetryAfter(5 * time.Second)
		}
		s.wake()
		select {
		case <-room:
		case <-s.closing:
			return errs.New(errs.Unavailable, "shard is closing")
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "write buffer of %d bytes is full and was not flushed in time: %w",
				2*s.engine.opts.FlushBytes, ctx.Err()).WithRetryAfter(time.Second)
		}
	}
}

// newIdent makes the identity of a new shard directory.
func newIdent() (id [16]byte) {
	rand.Read(id[:]) // never fails, says its documentation
	return id
}

// newPartition makes the in-memory part of a partition.
func (s *Shard) newPartition(k Key, schema *Schema, h head) *partition {
	return &partition{key: k, schema: schema, head: h}
}

// readStored reads a record from records.db; its place is in a mapped segment.
func (s *Shard) readStored(tx store.Tx, number uint64, id string) (found, bool, error) {
	v, err := tx.Get(bucketRecords, recordKey(number, id))
	if err != nil || v == nil {
		return found{}, false, err
	}
	f, err := s.decodeFound(v)
	return f, true, err
}

func (s *Shard) decodeFound(v []byte) (found, error) {
	r, err := decodeStoredRecord(v)
	if err != nil {
		return found{}, err
	}
	f := found{version: r.Version, scale: r.Scale, sparse: r.Sparse, digest: r.Digest, meta: append([]byte(nil), r.Meta...)}
	if r.Segment != 0 {
		b, ok := (*s.segments.Load())[r.Segment]
		if !ok {
			return f, errs.New(errs.Corrupt, "records.db names segment %016x, which does not exist", r.Segment)
		}
		f.place = placeOf(b, r.Offset)
	}
	return f, nil
}

// Schema returns the schema of an index that this shard's log has defined.
func (s *Shard) Schema(id IndexID) (Schema, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sc := s.schemas[id]; sc != nil && sc.ID != 0 {
		return *sc, true
	}
	return Schema{}, false
}

// Schemas returns all indexes defined and not dropped, and the ids of the dropped ones.
func (s *Shard) Schemas() (defined []Schema, dropped []IndexID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, sc := range s.schemas {
		if sc.ID == 0 {
			dropped = append(dropped, id)
		} else {
			defined = append(defined, *sc)
		}
	}
	return defined, dropped
}
