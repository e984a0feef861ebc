package api

import (
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

type clusterShown struct {
	ClusterID string             `json:"cluster_id"`
	Version   string             `json:"version"`
	Epoch     uint64             `json:"epoch"`
	Placement placementShown     `json:"placement"`
	Nodes     []cluster.NodeInfo `json:"nodes"`
	Shards    []shardShown       `json:"shards"`
	Searches  cluster.SearchRate `json:"searches"`     // over many tenants
	Silent    []string           `json:"silent_nodes"` // what they have is missing in the figures
	// Recoveries are the times when most nodes were given up, oldest first.
	Recoveries []cluster.RecoveryInfo `json:"recoveries,omitempty"`
}

// shardShown are a shard's figures, as its leader tells them; those of queries are added up from all nodes.
type shardShown struct {
	ID            int                   `json:"id"`
	Kind          string                `json:"kind"`
	Name          string                `json:"name,omitzero"`
	Draining      bool                  `json:"draining,omitzero"` // its tenants are leaving
	Zones         []string              `json:"zones,omitempty"`   // that it is bound to
	Leader        string                `json:"leader"`
	State         string                `json:"state"`
	Slots         int                   `json:"slots"` // of the ring
	Tenants       int                   `json:"tenants"`
	Vectors       uint64                `json:"vectors"`
	Bytes         uint64                `json:"bytes"`
	Utilisation   float64               `json:"utilisation"`
	Partitions    int                   `json:"partitions"`
	Loaded        int                   `json:"partitions_loaded"`
	Records       uint64                `json:"records"` // as vectors, by its older name
	Indexed       uint64                `json:"indexed"`
	Segments      int                   `json:"segments"`
	SegmentBytes  uint64                `json:"segment_bytes"`
	ResidentBytes uint64                `json:"resident_bytes"`
	BufferBytes   uint64                `json:"buffer_bytes"`
	AppliedIndex  uint64                `json:"applied_index"`
	FlushedIndex  uint64                `json:"flushed_index"`
	Replicas      []cluster.ReplicaInfo `json:"replicas"`

	QueriesPerSecond float64          `json:"queries_per_second"` // of the last minute
	Latency          *cluster.Latency `json:"latency_ms,omitzero"`
}

// shardsShown are the figures of several shards, or of one, and who did not tell his.
type shardsShown struct {
	Shards []shardShown `json:"shards"`
	Silent []string     `json:"silent_nodes"`
}

type oneShardShown struct {
	shardShown
	Silent []string `json:"silent_nodes"`
}

func clusterInfo(c *call) (reply, error) {
	info := c.h.node.Info(c.ctx)
	return document{clusterShown{
		ClusterID: info.ClusterID, Version: c.h.opts.Version, Epoch: info.Epoch, Placement: showPlacement(info.Rules),
		Nodes: info.Nodes, Shards: showShards(info.Shards), Searches: info.Searches, Silent: listOf(info.Silent), Recoveries: info.Recoveries,
	}}, nil
}

func shards(c *call) (reply, error) {
	info := c.h.node.Info(c.ctx)
	return document{shardsShown{showShards(info.Shards), listOf(info.Silent)}}, nil
}

func describeShard(c *call) (reply, error) {
	info := c.h.node.Info(c.ctx)
	for _, s := range info.Shards {
		if c.args[0] == strconv.Itoa(s.ID) {
			return document{oneShardShown{showShard(s), listOf(info.Silent)}}, nil
		}
	}
	return nil, errNoShard(c.args[0])
}

func errNoShard(id string) error {
	return errs.New(errs.NotFound, "there is no shard %s", clip(id)).WithHint("`croft shards list` shows those that are there")
}

// listOf is a list that is never null.
func listOf[T any](items []T) []T { return append([]T{}, items...) }

func showShards(infos []cluster.ShardInfo) []shardShown {
	shown := make([]shardShown, len(infos))
	for i, s := range infos {
		shown[i] = showShard(s)
	}
	return shown
}

func showShard(s cluster.ShardInfo) shardShown {
	return shardShown{
		ID: s.ID, Kind: s.Kind, Name: s.Name, Draining: s.Draining, Zones: s.Zones, Leader: s.Leader, State: s.State, Slots: s.Slots, Tenants: s.Tenants, Vectors: s.Stats.Records,
		Bytes: s.Stats.Bytes, Utilisation: s.Utilisation, Partitions: s.Stats.Partitions, Loaded: s.Stats.Loaded,
		Records: s.Stats.Records, Indexed: s.Stats.Indexed, Segments: s.Stats.Segments, SegmentBytes: s.Stats.SegmentBytes,
		ResidentBytes: s.Stats.ResidentBytes, BufferBytes: s.Stats.BufferBytes, AppliedIndex: s.Stats.AppliedIndex,
		FlushedIndex: s.Stats.FlushedIndex, Replicas: listOf(s.Replicas), QueriesPerSecond: s.QueriesPerSecond, Latency: s.Latency,
	}
}

// Bounds of how long a token lets a node in.
const (
	defaultTicketLife = time.Hour
	longestTicketLife = 7 * 24 * time.Hour
)

// ticketShown is what a new node needs to join.
type ticketShown struct {
	Token   string `json:"token"`
	Join    string `json:"join"`
	Expires string `json:"expires"`
	Command string `json:"command"`
}

// addNode makes a token, and says how a new node uses it.
func addNode(c *call) (reply, error) {
	life, err := c.params.duration("ttl", defaultTicketLife, time.Minute, longestTicketLife)
	if err != nil {
		return nil, err
	}
	join, err := c.peerAddress()
	if err != nil {
		return nil, err
	}
	token, err := c.h.node.NewJoinToken(c.ctx, life)
	if err != nil {
		return nil, err
	}
	return document{ticketShown{
		Token: token, Join: join, Expires: time.Now().Add(life).UTC().Format(time.RFC3339), Command: joinCommand(join, token),
	}}, nil
}

// peerAddress is where a new node asks to be let in: here.
func (c *call) peerAddress() (string, error) {
	if at := c.h.node.PeerAddress(); at != "" {
		return at, nil
	}
	return "", errs.New(errs.FailedPrecondition, "this node is alone: it has no address for other nodes").
		WithHint("start it with --peer-listen, for example 127.0.0.1:5180")
}

// joinCommand starts a new node, with addresses as one has to choose them for oneself: off loopback, it needs its own.
func joinCommand(join, token string) string {
	own := "--listen 127.0.0.1:5280"
	if host, _, err := net.SplitHostPort(join); err == nil && !net.ParseIP(host).IsLoopback() && host != "localhost" {
		own = "--peer-listen ADDRESS:5180 --peer-cert FILE --peer-key FILE --peer-ca FILE"
	}
	return "croft serve --data DIR " + own + " --join " + join + " --join-token " + token
}

// drainNode has all replicas moved off a node, which goes on serving meanwhile.
func drainNode(c *call) (reply, error) {
	if err := c.h.node.DrainNode(c.ctx, c.args[0]); err != nil {
		return nil, err
	}
	for _, n := range c.h.node.Info(c.ctx).Nodes {
		if n.ID == c.args[0] {
			return document{n}, nil
		}
	}
	return empty{}, nil
}

// removeNode takes a node out of the cluster for good.
func removeNode(c *call) (reply, error) {
	force, err := c.params.boolean("force")
	if err != nil {
		return nil, err
	}
	return empty{}, c.h.node.RemoveNode(c.ctx, c.args[0], force)
}

// duration returns a parameter such as 90s or 2h, from lo to hi, or def if it is absent.
func (p params) duration(name string, def, lo, hi time.Duration) (time.Duration, error) {
	s := url.Values(p).Get(name)
	if s == "" {
		return def, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, invalid(name, "want a duration such as 90s or 2h, got %q", clip(s))
	}
	if d < lo || d > hi {
		return 0, invalid(name, "%s is not between %s and %s", d, lo, hi)
	}
	return d, nil
}

// boolean returns a parameter that is true or false; false if it is absent.
func (p params) boolean(name string) (bool, error) {
	switch s := p.text(name); s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalid(name, "want true or false, got %q", clip(s))
	}
}
