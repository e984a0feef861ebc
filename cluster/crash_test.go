package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/vfs"
)

// crashCluster is a simCluster whose nodes lose their power.
type crashCluster struct {
	*simCluster
	rng *rand.Rand
}

// inCrashes runs test with n nodes on simulated disks.
func inCrashes(t *testing.T, n int, opts func(*Options), test func(*crashCluster)) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T) {
		c := &simCluster{t: t, net: newMemoryNetwork(), opts: opts, nodes: make([]*Node, n)}
		for range n {
			c.dirs, c.disks = append(c.dirs, "/data"), append(c.disks, slowDisk())
		}
		defer c.close()
		for i := range n {
			c.start(i)
		}
		c.settle()
		test(&crashCluster{c, rand.New(rand.NewPCG(seed, 0))})
	})
}

// slowDisk returns an empty disk whose syncs take time: else time passes only while all disks are at rest, and no crash
// falls between two writes.
func slowDisk() *vfs.Sim {
	d := vfs.NewSim()
	d.SetSyncTime(syncTime)
	return d
}

const syncTime = 3 * time.Millisecond

// cut cuts the power of a node: it is gone, with what it had not synced. Its calls fail from then on.
func (c *crashCluster) cut(i int) {
	c.disks[i] = c.disks[i].Crash(c.rng)
	c.disks[i].SetSyncTime(syncTime)
	c.net.drop(c.nodes[i].id.NodeID)
}

// bury ends what is left of a node whose power was cut. Nobody may call it any more.
func (c *crashCluster) bury(i int) {
	_ = c.nodes[i].Close() // its disk is gone
	c.nodes[i] = nil
}

// writer writes records one after the other, and remembers which were acknowledged.
type writer struct {
	c     *crashCluster
	ix    Index
	stop  context.CancelFunc
	ended sync.WaitGroup
	next  int
	count atomic.Int64 // of acked
	acked []int        // once it has ended
}

func (c *crashCluster) startWriter(ix Index, via *Node, first int) *writer {
	w := &writer{c: c, ix: ix, next: first}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended.Go(func() {
		for ; ctx.Err() == nil; w.next++ {
			if _, err := via.Upsert(ctx, ix, namespaceOf(w.next), []engine.Record{record(c.t, w.next)}); err == nil {
				w.acked = append(w.acked, w.next)
				w.count.Add(1)
			}
			time.Sleep(time.Millisecond)
		}
	})
	return w
}

func namespaceOf(x int) string { return fmt.Sprint("ns", x%5) }

func (w *writer) end() {
	w.stop()
	w.ended.Wait()
}

// holds finds all records that were acknowledged, through any node.
func (c *crashCluster) holds(ix Index, acked []int) {
	c.t.Helper()
	there := map[string]bool{}
	for ns := range 5 {
		c.until("a namespace can be read", func() bool {
			ids, more, err := c.any().ScanIDs(c.t.Context(), ix, namespaceOf(ns), "", "", 100_000)
			require.False(c.t, more)
			for _, id := range ids {
				there[id] = true
			}
			return err == nil
		})
	}
	for _, x := range acked {
		require.True(c.t, there[record(c.t, x).ID], "record %d was acknowledged and is gone", x)
	}
}

// TestAllCrashAtOnce cuts the power of all nodes while they are written to, again and again.
func TestAllCrashAtOnce(t *testing.T) {
	inCrashes(t, 3, nil, func(c *crashCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		var acked []int
		for round := range 3 {
			w := c.startWriter(ix, c.nodes[round], 1000*round)
			c.until("some are acknowledged", func() bool { return w.count.Load() > 20 })
			time.Sleep(time.Duration(c.rng.IntN(200)) * time.Millisecond)
			for i := range 3 {
				c.cut(i)
			}
			w.end()
			for i := range 3 {
				c.bury(i)
			}
			acked = append(acked, w.acked...)
			c.startAll(3)
			c.settle()
			c.holds(ix, acked)
		}
	})
}

// TestOneCrashesUnderWrites cuts the power of one node after the other in the midst of writes, which go on without it. What it
// acknowledged counts in majorities that it is then needed for.
func TestOneCrashesUnderWrites(t *testing.T) {
	inCrashes(t, 3, trimmedLogs, func(c *crashCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		var acked []int
		for i := range 3 {
			w := c.startWriter(ix, c.nodes[(i+1)%3], 1000*i)
			c.until("some are acknowledged", func() bool { return w.count.Load() > 20 })
			time.Sleep(time.Duration(c.rng.IntN(200)) * time.Millisecond)
			c.cut(i)
			before := w.count.Load()
			c.until("writes go on", func() bool { return w.count.Load() > before+20 })
			w.end()
			acked = append(acked, w.acked...)
			c.bury(i)
			c.start(i)
			c.settle()
			c.holds(ix, acked)
		}
		for _, p := range c.nodes[0].meta.state().placed {
			var want engine.Digest
			for i, id := range p.replicas {
				c.until("replicas are equal", func() bool {
					d, err := c.nodes[c.index(id)].replica(p.shard).engine.DigestRecords(c.t.Context())
					require.NoError(c.t, err)
					if i == 0 {
						want = d
					}
					return d == want
				})
			}
		}
	})
}

// TestCrashDuringCheckpointTransfer cuts the power of a node that comes back to logs which no longer reach back to where it
// was, while it gets its replicas' files, some times over: each start goes on, and in the end it has all.
func TestCrashDuringCheckpointTransfer(t *testing.T) {
	inCrashes(t, 3, trimmedLogs, func(c *crashCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		c.cut(2)
		c.bury(2)
		records := c.fill(ix, 0)
		for range 4 {
			c.start(2)
			time.Sleep(time.Duration(c.rng.IntN(2000)) * time.Millisecond)
			c.cut(2)
			c.bury(2)
		}
		c.start(2)
		c.settle()
		c.equalDigests(records)
		for id, i := range c.incarnations(2) {
			require.Greater(c.t, i.Number, uint64(1), "shard %d came by its log: the test shows nothing", id)
		}
	})
}

// TestNewNodeOnAnEmptyDisk replaces a machine: a node joins with nothing, gets its replicas, crashes and is still whole.
func TestNewNodeOnAnEmptyDisk(t *testing.T) {
	inCrashes(t, 3, trimmedLogs, func(c *crashCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		records := c.fill(ix, 0)
		lost := c.nodes[2].id.NodeID
		c.cut(2)
		c.bury(2)
		c.disks[2] = slowDisk()
		c.start(2)
		time.Sleep(11 * time.Minute) // ReplaceAfter, and some
		c.until("the dead one's replicas are elsewhere", func() bool {
			s := c.any().meta.state()
			for _, p := range s.placed {
				if slices.Contains(p.replicas, lost) || len(p.replicas) < 3 {
					return false
				}
			}
			return true
		})
		c.caughtUp(records)
		c.cut(2)
		c.bury(2)
		c.start(2)
		c.equalDigests(records)
	})
}

// TestNewcomerIsLostWhileItIsFilled loses a node that shards are placed on before it has a vote in all of them, and for good: when
// its time is over, another one gets its replicas.
func TestNewcomerIsLostWhileItIsFilled(t *testing.T) {
	soon := func(o *Options) { trimmedLogs(o); o.ReplaceAfter = 30 * time.Second }
	inClusterWith(t, 3, soon, func(c *simCluster) {
		records := c.fill(createIndex(c.t, c.nodes[0], "i"), 0)
		newcomer := c.start(3).id.NodeID
		c.until("a shard waits for it", func() bool {
			for _, p := range c.nodes[0].meta.state().placed {
				sh := c.leader(p.shard)
				if slices.Contains(p.replicas, newcomer) && sh != nil && !slices.Contains(sh.group.status().Voters, newcomer) {
					return true
				}
			}
			return false
		})
		c.kill(3)
		c.until("its replicas are elsewhere", func() bool {
			for _, p := range c.nodes[0].meta.state().placed {
				sh := c.leader(p.shard)
				if sh == nil {
					return false
				}
				if st := sh.group.status(); slices.Contains(p.replicas, newcomer) || !settled(&st, p.replicas) {
					return false
				}
			}
			return true
		})
		c.equalDigests(records)
	})
}

// TestEngineFaultEndsTheNode fills the disk before the engine notes what it was told to remove. From then on it refuses
// everything; the node must not go on leading a shard like that.
func TestEngineFaultEndsTheNode(t *testing.T) {
	inCrashes(t, 1, nil, func(c *crashCluster) {
		n := c.nodes[0]
		ix := createIndex(c.t, n, "i")
		upsert(c.t, n, ix, "ns", 1, 2, 3)
		time.Sleep(time.Minute) // all is flushed
		_, err := n.Delete(c.t.Context(), ix, "ns", []string{record(c.t, 1).ID})
		require.NoError(c.t, err)
		c.disks[0].SetFull(true)
		select {
		case <-n.Failed():
			require.True(c.t, vfs.IsFull(n.Failure()), "%v", n.Failure())
		case <-time.After(time.Minute):
			_, err := n.Delete(c.t.Context(), ix, "ns", []string{record(c.t, 2).ID})
			c.t.Errorf("the node goes on, and answers writes with: %v", err)
		}
		c.disks[0] = c.disks[0].Kill()
		_ = n.Close() // its disk is gone
		c.nodes[0] = nil
		recs, err := c.start(0).Fetch(c.t.Context(), ix, "ns", []string{record(c.t, 1).ID, record(c.t, 2).ID})
		require.NoError(c.t, err)
		require.Len(c.t, recs, 1, "what was removed stays so")
		require.Equal(c.t, record(c.t, 2).ID, recs[0].ID)
	})
}
