package cluster

import (
	"context"

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

// Info describes the cluster for /v1/cluster.
func (n *Node) Info(ctx context.Context) Info {
	s := n.meta.state()
	tenants := make(map[uint16]int)
	for t := range s.byName.all() {
		tenants[s.home(t)]++
	}
	info := Info{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID, Epoch: s.epoch}
	for _, m := range s.members {
		self := m.id == n.id.NodeID
		info.Nodes = append(info.Nodes, NodeInfo{
			ID: m.id, Address: m.address, URL: m.url, Zone: m.zone, State: m.state.String(), Self: self, Alive: self,
			MetaVoter: self, MetaLeader: self, Replicas: len(s.shards), Leaders: len(s.shards),
		})
	}
	for _, id := range s.shards {
		sh := n.replica(id)
		if sh == nil {
			continue
		}
		stats := sh.engine.Stats()
		info.Shards = append(info.Shards, ShardInfo{
			ID: int(id), Kind: kindShared, Leader: sh.group.leader(), State: sh.group.stateName(),
			Stats: stats, Tenants: tenants[id],
			Replicas: []ReplicaInfo{{Node: n.id.NodeID, Role: RoleLeader, Applied: stats.AppliedIndex}},
		})
	}
	return info
}
