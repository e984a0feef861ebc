// Package engine owns the shards on this disk: it applies committed log entries, answers queries from immutable
// views, makes what was applied durable, builds graphs in the background, and loads and drops partitions.
//
// Its nouns: an Engine is what the shards of a process share; a Shard is a set of partitions with one log; a
// partition is one tenant's records in one index, named by a Key. Commands (Command, AppendCommand) come in by
// Shard.Apply, in log order; everything else only reads. It promises that the state is a function of the log, that a
// search sees all of an entry or nothing of it, that readers wait for no writer, and that after a crash the state is
// that of some applied index from which the log continues.
//
// Only cluster calls it (and benchmarks). It knows no tenant's name, proposes nothing, and reads neither the clock
// nor chance while applying. DESIGN.md argues; docs/format describes what is on disk.
package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// Engine owns what the shards of a process share: builders, the memory budget, metrics.
type Engine struct {
	opts    Options
	clock   atomic.Int64 // seconds since Open, coarse: for ages, never for order
	queries atomic.Uint64
	// lastQueries is queries as of the last build step.
	lastQueries  atomic.Uint64
	searchers    sync.Pool // of *searcher
	sampled      sampled
	graphInserts atomic.Uint64 // vectors put into graphs
	graphLoads   atomic.Uint64 // graphs read from their checkpoints

	mu     sync.Mutex
	shards []*Shard
	queue  []*space
	work   chan struct{} // wakes the builder

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Open starts an engine without shards.
func Open(opts Options) (*Engine, error) {
	if err := ann.CheckKernel(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "open engine")
	}
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "engine options")
	}
	e := &Engine{opts: opts, work: make(chan struct{}, 1)}
	e.searchers.New = func() any { return newSearcher() }
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(collector{e}); err != nil {
			return nil, errs.Wrap(errs.Internal, err, "register engine metrics")
		}
	}
	e.done.Go(e.build)
	e.done.Go(e.keepTime)
	return e, nil
}

// Close closes every shard.
func (e *Engine) Close() error {
	e.cancel()
	e.done.Wait()
	var err error
	for _, s := range e.openShards() {
		err = errors.Join(err, s.Close())
	}
	if e.opts.Registerer != nil {
		e.opts.Registerer.Unregister(collector{e})
	}
	return err
}

func (e *Engine) openShards() []*Shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.shards)
}

func (e *Engine) add(s *Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shards = append(e.shards, s)
}

func (e *Engine) remove(s *Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shards = slices.DeleteFunc(e.shards, func(o *Shard) bool { return o == s })
}

// enqueue asks for maintenance of a space.
func (e *Engine) enqueue(sp *space) {
	if sp.builder.queued.Swap(true) {
		return
	}
	e.mu.Lock()
	e.queue = append(e.queue, sp)
	e.mu.Unlock()
	select {
	case e.work <- struct{}{}:
	default:
	}
}

func (e *Engine) dequeue() *space {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		e.queue = nil
		return nil
	}
	sp := e.queue[0]
	e.queue = e.queue[1:]
	return sp
}

// build is the builder: it gives every space that asks one bounded step in turn, with several threads inside.
func (e *Engine) build() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.work:
		}
		for sp := e.dequeue(); sp != nil && e.ctx.Err() == nil; sp = e.dequeue() {
			e.step(sp)
		}
	}
}

func (e *Engine) step(sp *space) {
	sp.builder.queued.Store(false)
	if e.opts.Turn != nil {
		defer e.opts.Turn(e.ctx, sp.part.key)()
	}
	more, err := sp.maintain(e.ctx, e.threads())
	if err != nil && e.ctx.Err() == nil {
		e.opts.Logger.Error("graph maintenance failed", "partition", sp.part.key.String(), "err", err)
		return
	}
	if more {
		e.enqueue(sp)
	}
}

// threads leaves one processor to queries while there are any.
func (e *Engine) threads() int {
	now := e.queries.Load()
	if now != e.lastQueries.Swap(now) && e.opts.BuildThreads > 1 {
		return e.opts.BuildThreads - 1
	}
	return e.opts.BuildThreads
}

// keepTime advances the coarse clock, drops what was not used, and lets resting graphs be saved.
func (e *Engine) keepTime() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		e.clock.Store(int64(time.Since(start) / time.Second))
		e.saveResting()
		e.recalibrate(e.loaded())
		e.dropUnused()
	}
}

// saveResting enqueues graphs that have changes and were left alone for a while.
func (e *Engine) saveResting() {
	for _, sp := range e.loaded() {
		if sp.builder.unsaved.Load() && e.clock.Load()-sp.builder.quiet.Load() >= saveQuiet {
			e.enqueue(sp)
		}
	}
}

func (e *Engine) loaded() (spaces []*space) {
	for _, s := range e.openShards() {
		s.registry.all(func(p *partition) bool {
			if sp := p.space.Load(); sp != nil {
				spaces = append(spaces, sp)
			}
			return true
		})
	}
	return spaces
}

// dropUnused drops the spaces that were idle for long, and those idle for longest while all together take more than
// the budget. What a graph has learnt since its checkpoint would have to be learnt again, so those wait to be saved.
func (e *Engine) dropUnused() {
	spaces := e.loaded()
	sizes := make(map[*space]int64, len(spaces))
	var total int64
	for _, sp := range spaces {
		sizes[sp] = sp.bytes()
		total += sizes[sp]
	}
	slices.SortFunc(spaces, func(a, b *space) int { return int(a.used.Load() - b.used.Load()) })
	idle := e.clock.Load() - int64(e.opts.IdleAfter/time.Second)
	for _, sp := range spaces {
		if total <= e.opts.MemoryBudget && sp.used.Load() >= idle {
			return
		}
		if sp.drop() {
			total -= sizes[sp]
		}
	}
}

// drop takes the space out of memory. It does not while a step runs, or while the graph has learnt what is not saved:
// then it asks for a step that saves it.
func (sp *space) drop() bool {
	if !sp.builder.mu.TryLock() {
		return false
	}
	defer sp.builder.mu.Unlock()
	if sp.builder.unsaved.Load() {
		sp.shard.engine.enqueue(sp)
		return false
	}
	return sp.part.space.CompareAndSwap(sp, nil)
}

// MemoryBudget is how many bytes of search structures are kept in memory at most.
func (e *Engine) MemoryBudget() int64 { return e.opts.MemoryBudget }
