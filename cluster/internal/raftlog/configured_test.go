package raftlog

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// TestNewestConfiguration follows a log through appends, a trim, a conflict and a restart.
func TestNewestConfiguration(t *testing.T) {
	var c newestConfiguration
	for i, typ := range []raft.LogType{raft.LogConfiguration, raft.LogCommand, raft.LogConfiguration, raft.LogNoop} {
		c.seen(uint64(i+1), typ)
	}
	require.EqualValues(t, 3, c.at.Load())
	c.seen(1, raft.LogConfiguration)
	require.EqualValues(t, 3, c.at.Load(), "reading an older one changes nothing")
	c.takenBack(4)
	require.EqualValues(t, 3, c.at.Load())
	c.takenBack(3)
	require.GreaterOrEqual(t, c.at.Load(), uint64(1), "never lower than the one in force")
	require.Less(t, c.at.Load(), uint64(3))
}
