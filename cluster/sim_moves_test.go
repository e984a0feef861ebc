package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
)

// simMoves sees to it that tenants that move are written in one place at a time, by the entries of all logs in the order in which
// they are first applied anywhere.
type simMoves struct {
	log *simLog

	mu      sync.Mutex
	seen    map[string]uint64 // last entry by group
	stands  map[standsAt]*stands
	owners  map[ownedIn]string            // shard that takes the writes of a tenant in an epoch
	once    map[string]string             // where a command with a key took effect
	fences  map[engine.Move]uint64        // entry of the source's log
	flips   map[uint64]*migration         // by id, as of the flip
	aborts  map[uint64]bool               // by id
	epochs  map[engine.TenantID]uint64    // as of the last flip
	settled map[engine.Move]time.Duration // when the target began to serve
}

type standsAt struct {
	group  string
	tenant engine.TenantID
}

// stands is what a shard's log says of a tenant.
type stands struct {
	away   bool        // it lives elsewhere
	epoch  uint64      // since it lives here
	fenced engine.Move // by which attempt; 0: none
}

type ownedIn struct {
	tenant engine.TenantID
	epoch  uint64
}

func newSimMoves(log *simLog) *simMoves {
	return &simMoves{
		log: log, seen: map[string]uint64{}, stands: map[standsAt]*stands{}, owners: map[ownedIn]string{}, once: map[string]string{},
		fences: map[engine.Move]uint64{}, flips: map[uint64]*migration{}, aborts: map[uint64]bool{}, epochs: map[engine.TenantID]uint64{},
		settled: map[engine.Move]time.Duration{},
	}
}

// first reports whether an entry has not been seen before.
func (sm *simMoves) first(group string, index uint64) bool {
	if index <= sm.seen[group] {
		return false
	}
	sm.seen[group] = index
	return true
}

func (sm *simMoves) violate(format string, args ...any) {
	if !sm.log.isBroken() {
		sm.log.violate("move", format, args...)
	}
}

// decide looks at an entry of the metadata plane.
func (sm *simMoves) decide(e decidedEntry) {
	sm.mu.Lock()
	defer sm.mu.Unlock()
	if !sm.first(metaName, e.index) || e.err != nil {
		return
	}
	c, err := decodeMetaCommand(e.command)
	if err != nil || c.op != metaStepMove {
		return
	}
	m, ok := e.state.migration(c.step.id)
	if !ok {
		return
	}
	sm.log.note("migration %d of %s from %d to %d is %v, attempt %d %s", m.id, m.name, m.from, m.to, m.phase, m.attempt, m.fault)
	switch m.phase {
	case moveFlipped:
		sm.flip(m)
	case moveAborting, moveAborted:
		if sm.aborts[m.id] = true; sm.flips[m.id] != nil {
			sm.violate("migration %d is taken back after its flip", m.id)
		}
	}
}

func (sm *simMoves) flip(m *migration) {
	if sm.flips[m.id] != nil {
		return // it was asked for twice
	}
	sm.flips[m.id] = m
	fence, fenced := sm.fences[m.move()]
	switch source := sm.at(shardName(m.from), m.tenant); {
	case sm.aborts[m.id]:
		sm.violate("migration %d is flipped after it was taken back", m.id)
	case m.epoch != sm.epochs[m.tenant]+1:
		sm.violate("migration %d brings its tenant from epoch %d to %d", m.id, sm.epochs[m.tenant], m.epoch)
	case !fenced || fence > m.fence || source.fenced != m.move():
		sm.violate("migration %d is flipped, the source was fenced at %d (%v), by %v; it says %d", m.id, fence, fenced, source.fenced, m.fence)
	}
	sm.epochs[m.tenant] = m.epoch
}

func (sm *simMoves) at(group string, t engine.TenantID) *stands {
	key := standsAt{group, t}
	if sm.stands[key] == nil {
		sm.stands[key] = new(stands)
	}
	return sm.stands[key]
}

// note looks at an entry of a shard.
func (sm *simMoves) note(e appliedEntry) {
	sm.mu.Lock()
	defer sm.mu.Unlock()
	if !sm.first(e.group, e.entry.Index) || e.answer.Err != nil {
		return
	}
	c, err := engine.DecodeCommand(e.entry.Data)
	if err != nil {
		return
	}
	at := sm.at(e.group, c.Key.Tenant)
	what := fmt.Sprintf("entry %d of %s, tenant %s", e.entry.Index, e.group, c.Key.Tenant)
	switch c.Op {
	case engine.OpFenceTenant:
		if at.fenced = c.Move; sm.fences[c.Move] == 0 {
			sm.fences[c.Move] = e.entry.Index
		}
	case engine.OpUnfenceTenant:
		at.fenced = engine.Move{}
	case engine.OpSettleTenant:
		if at.away || at.epoch != c.Epoch {
			sm.settle(at, c, what)
		}
	case engine.OpLeaveTenant:
		if m := sm.flips[c.Move.ID]; m == nil || m.move() != c.Move || m.epoch != c.Epoch {
			sm.violate("%s: it leaves in epoch %d by %v, which was not flipped", what, c.Epoch, c.Move)
		}
		*at = stands{away: true, epoch: c.Epoch}
	case engine.OpStageTenant, engine.OpForgetTenant:
		at.away = true
	case engine.OpUpsert, engine.OpUpdate, engine.OpDelete, engine.OpDeleteAll, engine.OpCreatePartition, engine.OpDropPartition:
		sm.written(at, c, &e, what)
	}
}

func (sm *simMoves) settle(at *stands, c *engine.Command, what string) {
	if m := sm.flips[c.Move.ID]; m == nil || m.move() != c.Move || m.epoch != c.Epoch {
		sm.violate("%s: it is served in epoch %d by %v, which was not flipped", what, c.Epoch, c.Move)
	}
	*at = stands{epoch: c.Epoch}
	sm.settled[c.Move] = time.Since(sm.log.began)
}

// written looks at a write that was acknowledged.
func (sm *simMoves) written(at *stands, c *engine.Command, e *appliedEntry, what string) {
	if at.away || at.fenced != (engine.Move{}) {
		sm.violate("%s: a write is taken where the tenant does not live (%v), or is about to leave by %v", what, at.away, at.fenced)
	}
	owned := ownedIn{c.Key.Tenant, at.epoch}
	if other, ok := sm.owners[owned]; ok && other != e.group {
		sm.violate("%s: in epoch %d writes were taken by %s as well", what, at.epoch, other)
	}
	sm.owners[owned] = e.group
	if c.Once == nil || e.answer.Repeated {
		return
	}
	key := string(c.Key.Tenant[:]) + string(c.Once.Key[:])
	if other, ok := sm.once[key]; ok {
		sm.violate("%s: a request has an effect here, and had one by %s", what, other)
	}
	sm.once[key] = what
}

// moveTenants moves tenants about, some of them not to the end.
func (s *simulation) moveTenants(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, time.Duration(rng.ExpFloat64()*float64(s.moves))) {
		_, n := s.someHost(rng).running()
		if n == nil {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, simPatience)
		s.moveOne(asking, n, rng)
		cancel()
	}
}

func (s *simulation) moveOne(ctx context.Context, n *Node, rng *rand.Rand) {
	all := n.meta.state().moves
	if len(all) > 0 && rng.IntN(4) == 0 {
		m := all[rng.IntN(len(all))]
		if rng.IntN(2) == 0 {
			_, _ = n.CancelMigration(ctx, m.id) // it may be too late for that
		} else {
			_, _ = n.RollbackMigration(ctx, m.id)
		}
		return
	}
	tenant := fmt.Sprint("tenant", rng.IntN(simTenants))
	t, err := n.DescribeTenant(ctx, tenant)
	if err != nil {
		return
	}
	if _, err := n.MoveTenant(ctx, tenant, (t.Shard+1)%s.shards, MoveOptions{}); err == nil {
		s.log.count("migrations planned")
	}
}

// moved reports whether no migration is under way, and counts how they ended.
func (s *simulation) moved() bool {
	nodes := s.nodesRunning()
	moves := nodes[0].meta.state().moves
	if slices.ContainsFunc(moves, func(m *migration) bool { return m.phase.running() }) {
		return false
	}
	for _, m := range moves {
		s.log.count("migrations " + m.phase.String())
		s.log.count(fmt.Sprintf("migrations that took %d attempts", m.attempt))
	}
	return true
}
