package engine

import (
	"cmp"
	"context"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/longlock"
)

const (
	// buildBatch is how many slots one step inserts into a graph: a fraction of a second of work.
	buildBatch = 512
	// repairBudget bounds one step of repair, in nodes looked at.
	repairBudget = 4096
	// repairPerInsert is what taking a dead node out costs, in the same unit. Where every insert replaces a record, repair
	// keeps up if it may spend as much for each.
	repairPerInsert = 256
)

// builder is the part of a space that its maintenance alone uses, one step at a time.
type builder struct {
	queued   atomic.Bool
	mu       longlock.Mutex      // held for a step; before Shard.mu and space.mu
	leaving  map[uint32]struct{} // slots deleted from the graph and not yet handed back by repair
	changes  int                 // of the graph since it was saved
	unsaved  atomic.Bool         // changes > 0, for those without mu
	quiet    atomic.Int64        // engine's clock at the last change
	lastSave int64               // engine's clock at the last checkpoint

	calibration calibration
}

func (b *builder) changed(n int, clock int64) {
	if n > 0 {
		b.changes += n
		b.unsaved.Store(true)
		b.quiet.Store(clock)
	}
}

func (b *builder) saved() {
	b.changes = 0
	b.unsaved.Store(false)
}

// wantsBuild tells whether maintenance has something to do.
func (sp *space) wantsBuild() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.wantsBuildLocked()
}

func (sp *space) wantsBuildLocked() bool {
	v := sp.view.Load()
	if v.graph != nil {
		return len(v.pending) > 0 || len(sp.buried) > 0 || sp.calibrationDue(v.graph)
	}
	return sp.wantsGraph() || len(sp.buried) >= max(64, len(v.pending)/4)
}

func (sp *space) wantsGraph() bool {
	return sp.dim > 0 && sp.live.Load() > int64(sp.shard.engine.opts.GraphAbove)
}

// maintain does one bounded step of background work and tells whether more is left.
func (sp *space) maintain(ctx context.Context, threads int) (more bool, err error) {
	sp.shard.steps.RLock()
	defer sp.shard.steps.RUnlock()
	sp.builder.mu.Lock()
	defer sp.builder.mu.Unlock()
	pin := sp.shard.epochs.pin() // before looking: a space that was dropped is not told where its rows move
	defer sp.shard.epochs.unpin(pin)
	if sp.shard.isClosing() || sp.part.space.Load() != sp {
		return false, nil // closed, or dropped from memory
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	switch g := sp.view.Load().graph; {
	case g == nil && sp.wantsGraph():
		if err := sp.promote(); err != nil {
			return false, err
		}
	case g != nil && sp.live.Load() < int64(sp.shard.engine.opts.FlatBelow):
		sp.demote()
	}
	if sp.view.Load().graph == nil {
		sp.compact()
		return false, nil
	}
	return sp.grow(ctx, threads)
}

// promote gives the partition an empty graph; all its slots are pending until they are in it.
func (sp *space) promote() error {
	cfg := sp.part.schema.graphConfig()
	cfg.EnsureDefaults()
	if cfg.Bits != NoCodes {
		var err error
		if cfg.Centre, err = sp.centre(); err != nil {
			return err
		}
		cfg.Seed = sp.secretHash("")
	}
	g := hnsw.New(cfg, sp)
	sp.builder.leaving = map[uint32]struct{}{}
	sp.swap(func(v *view) { v.graph = g })
	return nil
}

// centreSample is how many vectors the centre of a graph's codes is the mean of. More would not move it: a mean's
// error is that of one vector by the root of their number.
const centreSample = 1024

// centre returns the mean of the first vectors, scaled to unit length under cosine. Codes are the more precise the
// nearer vectors are to it.
func (sp *space) centre() (_ []float32, err error) {
	defer catchFault(&err)
	pending := sp.view.Load().pending
	pending = pending[:min(len(pending), centreSample)]
	sp.ahead(pending)
	sums, n := make([]float64, sp.dim), 0
	for _, slot := range pending {
		values, scale := sp.Vector(slot)
		if values == nil || math.IsInf(float64(scale), 0) {
			continue // gone, or too short to have a direction in float32
		}
		n++
		for i, x := range values {
			sums[i] += float64(x) * float64(scale)
		}
	}
	mean := make([]float32, sp.dim)
	for i, sum := range sums {
		mean[i] = float32(sum / float64(max(n, 1)))
	}
	return mean, nil
}

// demote goes back to exact scans of all slots.
func (sp *space) demote() {
	sp.swap(func(v *view) {
		v.graph, v.pending = nil, make([]uint32, 0, len(sp.ids))
		for _, slot := range sp.ids {
			v.pending = append(v.pending, slot)
		}
		slices.SortFunc(v.pending, func(a, b uint32) int { return cmp.Compare(sp.born(a), sp.born(b)) })
	})
	sp.mu.Lock()
	for slot := range sp.builder.leaving {
		sp.buried = append(sp.buried, slot)
	}
	sp.mu.Unlock()
	sp.builder.leaving, sp.builder.calibration.at = nil, nil
	sp.builder.saved()
	if n, ok := sp.number(); ok {
		sp.shard.report(removeIfThere(sp.shard.fs, sp.shard.graphPath(n)))
	}
}

// swap shows a changed copy of the view.
func (sp *space) swap(change func(*view)) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	v := *sp.view.Load()
	change(&v)
	sp.view.Store(&v)
}

// number returns the number of the partition, unless the partition has been emptied and has another space by now.
func (sp *space) number() (n uint64, ok bool) {
	sp.shard.mu.RLock()
	defer sp.shard.mu.RUnlock()
	return sp.part.head.Number, sp.part.space.Load() == sp
}

// compact takes dead slots out of the pending list of a partition without a graph.
func (sp *space) compact() {
	sp.mu.Lock()
	dead := sp.buried
	sp.buried = nil
	gone := make(map[uint32]bool, len(dead))
	for _, slot := range dead {
		gone[slot] = true
	}
	v := *sp.view.Load()
	v.pending = slices.DeleteFunc(slices.Clone(v.pending), func(slot uint32) bool { return gone[slot] })
	sp.view.Store(&v)
	sp.mu.Unlock()
	sp.freeLater(dead)
}

// freeLater makes slots reusable once the walks under way have ended.
func (sp *space) freeLater(slots []uint32) {
	if len(slots) > 0 {
		sp.shard.epochs.retire(func() { sp.release(slots) })
	}
}

// grow inserts a batch of pending slots, then takes dead ones out.
func (sp *space) grow(ctx context.Context, threads int) (more bool, err error) {
	v := sp.view.Load()
	batch := v.pending[:min(len(v.pending), buildBatch)]
	sp.ahead(batch)
	if err := sp.insertAll(ctx, v.graph, batch, threads); err != nil {
		return false, sp.abandon(ctx, err)
	}
	sp.swap(func(v *view) { v.pending = v.pending[len(batch):] })
	sp.disown(v.graph)
	unrepaired, err := sp.repair(ctx, v.graph, len(batch))
	if err != nil {
		return false, sp.abandon(ctx, err)
	}
	if more = len(sp.view.Load().pending) > 0 || unrepaired; !more {
		if more, err = sp.calibrate(ctx, v.graph); err != nil {
			return false, err
		}
	}
	return more, sp.saveIfDue(v.graph, more)
}

// abandon gives the graph up after an error, but for a cancelled step: a slot whose insert was cut off by a fault is in
// it without links, and would never be found. The next step that is asked for begins anew.
func (sp *space) abandon(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		sp.demote()
	}
	return err
}

// insertAll puts slots into the graph with several threads. Slots that have died meanwhile are left out.
func (sp *space) insertAll(ctx context.Context, g *hnsw.Graph, slots []uint32, threads int) error {
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		once  sync.Once
		fault error
	)
	for range min(threads, len(slots)) {
		wg.Go(func() {
			debug.SetPanicOnFault(true)
			for {
				i := next.Add(1) - 1
				if i >= int64(len(slots)) {
					return
				}
				if err := sp.insertOne(ctx, g, slots[i]); err != nil {
					once.Do(func() { fault = err })
					return
				}
			}
		})
	}
	wg.Wait()
	sp.builder.changed(len(slots), sp.shard.engine.clock.Load())
	return fault
}

func (sp *space) insertOne(ctx context.Context, g *hnsw.Graph, slot uint32) (err error) {
	defer catchFault(&err)
	col, i := sp.cols.at(slot)
	if col.died[i].Load() != alive || g.Holds(slot) {
		return nil
	}
	err = g.Insert(ctx, slot, hnsw.LevelFor(sp.secretHash(col.id[i]), g.Config().M))
	if err == nil {
		sp.shard.engine.graphInserts.Add(1)
	}
	if err != nil && col.died[i].Load() != alive {
		return nil // its row went while it was being inserted
	}
	return err
}

// secretHash is keyed by the secret of the shard and the partition, so that nobody can choose ids that crowd the upper
// levels of a graph. That of the empty id, which no record has, is the seed of the graph's codes.
func (sp *space) secretHash(id string) uint64 {
	d := codec.NewHasher(hashKey(sp.part.key))
	d.Write(sp.shard.ident.Shard[:])
	d.WriteString(id)
	return d.Sum64()
}

// disown takes buried slots out of the graph, and frees those that never came into it. Those still pending wait.
func (sp *space) disown(g *hnsw.Graph) {
	sp.mu.Lock()
	first := uint64(math.MaxUint64)
	if pending := sp.view.Load().pending; len(pending) > 0 {
		first = sp.born(pending[0])
	}
	var free, wait []uint32
	for _, slot := range sp.buried {
		switch {
		case sp.born(slot) >= first:
			wait = append(wait, slot)
		case g.Holds(slot):
			g.Delete(slot)
			sp.builder.leaving[slot] = struct{}{}
			sp.builder.calibration.replaced.Add(1)
			sp.builder.changed(1, sp.shard.engine.clock.Load())
		default:
			free = append(free, slot)
		}
	}
	sp.buried = wait
	sp.mu.Unlock()
	sp.freeLater(free)
}

// repair mends the links around dead nodes, once there are enough of them to be worth a sweep or nothing else is to
// be done.
func (sp *space) repair(ctx context.Context, g *hnsw.Graph, inserted int) (more bool, err error) {
	dead := g.Dead()
	if dead == 0 || (dead < max(64, g.Len()/20) && len(sp.view.Load().pending) > 0) {
		return false, nil
	}
	defer catchFault(&err)
	budget := repairBudget
	if dead > g.Len()/10 { // they come faster than they go
		budget = max(budget, repairPerInsert*inserted)
	}
	freed, more, err := g.Repair(ctx, budget)
	for _, slot := range freed {
		delete(sp.builder.leaving, slot)
	}
	sp.freeLater(freed)
	return more, err
}
