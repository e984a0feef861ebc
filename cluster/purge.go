package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// purgeEvery is how often the metadata plane's leader looks for tenants whose time is over.
const purgeEvery = time.Minute

// purger drops the data of tenants that were deleted some time ago. Every node has one; only that of the metadata plane's
// leader acts. Its steps are entries of logs, each of which does no harm when it comes twice, so whatever was cut short is done
// again: the metadata plane says that there is no way back, the shard drops the data and refuses it from then on, it draws up the
// last bill, the metadata plane forgets the tenant.
type purger struct {
	node   *Node
	pace   time.Duration
	logger *slog.Logger
}

func newPurger(n *Node) *purger {
	return &purger{node: n, pace: min(purgeEvery, n.opts.UndeleteFor), logger: n.logger}
}

func (p *purger) run(ctx context.Context) {
	tick := time.NewTicker(p.pace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := p.step(ctx, time.Now()); err != nil && ctx.Err() == nil {
			p.logger.Warn("dropping the data of a deleted tenant failed, it is tried again", "err", err)
		}
	}
}

// step purges the tenants whose time is over. It stops at the first failure: the next ones would likely fail as well.
func (p *purger) step(ctx context.Context, now time.Time) error {
	s := p.node.meta.state()
	if s.byID.n == s.byName.n || !p.node.meta.group.leads() {
		return nil
	}
	before := now.Add(-p.node.opts.UndeleteFor).UnixNano()
	for t := range s.byID.all() {
		if t.life == tenantLive || t.life == tenantDeleted && t.deletedAt > before {
			continue
		}
		if t.moving != 0 { // the mover ends that first
			continue
		}
		if err := p.purge(ctx, t); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "tenant %s", t.id)
		}
		p.logger.Info("deleted tenant is gone for good", "tenant", t.id)
	}
	return nil
}

func (p *purger) purge(ctx context.Context, t *tenant) error {
	if t.life == tenantDeleted {
		if err := p.propose(ctx, t.id, false); err != nil {
			return err
		}
	}
	// The route names no tenant: it is about the shard, which must know of the deletion as this node does.
	for _, shard := range p.node.meta.state().shardsOf(t) {
		v := applyVerb{command: &engine.Command{Op: engine.OpDropTenant, Key: engine.Key{Tenant: t.id}}}
		if err := p.node.ask(ctx, &route{shard: shard}, &v); err != nil {
			return err
		}
	}
	v := closeVerb{bill{t.id, t.name, t.tierName(), time.Unix(0, t.deletedAt).UTC()}}
	if err := p.node.ask(ctx, &route{shard: p.node.meta.state().home(t)}, &v); err != nil {
		return err
	}
	return p.propose(ctx, t.id, true)
}

func (p *purger) propose(ctx context.Context, id engine.TenantID, done bool) error {
	_, err := p.node.proposeMeta(ctx, &metaCommand{op: metaPurgeTenant, tenantID: id, tenantCommand: tenantCommand{done: done}})
	return err
}
