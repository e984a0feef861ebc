package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Cluster is what a server tells of all nodes and shards.
type Cluster struct {
	ClusterID string    `json:"cluster_id"`
	Version   string    `json:"version"`
	Epoch     uint64    `json:"epoch"`
	Placement Placement `json:"placement"`
	Nodes     []Node    `json:"nodes"`
	Shards    []Shard   `json:"shards"`
	Silent    []string  `json:"silent_nodes"` // did not answer: what they have is missing in the figures
	// Recoveries are the times when most nodes were given up, oldest first.
	Recoveries []Recovery `json:"recoveries,omitzero"`
}

// Recovery is a time when the cluster had lost a majority and was begun again with what was left.
type Recovery struct {
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	Node string    `json:"node"` // whose metadata was kept
	Lost []string  `json:"lost"` // nodes given up
}

// Node is one process.
type Node struct {
	ID         string `json:"id"`
	Address    string `json:"address,omitzero"` // for other nodes
	URL        string `json:"url,omitzero"`     // for clients
	Zone       string `json:"zone,omitzero"`
	State      string `json:"state"` // joining, active, draining, removed
	Self       bool   `json:"self"`  // it is the one that answered
	Alive      bool   `json:"alive"`
	MetaVoter  bool   `json:"meta_voter"`
	MetaLeader bool   `json:"meta_leader"`
	Replicas   int    `json:"replicas"`
	Leaders    int    `json:"leaders"`
}

// Shard is a replicated set of tenants. Its figures are those of its leader, as far as that answers.
type Shard struct {
	ID           int       `json:"id"`
	Kind         string    `json:"kind"` // shared or dedicated
	Name         string    `json:"name,omitzero"`
	Draining     bool      `json:"draining,omitzero"` // its tenants are leaving
	Leader       string    `json:"leader"`            // node id, empty while there is none
	Zones        []string  `json:"zones,omitempty"`   // that it is bound to
	Slots        int       `json:"slots"`             // of the ring: its share of where new tenants are made
	Tenants      int       `json:"tenants"`
	Vectors      uint64    `json:"vectors"`
	Bytes        uint64    `json:"bytes"`
	Utilisation  float64   `json:"utilisation"` // mean of tenants and vectors against capacity
	AppliedIndex uint64    `json:"applied_index"`
	Replicas     []Replica `json:"replicas"`

	QueriesPerSecond float64  `json:"queries_per_second"` // of the last minute
	Latency          *Latency `json:"latency_ms,omitzero"`
	Silent           []string `json:"silent_nodes,omitzero"` // of DescribeShard: as of Cluster
}

// Latency are percentiles in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Replica is a shard's copy on a node.
type Replica struct {
	Node    string `json:"node"`
	Role    string `json:"role"` // leader, voter, learner, missing
	Applied uint64 `json:"applied"`
	Lag     uint64 `json:"lag"` // log entries behind the leader
}

// Settled reports whether every shard has a leader and this many replicas that take part in its decisions, and no
// others on their way.
func (c Cluster) Settled(replicas int) bool {
	for _, s := range c.Shards {
		if s.Leader == "" || len(s.Replicas) != replicas {
			return false
		}
		for _, r := range s.Replicas {
			if r.Role != "leader" && r.Role != "voter" {
				return false
			}
		}
	}
	return len(c.Shards) > 0
}

// Cluster describes all nodes and shards.
func (c *Client) Cluster(ctx context.Context) (out Cluster, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: "/v1/cluster"}, &out)
	return out, err
}

// DescribeShard returns one shard.
func (c *Client) DescribeShard(ctx context.Context, id string) (out Shard, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodGet, path: shardPath(id)}, &out)
	return out, err
}

// JoinTicket is what a new node needs to join.
type JoinTicket struct {
	Token   string `json:"token"`
	Join    string `json:"join"` // peer address of a node
	Expires string `json:"expires"`
	Command string `json:"command"` // that starts the new node
}

// AddNode makes a token that lets new nodes in for a time such as 90m ("": the server's default).
func (c *Client) AddNode(ctx context.Context, ttl string) (out JoinTicket, err error) {
	q := url.Values{}
	setNonEmpty(q, "ttl", ttl)
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: "/v1/cluster/nodes", query: q}, &out)
	return out, err
}

// DrainNode has all replicas moved off a node.
func (c *Client) DrainNode(ctx context.Context, id string) (out Node, err error) {
	err = c.do(ctx, c.root, call{method: http.MethodPost, path: nodePath(id) + "/drain"}, &out)
	return out, err
}

// RemoveNode takes a node out of the cluster for good. One that still holds replicas is refused without force.
func (c *Client) RemoveNode(ctx context.Context, id string, force bool) error {
	k := call{method: http.MethodDelete, path: nodePath(id), once: true}
	if force {
		k.query = url.Values{"force": {"true"}}
	}
	return c.do(ctx, c.root, k, nil)
}

func nodePath(id string) string { return "/v1/cluster/nodes/" + url.PathEscape(id) }
