package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// inspectAll looks at the directories of stopped nodes.
func (c *simCluster) inspectAll(survivors ...int) (all []*Inspection) {
	for _, i := range survivors {
		in, err := Inspect(c.dirs[i], testLogger())
		require.NoError(c.t, err)
		all = append(all, in)
	}
	return all
}

// recover goes on with the survivors, all others being lost.
func (c *simCluster) recover(survivors ...int) *RecoveryPlan {
	p, err := PlanRecovery(c.inspectAll(survivors...), PlanOptions{})
	require.NoError(c.t, err)
	for _, i := range survivors {
		require.NoError(c.t, ApplyRecovery(c.dirs[i], p, testLogger()))
	}
	return p
}

// TestOneOfThreeGoesOn loses two nodes of three: nothing is written until the recovery, then everything that was there is,
// two new nodes get their replicas, and the old ones are refused.
func TestOneOfThreeGoesOn(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2, 3)
		}
		c.settle()
		c.caughtUp(18)
		lost := []string{c.nodes[0].id.NodeID, c.nodes[1].id.NodeID}
		slices.Sort(lost)
		for i := range 3 {
			c.kill(i)
		}
		p := c.recover(2)
		require.True(c.t, p.Removes())
		require.Len(c.t, p.Lost, 2)
		for _, g := range p.Groups {
			require.Equal(c.t, FateKept, g.Fate, g.Name())
			require.True(c.t, g.Voter)
			require.Len(c.t, g.Voters, 3)
		}

		n, err := Open(c.t.Context(), c.options(2))
		require.NoError(c.t, err)
		c.nodes[2] = n
		for i := range 6 {
			recs, err := n.Fetch(c.t.Context(), ix, fmt.Sprint("ns", i), []string{"id0001", "id0002", "id0003"})
			require.NoError(c.t, err)
			require.Len(c.t, recs, 3)
		}
		c.write(ix, "ns0", 4)
		c.write(ix, "new", 1)
		info := n.Info(c.t.Context())
		require.Len(c.t, info.Recoveries, 1)
		require.Equal(c.t, lost, slices.Sorted(slices.Values(info.Recoveries[0].Lost)))
		for _, i := range []int{0, 1} {
			_, err := Open(c.t.Context(), c.options(i))
			require.True(c.t, errs.Is(err, errs.FailedPrecondition), "%v", err)
			require.ErrorContains(c.t, err, "was removed")
		}
		c.start(3)
		c.start(4)
		c.settle()
		c.caughtUp(20)
		require.Len(c.t, n.meta.state().replicas(0), 3)
		c.equalDigests(20)
		for i := range 5 {
			if c.nodes[i] != nil {
				c.stop(i)
			}
		}
	})
}

// TestTwoOfFiveGoOn loses three nodes of five. What the survivors have most of stands, the rest goes on with the newest
// replica, and what one of them had and the other lacked is kept.
func TestTwoOfFiveGoOn(t *testing.T) {
	inCluster(t, 5, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 9 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2)
		}
		c.settle()
		c.caughtUp(18)
		c.kill(4)
		for i := range 9 {
			c.write(ix, fmt.Sprint("ns", i), 3)
		}
		for i := range 4 {
			c.kill(i)
		}
		all := c.inspectAll(3, 4)
		p, err := PlanRecovery(all, PlanOptions{})
		if errs.Is(err, errs.FailedPrecondition) && p != nil { // a shard may have been on the three others alone
			p, err = PlanRecovery(all, PlanOptions{GiveUpShards: true})
		}
		require.NoError(c.t, err)
		emptied := map[uint16]bool{}
		for _, g := range p.Groups {
			c.t.Log(g.Name(), g.Fate, g.Keep, g.Last, g.Replicas)
			if g.Fate == FateEmptied {
				emptied[uint16(g.Shard)] = true
			}
		}
		for _, i := range []int{3, 4} {
			require.NoError(c.t, ApplyRecovery(c.dirs[i], p, testLogger()))
		}
		done := make(chan error, 2)
		for _, i := range []int{3, 4} {
			go func() {
				n, err := Open(c.t.Context(), c.options(i))
				c.nodes[i] = n
				done <- err
			}()
		}
		require.NoError(c.t, <-done)
		require.NoError(c.t, <-done)
		c.settle()
		var records uint64
		for i := range 9 {
			ns := fmt.Sprint("ns", i)
			r, ok := c.nodes[3].route(&ix, ns)
			require.True(c.t, ok)
			recs, err := c.nodes[3].Fetch(c.t.Context(), ix, ns, []string{"id0001", "id0002", "id0003"})
			require.NoError(c.t, err)
			if emptied[r.shard] {
				require.Empty(c.t, recs)
				continue
			}
			records += uint64(len(recs))
			require.GreaterOrEqual(c.t, len(recs), 2, "what all had is there")
		}
		c.caughtUp(records)
		c.write(ix, "ns0", 4)
	})
}

// errStop is a crash between two steps.
var errStop = errors.New("stopped here")

// stopAt lets a change of a stopped node's directory go on for n steps.
func (s *stopped) stopAt(n int) *int {
	taken := 0
	s.step = func(string) error {
		if taken++; taken > n {
			return errStop
		}
		return nil
	}
	return &taken
}

// TestRecoveryIsResumed stops a recovery before each of its steps: the node does not start then, and the same call goes on
// to the same end.
func TestRecoveryIsResumed(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "ns", 1)
		c.settle()
		c.caughtUp(1)
		for i := range 3 {
			c.kill(i)
		}
		p, err := PlanRecovery(c.inspectAll(2), PlanOptions{})
		require.NoError(c.t, err)
		for n := 0; ; n++ {
			s, err := openStopped(vfs.OS(), c.dirs[2], testLogger())
			require.NoError(c.t, err)
			s.stopAt(n)
			err = s.apply(p)
			require.NoError(c.t, s.Close())
			if err == nil {
				require.Greater(c.t, n, 0)
				break
			}
			require.ErrorIs(c.t, err, errStop)
			pending, err := PendingRecovery(c.dirs[2])
			require.NoError(c.t, err)
			if n == 0 {
				require.Nil(c.t, pending, "nothing was done")
				continue
			}
			require.Equal(c.t, p.ID, pending.ID)
			_, err = Open(c.t.Context(), c.options(2))
			require.True(c.t, errs.Is(err, errs.FailedPrecondition), "%v", err)
			require.Contains(c.t, errs.HintOf(err), "croft recover")
		}
		for _, r := range c.inspectAll(2)[0].Groups {
			want := uint64(1)
			if r.Shard == MetadataGroup {
				want = 2
			}
			at := slices.IndexFunc(p.Groups, func(g GroupPlan) bool { return g.Shard == r.Shard })
			require.Equal(c.t, p.Groups[at].Last+want, r.Last, "entries were written once")
			require.Equal(c.t, []string{p.Groups[0].Keep}, r.Voters)
		}
		c.nodes[2], err = Open(c.t.Context(), c.options(2))
		require.NoError(c.t, err)
		c.write(ix, "ns", 2)
		c.caughtUp(2)
	})
}

// TestRecoveryOfAChangedDirectory refuses a plan that was made before the node ran again.
func TestRecoveryOfAChangedDirectory(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		for i := range 3 {
			c.kill(i)
		}
		p, err := PlanRecovery(c.inspectAll(2), PlanOptions{})
		require.NoError(c.t, err)
		p.Groups[1].Last++
		err = ApplyRecovery(c.dirs[2], p, testLogger())
		require.True(c.t, errs.Is(err, errs.FailedPrecondition), "%v", err)
		p.ClusterID = "another"
		require.Error(c.t, ApplyRecovery(c.dirs[2], p, testLogger()))
		pending, err := PendingRecovery(c.dirs[2])
		require.NoError(c.t, err)
		require.Nil(c.t, pending)
	})
}

// TestGivenUpReplicasBeginAnew loses files of a node, some of them in part, and stops between the steps of giving them up.
func TestGivenUpReplicasBeginAnew(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 1)
		}
		c.settle()
		c.caughtUp(6)
		c.kill(2)
		require.NoError(c.t, os.RemoveAll(shardDir(c.dirs[2], 0, 1)))
		require.NoError(c.t, os.RemoveAll(raftDir(shardDir(c.dirs[2], 1, c.incarnations(2)[1].Number))))
		require.NoError(c.t, os.WriteFile(raftlog.MetaPath(vfs.OS(), metaDir(c.dirs[2])), make([]byte, 8192), 0o600))
		require.NoError(c.t, os.RemoveAll(shardDir(c.dirs[2], 0, c.incarnations(2)[0].Number)))
		_, err := Open(c.t.Context(), c.options(2))
		require.Error(c.t, err)
		for n := 0; ; n++ {
			s, err := openStopped(vfs.OS(), c.dirs[2], testLogger())
			require.NoError(c.t, err)
			s.stopAt(n % 3)
			_, err = s.giveUp([]int{2})
			require.NoError(c.t, s.Close())
			if err == nil {
				break
			}
			require.ErrorIs(c.t, err, errStop)
			require.Less(c.t, n, 50)
		}
		c.start(2)
		c.settle()
		c.caughtUp(6)
		c.equalDigests(6)
		kept, err := os.ReadDir(filepath.Join(c.dirs[2], "aside"))
		require.NoError(c.t, err)
		require.NotEmpty(c.t, kept)
	})
}

// incarnations are a node's replicas as its disk names them, which can be asked while the node opens and closes some.
func (c *simCluster) incarnations(i int) map[uint16]incarnation {
	id, err := loadIdentity(c.options(i).disk, c.dirs[i], 3, false)
	require.NoError(c.t, err)
	return id.replicas()
}

func TestNodeAloneGivesNothingUp(t *testing.T) {
	o := testOptions(t.TempDir())
	n, err := Open(t.Context(), o)
	require.NoError(t, err)
	_, err = Inspect(o.Dir, testLogger())
	require.True(t, errs.Is(err, errs.FailedPrecondition), "it runs: %v", err)
	require.NoError(t, n.Close())
	require.NoError(t, os.RemoveAll(shardDir(o.Dir, 0, 1)))
	_, err = GiveUpReplicas(o.Dir, nil, testLogger())
	require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
	in, err := Inspect(o.Dir, testLogger())
	require.NoError(t, err)
	_, err = PlanRecovery([]*Inspection{in}, PlanOptions{})
	require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
}

// inspection is of a node of three with a metadata plane and one shard.
func inspection(node string, meta, shard Replica) *Inspection {
	meta.Shard = MetadataGroup
	in := &Inspection{Format: recoverFormat, ClusterID: "c", NodeID: node, Shards: []int{0}, Groups: []Replica{meta, shard}}
	for _, id := range []string{"a", "b", "c"} {
		in.Members = append(in.Members, InspectedNode{ID: id})
	}
	return in
}

// TestPlanRecovery decides about groups by what survivors have.
func TestPlanRecovery(t *testing.T) {
	three := []string{"a", "b", "c"}
	at := func(term, last uint64) Replica {
		return Replica{State: ReplicaWhole, Term: term, Last: last, LastTerm: term, Voters: three, Placed: three}
	}
	t.Run("newest log", func(t *testing.T) {
		five := at(3, 10)
		five.Voters = []string{"a", "b", "c", "d", "e"}
		longer, later := five, five
		longer.Last, later.LastTerm, later.Last = 12, 4, 2
		p, err := PlanRecovery([]*Inspection{inspection("a", longer, five), inspection("b", later, longer)}, PlanOptions{})
		require.NoError(t, err)
		require.Equal(t, "b", p.Groups[0].Keep, "the later term wins")
		require.Equal(t, "b", p.Groups[1].Keep, "then the longer log")
		require.Equal(t, []string{"b", "a"}, p.Groups[1].Replicas)
		require.Equal(t, []string{"c"}, p.lostIDs())
		require.Greater(t, p.Groups[0].Term, uint64(1)<<eraBits)
		require.NotEqual(t, p.Groups[0].Term, p.Groups[1].Term)
		again, err := PlanRecovery([]*Inspection{inspection("a", longer, five), inspection("b", later, longer)}, PlanOptions{})
		require.NoError(t, err)
		require.NotEqual(t, p.Groups[0].Term, again.Groups[0].Term, "two plans never share a term")
	})
	t.Run("a majority stands", func(t *testing.T) {
		_, err := PlanRecovery([]*Inspection{inspection("a", at(1, 1), at(1, 1)), inspection("b", at(1, 1), at(1, 1))}, PlanOptions{})
		require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
		require.Contains(t, errs.HintOf(err), "nodes remove --force")
	})
	t.Run("a shard is lost", func(t *testing.T) {
		survivors := []*Inspection{inspection("a", at(1, 1), Replica{State: ReplicaEmpty})}
		_, err := PlanRecovery(survivors, PlanOptions{})
		require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
		require.Contains(t, errs.HintOf(err), "--give-up-shards")
		p, err := PlanRecovery(survivors, PlanOptions{GiveUpShards: true})
		require.NoError(t, err)
		require.Equal(t, FateEmptied, p.Groups[1].Fate)
		require.Equal(t, []string{"a"}, p.Groups[1].Replicas)
	})
	t.Run("no metadata", func(t *testing.T) {
		_, err := PlanRecovery([]*Inspection{inspection("a", Replica{State: ReplicaMissing}, at(1, 1))}, PlanOptions{})
		require.ErrorContains(t, err, "metadata")
	})
	t.Run("mixed up", func(t *testing.T) {
		other := inspection("b", at(1, 1), at(1, 1))
		other.ClusterID = "d"
		for _, in := range [][]*Inspection{nil, {inspection("a", at(1, 1), at(1, 1)), other}, {inspection("a", at(1, 1), at(1, 1)), inspection("a", at(1, 1), at(1, 1))}} {
			_, err := PlanRecovery(in, PlanOptions{})
			require.True(t, errs.Is(err, errs.Invalid), "%v", err)
		}
	})
}

// TestTermsOfRecoveries are beyond all elections before, and leave room for those after.
func TestTermsOfRecoveries(t *testing.T) {
	for _, term := range []uint64{0, 7, 1<<32 - 1, 1 << 32, 5<<32 + 9} {
		next := termOfRecovery(term, 1<<32-1)
		require.Greater(t, next, term)
		require.Equal(t, term>>eraBits+1, (next+1<<30)>>eraBits)
	}
}
