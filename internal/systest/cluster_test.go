package systest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clusterShown is what a node tells of the cluster.
type clusterShown struct {
	Nodes []struct {
		ID       string
		State    string
		Self     bool
		Alive    bool
		Leaders  int
		Replicas int
		Meta     bool `json:"meta_leader"`
	}
	Shards []struct {
		ID       int
		Leader   string
		Replicas []struct {
			Node string
			Role string
			Lag  uint64
		}
	}
}

// settled reports whether every shard has n replicas, all of them with a say and at most so many entries behind.
func (c clusterShown) settled(n int, lag uint64) bool {
	for _, s := range c.Shards {
		if s.Leader == "" || len(s.Replicas) != n {
			return false
		}
		for _, r := range s.Replicas {
			if r.Role != "leader" && r.Role != "voter" || r.Lag > lag {
				return false
			}
		}
	}
	return len(c.Shards) > 0
}

func (c conn) cluster(ctx context.Context) (out clusterShown, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/cluster", nil, &out)
	return out, err
}

// nodes are the processes of a cluster, and how to start each again.
type nodes struct {
	mu      sync.Mutex // while a node is started again under load
	servers []*server
	how     []setup
	flags   []string // of each node, beside those that it needs
}

// startNodes starts a first node and has others join it.
func startNodes(t *testing.T, n int) *nodes {
	t.Helper()
	data := make([]string, n)
	for i := range data {
		data[i] = t.TempDir()
	}
	return startNodesOn(t, data...)
}

// startNodesOn is startNodes with the nodes' data directories.
func startNodesOn(t *testing.T, data ...string) *nodes {
	t.Helper()
	c := &nodes{}
	for _, dir := range data {
		c.add(t, 0, dir)
	}
	return c
}

// add starts another node, which joins by way of the one named unless it is the first.
func (c *nodes) add(t *testing.T, by int, data string) {
	t.Helper()
	how := setup{data: data, shards: 3, flags: append([]string{"--peer-listen", freeAddress(t)}, c.flags...)}
	if len(c.servers) > 0 {
		var ticket struct{ Token, Join string }
		require.NoError(t, dial(c.servers[by]).call(t.Context(), http.MethodPost, "/v1/cluster/nodes", nil, &ticket))
		how.flags = append(how.flags, "--join", ticket.Join)
		how.env = []string{"CROFT_JOIN_TOKEN=" + ticket.Token}
	}
	c.how = append(c.how, how)
	c.servers = append(c.servers, start(t, how))
}

// id is the identity of a node, by its own word.
func (c *nodes) id(t *testing.T, at int) string {
	t.Helper()
	info, err := dial(c.servers[at]).cluster(t.Context())
	require.NoError(t, err)
	for _, n := range info.Nodes {
		if n.Self {
			return n.ID
		}
	}
	t.Fatalf("node %d does not know itself: %+v", at, info.Nodes)
	return ""
}

// number is the node of an identity.
func (c *nodes) number(t *testing.T, id string) int {
	t.Helper()
	for i := range c.servers {
		if c.id(t, i) == id {
			return i
		}
	}
	t.Fatalf("no node is %q", id)
	return 0
}

// freeAddress is one where nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// eventually repeats what may fail for a while, until it does not. The bound is against hanging, not an expectation.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	began := time.Now()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			t.Logf("%s: after %v", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > startTimeout {
			require.NoError(t, err, "%s: not within %v", what, startTimeout)
		}
		<-pause.C
	}
}

// awaitSettled waits until the node sees all replicas up to date.
func (c *nodes) awaitSettled(t *testing.T, at, replicas int) { c.awaitNear(t, at, replicas, 0) }

// awaitNear waits until no replica is more than so many entries behind, by the node's word: under load there is always one
// that is a little.
func (c *nodes) awaitNear(t *testing.T, at, replicas int, lag uint64) {
	t.Helper()
	to := dial(c.servers[at])
	eventually(t, fmt.Sprintf("%d replicas of each shard", replicas), func() error {
		info, err := to.cluster(t.Context())
		if err == nil && !info.settled(replicas, lag) {
			err = fmt.Errorf("shards are not settled: %+v", info.Shards)
		}
		return err
	})
}

// leading returns the node that leads most shards.
func (c *nodes) leading(t *testing.T) (at int) {
	t.Helper()
	most := -1
	for i, s := range c.servers {
		info, err := dial(s).cluster(t.Context())
		require.NoError(t, err)
		for _, n := range info.Nodes {
			if n.Self && n.Leaders > most {
				at, most = i, n.Leaders
			}
		}
	}
	require.Positive(t, most)
	return at
}

// TestCluster has three nodes join, write and read through each other, and go on without one that is killed, which
// then comes back.
func TestCluster(t *testing.T) {
	rng := seeded(t)
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)

	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	for _, s := range c.servers {
		for _, ix := range indexes {
			eventually(t, "index on each node", func() error { return dial(s).call(t.Context(), http.MethodGet, "/indexes/"+ix.name, nil, nil) })
		}
	}
	for i, writer := range c.servers {
		fleet.step(t, dial(writer))
		fleet.step(t, dial(writer))
		for j, reader := range c.servers {
			require.NoError(t, fleet.settle(t.Context(), dial(reader)), "written through node %d, read through node %d", i+1, j+1)
		}
	}

	killed := c.leading(t)
	c.endWhileWriting(t, rng, fleet, killed, c.servers[killed].kill)
	for i, s := range c.servers {
		if i != killed {
			fleet.step(t, dial(s))
		}
	}

	c.restart(t, killed)
	c.awaitSettled(t, killed, 3)
	for i, s := range c.servers {
		require.NoError(t, fleet.settle(t.Context(), dial(s)), "read through node %d", i+1)
	}
	fleet.step(t, dial(c.servers[killed]))
	for i, s := range c.servers {
		require.NoError(t, fleet.settle(t.Context(), dial(s)), "read through node %d", i+1)
	}
	for _, s := range c.servers {
		s.terminate()
	}
	for _, s := range c.servers {
		require.NoError(t, s.end())
	}
}

// endWhileWriting ends a node while clients write through another, and returns when the others take writes again, with the
// number of writes that were acknowledged around the end.
func (c *nodes) endWhileWriting(t *testing.T, rng *rand.Rand, fleet fleet, at int, end func()) (acked int) {
	t.Helper()
	through := c.servers[(at+1+rng.IntN(2))%3]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := fleet.acked()
	wait := fleet.run(ctx, dial(through))
	waitRandomly(c.servers[at], rng, 500*time.Millisecond)
	end()
	time.AfterFunc(time.Duration(rng.Int64N(int64(time.Second))), cancel)
	require.NoError(t, wait())
	acked = fleet.acked() - before
	t.Logf("%d writes acknowledged around its end", acked)
	eventually(t, "all is read without the node", func() error { return fleet.settle(t.Context(), dial(through)) })
	for _, w := range fleet {
		eventually(t, "writes without the node", func() error { return w.tryWrite(t.Context(), dial(through)) })
	}
	return acked
}

// tryWrite looks what became of the write before, and writes once.
func (w *writer) tryWrite(ctx context.Context, c conn) error {
	if err := (fleet{w}).settle(ctx, c); err != nil {
		return err
	}
	o := w.next()
	path, body := o.request(w.ns)
	w.begin(o)
	err := c.index(w.index).call(ctx, http.MethodPost, path, body, nil)
	if err == nil {
		w.acknowledge()
	}
	return err
}
