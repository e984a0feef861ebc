package cluster

import (
	"context"
	"sync/atomic"
	"time"
)

// loadsAge is how old the shards' figures may be before a creation has them asked for again.
const loadsAge = 5 * time.Second

// shardLoads is what this node knows of how much each shard holds, for the placement of new tenants. Tenants are counted in
// the metadata, so those of a burst spread over the shards although nobody has been asked since it began. Vectors are those
// that the leaders told last: they err by what was written since then, which is little against the growth that each tenant
// is expected to bring. They are asked for in the background, and only while tenants are made under a policy that needs them.
type shardLoads struct {
	node  *Node
	stale chan struct{} // asks for a round
	told  atomic.Pointer[toldVectors]
	first chan struct{} // closed after the first round
	full  atomic.Bool   // it was said that all shards are full
}

// toldVectors are the vectors of the shards that somebody told of.
type toldVectors struct {
	of map[uint16]uint64
	at time.Time
}

func newShardLoads(n *Node) *shardLoads {
	return &shardLoads{node: n, stale: make(chan struct{}, 1), first: make(chan struct{})}
}

// run asks whenever a creation has found the figures old.
func (l *shardLoads) run(ctx context.Context) {
	for first := true; ; first = false {
		select {
		case <-l.stale:
		case <-ctx.Done():
			return
		}
		l.told.Store(&toldVectors{l.ask(ctx), time.Now()})
		if first {
			close(l.first)
		}
	}
}

// ask asks all nodes. A shard's leader knows best; without one, the replica that has applied most.
func (l *shardLoads) ask(ctx context.Context) map[uint16]uint64 {
	s := l.node.meta.state()
	all := l.node.statuses(ctx, s.present(), statusRequest{All: true, Stats: true})
	vectors := make(map[uint16]uint64, len(s.shards))
	for _, id := range s.shards {
		if g := bestAmong(id, all); g != nil && g.Stats != nil {
			vectors[id] = g.Stats.Records
		}
	}
	return vectors
}

// vectors returns what was told last. It waits only where nothing was ever told, for statusTimeout at most.
func (l *shardLoads) vectors(ctx context.Context) map[uint16]uint64 {
	told := l.told.Load()
	if told == nil || time.Since(told.at) > loadsAge {
		select {
		case l.stale <- struct{}{}:
		default:
		}
	}
	if told != nil {
		return told.of
	}
	select {
	case <-l.first:
		return l.told.Load().of
	case <-ctx.Done():
		return nil
	}
}

// place says where new tenants are to live: those that should not be where the ring says get a pin.
func (l *shardLoads) place(ctx context.Context, ts []*tenant) {
	s := l.node.meta.state()
	if s.rules.Policy == PolicyRing || s.clusterID == "" {
		return
	}
	rules := s.rules.withDefaults()
	loads := sharedLoads(s, l.vectors(ctx))
	full := false
	for _, t := range ts {
		ring := s.ring[t.slot]
		var shard uint16
		if shard, full = leastLoaded(loads, ring, &rules); shard != ring {
			t.pin = int32(shard)
		}
	}
	if full && !l.full.Swap(true) {
		l.node.logger.Warn("all shared shards are full, new tenants go to the least full", "tenants", rules.ShardTenants, "vectors", rules.ShardVectors)
	} else if !full {
		l.full.Store(false)
	}
}

// sharedLoads lists the shards on the ring. One that nobody told of is taken for the mean of the others.
func sharedLoads(s *state, vectors map[uint16]uint64) []shardLoad {
	sum := uint64(0)
	for _, v := range vectors {
		sum += v
	}
	mean := sum / uint64(max(1, len(vectors)))
	var loads []shardLoad
	for _, id := range s.shards {
		if _, off := s.dedicatedShard(id); off || s.isDraining(id) {
			continue
		}
		v, told := vectors[id]
		if !told {
			v = mean
		}
		loads = append(loads, shardLoad{id, s.tenantsOn(id), v})
	}
	return loads
}
