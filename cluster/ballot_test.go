package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// TestVotesWhileALeaderIsSilent asks a follower for its vote, again and again, while its leader falls silent: raft is told that it may
// vote as soon as an election timeout has passed since the leader was heard of, and not a moment before.
func TestVotesWhileALeaderIsSilent(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		c.settle()
		id := c.nodes[0].meta.state().placed[0].shard
		leader := c.leader(id)
		var g *group // the follower that looks last, so that it stays one for a while
		for _, n := range c.nodes[:3] {
			if sh := n.replica(id); sh != leader && (g == nil || sh.group.opts.node > g.opts.node) {
				g = sh.group
			}
		}
		in := make(chan raft.RPC)
		b := newBallot(g, in)
		defer b.close()
		go func() { // what raft gets
			for {
				select {
				case rpc := <-b.out:
					req := rpc.Command.(*raft.RequestVoteRequest)
					rpc.Respond(&raft.RequestVoteResponse{Granted: req.LeadershipTransfer}, nil)
				case <-b.stop:
					return
				}
			}
		}()
		ask := func(command any) any {
			answers := make(chan raft.RPCResponse, 1)
			in <- raft.RPC{Command: command, RespChan: answers}
			return (<-answers).Response
		}
		granted := func() bool {
			return ask(&raft.RequestVoteRequest{Term: g.raft().CurrentTerm() + 1}).(*raft.RequestVoteResponse).Granted
		}
		require.False(t, granted(), "the leader was heard of a moment ago")

		for _, n := range c.nodes[:3] {
			c.net.isolate(n.id.NodeID)
		}
		time.Sleep(g.opts.tick / 8) // what was under way arrives
		heard, tick := g.raft().LastContact(), g.opts.tick
		time.Sleep(time.Until(heard.Add(tick / 2)))
		require.False(t, granted())
		require.Less(t, time.Since(heard), tick, "it is refused at once")
		time.Sleep(time.Until(heard.Add(tick - tick/8)))
		require.True(t, granted(), "it waits for the rest of the time")
		require.Equal(t, tick, time.Since(heard))
		require.Equal(t, raft.Follower, g.raft().State())

		last := g.raft().LastIndex()
		pre := func(node string, term, last uint64) bool {
			return ask(&raft.RequestPreVoteRequest{
				RPCHeader: raft.RPCHeader{ID: []byte(node)}, Term: term, LastLogTerm: g.raft().CurrentTerm(), LastLogIndex: last,
			}).(*raft.RequestPreVoteResponse).Granted
		}
		next := g.raft().CurrentTerm() + 1
		require.True(t, pre(string(leader.group.opts.node), next, last))
		require.False(t, pre(string(leader.group.opts.node), next, last-1), "its log is shorter")
		require.False(t, pre(string(leader.group.opts.node), next-2, last), "its term is over")
		require.False(t, pre("stranger", next, last))
	})
}
