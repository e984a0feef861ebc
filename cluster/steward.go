package cluster

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"
)

// steward is the metadata leader's care for the cluster: who votes in the metadata plane, and which nodes are to carry
// which shards. It decides, and the reconcilers of all nodes carry out. Every node has one; only the leader's acts, and a
// decision of one that no longer leads is refused by the epoch it was made in.
type steward struct {
	node   *Node
	pace   time.Duration
	logger *slog.Logger

	led  bool                 // when it last looked
	seen map[string]time.Time // when a node last answered, or this steward began
}

func newSteward(n *Node) *steward {
	return &steward{node: n, pace: n.opts.pace(), logger: n.logger}
}

func (w *steward) run(ctx context.Context) {
	for n := w.node; ; {
		s := n.meta.state()
		var tick <-chan time.Time
		if !s.alone() {
			tick = time.After(w.pace)
			w.step(ctx, s)
		}
		var grown <-chan struct{}
		if tick == nil {
			grown = s.superseded
		}
		select {
		case <-tick:
		case <-grown:
		case <-ctx.Done():
			return
		}
	}
}

// step looks once, and asks for at most one change of the metadata plane's voters and one of each shard.
func (w *steward) step(ctx context.Context, s *state) {
	g := w.node.meta.group
	if !g.leads() {
		w.led = false
		return
	}
	if !w.led {
		w.led, w.seen = true, map[string]time.Time{}
		g.lost.Clear() // who is still lost will say so again
	}
	alive := w.look(ctx, s)
	for _, err := range []error{w.welcome(ctx, s, alive), w.settleMeta(ctx, s, alive), w.placeShards(ctx, s)} {
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("looking after the cluster failed, it goes on", "err", err)
		}
	}
}

// look asks all nodes whether they are there.
func (w *steward) look(ctx context.Context, s *state) map[string]*nodeStatus {
	nodes := s.present()
	alive := w.node.statuses(ctx, nodes, statusRequest{})
	now := time.Now()
	for _, id := range nodes {
		if _, known := w.seen[id]; alive[id] != nil || !known {
			w.seen[id] = now
		}
	}
	return alive
}

// gone reports whether a node has been silent for so long that its replicas are made elsewhere.
func (w *steward) gone(id string) bool {
	after := w.node.opts.ReplaceAfter
	return after > 0 && time.Since(w.seen[id]) > after
}

// welcome makes nodes active that have joined and know what the metadata plane knows.
func (w *steward) welcome(ctx context.Context, s *state, alive map[string]*nodeStatus) error {
	commit := w.node.meta.group.raft().CommitIndex()
	for _, m := range s.members {
		st := alive[m.id]
		if m.state != memberJoining || st == nil || st.Meta.Applied+catchUp < commit {
			continue
		}
		w.logger.Info("node has joined", "node", m.id, "address", m.address)
		if err := w.node.setMember(ctx, m.id, memberActive, false); err != nil {
			return err
		}
	}
	return nil
}

// settleMeta takes the next step towards the metadata plane's voters; all other nodes get its log as learners.
func (w *steward) settleMeta(ctx context.Context, s *state, alive map[string]*nodeStatus) error {
	g := w.node.meta.group
	now := situation{self: w.node.id.NodeID, own: g.status(), others: map[string]groupStatus{}}
	for id, st := range alive {
		if id != now.self {
			now.others[id] = st.Meta
		}
	}
	now.wanted = w.metaVoters(s, now.own.Voters, alive)
	for _, m := range s.members {
		if m.state != memberRemoved && !slices.Contains(now.wanted, m.id) {
			now.learners = append(now.learners, m.id)
		}
	}
	g.found(&now.own)
	return g.carryOut(ctx, now.next())
}

// metaVoters chooses 1, 3 or 5 nodes: those that vote already first, then those in zones that have no voter yet. Voters that
// are to leave hand over to others, also if all of them are; while there are no others they stay.
func (w *steward) metaVoters(s *state, voters []string, alive map[string]*nodeStatus) []string {
	l := layout{}
	var stay []string
	for _, m := range s.members {
		votes := slices.Contains(voters, m.id)
		able := m.state == memberActive && !w.gone(m.id)
		if able && votes {
			stay = append(stay, m.id)
		}
		l.nodes = append(l.nodes, candidate{id: m.id, zone: zoneOf(m), takes: able && (votes || alive[m.id] != nil)})
	}
	target := metaTarget(len(slices.DeleteFunc(slices.Clone(l.nodes), func(c candidate) bool { return !c.takes })))
	self := w.node.id.NodeID
	slices.SortStableFunc(stay, func(a, b string) int { return -cmp.Compare(boolByte(a == self), boolByte(b == self)) })
	for len(stay) < target {
		id, ok := l.best(stay, nil, nil)
		if !ok {
			break
		}
		stay = append(stay, id)
	}
	if len(stay) == 0 {
		return voters
	}
	return stay[:min(len(stay), target)]
}

func metaTarget(nodes int) int {
	switch {
	case nodes >= 5:
		return 5
	case nodes >= 3:
		return 3
	}
	return 1
}

func zoneOf(m member) string {
	if m.zone == "" {
		return "\x00" + m.id
	}
	return m.zone
}

// placeShards decides on replica sets, one change for each shard that has carried out the last one.
func (w *steward) placeShards(ctx context.Context, s *state) error {
	l := w.layout(s)
	if _, ok := l.next(); !ok && !s.binding() {
		return nil
	}
	l.busy, l.awaited = w.busyShards(ctx, s)
	if err := w.keepBounds(ctx, s, l.busy); err != nil {
		return err
	}
	for range s.placed {
		p, ok := l.next()
		if !ok {
			return nil
		}
		w.logger.Info("placing shard", "shard", p.shard, "replicas", p.replicas)
		if _, err := w.node.proposeMeta(ctx, &metaCommand{op: metaPlace, memberCommand: memberCommand{place: p, epoch: s.epoch}}); err != nil {
			return err
		}
		s = w.node.meta.state()
		l.placed = s.placed
		l.busy[p.shard] = true
		delete(l.awaited, p.shard)
	}
	return nil
}

func (w *steward) layout(s *state) *layout {
	l := &layout{placed: s.placed, wanted: s.wanted, bounds: s.bounds}
	for _, m := range s.members {
		gone := w.gone(m.id)
		l.nodes = append(l.nodes, candidate{
			id: m.id, zone: zoneOf(m), takes: m.state == memberActive && !gone && w.fresh(m.id),
			leave: gone || m.state >= memberDraining, drop: m.state >= memberDraining,
		})
	}
	return l
}

// fresh reports whether a node has answered lately; who has not gets nothing new.
func (w *steward) fresh(id string) bool { return time.Since(w.seen[id]) < 10*w.pace }

// busyShards asks the leaders which shards do not have the replicas that are wanted, and who of these has no vote yet. Shards
// without an answer count as busy.
func (w *steward) busyShards(ctx context.Context, s *state) (busy map[uint16]bool, awaited map[uint16][]string) {
	all := w.node.statuses(ctx, s.present(), statusRequest{All: true})
	busy, awaited = make(map[uint16]bool, len(s.placed)), map[uint16][]string{}
	for _, p := range s.placed {
		busy[p.shard] = true
		for _, st := range all {
			g, ok := st.shard(p.shard)
			switch {
			case !ok || !g.leads():
			case settled(&g, p.replicas):
				delete(busy, p.shard)
			case g.Settled:
				awaited[p.shard] = slices.DeleteFunc(slices.Clone(p.replicas), func(id string) bool { return slices.Contains(g.Voters, id) })
			}
		}
	}
	return busy, awaited
}

// settled reports whether a group has exactly the wanted voters.
func settled(g *groupStatus, wanted []string) bool {
	return len(g.Learners) == 0 && slices.Equal(g.Voters, slices.Sorted(slices.Values(wanted)))
}
