package hnsw

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// repairer is the progress of unlinking deleted slots, one batch at a time. Finding who links to a deleted slot
// would need links in both directions; instead one sweep over all lists serves a whole batch, so that repair costs
// least when it is called after many deletes (a tenth of the graph, say).
type repairer struct {
	deadMu sync.Mutex
	dead   []uint32 // deleted and in no batch yet

	mu     sync.Mutex // held by the one repair that runs
	pass   pass
	cursor int
	limit  int        // slots of the graph when the batch began; later ones cannot link to it
	batch  []uint32   // leaving
	best   entryPoint // the highest slot that stays
	freed  []uint32   // released by this call

	reached bitmap   // slots that links of level 0 lead to from the entry point
	queue   []uint32 // reached, their own links not followed yet
}

// pass is what repair does with a batch now. Each goes on with a cursor, so that a call may end anywhere.
type pass uint8

const (
	resting   pass = iota
	mending        // every list that leads to a leaving slot gets others instead
	rescuing       // slots that cannot be reached any more are linked in again
	emptying       // the batch's slots, which nothing leads to but each other, lose their links
	releasing      // the batch's slots are cleared and handed back
)

type bitmap []uint64

func (b bitmap) has(i uint32) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitmap) add(i uint32)      { b[i/64] |= 1 << (i % 64) }

// note queues a deleted slot for the next batch.
func (r *repairer) note(slot uint32) {
	r.deadMu.Lock()
	r.dead = append(r.dead, slot)
	r.deadMu.Unlock()
}

const (
	mendCost     = 16 // what linking a slot anew costs, in slots looked at
	repairPoll   = 64 // how much work lies between two looks at the context
	maxReplacers = 2  // mending measures this many times the room of a list, at most, and tries the nearest half
)

// Repair unlinks deleted slots and returns those that no link leads to any more, also beside an error. Each is
// returned once and may be given to Insert from then on; its owner keeps its old vector readable, or nil, while walks
// that began earlier run. It does about budget work at most, where looking at a slot costs 1 and linking it anew 16,
// and says whether more is left. It never needs the vector of a deleted slot. One Repair runs at a time; inserts,
// searches and deletes may run beside it.
func (g *Graph) Repair(ctx context.Context, budget int) (freed []uint32, more bool, err error) {
	r := &g.repair
	r.mu.Lock()
	defer r.mu.Unlock()
	s := g.getScratch()
	defer g.putScratch(s)
	for poll := 0; budget > 0 && (r.pass != resting || g.beginRepair()); {
		if poll <= 0 {
			if err = ctx.Err(); err != nil {
				break
			}
			poll = repairPoll
		}
		cost := g.repairStep(s)
		budget, poll = budget-cost, poll-cost
	}
	freed, r.freed = r.freed, nil
	return freed, r.pass != resting || g.queued(), err
}

// queued reports whether deleted slots wait for a batch that could take them.
func (g *Graph) queued() bool {
	r := &g.repair
	r.deadMu.Lock()
	defer r.deadMu.Unlock()
	return slices.ContainsFunc(r.dead, g.settled)
}

// settled reports whether the slot's insert is over.
func (g *Graph) settled(slot uint32) bool { return g.state(slot)&stateBusy == 0 }

// beginRepair makes a batch of the slots deleted so far, but for those whose insert still runs. It returns false if
// there are none.
func (g *Graph) beginRepair() bool {
	r := &g.repair
	r.deadMu.Lock()
	var unsettled []uint32
	for _, slot := range r.dead {
		if g.settled(slot) {
			r.batch = append(r.batch, slot)
		} else {
			unsettled = append(unsettled, slot)
		}
	}
	r.dead = unsettled
	r.deadMu.Unlock()
	if len(r.batch) == 0 {
		return false
	}
	for _, slot := range r.batch {
		g.setFlags(slot, stateLeaving)
	}
	r.limit = g.slots() // after the flags are set: who claims a slot from here on sees them
	r.reached = make(bitmap, (r.limit+63)/64)
	r.best, r.cursor, r.pass = 0, 0, mending
	return true
}

// repairStep works on the slot under the cursor, or goes on to the next pass, and returns the cost.
func (g *Graph) repairStep(s *scratch) (cost int) {
	r := &g.repair
	if len(r.queue) > 0 {
		return g.follow()
	}
	at := r.cursor
	r.cursor++
	switch {
	case r.pass == mending && at < r.limit:
		return g.mend(s, uint32(at))
	case r.pass == mending:
		r.reach(g.replaceEntry().slot())
		r.pass, r.cursor = rescuing, 0
	case r.pass == rescuing && at < r.limit:
		return g.rescue(s, uint32(at))
	case r.pass == rescuing:
		g.emptied.Add(1)
		r.pass, r.cursor = emptying, 0
	case r.pass == emptying && at < len(r.batch):
		g.empty(r.batch[at])
	case r.pass == emptying:
		r.pass, r.cursor = releasing, 0
	case at < len(r.batch):
		g.release(r.batch[at])
	default:
		r.pass, r.batch, r.reached = resting, nil, nil
	}
	return 1
}

// mend frees all lists of a slot from leaving slots.
func (g *Graph) mend(s *scratch, slot uint32) (cost int) {
	state := g.state(slot)
	if state&(statePresent|stateLeaving) != statePresent {
		return 1
	}
	cost = 1
	for level := range levelOf(state) + 1 {
		if g.mendList(s, slot, level) {
			cost += mendCost
		}
	}
	r := &g.repair
	e := makeEntry(slot, levelOf(state))
	if (!r.best.valid() || e.level() > r.best.level()) && g.mayEnter(slot, state) {
		r.best = e
	}
	return cost
}

// mayEnter reports whether walks may begin at a slot. One that has been deleted since the batch began, or has no vector,
// may lead to nothing but its like: what stays could then not be reached, nor be linked in again from there.
func (g *Graph) mayEnter(slot, state uint32) bool {
	if state&(stateBusy|stateDead) != 0 {
		return false
	}
	values, _ := g.src.Vector(slot)
	return values != nil
}

// mendList replaces the links of a list that lead to leaving slots, and reports whether there were any. New neighbours
// are chosen among those that the dead ones led to, and are offered a link back.
func (g *Graph) mendList(s *scratch, slot uint32, level int) bool {
	kept, mended := g.rewrite(s, slot, level)
	if !mended {
		return false
	}
	for _, target := range s.own.picked[kept:] {
		g.linkBack(&s.other, target, slot, level)
	}
	return true
}

// rewrite does the part of mendList that needs the lock of the list. It leaves the new list in s.own.picked, whose first
// kept links are old ones.
func (g *Graph) rewrite(s *scratch, slot uint32, level int) (kept int, mended bool) {
	defer g.lock(slot).Unlock()
	links := g.listAt(slot, level)
	if !g.anyLeaving(links) {
		return 0, false
	}
	g.gather(s, slot, level, links)
	kept = len(s.own.picked)
	if s.own.rank(g, slot) { // else its own vector is gone: nobody will look for it
		s.own.extend(g, slot, links.room(), links.room())
	}
	links.set(s.own.picked)
	return kept, true
}

func (g *Graph) anyLeaving(links list) bool {
	for i := range links.len() {
		if g.state(links.at(i))&stateLeaving != 0 {
			return true
		}
	}
	return false
}

// gather puts a list's links to live slots, which stay, into s.own.picked, and those that could take the places of the
// others into s.own.slots: the live slots that its dead ones led to, directly or by way of others. Links that stay are
// not judged anew: most of them were offered by others while there was room, without being asked for their direction,
// and a search misses them (DESIGN.md).
func (g *Graph) gather(s *scratch, slot uint32, level int, links list) {
	own := &s.own
	own.slots, own.picked = own.slots[:0], own.picked[:0]
	s.seen.reset(g.slots())
	s.seen.add(slot)
	s.slots = links.appendTo(s.slots[:0])
	old := len(s.slots)
	for i := 0; i < len(s.slots) && len(own.slots) < maxReplacers*links.room(); i++ {
		to := s.slots[i]
		switch {
		case !s.seen.add(to):
		case g.state(to)&stateDead != 0:
			s.slots = g.listAt(to, level).appendTo(s.slots)
		case !g.linkable(to, level):
		case i < old:
			own.picked = append(own.picked, to)
		default:
			own.slots = append(own.slots, to)
		}
	}
}

// replaceEntry makes sure that walks begin at a slot that stays, if there is one, and returns it.
func (g *Graph) replaceEntry() entryPoint {
	g.top.Lock()
	defer g.top.Unlock()
	if e := g.entryPoint(); e.valid() && g.state(e.slot())&stateLeaving != 0 {
		g.entry.Store(uint64(g.repair.best))
	}
	return g.entryPoint()
}

// reach notes that slot can be reached.
func (r *repairer) reach(slot uint32) {
	if int(slot) < r.limit && !r.reached.has(slot) {
		r.reached.add(slot)
		r.queue = append(r.queue, slot)
	}
}

// follow goes along the links of one slot that can be reached.
func (g *Graph) follow() (cost int) {
	r := &g.repair
	last := len(r.queue) - 1
	links := g.listAt(r.queue[last], 0)
	r.queue = r.queue[:last]
	for i := range links.len() {
		r.reach(links.at(i))
	}
	return 1
}

// rescue links a slot in again that cannot be reached: the ways to it, or to the island it is on, have left. The rest
// of the island is then reached by way of it.
func (g *Graph) rescue(s *scratch, slot uint32) (cost int) {
	state := g.state(slot)
	entry := g.entryPoint()
	stranded := state&(statePresent|stateDead|stateBusy) == statePresent && !g.repair.reached.has(slot)
	if !stranded || !entry.valid() || entry.slot() == slot {
		return 1
	}
	values, scale := g.src.Vector(slot)
	if values == nil {
		return 1
	}
	w := g.linkWalker(s, slot, values, scale)
	w.admit.barred = stateDead
	if !g.connect(&w, entry, 0) {
		g.takeEntry(entry, slot, levelOf(state)) // the entry point leads to nothing that stays
	}
	g.repair.reach(slot)
	return mendCost
}

// empty takes all links from a slot. It is a pass of its own, so that whenever Save comes in between, no list leads
// to a slot that is not in use.
func (g *Graph) empty(slot uint32) {
	defer g.lock(slot).Unlock()
	for level := range levelOf(g.state(slot)) + 1 {
		g.listAt(slot, level).set(nil)
	}
}

// release takes a slot that nothing leads to out of the graph.
func (g *Graph) release(slot uint32) {
	defer g.lock(slot).Unlock()
	state := g.state(slot)
	atomic.StoreUint32(g.stateWord(slot), 0)
	g.giveBlocks(blockOf(state), levelOf(state))
	g.present.Add(-1)
	g.dead.Add(-1)
	g.repair.freed = append(g.repair.freed, slot)
}
