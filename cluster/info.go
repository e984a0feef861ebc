package cluster

import (
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

// Info is what a node tells of itself and its shards.
type Info struct {
	ClusterID string      `json:"cluster_id"`
	NodeID    string      `json:"node_id"`
	Shards    []ShardInfo `json:"shards"`
}

// ShardInfo is one shard's figures.
type ShardInfo struct {
	ID      int          `json:"id"`
	Leader  string       `json:"leader"` // node id, empty while there is none
	State   string       `json:"state"`  // of this replica: leader, follower, candidate, shutdown
	Stats   engine.Stats `json:"stats"`
	Tenants int          `json:"tenants"`
}

// Info describes the node for /v1/cluster.
func (n *Node) Info() Info {
	s := n.meta.state()
	tenants := make(map[uint16]int)
	for t := range s.byName.all() {
		tenants[s.home(t)]++
	}
	info := Info{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID}
	for _, id := range s.shards {
		sh := n.replica(id)
		if sh == nil {
			continue
		}
		info.Shards = append(info.Shards, ShardInfo{
			ID: int(id), Leader: sh.group.leader(), State: sh.group.stateName(),
			Stats: sh.engine.Stats(), Tenants: tenants[id],
		})
	}
	return info
}
