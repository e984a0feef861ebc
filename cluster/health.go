package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/croftdb/croft/cluster/balance"
)

// Health is what there is to say about the cluster.
type Health struct {
	Status   string // balance.Healthy, Warned or Critical: that of the worst warning
	Checked  time.Time
	Warnings []balance.Warning // the worst first
	Shards   []ShardInfo
	Routing  *RoutingReport // of the last time that it was verified; nil: it has not been since the metadata plane's leader was elected
	Silent   []string       // nodes that did not answer
}

// Health judges the cluster by the figures of all nodes, and by the last look at where tenants' data is. With verify it looks
// anew, and puts right what it may.
func (n *Node) Health(ctx context.Context, verify bool) (Health, error) {
	routing, err := n.Routing(ctx, verify)
	if err != nil && verify {
		return Health{}, err // a report of last time is not what was asked for
	}
	info := n.Info(ctx)
	f := n.figures(&info)
	if routing != nil {
		f.Astray = routing.astray()
	}
	h := Health{Checked: time.Now().UTC(), Warnings: balance.Check(f), Shards: info.Shards, Routing: routing, Silent: info.Silent}
	h.Status = balance.Worst(h.Warnings)
	return h, nil
}

// figures are what health is judged by, without routing.
func (n *Node) figures(info *Info) *balance.Figures {
	s := n.meta.state()
	f := &balance.Figures{Capacity: info.Rules.capacity(), Silent: info.Silent, Misplaced: s.residencyFaults(info.Shards)}
	for i := range info.Shards {
		f.Shards = append(f.Shards, info.Shards[i].figures(s.wantedReplicas(uint16(info.Shards[i].ID))))
	}
	return f
}

func (r *Rules) capacity() balance.Capacity {
	return balance.Capacity{Tenants: r.ShardTenants, Vectors: r.ShardVectors}
}

// figures are a shard's as balance sees it.
func (i *ShardInfo) figures(wanted int) balance.Shard {
	s := balance.Shard{
		ID: i.ID, Dedicated: i.Kind == KindDedicated, Draining: i.Draining, Led: i.Leader != "", Wanted: wanted,
		Load: balance.Load{
			balance.Tenants: float64(i.Tenants), balance.Vectors: float64(i.Stats.Records), balance.Bytes: float64(i.Stats.Bytes),
			balance.Queries: i.QueriesPerSecond,
		},
	}
	if i.Latency != nil {
		s.P95 = i.Latency.P95
	}
	for _, r := range i.Replicas {
		if r.Role == RoleLeader || r.Role == RoleVoter {
			s.Voters++
		}
		s.Lag = max(s.Lag, r.Lag)
	}
	return s
}

// wantedReplicas is how many replicas a shard should have: as many as were asked for as far as there are nodes, and not fewer than
// were placed.
func (s *state) wantedReplicas(shard uint16) int {
	l := layout{wanted: s.wanted, bounds: s.bounds}
	for _, m := range s.members {
		l.nodes = append(l.nodes, candidate{id: m.id, zone: zoneOf(m), takes: m.state == memberActive})
	}
	return max(l.target(l.zones(shard)), len(s.replicas(shard)))
}

// healthEvery is how often the metadata plane's leader looks whether all is well.
const healthEvery = 30 * time.Second

// healthWatch tells of what is not well: in the log when it begins and ends, in metrics while it lasts. Every node has one; only
// that of the metadata plane's leader looks.
type healthWatch struct {
	node   *Node
	logger *slog.Logger

	mu    sync.Mutex
	count map[string]int // warnings by type, as of the last look; nil: this node does not lead
}

func (w *healthWatch) run(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	known := map[string]string{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !w.node.meta.group.leads() {
			known = map[string]string{}
			w.note(nil)
			continue
		}
		h, err := w.node.Health(ctx, false)
		if err != nil || ctx.Err() != nil {
			continue
		}
		known = w.tell(known, h.Warnings)
	}
}

// tell logs what is new and what is over, and returns what there is, by type and places.
func (w *healthWatch) tell(known map[string]string, all []balance.Warning) map[string]string {
	found, count := map[string]string{}, map[string]int{}
	for i := range all {
		a := &all[i]
		if count[a.Type]++; a.Severity == balance.Advice {
			continue
		}
		what := a.Type + a.Places()
		found[what] = a.Message
		if _, old := known[what]; !old {
			w.logger.Warn("the cluster is not well", "type", a.Type, "severity", a.Severity, "what", a.Message, "advice", a.Recommendation)
		}
	}
	for what, message := range known { // any order: each is a line of its own
		if _, still := found[what]; !still {
			w.logger.Info("the cluster is better", "was", message)
		}
	}
	w.note(count)
	return found
}

func (w *healthWatch) note(count map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count = count
}

// warnings counts them by type; ok is false where another node looks.
func (w *healthWatch) warnings(kind string) (n int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[kind], w.count != nil
}
