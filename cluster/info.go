package cluster

import (
	"context"
	"slices"

	"github.com/croftdb/croft/engine"
)

// Check is one condition of readiness.
type Check struct {
	Name string // e.g. "shard 7 leader"
	Err  error  // nil: passed
}

// Ready lists failing checks, none when the node serves. A full disk is not among them: reads and deletes, which free
// it, must still find their way here.
func (n *Node) Ready() []Check {
	var failing []Check
	note := func(name string, err error) {
		if err != nil {
			failing = append(failing, Check{name, err})
		}
	}
	note("stores", n.fail.cause())
	for _, g := range n.groups() {
		note(g.name+" leader", g.ready())
	}
	return failing
}

// Info is what a node knows of the cluster.
type Info struct {
	ClusterID string      `json:"cluster_id"`
	NodeID    string      `json:"node_id"` // of the node that answers
	Epoch     uint64      `json:"epoch"`   // of the placement: grows with every change of the ring or of a replica set
	Nodes     []NodeInfo  `json:"nodes"`
	Shards    []ShardInfo `json:"shards"`
}

// NodeInfo is one node's figures.
type NodeInfo struct {
	ID         string `json:"id"`
	Address    string `json:"address"` // of its peer listener, empty for a node alone
	URL        string `json:"url"`
	Zone       string `json:"zone"`
	State      string `json:"state"` // joining, active, draining, removed
	Self       bool   `json:"self"`
	Alive      bool   `json:"alive"` // it answered when asked
	MetaVoter  bool   `json:"meta_voter"`
	MetaLeader bool   `json:"meta_leader"`
	Replicas   int    `json:"replicas"`
	Leaders    int    `json:"leaders"`
}

// Roles of a replica.
const (
	RoleLeader  = "leader"
	RoleVoter   = "voter"
	RoleLearner = "learner" // gets the log and has no vote yet
	RoleMissing = "missing" // wanted, and not there or silent
)

// ReplicaInfo is one replica of a shard.
type ReplicaInfo struct {
	Node    string `json:"node"`
	Role    string `json:"role"`
	Applied uint64 `json:"applied"`
	Lag     uint64 `json:"lag"` // entries behind the leader
}

// ShardInfo is one shard's figures.
type ShardInfo struct {
	ID       int           `json:"id"`
	Kind     string        `json:"kind"`   // shared or dedicated
	Leader   string        `json:"leader"` // node id, empty while there is none
	State    string        `json:"state"`  // of this node's replica: leader, follower, candidate, shutdown; missing if it has none
	Stats    engine.Stats  `json:"stats"`  // of this node's replica, else of the leader's
	Tenants  int           `json:"tenants"`
	Replicas []ReplicaInfo `json:"replicas"`
}

// kindShared is a shard on the ring.
const kindShared = "shared"

// Info describes the cluster for /v1/cluster. It asks all nodes at once; those that do not answer within a second are not
// alive. A node alone asks nobody.
func (n *Node) Info(ctx context.Context) Info {
	s := n.meta.state()
	var nodes []string
	for _, m := range s.members {
		if m.state != memberRemoved {
			nodes = append(nodes, m.id)
		}
	}
	all := n.statuses(ctx, nodes, statusRequest{All: true, Stats: true})
	info := Info{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID, Epoch: s.epoch}
	for _, m := range s.members {
		info.Nodes = append(info.Nodes, n.nodeInfo(s, m, all))
	}
	tenants := make(map[uint16]int)
	for t := range s.byName.all() {
		tenants[s.home(t)]++
	}
	for _, id := range s.shards {
		info.Shards = append(info.Shards, n.shardInfo(id, tenants[id], s.replicas(id), all))
	}
	return info
}

func (n *Node) nodeInfo(s *state, m member, all map[string]*nodeStatus) NodeInfo {
	i := NodeInfo{
		ID: m.id, Address: m.address, URL: m.url, Zone: m.zone, State: m.state.String(),
		Self: m.id == n.id.NodeID, Alive: all[m.id] != nil, MetaVoter: slices.Contains(n.meta.group.status().Voters, m.id),
	}
	for _, p := range s.placed {
		if slices.Contains(p.replicas, m.id) {
			i.Replicas++
		}
	}
	if st := all[m.id]; st != nil {
		i.MetaLeader = st.Meta.leads()
		for _, g := range st.Groups {
			if g.leads() {
				i.Leaders++
			}
		}
	}
	return i
}

func (n *Node) shardInfo(id uint16, tenants int, wanted []string, all map[string]*nodeStatus) ShardInfo {
	info := ShardInfo{ID: int(id), Kind: kindShared, State: RoleMissing, Tenants: tenants}
	leader := leaderAmong(id, all)
	if leader != nil {
		info.Leader, info.Stats = leader.Leader, *leader.Stats
	}
	if own, ok := all[n.id.NodeID].shard(id); ok {
		info.State, info.Stats = own.State, *own.Stats
	}
	for _, node := range replicaNodes(wanted, leader) {
		g, there := all[node].shard(id)
		info.Replicas = append(info.Replicas, replicaInfo(node, g, there, leader))
	}
	return info
}

// leaderAmong finds the replica that leads a shard. Of two that say so, one has not heard yet that it was deposed.
func leaderAmong(id uint16, all map[string]*nodeStatus) (leader *groupStatus) {
	for _, st := range all {
		if g, ok := st.shard(id); ok && g.leads() && (leader == nil || g.Term > leader.Term) {
			leader = &g
		}
	}
	return leader
}

// replicaNodes lists the nodes that are to have a replica, and those that have one still.
func replicaNodes(wanted []string, leader *groupStatus) []string {
	nodes := slices.Clone(wanted)
	if leader == nil {
		return nodes
	}
	for _, node := range slices.Concat(leader.Voters, leader.Learners) {
		if !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func replicaInfo(node string, g groupStatus, there bool, leader *groupStatus) ReplicaInfo {
	r := ReplicaInfo{Node: node, Role: RoleMissing}
	if !there {
		return r
	}
	r.Applied = g.Applied
	switch {
	case leader == nil && slices.Contains(g.Voters, node), leader != nil && slices.Contains(leader.Voters, node):
		r.Role = RoleVoter
	default:
		r.Role = RoleLearner
	}
	if leader != nil {
		r.Lag = leader.Commit - min(leader.Commit, g.Applied)
		if leader.Leader == node {
			r.Role = RoleLeader
		}
	}
	return r
}
