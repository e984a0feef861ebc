package cluster

import (
	"context"
	"slices"
	"time"

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
	note("stores", n.fail.Cause())
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
	Rules     Rules       `json:"rules"`  // of placement
	Silent    []string    `json:"silent"` // nodes that did not answer: what they have is missing in the figures
	Searches  SearchRate  `json:"searches"`
	// Recoveries are the times when a majority was lost and the cluster begun again with what was left, oldest first.
	Recoveries []RecoveryInfo `json:"recoveries,omitempty"`
}

// RecoveryInfo is one recovery.
type RecoveryInfo struct {
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	Node string    `json:"node"` // whose metadata was kept
	Lost []string  `json:"lost"` // nodes given up
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
	ID          int           `json:"id"`
	Kind        string        `json:"kind"` // shared or dedicated
	Name        string        `json:"name"` // of a dedicated shard, may be empty
	Draining    bool          `json:"draining"`
	Zones       []string      `json:"zones"`  // that it is bound to; none: it may be anywhere
	Leader      string        `json:"leader"` // node id, empty while there is none
	State       string        `json:"state"`  // of this node's replica: leader, follower, candidate, shutdown; missing if it has none
	Stats       engine.Stats  `json:"stats"`  // of the leader's replica; of the one that has applied most while there is none
	Slots       int           `json:"slots"`  // of the ring, where new tenants find their home
	Tenants     int           `json:"tenants"`
	Utilisation float64       `json:"utilisation"` // see Rules.Utilisation
	Replicas    []ReplicaInfo `json:"replicas"`

	QueriesPerSecond float64  `json:"queries_per_second"` // over the last minute, of all nodes that answer
	Latency          *Latency `json:"latency_ms"`         // of these queries where they came in; nil: there were none
}

// ClusterID names the cluster.
func (n *Node) ClusterID() string { return n.clusterName() }

// PeerAddress is where other nodes reach this one, empty if they cannot.
func (n *Node) PeerAddress() string { return n.peers.addr() }

// SharedShards is how many shards are on the ring.
func (n *Node) SharedShards() int {
	return len(n.meta.state().ring.shards())
}

// Info describes the cluster for /v1/cluster. It asks all nodes at once; those that do not answer within a second are not
// alive. A node alone asks nobody.
func (n *Node) Info(ctx context.Context) Info {
	s := n.meta.state()
	present := s.present()
	all := n.statuses(ctx, present, statusRequest{All: true, Stats: true})
	info := Info{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID, Epoch: s.epoch, Rules: s.rules.withDefaults()}
	info.Searches = searchRate(all)
	for _, m := range s.members {
		info.Nodes = append(info.Nodes, n.nodeInfo(s, m, all))
	}
	for _, r := range s.recoveries {
		info.Recoveries = append(info.Recoveries, RecoveryInfo{r.id, r.at, r.node, r.lost})
	}
	slots := s.ring.loads(slices.Max(s.shards))
	for _, id := range s.shards {
		shard := n.shardInfo(s, id, all)
		shard.Slots = slots[id]
		info.Shards = append(info.Shards, shard)
	}
	for _, id := range present {
		if all[id] == nil {
			info.Silent = append(info.Silent, id)
		}
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

func (n *Node) shardInfo(s *state, id uint16, all map[string]*nodeStatus) ShardInfo {
	info := ShardInfo{
		ID: int(id), Kind: KindShared, State: RoleMissing, Tenants: s.tenantsOn(id), Draining: s.isDraining(id), Zones: s.boundOf(id).zones,
	}
	if d, ok := s.dedicatedShard(id); ok {
		info.Kind, info.Name = KindDedicated, d.name
	}
	leader := leaderAmong(id, all)
	if leader != nil {
		info.Leader = leader.Leader
	}
	if best := bestAmong(id, all); best != nil {
		info.Stats = *best.Stats
	}
	if own, ok := all[n.id.NodeID].shard(id); ok {
		info.State = own.State
	}
	info.Utilisation = s.rules.Utilisation(info.Tenants, info.Stats.Records)
	info.QueriesPerSecond, info.Latency = queriesOf(info.ID, all)
	for _, node := range replicaNodes(s.replicas(id), leader) {
		g, there := all[node].shard(id)
		info.Replicas = append(info.Replicas, replicaInfo(node, g, there, leader))
	}
	return info
}

// bestAmong finds the replica of a shard to tell of its figures: the leader, else the one that has applied most. Nil where
// nobody has told any.
func bestAmong(id uint16, all map[string]*nodeStatus) (best *groupStatus) {
	if leader := leaderAmong(id, all); leader != nil && leader.Stats != nil {
		return leader
	}
	for _, st := range all { // any order: of equals, either will do
		if g, ok := st.shard(id); ok && g.Stats != nil && (best == nil || g.Applied > best.Applied) {
			best = &g
		}
	}
	return best
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
