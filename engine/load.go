package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
)

// loading is a load under way: what happens to the partition meanwhile. Under Shard.mu.
type loading struct {
	missed []change
	moved  []*moves
}

// acquire returns the partition's space, loading it if it is cold. Concurrent callers share one load. The caller is
// pinned.
func (s *Shard) acquire(ctx context.Context, p *partition) (*space, error) {
	if sp := p.space.Load(); sp != nil {
		sp.touch()
		return sp, nil
	}
	p.loadMu.Lock()
	defer p.loadMu.Unlock()
	for {
		if sp := p.space.Load(); sp != nil {
			sp.touch()
			return sp, nil
		}
		sp, err := s.load(ctx, p)
		if err != nil || sp != nil {
			return sp, err
		}
	}
}

// loader builds a space from records.db and the growing buffers.
type loader struct {
	shard  *Shard
	part   *partition
	head   head
	space  *space
	spare  *space // takes the place of space when its graph turns out to be damaged
	state  *loading
	newer  map[string]*memRecord // what the buffers hold; deletions included
	slots  map[uint64]uint32     // version → slot of the checkpointed graph
	graph  *hnsw.Graph
	unused []uint32 // slots of the graph whose record is gone
	extra  []uint32 // slots that are not in the graph
}

// load returns nil without an error when the partition was emptied meanwhile.
func (s *Shard) load(ctx context.Context, p *partition) (*space, error) {
	ld := &loader{shard: s, part: p, state: &loading{}, newer: map[string]*memRecord{}}
	defer ld.end()
	if err := ld.read(ctx); err != nil {
		return nil, errs.Wrap(errs.KindOf(err), err, "load partition %s", p.key)
	}
	return ld.publish(), nil
}

// read fixes the state to load, under mu, and reads it.
func (ld *loader) read(ctx context.Context) error {
	return ld.shard.snapshot(&ld.shard.mu, func() bool {
		ld.begin()
		return false
	}, func(tx store.Tx) error {
		ld.loadGraph()
		if err := ld.readStored(ctx, tx); err != nil {
			return err
		}
		return ld.readNewer()
	})
}

// end makes apply stop keeping what the load misses, if it failed.
func (ld *loader) end() {
	ld.shard.mu.Lock()
	defer ld.shard.mu.Unlock()
	if ld.part.loading == ld.state {
		ld.part.loading = nil
	}
}

// begin notes what the buffers hold and makes apply keep what is missed from now on. The caller holds mu.
func (ld *loader) begin() {
	s, p := ld.shard, ld.part
	ld.head = p.head
	ld.space, ld.spare = newSpace(s, p), newSpace(s, p)
	p.loading = ld.state
	for _, m := range [...]*memtable{s.frozen, s.active} {
		if m == nil || m.parts[p] == nil || m.parts[p].number != p.head.Number {
			continue
		}
		for id, r := range m.parts[p].records {
			ld.newer[id] = r
		}
	}
}

// readStored enters the records of records.db, but for those that the buffers know better.
func (ld *loader) readStored(ctx context.Context, tx store.Tx) error {
	n := 0
	return tx.Ascend(bucketRecords, uint64Key(ld.head.Number), func(k, v []byte) (bool, error) {
		number, id := splitRecordKey(k)
		if number != ld.head.Number {
			return false, nil
		}
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		if _, ok := ld.newer[string(id)]; ok {
			return true, nil
		}
		f, err := ld.shard.decodeFound(v)
		if err != nil {
			return false, err
		}
		return true, ld.enter(string(id), f)
	})
}

func (ld *loader) readNewer() error {
	for id, r := range ld.newer {
		if r.deleted {
			continue
		}
		if err := ld.enter(id, r.found()); err != nil {
			return err
		}
	}
	return nil
}

// enter gives a record the slot that the graph has for it, or a new one.
func (ld *loader) enter(id string, f found) error {
	if err := ld.shard.verifyRow(ld.part, f.place); err != nil {
		return errs.Wrap(errs.Corrupt, err, "record %q", id)
	}
	m, err := f.metadata()
	if err != nil {
		return err
	}
	sp := ld.space
	slot, ok := ld.slots[f.version]
	if ok {
		delete(ld.slots, f.version)
	} else {
		slot = sp.allocate()
		ld.extra = append(ld.extra, slot)
	}
	sp.insert(slot, id, f.version, f.place, f.scale, f.sparse, m)
	return nil
}

// verifyRow checks that a row on disk belongs to the partition and is as it was written. Each block is checked once.
func (s *Shard) verifyRow(p *partition, at place) error {
	if at == 0 {
		return nil
	}
	seg := s.blocks.segment(at)
	if seg == nil {
		return nil
	}
	return seg.Verify(at.offset(), 1, p.schema.Dim, segment.Owner(appendKey(nil, p.key)))
}

// publish catches up with what was missed and shows the space, unless the partition was emptied meanwhile.
func (ld *loader) publish() *space {
	s, p, sp := ld.shard, ld.part, ld.space
	for _, slot := range ld.slots {
		ld.unused = append(ld.unused, slot)
	}
	slices.Sort(ld.unused)
	pending := ld.pending()

	s.mu.Lock()
	defer s.mu.Unlock()
	if p.loading != ld.state {
		return nil
	}
	p.loading = nil
	born, dead := sp.change(ld.state.missed)
	for _, m := range ld.state.moved {
		sp.relocate(m)
	}
	for _, c := range dead {
		sp.place(c.slot).Store(0) // nobody has seen it, and its row may be about to go
	}
	sp.view.Store(&view{seq: p.head.Seq, number: p.head.Number, version: p.head.Version, stored: p.head.Bytes, pending: append(pending, born...), graph: ld.graph})
	p.space.Store(sp)
	sp.buried = append(sp.buried, ld.unused...)
	if len(dead) > 0 {
		s.epochs.retire(func() { sp.bury(dead) })
	}
	if sp.wantsBuild() {
		s.engine.enqueue(sp)
	}
	return sp
}

// pending returns the slots that are not in the graph, in order of birth, and with them those in the graph that are
// younger than the oldest of them: a search trusts the graph up to the birth of the first pending slot only. There
// are such when a batch of inserts was cut off before the checkpoint.
func (ld *loader) pending() []uint32 {
	sp := ld.space
	byBirth := func(a, b uint32) int { return cmp.Compare(sp.born(a), sp.born(b)) }
	if len(ld.extra) == 0 {
		return nil
	}
	slots, first := ld.extra, sp.born(slices.MinFunc(ld.extra, byBirth))
	if ld.graph != nil {
		for _, slot := range sp.ids {
			if sp.born(slot) > first && ld.graph.Has(slot) {
				slots = append(slots, slot)
			}
		}
	}
	slices.SortFunc(slots, byBirth)
	return slots
}
