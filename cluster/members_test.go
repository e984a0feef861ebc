package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// simCluster is some nodes in one process, inside a bubble of its own time.
type simCluster struct {
	t     *testing.T
	net   *memoryNetwork
	dirs  []string
	disks []*vfs.Sim // nil: the real one
	nodes []*Node    // nil: closed
	opts  func(*Options)
}

// inCluster runs test with a cluster of n nodes on which all shards have settled.
func inCluster(t *testing.T, n int, test func(*simCluster)) { inClusterWith(t, n, nil, test) }

// inClusterWith is inCluster with options of its own.
func inClusterWith(t *testing.T, n int, opts func(*Options), test func(*simCluster)) {
	dirs := make([]string, n+2)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	inBubble(t, func(t *testing.T) {
		c := &simCluster{t: t, net: newMemoryNetwork(), dirs: dirs, nodes: make([]*Node, len(dirs)), opts: opts}
		defer c.close()
		for i := range n {
			c.start(i)
		}
		c.settle()
		test(c)
	})
}

func clusterLogger() *slog.Logger {
	var w io.Writer = io.Discard
	if os.Getenv("CROFT_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (c *simCluster) options(i int) Options {
	o := Options{
		Dir: c.dirs[i], Shards: 3, DiskReserve: -1, Logger: clusterLogger().With("node", i), SegmentSize: 64 << 10,
		Engine: engine.Options{BuildThreads: 1}, URL: fmt.Sprint("http://node", i),
		network: func(node string) peers { return c.net.peers(node) }, disk: vfs.OS(),
	}
	if c.disks != nil {
		o.disk = c.disks[i]
	}
	if c.opts != nil {
		c.opts(&o)
	}
	return o
}

// start opens a node. A new one other than the first joins.
func (c *simCluster) start(i int) *Node {
	o := c.options(i)
	known, err := vfs.Exists(o.disk, identityPath(o.Dir))
	require.NoError(c.t, err)
	if !known && i > 0 {
		member := c.any()
		token, err := member.NewJoinToken(c.t.Context(), time.Hour)
		require.NoError(c.t, err)
		o.Join, o.JoinToken = member.id.NodeID, token
	}
	n, err := Open(c.t.Context(), o)
	require.NoError(c.t, err)
	c.nodes[i] = n
	return n
}

// startAll opens the first n nodes at the same time, as they need each other.
func (c *simCluster) startAll(n int) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan error, n)
	for i := range n {
		go func() {
			n, err := Open(ctx, c.options(i))
			c.nodes[i] = n
			done <- err
		}()
	}
	for range n {
		require.NoError(c.t, <-done)
	}
}

func (c *simCluster) stop(i int) {
	require.NoError(c.t, c.nodes[i].Close())
	c.nodes[i] = nil
}

// kill closes a node that nobody hears any more: it cannot hand anything over.
func (c *simCluster) kill(i int) {
	c.net.drop(c.nodes[i].id.NodeID)
	c.stop(i)
}

func (c *simCluster) close() {
	for i, n := range c.nodes {
		if n != nil {
			c.stop(i)
		}
	}
}

func (c *simCluster) any() *Node {
	for _, n := range c.nodes {
		if n != nil {
			return n
		}
	}
	return nil
}

// until waits for a condition, for up to two minutes of the bubble's time.
func (c *simCluster) until(what string, ready func() bool) {
	c.t.Helper()
	for range 1200 {
		if ready() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.dump()
	c.t.Fatalf("never came: %s", what)
}

func (c *simCluster) dump() {
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		c.t.Logf("node %d %s: %v %v", i, n.id.NodeID, n.meta.state().members, n.meta.state().placed)
		st := n.status(statusRequest{All: true})
		c.t.Logf("  meta %+v", st.Meta)
		for _, g := range st.Groups {
			c.t.Logf("  shard %+v", g)
		}
	}
}

// settle waits until all shards have the wanted replicas and leaders, and nothing more is wanted.
func (c *simCluster) settle() {
	c.t.Helper()
	c.until("all settled", func() bool { return c.settled() })
}

func (c *simCluster) settled() bool {
	leader := c.metaLeader()
	if leader == nil {
		return false
	}
	s := leader.meta.state()
	w := newSteward(leader)
	w.seen = map[string]time.Time{}
	for _, m := range s.members {
		w.seen[m.id] = time.Now()
		if m.state == memberJoining {
			return false
		}
	}
	if _, more := w.layout(s).next(); more {
		return false
	}
	for _, p := range s.placed {
		sh := c.leader(p.shard)
		if sh == nil || string(sh.group.opts.node) != p.replicas[0] {
			return false
		}
		st := sh.group.status()
		if !settled(&st, p.replicas) {
			return false
		}
	}
	return len(leader.meta.group.status().Voters) == metaTarget(len(c.active(s)))
}

func (c *simCluster) active(s *state) (nodes []string) {
	for _, m := range s.members {
		if m.state == memberActive {
			nodes = append(nodes, m.id)
		}
	}
	return nodes
}

func (c *simCluster) metaLeader() *Node {
	for _, n := range c.nodes {
		if n != nil && n.meta.group.leads() {
			return n
		}
	}
	return nil
}

func (c *simCluster) leader(id uint16) *shard {
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		if sh := n.replica(id); sh != nil && sh.group.leads() {
			return sh
		}
	}
	return nil
}

func (c *simCluster) index(node string) int {
	return slices.IndexFunc(c.nodes, func(n *Node) bool { return n != nil && n.id.NodeID == node })
}

// write writes records until they are acknowledged, through any node.
func (c *simCluster) write(ix Index, ns string, xs ...int) {
	recs := make([]engine.Record, len(xs))
	for i, x := range xs {
		recs[i] = record(c.t, x)
	}
	c.writeRecords(ix, ns, recs)
}

func (c *simCluster) writeRecords(ix Index, ns string, recs []engine.Record) {
	c.until("a write is acknowledged", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.any().Upsert(ctx, ix, ns, recs)
		if err != nil && !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown) && !errs.Is(err, errs.DeadlineExceeded) {
			require.NoError(c.t, err)
		}
		return err == nil
	})
}

// caughtUp waits until all replicas have applied the same, and compares what they hold.
func (c *simCluster) caughtUp(records uint64) {
	c.t.Helper()
	c.until("replicas are equal", func() bool {
		var sum uint64
		for _, p := range c.any().meta.state().placed {
			var first *engine.Stats
			for _, id := range p.replicas {
				i := c.index(id)
				if i < 0 || c.nodes[i].replica(p.shard) == nil {
					return false
				}
				sh := c.nodes[i].replica(p.shard)
				st := sh.engine.Stats()
				if first == nil {
					first = &st
					sum += st.Records
				}
				if st.AppliedIndex != first.AppliedIndex || st.Records != first.Records || st.Partitions != first.Partitions {
					return false
				}
			}
		}
		return sum == records
	})
}

func TestClusterGrowsAndSurvivesALeader(t *testing.T) {
	inCluster(t, 1, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2, 3)
		}
		c.start(1)
		c.start(2)
		c.settle()
		s := c.nodes[2].meta.state()
		for _, p := range s.placed {
			require.Len(c.t, p.replicas, 3)
		}
		leads := map[string]int{}
		for _, p := range s.placed {
			leads[p.replicas[0]]++
		}
		require.Len(c.t, leads, 3, "leaders are spread")
		c.caughtUp(18)

		first := c.index(s.placed[0].replicas[0])
		c.kill(first)
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 4)
		}
		c.start(first)
		c.settle()
		c.caughtUp(24)
	})
}

// TestSilentLeaderIsReplacedSoon cuts leaders off, one after the other, when one of the followers lacks an entry, and looks how long
// the group is without a leader, in election timeouts of virtual time.
func TestSilentLeaderIsReplacedSoon(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix, ns := createIndex(c.t, c.nodes[0], "i"), "ns"
		c.write(ix, ns, 100)
		c.caughtUp(1)
		state := c.nodes[0].meta.state()
		tenant, _ := state.tenant(ns)
		id := state.home(tenant)
		late := 0
		for round := range 16 {
			c.settle()
			old := c.leader(id)
			leader := string(old.group.opts.node)
			at := c.index(leader)
			behind := c.nodes[(at+1+round%2)%3].id.NodeID
			c.net.delay(leader, behind, 60*time.Millisecond)
			time.Sleep(time.Second)
			_, err := c.nodes[at].Upsert(c.t.Context(), ix, ns, []engine.Record{record(c.t, round)})
			require.NoError(c.t, err)
			time.Sleep(50 * time.Millisecond) // both hear of the leader, in whatever order, but the entry is still on its way
			c.net.isolate(leader)
			cut := time.Now()
			for led := false; !led; {
				time.Sleep(time.Millisecond)
				for _, n := range c.nodes[:3] {
					sh := n.replica(id)
					led = led || sh != old && sh.group.leads()
				}
			}
			if time.Since(cut) > 2*old.group.opts.tick {
				late++
			}
			c.net.rejoin(leader)
			c.net.delay(leader, behind, 0)
		}
		c.t.Logf("%d late", late)
		require.LessOrEqual(c.t, late, 1, "votes were refused or split")
	})
}

// TestSilentNodeIsNotAskedForEver has a node doubt whoever does not answer: it goes round the replicas, and never to itself.
func TestSilentNodeIsNotAskedForEver(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		n := c.nodes[0]
		for _, p := range n.meta.state().placed {
			for _, silent := range append(p.replicas, "gone") {
				n.doubtLeader(p.shard, silent)
				hint := *n.hints[p.shard].Load()
				require.Contains(t, p.replicas, hint)
				require.NotContains(t, []string{silent, n.id.NodeID}, hint)
			}
		}
	})
}

// TestDeposedLeaderReadsNothing cuts a leader off that goes on believing in itself for a while: from the moment somebody
// else could have been elected, it answers no read.
func TestDeposedLeaderReadsNothing(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		p := c.nodes[0].meta.state().placed[0]
		old := c.nodes[c.index(p.replicas[0])]
		sh := old.replica(p.shard)
		require.NoError(c.t, sh.readable(c.t.Context()))
		l := sh.group.leases.current.Load()
		require.NotNil(c.t, l)
		require.NoError(c.t, sh.readable(c.t.Context()))
		require.Same(c.t, l, sh.group.leases.current.Load(), "a lease spares the next read the question")

		c.net.isolate(old.id.NodeID)
		elected := func() *shard {
			for _, n := range c.nodes[:3] {
				if other := n.replica(p.shard); n != old && other.group.leads() {
					return other
				}
			}
			return nil
		}
		for elected() == nil {
			time.Sleep(time.Millisecond)
		}
		require.True(c.t, time.Now().After(l.until), "nobody is elected while the lease holds")
		ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
		defer cancel()
		require.Error(c.t, sh.readable(ctx), "although it may not have noticed")
		c.until("the new leader reads", func() bool { sh := elected(); return sh != nil && sh.readable(ctx) == nil })
		c.net.rejoin(old.id.NodeID)
		c.settle() // leadership comes back to where it is wanted
		c.until("the old one leads again", func() bool { return sh.readable(c.t.Context()) == nil })
	})
}

// TestLeaseEndsWithATransfer: the candidate of a transfer is elected while its voters still follow the old leader.
func TestLeaseEndsWithATransfer(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		p := c.nodes[0].meta.state().placed[0]
		old := c.nodes[c.index(p.replicas[0])].replica(p.shard).group
		require.NoError(c.t, old.readable(c.t.Context()))
		require.NoError(c.t, old.transfer(c.t.Context(), p.replicas[1]))
		require.Nil(c.t, old.leases.current.Load())
		require.Error(c.t, old.readable(c.t.Context()))
	})
}

// TestGoneNodeIsReplaced waits out ReplaceAfter, and finds the node on its return without the replicas that others got.
func TestGoneNodeIsReplaced(t *testing.T) {
	inCluster(t, 4, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 4 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2)
		}
		c.settle()
		gone := c.nodes[3].id.NodeID
		c.kill(3)
		time.Sleep(11 * time.Minute)
		c.until("others have its replicas", func() bool {
			s := c.nodes[0].meta.state()
			for _, p := range s.placed {
				if slices.Contains(p.replicas, gone) || len(p.replicas) != 3 {
					return false
				}
			}
			return true
		})
		c.caughtUp(8)
		for _, v := range c.metaLeader().meta.group.status().Voters {
			require.NotEqual(c.t, gone, v, "nor does it vote in the metadata plane")
		}
		c.start(3)
		c.settle()
		c.caughtUp(8)
	})
}

// TestNewcomerRestarts stops a node that was let in and has no replica yet: at its next start it must not take itself for a
// node that has always been alone, and has lost all shards.
func TestNewcomerRestarts(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		c.start(3)
		require.Empty(c.t, c.nodes[3].replicas().sorted())
		c.stop(3)
		c.start(3)
		c.settle()
	})
}

// TestRemovalAwaitsTheGroups drains a node and asks for its removal as soon as nothing is placed on it any more: it is refused
// while the groups still count on its vote.
func TestRemovalAwaitsTheGroups(t *testing.T) {
	inCluster(t, 4, func(c *simCluster) {
		n, id := c.nodes[0], c.nodes[1].id.NodeID
		require.NoError(c.t, n.DrainNode(c.t.Context(), id))
		c.until("nothing is placed on it", func() bool {
			s := n.meta.state()
			return !slices.ContainsFunc(s.placed, func(p placement) bool { return slices.Contains(p.replicas, id) })
		})
		require.Error(c.t, n.RemoveNode(c.t.Context(), id, false))
		c.until("it is removed", func() bool { return n.RemoveNode(c.t.Context(), id, false) == nil })
		for _, p := range n.meta.state().placed {
			require.NotContains(c.t, c.leader(p.shard).group.status().Voters, id)
		}
	})
}

// TestFounderIsDrained drains the node that has the only vote in the metadata plane: with two nodes there is no second, and the
// other one has to take over from a voter that is not to stay.
func TestFounderIsDrained(t *testing.T) {
	inCluster(t, 2, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "ns", 1, 2, 3)
		founder, heir := c.nodes[0].id.NodeID, c.nodes[1]
		require.Equal(c.t, []string{founder}, heir.meta.group.status().Voters)
		require.NoError(c.t, heir.DrainNode(c.t.Context(), founder))
		c.until("it is removed", func() bool { return heir.RemoveNode(c.t.Context(), founder, false) == nil })
		c.kill(0)
		c.settle()
		c.write(ix, "new", 4)
		c.caughtUp(4)
	})
}

// TestLostMetaCallHoldsNobodyUp loses what a node asks of the metadata plane's leader, without a word: others who make
// tenants through that node later need not wait for that answer.
func TestLostMetaCallHoldsNobodyUp(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		c.net.swallow = true
		ix := createIndex(c.t, c.nodes[0], "i")
		lead := c.metaLeader()
		n := c.nodes[0]
		if n == lead {
			n = c.nodes[1]
		}
		c.net.cut(n.id.NodeID, lead.id.NodeID) // it still hears the leader, so it goes on asking it
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		_, err := n.Upsert(ctx, ix, "lost", []engine.Record{record(c.t, 1)})
		require.Error(c.t, err)
		c.net.healAll()
		c.until("another tenant is made", func() bool {
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
			defer cancel()
			_, err := n.Upsert(ctx, ix, "other", []engine.Record{record(c.t, 1)})
			return err == nil
		})
	})
}

// TestRemovedMemberSpeaksForItself asks to be let in through a member that was removed and does not know it: its own refusal must
// not keep anybody else from starting.
func TestRemovedMemberSpeaksForItself(t *testing.T) {
	inCluster(t, 4, func(c *simCluster) {
		asked, asks := c.nodes[3], c.nodes[2]
		require.NoError(c.t, c.nodes[0].DrainNode(c.t.Context(), asked.id.NodeID))
		c.until("it is removed", func() bool { return c.nodes[0].RemoveNode(c.t.Context(), asked.id.NodeID, false) == nil })
		news := asks.introduction()
		news.URL = "http://elsewhere"
		request, err := json.Marshal(news)
		require.NoError(c.t, err)
		c.until("it answers", func() bool {
			_, err = asked.answerJoin(c.t.Context(), asks.id.NodeID, request, nil)
			return err != nil && strings.Contains(err.Error(), "removed")
		})
		require.True(c.t, errs.Is(err, errs.Unavailable), "%v", err)
	})
}

// TestRaftIsRestarted replaces raft instances under load: nothing is lost or doubled, and the metadata never goes back.
func TestRaftIsRestarted(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "ns", 1, 2)
		before := c.nodes[1].meta.state().index
		for _, n := range c.nodes[:3] {
			for _, g := range n.groups() {
				require.NoError(c.t, g.restart())
			}
			require.GreaterOrEqual(c.t, n.meta.state().index, before)
		}
		c.settle()
		c.write(ix, "ns", 3)
		c.caughtUp(3)
	})
}

// TestWholeClusterRestarts stops all nodes and starts them again: addresses must be known before anybody has a leader.
func TestWholeClusterRestarts(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.write(ix, "ns", 1, 2, 3)
		for i := range 3 {
			c.kill(i)
		}
		c.startAll(3)
		c.settle()
		c.write(ix, "ns", 4)
		c.caughtUp(4)
	})
}
