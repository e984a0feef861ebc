package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// TestClusterOverTCP lets nodes join, one come back under another address, and one be drained and removed.
func TestClusterOverTCP(t *testing.T) {
	options := func(dir string) Options {
		o := testOptions(dir)
		o.PeerListen, o.RaftTick, o.Logger = "127.0.0.1:0", 200*time.Millisecond, clusterLogger()
		return o
	}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	nodes := make([]*Node, 3)
	open := func(i int, o Options) *Node {
		n, err := Open(t.Context(), o)
		require.NoError(t, err)
		nodes[i] = n
		return n
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			require.NoError(t, n.Close())
		}
	})
	first := open(0, options(dirs[0]))
	ix := createIndex(t, first, "i")
	upsert(t, first, ix, "ns", 1, 2, 3)

	o := options(dirs[1])
	o.Join, o.JoinToken = first.peers.addr(), "guess"
	_, err := Open(t.Context(), o)
	require.True(t, errs.Is(err, errs.PermissionDenied), "%v", err)
	token, err := first.NewJoinToken(t.Context(), time.Minute)
	require.NoError(t, err)
	o.JoinToken = token
	open(1, o)
	o.Dir, o.Join = dirs[2], nodes[1].peers.addr() // any member will do
	open(2, o)
	settled := func() bool {
		info := nodes[2].Info(t.Context())
		for _, sh := range info.Shards {
			voters := 0
			for _, r := range sh.Replicas {
				if r.Role == RoleLeader || r.Role == RoleVoter {
					voters++
				}
			}
			if voters != 3 || sh.Leader == "" {
				return false
			}
		}
		return len(info.Nodes) == 3 && info.Nodes[0].Alive && info.Nodes[1].Alive && info.Nodes[2].Alive
	}
	require.Eventually(t, settled, 30*time.Second, 50*time.Millisecond)

	require.NoError(t, nodes[0].Close())
	first = open(0, options(dirs[0]))
	require.Eventually(t, func() bool {
		m, ok := nodes[1].meta.state().member(first.id.NodeID)
		return ok && m.address == first.peers.addr()
	}, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, settled, 30*time.Second, 50*time.Millisecond)
	for i, n := range nodes {
		upsert(t, n, ix, "ns", 10+i)
	}
	require.Equal(t, "[id0001 id0002 id0003 id0010 id0011 id0012]", fmt.Sprint(scanIDs(t, nodes[1], ix, "ns")))

	gone := nodes[2].id.NodeID
	err = nodes[0].RemoveNode(t.Context(), gone, false)
	require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
	require.NoError(t, nodes[0].DrainNode(t.Context(), gone))
	require.Eventually(t, func() bool { return nodes[0].RemoveNode(t.Context(), gone, false) == nil }, 30*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool { return len(nodes[0].meta.group.servers()) == 2 }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, nodes[2].Close())
	_, err = Open(t.Context(), options(dirs[2]))
	require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
	require.ErrorContains(t, err, "was removed")
	upsert(t, nodes[1], ix, "ns", 20)
}
