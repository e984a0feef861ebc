package cluster

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

// TestCheckpointsNeedASettledConfiguration cuts a leader off in the middle of a change: the configuration that it has in
// its log may never be committed, so no checkpoint may go out with it.
func TestCheckpointsNeedASettledConfiguration(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		p := c.nodes[0].meta.state().placed[0]
		node := c.nodes[c.index(p.replicas[0])]
		g := node.replica(p.shard).group
		var m checkpointMark
		require.NoError(c.t, g.settledConfiguration(&m))
		require.Len(c.t, m.configuration.Servers, 3)
		var e raft.Log
		require.NoError(c.t, g.log.GetLog(m.configurationIndex, &e))
		require.Equal(c.t, raft.LogConfiguration, e.Type)
		require.Equal(c.t, m.configuration, raft.DecodeConfiguration(e.Data))

		c.net.isolate(node.id.NodeID)
		change := g.raft().AddNonvoter("newcomer", "newcomer", 0, 0)
		c.until("it is in the log", func() bool { return len(g.servers()) == 4 })
		err := g.settledConfiguration(&m)
		require.True(c.t, errs.Is(err, errs.Unavailable), "%v", err)
		require.Error(c.t, change.Error(), "it steps down")
		require.Error(c.t, g.settledConfiguration(&m), "nobody knows yet what became of it")
		c.net.rejoin(node.id.NodeID)
		c.until("the others' configuration holds again", func() bool { return g.settledConfiguration(&m) == nil && len(m.configuration.Servers) == 3 })
	})
}
