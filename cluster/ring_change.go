package cluster

import (
	"context"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// filledPatience is how long a new shard may take to get all its replicas before it is given tenants all the same.
const filledPatience = 30 * time.Second

// AddSharedShard makes a shard and gives it part of the ring: new tenants of its slots live there at once, those that there are
// stay where they are and are moved there one after the other, in the background. It returns when the ring has changed.
// OutcomeUnknown: the shard may be there, on the ring or off it, see Info.
func (n *Node) AddSharedShard(ctx context.Context, by string) (id int, err error) {
	if id, err = n.AddShard(ctx, ""); err != nil {
		return id, err
	}
	n.awaitReplicas(ctx, uint16(id))
	if err := n.changeRing(ctx, metaJoinRing, uint16(id), ringTable.with); err != nil {
		return id, errs.Wrap(errs.OutcomeUnknown, err, "give shard %d part of the ring", id)
	}
	n.logger.Info("added a shard to the ring", "shard", id)
	return id, n.runRing(ctx, by)
}

// DrainShard takes a shard off the ring and has all its tenants moved to where the ring says, in the background, while they are
// used. A dedicated one is emptied in the same way. It returns when the ring has changed. NotFound: there is no such shard.
// FailedPrecondition: it is being drained, or there would be no shard left on the ring.
func (n *Node) DrainShard(ctx context.Context, id int, by string) error {
	if id < 0 || id >= maxShardIDs {
		return errNoShard(id)
	}
	if err := n.changeRing(ctx, metaDrainShard, uint16(id), ringTable.without); err != nil {
		return err
	}
	n.logger.Info("draining a shard", "shard", id)
	return n.runRing(ctx, by)
}

// KeepShard takes back that a shard is drained: it gets part of the ring again, and its tenants stay that have not moved yet.
func (n *Node) KeepShard(ctx context.Context, id int) error {
	if id < 0 || id >= maxShardIDs {
		return errNoShard(id)
	}
	if s := n.meta.state(); s.hasShard(uint16(id)) && !s.isDraining(uint16(id)) {
		return errs.New(errs.FailedPrecondition, "shard %d is not being drained", id)
	}
	return n.changeRing(ctx, metaJoinRing, uint16(id), ringTable.with)
}

// changeRing has a shard join or leave the ring. The next table follows from the present one, so it is computed anew if that
// has changed before the entry was committed.
func (n *Node) changeRing(ctx context.Context, op metaOp, shard uint16, next func(ringTable, uint16) ringTable) error {
	return n.patiently(ctx, func() error {
		s := n.meta.state()
		c := ringCommand{of: shard, basis: s.epoch}
		_, off := s.dedicatedShard(shard)
		switch {
		case !s.hasShard(shard):
			return errNoShard(int(shard))
		case op == metaDrainShard && !off && len(s.ring.shards()) < 2:
			return errs.New(errs.FailedPrecondition, "shard %d is the only one on the ring", shard).WithHint("add another first: croft shards add")
		case off && (op == metaDrainShard || s.isDraining(shard)): // the ring stays
		default:
			c.next = next(s.ring, shard)
		}
		_, err := n.proposeMeta(ctx, &metaCommand{op: op, ringCommand: c})
		return err
	})
}

// awaitReplicas waits until a shard has all replicas that it is to have, for a while: what is written to one replica alone is lost
// with it.
func (n *Node) awaitReplicas(ctx context.Context, shard uint16) {
	ctx, cancel := context.WithTimeout(ctx, filledPatience)
	defer cancel()
	for {
		s := n.meta.state()
		g := leaderAmong(shard, n.statuses(ctx, s.present(), statusRequest{Shards: []uint16{shard}}))
		if g != nil && len(g.Voters) >= s.wantedReplicas(shard) {
			return
		}
		select {
		case <-time.After(maxRetryPause):
		case <-n.ctx.Done():
			return
		case <-ctx.Done():
			n.logger.Warn("a new shard does not have all its replicas yet", "shard", shard)
			return
		}
	}
}
