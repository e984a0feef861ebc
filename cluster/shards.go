package cluster

import (
	"cmp"
	"context"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Kinds of shards.
const (
	KindShared    = "shared"    // has a part of the ring
	KindDedicated = "dedicated" // off the ring: holds the tenants that are pinned to it, and no others
)

// AddShard makes a dedicated shard, with one replica at first, on the node that has the fewest; the steward adds the others. Its
// replicas are on nodes of the given zones, of any if there are none.
// It returns when the shard has a leader. AlreadyExists if there is one of that name, which may be empty. OutcomeUnknown:
// the shard may be there, see Info.
func (n *Node) AddShard(ctx context.Context, name string, zones ...string) (id int, err error) {
	founder, err := n.founder(ctx, zones)
	if err != nil {
		return NoShard, err
	}
	res, err := n.changeMeta(ctx, &metaCommand{op: metaAddShard, shardCommand: shardCommand{name: name, founder: founder, zones: zones}})
	if err != nil {
		return NoShard, err
	}
	n.logger.Info("added a dedicated shard", "shard", res.shard, "node", founder)
	for {
		st, err := n.statusOf(ctx, founder, statusRequest{Shards: []uint16{res.shard}})
		if err == nil {
			if g, ok := st.shard(res.shard); ok && g.Leader != "" {
				return int(res.shard), nil
			}
		}
		select {
		case <-time.After(retryPause):
		case <-n.ctx.Done():
			return int(res.shard), errStopping()
		case <-ctx.Done():
			return int(res.shard), errs.Wrap(errs.OutcomeUnknown, ctx.Err(), "wait for node %s to begin shard %d", founder, res.shard)
		}
	}
}

// founder chooses the node that begins a shard: one in some zones that answers and has the fewest replicas.
func (n *Node) founder(ctx context.Context, zones []string) (string, error) {
	s := n.meta.state()
	if err := cmp.Or(checkZones(zones), s.checkCarriers(zones)); err != nil {
		return "", err
	}
	alive := n.statuses(ctx, s.present(), statusRequest{})
	l := &layout{placed: s.placed}
	for _, m := range s.members {
		l.nodes = append(l.nodes, candidate{id: m.id, zone: zoneOf(m), takes: m.state == memberActive && alive[m.id] != nil})
	}
	id, ok := l.best(nil, nil, zones)
	if !ok {
		return "", errs.New(errs.Unavailable, "there is no active node to carry a shard").WithRetryAfter(retryLeader)
	}
	return id, nil
}

// RemoveShard takes out a dedicated shard that holds no tenant; the last bills that it keeps go to another. NotFound if there is none
// of that id; FailedPrecondition if it is shared or holds tenants.
func (n *Node) RemoveShard(ctx context.Context, id int) error {
	if id < 0 || id >= maxShardIDs {
		return errs.New(errs.NotFound, "there is no shard %d", id)
	}
	if err := n.carryBills(ctx, uint16(id)); err != nil {
		return err
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaRemoveShard, shardCommand: shardCommand{shard: uint16(id)}})
	return err
}

// Rules returns the rules of placement in force.
func (n *Node) Rules() Rules { return n.meta.state().rules.withDefaults() }

// SetRules changes the rules of placement for all nodes. They hold for tenants made from then on; 0 stands for a default.
func (n *Node) SetRules(ctx context.Context, r Rules) error {
	if err := r.validate(); err != nil {
		return err
	}
	_, err := n.changeMeta(ctx, &metaCommand{op: metaSetRules, shardCommand: shardCommand{rules: r}})
	return err
}
