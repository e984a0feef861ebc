package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/vfs"
)

// fill writes until the logs of all shards have none of what was there before. A log that is held for a replica takes a
// minute of the bubble's time more.
func (c *simCluster) fill(ix Index, from int) (records uint64) {
	long, err := metadata.Make(metadata.Field{Key: "text", Value: metadata.StringValue(strings.Repeat("x", 20_000))})
	require.NoError(c.t, err)
	before := map[uint16]uint64{}
	for _, p := range c.any().meta.state().placed {
		c.until("there is a leader", func() bool { return c.leader(p.shard) != nil })
		before[p.shard] = c.leader(p.shard).group.raft().LastIndex()
	}
	trimmed := func() bool {
		for id, last := range before {
			if c.first(id) <= last+1 {
				return false
			}
		}
		return true
	}
	for round := 0; !trimmed(); round++ {
		require.Less(c.t, round, 20)
		for i := range 40 {
			r := record(c.t, from+round)
			r.Metadata = long
			c.writeRecords(ix, fmt.Sprint("ns", i), []engine.Record{r})
			records++
		}
		time.Sleep(10 * time.Second)
	}
	return records
}

// first is the first entry in a shard's leader's log.
func (c *simCluster) first(id uint16) uint64 {
	sh := c.leader(id)
	if sh == nil {
		return 0
	}
	first, err := sh.group.log.FirstIndex()
	require.NoError(c.t, err)
	return first
}

// equalDigests compares all replicas by what their disks hold.
func (c *simCluster) equalDigests(records uint64) {
	c.t.Helper()
	c.caughtUp(records)
	for _, p := range c.any().meta.state().placed {
		var want engine.Digest
		for i, id := range p.replicas {
			d, err := c.nodes[c.index(id)].replica(p.shard).engine.DigestRecords(c.t.Context())
			require.NoError(c.t, err)
			if i == 0 {
				want = d
			}
			require.Equal(c.t, want, d, "shard %d on node %s", p.shard, id)
		}
	}
}

func trimmedLogs(o *Options) { o.LogRetain = 64 << 10 }

// TestNewReplicasGetCheckpoints lets nodes join a cluster whose logs no longer have everything.
func TestNewReplicasGetCheckpoints(t *testing.T) {
	inClusterWith(t, 1, trimmedLogs, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		records := c.fill(ix, 0)
		c.start(1)
		c.start(2)
		c.settle()
		c.equalDigests(records)
		for i := range 2 {
			for id, inc := range c.incarnations(1 + i) {
				require.EqualValues(c.t, 2, inc.Number, "shard %d came by its log: the test shows nothing", id)
			}
		}
	})
}

// TestLaggingReplicasGetCheckpoints stops a node until the logs have moved on without it, twice: it comes back with what it
// lacks, votes as before, and can be restarted.
func TestLaggingReplicasGetCheckpoints(t *testing.T) {
	inClusterWith(t, 3, trimmedLogs, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		var records uint64
		for round := range 2 {
			c.kill(2)
			records += c.fill(ix, 1000*round)
			c.start(2)
			c.settle()
			c.equalDigests(records)
			for id, inc := range c.incarnations(2) {
				require.EqualValues(c.t, 2+round, inc.Number, "shard %d", id)
			}
			for _, sh := range c.nodes[2].replicas() {
				found, err := incarnations(vfs.OS(), c.dirs[2], sh.id)
				require.NoError(c.t, err)
				require.Contains(c.t, found, uint64(2+round))
			}
		}
		c.stop(2)
		c.start(2)
		c.settle()
		c.equalDigests(records)
		for _, sh := range c.nodes[2].replicas() {
			found, err := incarnations(vfs.OS(), c.dirs[2], sh.id)
			require.NoError(c.t, err)
			require.Equal(c.t, []uint64{3}, found, "what was replaced is gone")
		}
		c.kill(0) // the one that came back is needed now
		c.write(ix, "ns0", 7777)
		c.start(0)
		c.settle()
		c.equalDigests(records + 1)
	})
}

// TestSilentSourceIsGivenUp: a node that lacks what the logs have lost asks one for a checkpoint from which it never hears
// again. As soon as another leads it goes on there, for the group may need it to commit anything.
func TestSilentSourceIsGivenUp(t *testing.T) {
	inClusterWith(t, 3, trimmedLogs, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		late := c.nodes[2].id.NodeID
		has := c.nodes[2].replica(0).group.raft().LastIndex()
		c.kill(2)
		records := c.fill(ix, 0)
		sh := c.leader(0)
		source := string(sh.group.opts.node)
		other := c.nodes[1-c.index(source)]
		c.until("the other's log does not reach back either", func() bool {
			first, err := other.replica(sh.id).group.log.FirstIndex()
			return err == nil && first > has+1
		})
		c.net.swallow = true
		c.net.cut(late, source)
		c.start(2)
		asks := func() bool {
			taker := c.nodes[2].taker
			taker.mu.Lock()
			defer taker.mu.Unlock()
			return taker.running[sh.id] != nil && taker.running[sh.id].from == source
		}
		c.until("it asks for a checkpoint", asks)
		c.net.cutBoth(source, late)
		c.net.cutBoth(source, other.id.NodeID) // the two others have to go on without it
		alone := time.Now()
		c.until("the shard takes writes", func() bool {
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
			defer cancel()
			next := other.replica(sh.id)
			return next.group.leads() && next.group.barrier(ctx) == nil
		})
		require.Less(c.t, time.Since(alone), time.Minute)
		c.net.healAll()
		c.settle()
		c.equalDigests(records)
	})
}
