package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// lose notes in node.json of a stopped node that replicas are lost, and deletes them.
func (c *simCluster) lose(i int, meta bool, shards ...uint16) {
	id, err := loadIdentity(vfs.OS(), c.dirs[i], 3, false)
	require.NoError(c.t, err)
	for _, sh := range shards {
		in := id.replicas()[sh]
		require.NoError(c.t, os.RemoveAll(shardDir(c.dirs[i], sh, in.Number)))
		id = id.with(sh, in.as(replicaLost))
	}
	if meta {
		require.NoError(c.t, os.RemoveAll(metaDir(c.dirs[i])))
		id.Meta = incarnation{State: replicaLost}
	}
	require.NoError(c.t, id.save(vfs.OS(), c.dirs[i]))
}

// TestMissingReplicaIsRefused: by itself a node never takes lost files for those of a new replica.
func TestMissingReplicaIsRefused(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		p := c.nodes[0].meta.state().placed[0]
		in := c.incarnations(2)[p.shard]
		c.stop(2)
		require.NoError(c.t, os.RemoveAll(shardDir(c.dirs[2], p.shard, in.Number)))
		_, err := Open(c.t.Context(), c.options(2))
		require.True(c.t, errs.Is(err, errs.Corrupt), "%v", err)
		require.Contains(c.t, errs.HintOf(err), "--lost-replicas")
	})
}

// TestLostReplicaBeginsAnew loses a replica of a voter, and another of the metadata plane. Both come back with all
// that the others have, and vote again.
func TestLostReplicaBeginsAnew(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2, 3)
		}
		c.settle()
		before := c.incarnations(2)[1].Number
		c.kill(2)
		c.lose(2, true, 1)
		c.write(ix, "ns1", 4)
		c.start(2)
		c.settle()
		c.caughtUp(19)
		now := c.incarnations(2)[1]
		require.Equal(c.t, before+1, now.Number, "a number is used once")
		require.Equal(c.t, replicaOpen, now.State)
		require.Equal(c.t, incarnation{}, c.nodes[2].id.Meta)
		c.kill(c.index(c.nodes[0].meta.state().placed[1].replicas[0]))
		c.write(ix, "ns1", 5)
	})
}

// TestLostReplicaWaitsForItsGroup: without most of the others nobody may take the vote away, so the replica stays away.
func TestLostReplicaWaitsForItsGroup(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "ns", 1)
		c.kill(2)
		c.lose(2, false, 0, 1, 2)
		c.kill(1)
		n, err := Open(c.t.Context(), c.options(2))
		require.NoError(c.t, err)
		c.nodes[2] = n
		for range 100 {
			if st := c.nodes[2].status(statusRequest{All: true}); len(st.Groups) > 0 {
				c.t.Fatalf("a replica began without leave: %+v", st.Groups)
			}
			require.NoError(c.t, sleep(c.t.Context(), n.opts.pace()))
		}
		c.start(1)
		c.settle()
		c.caughtUp(1)
	})
}

// TestLeaveToRejoin asks a leader that is cut off, one with a change on its way, and one whose followers know of it.
func TestLeaveToRejoin(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		p := c.nodes[0].meta.state().placed[0]
		node := c.nodes[c.index(p.replicas[0])]
		g := node.replica(p.shard).group
		_, _, err := g.leaveToRejoin(c.t.Context(), p.replicas[1])
		require.True(c.t, errs.Is(err, errs.Unavailable), "it votes: %v", err)
		require.Equal(c.t, []string{p.replicas[1]}, g.status().Lost)
		c.until("the vote is taken back, and given again", func() bool { return len(g.status().Lost) == 0 })
		term, floor, err := g.leaveToRejoin(c.t.Context(), "nobody")
		require.NoError(c.t, err)
		require.Equal(c.t, g.raft().CurrentTerm(), term)
		require.Equal(c.t, g.log.Configured(), floor)

		c.settle()
		c.net.isolate(node.id.NodeID)
		g.raft().RemoveServer("nobody", 0, 0)
		removal := g.raft().AddNonvoter("newcomer", "newcomer", 0, 0)
		_, _, err = g.leaveToRejoin(c.t.Context(), "nobody")
		require.Error(c.t, err, "it cannot know whether it still leads")
		require.Error(c.t, removal.Error())
		c.net.rejoin(node.id.NodeID)
		c.settle()
	})
}

// TestOldDirectoryIsRefused brings a node back with its directory of some starts before, and with one that another process
// has started too.
func TestOldDirectoryIsRefused(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		old := c.t.TempDir()
		c.stop(2)
		require.NoError(c.t, os.CopyFS(old, os.DirFS(c.dirs[2])))
		for range 2 {
			c.start(2)
			c.settle()
			c.kill(2)
		}
		aside := c.t.TempDir()
		require.NoError(c.t, os.Rename(c.dirs[2], filepath.Join(aside, "now")))
		require.NoError(c.t, os.Rename(old, c.dirs[2]))
		_, err := Open(c.t.Context(), c.options(2))
		require.True(c.t, errs.Is(err, errs.FailedPrecondition), "%v", err)
		require.ErrorContains(c.t, err, "old copy")
		require.NoError(c.t, os.RemoveAll(c.dirs[2]))
		require.NoError(c.t, os.Rename(filepath.Join(aside, "now"), c.dirs[2]))
		c.start(2)
		c.settle()
	})
}

// TestRemovedNodeHearsItFromAnybody starts nodes that were given up together, so that they would make a majority by the books
// of their own: one word of a third keeps them out.
func TestRemovedNodeHearsItFromAnybody(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		gone := c.nodes[2].id.NodeID
		c.kill(2)
		for _, n := range c.nodes[:2] {
			n.id.Refused = []string{gone} // as a recovery notes it
		}
		_, err := Open(c.t.Context(), c.options(2))
		require.True(c.t, errs.Is(err, errs.FailedPrecondition), "%v", err)
		require.ErrorContains(c.t, err, "was removed")
	})
}

// TestForgetfulVoterLosesItsVote decides what a leader does about a voter that has lost its replica.
func TestForgetfulVoterLosesItsVote(t *testing.T) {
	at := groupStatus{Last: 100, Commit: 100, Applied: 100, Voters: []string{"a", "b", "c"}}
	own := at
	own.Lost = []string{"c"}
	s := situation{self: "a", wanted: []string{"a", "b", "c"}, own: own, others: map[string]groupStatus{"b": at}}
	require.Equal(t, change{changeRemove, "c"}, s.next())
	s.others = nil
	require.Equal(t, change{op: changeWait}, s.next(), "a alone is no majority of what remains")
	s.others = map[string]groupStatus{"b": at}
	s.own.Voters = slices.DeleteFunc(slices.Clone(s.own.Voters), func(v string) bool { return v == "c" })
	s.others["b"] = groupStatus{Last: 100, Commit: 100, Applied: 100, Voters: s.own.Voters}
	require.Equal(t, change{changeLearner, "c"}, s.next(), "then it comes again")
}
