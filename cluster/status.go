package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// nodeStatus is what a node tells of its replicas.
type nodeStatus struct {
	Meta   groupStatus   `json:"meta"`
	Groups []groupStatus `json:"groups,omitempty"` // of shards, those asked for
	// Queries that came in here, by shard, when stats are asked for.
	Queries map[int]queryCounts `json:"queries,omitempty"`
	// Searches over many tenants that came in here, when stats are asked for.
	Searches queryCounts `json:"searches,omitzero"`
}

// groupStatus is one replica's view of its group.
type groupStatus struct {
	Shard    uint16   `json:"shard"`
	State    string   `json:"state"`
	Leader   string   `json:"leader,omitempty"`
	Term     uint64   `json:"term"`
	First    uint64   `json:"first"`   // entry that the log reaches back to; Last + 1: it has none
	Last     uint64   `json:"last"`    // entry in the log, or of the newest marker
	Commit   uint64   `json:"commit"`  // entry known to be committed
	Applied  uint64   `json:"applied"` // entry applied
	Voters   []string `json:"voters"`  // of the newest configuration it knows, sorted
	Learners []string `json:"learners,omitempty"`
	Settled  bool     `json:"settled"`          // that configuration is committed
	Behind   []string `json:"behind,omitempty"` // a leader's: nodes that need a checkpoint
	Lost     []string `json:"lost,omitempty"`   // a leader's: nodes that vote and have lost their replica
	// Stats of the engine, when stats are asked for.
	Stats *engine.Stats `json:"stats,omitempty"`
}

func (g *groupStatus) leads() bool { return g.State == "leader" }

// without reports whether the group does without a node's replica, for good: by a change that is not committed yet, the next
// leader may count on it still, and on what it has acknowledged.
func (g *groupStatus) without(node string) bool {
	return g.leads() && g.Settled && !slices.Contains(g.Voters, node) && !slices.Contains(g.Learners, node)
}

// statusRequest asks for the replicas of some shards, or of all.
type statusRequest struct {
	Shards []uint16 `json:"shards,omitempty"`
	All    bool     `json:"all,omitempty"`
	Stats  bool     `json:"stats,omitempty"`
}

func (g *group) status() groupStatus {
	r := g.raft()
	servers := g.servers()
	st := groupStatus{
		State: g.stateName(), Leader: g.leader(), Term: r.CurrentTerm(), Last: r.LastIndex(), Commit: r.CommitIndex(), Applied: r.AppliedIndex(),
		Voters: ids(servers, raft.Voter), Learners: ids(servers, raft.Nonvoter),
	}
	configured, err := g.configuredAt() // after the servers: they are of this one, or of one before
	st.Settled = err == nil && configured <= st.Commit
	st.First = g.log.ReachesBack(st.Last)
	if st.leads() {
		g.behind.Range(func(node, _ any) bool { st.Behind = append(st.Behind, node.(string)); return true })
		slices.Sort(st.Behind)
		g.lost.Range(func(node, _ any) bool { st.Lost = append(st.Lost, node.(string)); return true })
		slices.Sort(st.Lost)
	}
	return st
}

// status tells of this node's replicas.
func (n *Node) status(req statusRequest) nodeStatus {
	st := nodeStatus{Meta: n.meta.group.status()}
	if req.Stats {
		st.Queries, st.Searches = n.queries.all(time.Now()), n.searches.lately(&n.queries, time.Now())
	}
	for _, sh := range n.replicas().sorted() {
		if !req.All && !slices.Contains(req.Shards, sh.id) {
			continue
		}
		g := sh.group.status()
		g.Shard = sh.id
		if req.Stats {
			stats := sh.engine.Stats()
			g.Stats = &stats
		}
		st.Groups = append(st.Groups, g)
	}
	return st
}

// shard finds the status of a shard's replica; false if the node has none.
func (st *nodeStatus) shard(id uint16) (groupStatus, bool) {
	if st == nil {
		return groupStatus{}, false
	}
	i := slices.IndexFunc(st.Groups, func(g groupStatus) bool { return g.Shard == id })
	if i < 0 {
		return groupStatus{}, false
	}
	return st.Groups[i], true
}

// answerStatus serves methodStatus.
func (n *Node) answerStatus(_ context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	var req statusRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return dst, errs.Wrap(errs.Invalid, err, "read a request for status")
	}
	b, err := json.Marshal(n.status(req))
	return append(dst, b...), err
}

// statusOf asks a node; this one needs no link for it.
func (n *Node) statusOf(ctx context.Context, node string, req statusRequest) (*nodeStatus, error) {
	if node == n.id.NodeID {
		st := n.status(req)
		return &st, nil
	}
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	answer, err := n.peers.call(ctx, node, methodStatus, b, nil)
	if err != nil {
		return nil, err
	}
	st := new(nodeStatus)
	if err := json.Unmarshal(answer, st); err != nil {
		return nil, errs.Wrap(errs.Corrupt, err, "read the status of node %s", node)
	}
	return st, nil
}

// statusTimeout is how long a node may take to tell of itself before it counts as silent.
const statusTimeout = time.Second

// statuses asks several nodes at once; those that do not answer in time are missing.
func (n *Node) statuses(ctx context.Context, nodes []string, req statusRequest) map[string]*nodeStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	all := make(map[string]*nodeStatus, len(nodes))
	for _, node := range nodes {
		wg.Go(func() {
			if st, err := n.statusOf(ctx, node, req); err == nil {
				mu.Lock()
				all[node] = st
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}
