package api

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// memberNode is a node among others that notes what is asked of it.
type memberNode struct {
	*cluster.Node
	address string
	said    []string
	life    time.Duration
	fails   error
}

func (n *memberNode) Info(context.Context) cluster.Info {
	return cluster.Info{ClusterID: "c", NodeID: "n1", Nodes: []cluster.NodeInfo{
		{ID: "n1", Address: n.address, State: "active", Self: true, Alive: true}, {ID: "n2", State: "draining"},
	}}
}

func (n *memberNode) PeerAddress() string { return n.address }

func (n *memberNode) NewJoinToken(_ context.Context, ttl time.Duration) (string, error) {
	n.life = ttl
	return "token", n.fails
}

func (n *memberNode) DrainNode(_ context.Context, id string) error {
	n.said = append(n.said, "drain "+id)
	return n.fails
}

func (n *memberNode) RemoveNode(_ context.Context, id string, force bool) error {
	n.said = append(n.said, "remove "+id)
	if force {
		n.said = append(n.said, "by force")
	}
	return n.fails
}

func TestMembership(t *testing.T) {
	n := &memberNode{Node: openNode(t), address: "127.0.0.1:5180"}
	c := &client{t, newHandler(t, n)}
	a := c.do("POST", "/v1/cluster/nodes", "")
	require.Equal(t, 201, a.status, a.body)
	require.Equal(t, "token", a.get(t, "token"))
	require.Equal(t, "127.0.0.1:5180", a.get(t, "join"))
	require.Equal(t, "croft serve --data DIR --listen 127.0.0.1:5280 --join 127.0.0.1:5180 --join-token token", a.get(t, "command"))
	require.Equal(t, time.Hour, n.life)
	until, err := time.Parse(time.RFC3339, a.get(t, "expires").(string))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), until, 5*time.Minute)

	c.ok("POST", "/v1/cluster/nodes?ttl=5m", "")
	require.Equal(t, 5*time.Minute, n.life)
	requireError(t, c.do("POST", "/v1/cluster/nodes?ttl=soon", ""), 400, "want a duration")
	requireError(t, c.do("POST", "/v1/cluster/nodes?ttl=1s", ""), 400, "not between 1m0s and 168h0m0s")

	requireError(t, c.do("POST", "/v1/cluster/nodes", `{"ttl":"5m"}`), 400, "takes no body")
	c.ok("POST", "/v1/cluster/nodes", "{}")

	n.address = "10.0.0.7:5180"
	require.Contains(t, c.ok("POST", "/v1/cluster/nodes", "").get(t, "command"), "--peer-cert FILE")
	n.address = ""
	requireError(t, c.do("POST", "/v1/cluster/nodes", ""), 412, "no address for other nodes")

	require.Equal(t, "draining", c.ok("POST", "/v1/cluster/nodes/n2/drain", "").get(t, "state"))
	c.ok("DELETE", "/v1/cluster/nodes/n2", "")
	c.ok("DELETE", "/v1/cluster/nodes/n2?force=true", "")
	require.Equal(t, []string{"drain n2", "remove n2", "remove n2", "by force"}, n.said)
	requireError(t, c.do("DELETE", "/v1/cluster/nodes/n2?force=1", ""), 400, "want true or false")

	n.fails = errs.New(errs.FailedPrecondition, "it holds 3 replicas")
	for _, call := range [][2]string{{"POST", "/v1/cluster/nodes/n2/drain"}, {"DELETE", "/v1/cluster/nodes/n2"}} {
		requireError(t, c.do(call[0], call[1], ""), 412, "it holds 3 replicas")
	}
}
