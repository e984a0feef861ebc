package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// commandQueue is a state machine that tells what it is given.
type commandQueue struct {
	discardFSM
	commands chan string
}

func (q commandQueue) Apply(l *raft.Log) any {
	q.commands <- string(l.Data)
	return nil
}

// firstApplied is the first command that a follower applies to whom a deposed leader has left an entry that was never
// committed. The next leader commits another in its place without that follower, and tells it of this with a request that
// ends before that entry, as raft does after failures, see vouched.
func firstApplied(t *testing.T, through func(fullTransport) raft.Transport) string {
	network := newMemoryNetwork()
	leader := through(started(t, func(n string) peers { return network.peers(n) }, "leader", nil).open("group").(fullTransport))
	follower := started(t, func(n string) peers { return network.peers(n) }, "follower", nil)
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "follower", hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout = time.Hour, time.Hour
	store, fsm := raft.NewInmemStore(), commandQueue{commands: make(chan string, 2)}
	r, err := raft.NewRaft(c, fsm, store, store, raft.NewDiscardSnapshotStore(), follower.open("group"))
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Shutdown().Error()) }()

	send := func(term, prev, commit uint64, entries ...*raft.Log) {
		var resp raft.AppendEntriesResponse
		require.NoError(t, leader.AppendEntries("follower", "follower", &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte("leader")},
			Term:      term, PrevLogEntry: prev, PrevLogTerm: prev, Entries: entries, LeaderCommitIndex: commit,
		}, &resp))
		require.True(t, resp.Success)
	}
	send(1, 0, 1, &raft.Log{Index: 1, Term: 1, Type: raft.LogNoop}, &raft.Log{Index: 2, Term: 1, Data: []byte("left behind")})
	send(2, 1, 2)
	send(2, 1, 2, &raft.Log{Index: 2, Term: 2, Data: []byte("committed")})
	return <-fsm.commands
}

// TestFollowersApplyWhatIsCommitted is the reason for vouched.
func TestFollowersApplyWhatIsCommitted(t *testing.T) {
	require.Equal(t, "left behind", firstApplied(t, func(f fullTransport) raft.Transport { return f }), "raft is mended: look again at vouched")
	require.Equal(t, "committed", firstApplied(t, func(f fullTransport) raft.Transport { return &guarded{fullTransport: f, group: new(group)} }))
}
