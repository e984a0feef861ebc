package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

const (
	// balancePace is how often a run is looked after at most, and balanceIdle how often at least; an automatic one may begin as often.
	balancePace = 200 * time.Millisecond
	balanceIdle = time.Minute
	// moveTries is how often a run plans to move a tenant.
	moveTries = 3
)

// balancer carries runs out: it plans migrations, a few at a time, and leaves the rest to the mover. Every node has one; only that of
// the metadata plane's leader acts. What is left to do follows from where tenants live, so whoever leads next goes on.
type balancer struct {
	node   *Node
	logger *slog.Logger

	run   uint64                  // that tries belong to
	tries map[engine.TenantID]int // of tenants that were planned to move
	fault string                  // why a move failed last
}

func newBalancer(n *Node) *balancer { return &balancer{node: n, logger: n.logger} }

func (b *balancer) loop(ctx context.Context) {
	var looked time.Time
	for {
		s := b.node.meta.state()
		if b.node.meta.group.leads() {
			var err error
			switch r := s.running(); {
			case r != nil:
				err = b.step(ctx, s, r)
			case s.balance.Auto && time.Since(looked) >= balanceIdle && s.balance.open(time.Now()):
				looked = time.Now()
				err = b.begin(ctx)
			}
			if err != nil && ctx.Err() == nil {
				b.logger.Warn("spreading what shards carry failed, it goes on", "err", err)
			}
		}
		if !b.pause(ctx, s) {
			return
		}
	}
}

// pause waits until there may be something to do; false: it is to end.
func (b *balancer) pause(ctx context.Context, s *state) bool {
	idle := time.NewTimer(balanceIdle)
	defer idle.Stop()
	select {
	case <-s.superseded:
	case <-idle.C:
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(balancePace):
		return true
	case <-ctx.Done():
		return false
	}
}

// begin starts a run by itself, if a shard is hot and that can be helped.
func (b *balancer) begin(ctx context.Context) error {
	p, err := b.node.PlanRebalance(ctx)
	if err != nil || len(p.Moves) == 0 {
		return err
	}
	r, err := b.node.carryOut(ctx, p, "automatic", true)
	if err == nil {
		b.logger.Info("spreading what shards carry", "run", r.ID, "moves", r.Planned, "bytes", r.Bytes)
	}
	return err
}

// step plans the next moves of a run, and ends it when nothing is left to do.
func (b *balancer) step(ctx context.Context, s *state, r *run) error {
	if b.run != r.id {
		b.run, b.tries, b.fault = r.id, map[engine.TenantID]int{}, ""
	}
	under, limit := len(s.movesOf(r)), s.balance.withDefaults().Parallel
	if under >= limit || r.windowed && !s.balance.open(time.Now()) {
		return nil
	}
	next := b.next(s, r, 2*limit-under)
	if len(next) == 0 {
		if under > 0 {
			return nil
		}
		return b.end(ctx, s, r)
	}
	for toRing, moves := range next { // any order: they wait for each other nowhere
		if err := b.plan(ctx, r, moves, toRing); err != nil {
			return err
		}
	}
	return nil
}

// plan has migrations planned. Those that cannot be are tried again, as often as those that fail later.
func (b *balancer) plan(ctx context.Context, r *run, moves []Move, toRing bool) error {
	planned, err := b.node.MoveTenants(ctx, moves, MoveOptions{Reason: r.reason(), By: r.by, ToRing: toRing})
	for i := range planned {
		if planned[i].ID == 0 {
			b.fault = planned[i].Error
		}
	}
	if errs.Is(err, errs.FailedPrecondition) || errs.Is(err, errs.NotFound) || errs.Is(err, errs.StorageFull) {
		b.fault = err.Error()
		return nil
	}
	return err
}

// next lists up to limit moves that are to be planned, apart those to where the ring says: those of the run's list, then tenants that
// are to follow the ring.
func (b *balancer) next(s *state, r *run, limit int) map[bool][]Move {
	moves := map[bool][]Move{}
	add := func(t *tenant, to uint16) bool {
		if t.moving == 0 && b.tries[t.id] < moveTries && s.home(t) != to {
			b.tries[t.id]++
			toRing := s.ring[t.slot] == to
			moves[toRing] = append(moves[toRing], Move{Tenant: t.name, To: int(to), id: t.id})
		}
		return len(moves[true])+len(moves[false]) < limit
	}
	for _, m := range r.moves {
		if t, ok := s.tenantByID(m.tenant); ok && t.life == tenantLive && s.home(t) == m.from && !add(t, m.to) {
			return moves
		}
	}
	for t := range s.byID.all() {
		if to, ok := s.wayOut(t); ok && !add(t, to) {
			return moves
		}
	}
	return moves
}

// end notes what a run has done.
func (b *balancer) end(ctx context.Context, s *state, r *run) error {
	end := runEnd{moved: s.movedBy(r), fault: b.fault}
	for _, m := range r.moves {
		if t, ok := s.tenantByID(m.tenant); ok && s.home(t) == m.from {
			end.failed++
		}
	}
	for t := range s.byID.all() {
		if _, ok := s.wayOut(t); ok && b.tries[t.id] >= moveTries {
			end.failed++
		}
	}
	for _, m := range s.moves {
		if m.reason == r.reason() && m.fault != "" {
			end.fault = m.fault
		}
	}
	if p, err := b.node.PlanRebalance(ctx); err == nil {
		end.after = hottest(p.Before)
	}
	b.logger.Info("a run is over", "run", r.id, "moved", end.moved, "failed", end.failed, "hottest", end.after)
	return b.node.endRun(ctx, r, runDone, end)
}
