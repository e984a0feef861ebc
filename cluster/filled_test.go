package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// TestEarlierLivesElectNobody begins a replica again on the node that once founded its group. Before it has the configuration without
// that node it gives nobody its vote, and when its leader falls silent in the middle of the log, where the node is the
// only voter, it must not lead, not after a restart either. Then it is like any other.
func TestEarlierLivesElectNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemoryNetwork()
		links := func(n string) peers { return network.peers(n) }
		w := wire{t, started(t, links, "leader", nil).open("group")}
		o := groupOptions{
			name: "group", disk: vfs.NewSim(), dir: "/data", identity: "c/group", node: "follower", create: true, learner: true, markers: true,
			ctx: t.Context(), begins: hardState{term: 1, voteTerm: 1, candidate: []byte("leader"), floor: 4}, tick: 500 * time.Millisecond, segmentSize: 64 << 10, fsm: discardFSM{}, transports: started(t, links, "follower", nil),
			fail: newFailure(testLogger()), append: new(observed), grown: func() {}, logger: testLogger(),
		}
		open := func() *group {
			g, err := openGroup(o)
			require.NoError(t, err)
			return g
		}
		end := func(g *group) {
			require.NoError(t, g.beginShutdown().Error())
			require.NoError(t, g.log.Close())
		}
		configuration := func(index uint64, servers ...raft.Server) *raft.Log {
			return &raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: servers})}
		}
		votes := func(term, last uint64) bool {
			var resp raft.RequestVoteResponse
			require.NoError(t, w.leader.RequestVote("follower", "follower", &raft.RequestVoteRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte("leader")},
				Term:      term, LastLogIndex: last, LastLogTerm: 1,
			}, &resp))
			return resp.Granted
		}
		me, other := raft.Server{ID: "follower", Address: "follower"}, raft.Server{ID: "leader", Address: "leader"}
		fresh := me
		fresh.Suffrage = raft.Nonvoter

		g := open()
		require.True(t, w.send(1, 0, 0, 1, configuration(1, me), &raft.Log{Index: 2, Term: 1}))
		time.Sleep(time.Minute)
		require.Equal(t, raft.Follower, g.raft().State())
		require.False(t, votes(2, 100))
		var resp raft.TimeoutNowResponse
		require.Error(t, w.leader.TimeoutNow("follower", "follower", &raft.TimeoutNowRequest{}, &resp))
		end(g)
		o.create = false
		g = open()
		time.Sleep(time.Minute)
		require.Equal(t, raft.Follower, g.raft().State())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Error(t, g.readable(ctx))

		require.True(t, w.send(1, 2, 1, 3, configuration(3, me, other)))
		require.False(t, votes(2, 100), "it had a vote by that one")
		require.True(t, w.send(1, 3, 1, 5, configuration(4, other), configuration(5, other, fresh)))
		require.Equal(t, o.tick, g.raft().ReloadableConfig().HeartbeatTimeout)
		time.Sleep(time.Minute)
		require.False(t, votes(2, 4), "it has more of the log")
		require.True(t, votes(3, 5))
		end(g)
		g = open()
		require.Zero(t, g.floor.Load())
		end(g)
	})
}
