package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// TestThreeNodesAnswerAlike: each verb, on each of three nodes that share the leaders among them.
func TestThreeNodesAnswerAlike(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for _, level := range []Consistency{Leader, Strong} {
			ctx := WithReading(c.t.Context(), &Reading{Consistency: level})
			for _, step := range script {
				want, wantErr := step.run(ctx, c.t, c.nodes[0], ix, fmt.Sprint("of node 0, ", level))
				for i, n := range c.nodes[1:3] {
					got, err := step.run(ctx, c.t, n, ix, fmt.Sprintf("of node %d, %s", i+1, level))
					require.Equal(c.t, want, got, step.name)
					require.Equal(c.t, fmt.Sprint(wantErr), fmt.Sprint(err), step.name)
				}
			}
		}
	})
}

// TestReadsSeeWritesOfOtherNodes: what is acknowledged through one node is seen through another at once, a namespace that is
// new included, also while leaders move on.
func TestReadsSeeWritesOfOtherNodes(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 30 {
			ns := fmt.Sprint("ns", i/3)
			w := upsert(c.t, c.nodes[i%3], ix, ns, i)
			if i%4 == 0 {
				_ = c.leader(uint16(w.Shard)).group.raft().LeadershipTransfer().Error() // or an election is on: so much the better
			}
			recs, err := c.nodes[(i+1)%3].Fetch(c.t.Context(), ix, ns, []string{fmt.Sprintf("id%04d", i)})
			require.NoError(c.t, err)
			require.Len(c.t, recs, 1, "write %d", i)
			all, err := c.nodes[(i+2)%3].IndexStats(c.t.Context(), ix)
			require.NoError(c.t, err)
			require.Contains(c.t, names(all), ns)
		}
	})
}

// TestAnyOutlivesTheQuorum: with two of three nodes gone, only those who take old answers get one, and are told its age.
func TestAnyOutlivesTheQuorum(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		for i := range 5 {
			c.write(ix, fmt.Sprint("ns", i), 1, 2)
		}
		c.caughtUp(10)
		c.kill(0)
		c.kill(1)
		last := c.nodes[2]
		time.Sleep(time.Minute)
		for i := range 5 {
			ns := fmt.Sprint("ns", i)
			r := Reading{Consistency: Any}
			recs, err := last.Fetch(WithReading(c.t.Context(), &r), ix, ns, []string{"id0001", "id0002"})
			require.NoError(c.t, err)
			require.Len(c.t, recs, 2)
			require.NotZero(c.t, r.Applied)
			require.GreaterOrEqual(c.t, r.Age, 50*time.Second)

			ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
			_, err = last.Fetch(ctx, ix, ns, []string{"id0001"})
			require.True(c.t, errs.Is(err, errs.Unavailable), "%v", err)
			_, err = last.Upsert(ctx, ix, ns, []engine.Record{record(c.t, 3)})
			require.True(c.t, errs.Is(err, errs.Unavailable), "%v", err)
			cancel()
		}
		page, _, total, err := last.Namespaces(WithReading(c.t.Context(), &Reading{Consistency: Any}), ix, "", "", 9)
		require.NoError(c.t, err)
		require.Equal(c.t, 5, total)
		require.Len(c.t, page, 5)
	})
}

// TestIndexesOfOtherNodes: an index made through one node is there for all, and dropped through another its records go
// everywhere.
func TestIndexesOfOtherNodes(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		made := createIndex(c.t, c.nodes[1], "i")
		require.NoError(c.t, c.nodes[2].Refresh(c.t.Context()))
		ix, ok := c.nodes[2].Index("i")
		require.True(c.t, ok)
		require.Equal(c.t, made, ix)
		for i := range 6 {
			c.write(ix, fmt.Sprint("ns", i), 1)
		}
		changed, err := c.nodes[0].ConfigureIndex(c.t.Context(), "i", IndexPatch{Tags: map[string]string{"a": "b"}})
		require.NoError(c.t, err)
		require.Equal(c.t, map[string]string{"a": "b"}, changed.Tags)
		require.NoError(c.t, c.nodes[2].DeleteIndex(c.t.Context(), "i"))
		_, ok = c.nodes[2].Index("i")
		require.False(c.t, ok)
		c.caughtUp(0)
	})
}

// TestLeaderDiesWhileAsked: requests of many clients through all nodes while the leaders' node is killed: each ends with an
// answer, or says whether it was done; what was acknowledged stays.
func TestLeaderDiesWhileAsked(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		victim := c.index(c.nodes[0].meta.state().placed[0].replicas[0])
		others := []*Node{c.nodes[(victim+1)%3], c.nodes[(victim+2)%3]}
		done := make(chan []string)
		for w := range 2 {
			go func() {
				var acked []string
				for i := range 60 {
					id := w*1000 + i
					_, err := others[w].Upsert(c.t.Context(), ix, "ns", []engine.Record{record(c.t, id)})
					switch {
					case err == nil:
						acked = append(acked, fmt.Sprintf("id%04d", id))
					case !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown):
						c.t.Errorf("write %d: %v", id, err)
					}
					time.Sleep(50 * time.Millisecond)
				}
				done <- acked
			}()
		}
		time.Sleep(time.Second)
		c.kill(victim)
		acked := append(<-done, <-done...)
		require.Greater(c.t, len(acked), 60, "an election takes less than a third of the time")
		for _, n := range others {
			recs, err := n.Fetch(c.t.Context(), ix, "ns", acked)
			require.NoError(c.t, err)
			require.Len(c.t, recs, len(acked))
		}
	})
}

// TestIndexWhileLeadersMoveOn: a shard that takes no writes because it is being handed over keeps nobody from making an
// index, and learns of it a moment later.
func TestIndexWhileLeadersMoveOn(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		for i := range 3 {
			n := c.nodes[i]
			sh := c.leader(uint16(i))
			led := c.nodes[c.index(sh.group.leader())]
			to := c.nodes[(c.index(sh.group.leader())+1)%3]
			c.net.delay(led.id.NodeID, to.id.NodeID, 100*time.Millisecond) // of which raft is in a transfer all the time
			handed := sh.group.raft().LeadershipTransferToServer(raft.ServerID(to.id.NodeID), raft.ServerAddress(to.id.NodeID))
			ix := createIndex(c.t, led, fmt.Sprint("of-the-leader-", i))
			createIndex(c.t, n, fmt.Sprint("of-a-node-", i))
			require.NoError(c.t, led.DeleteIndex(c.t.Context(), ix.Name))
			_ = handed.Error()
			c.net.healAll()
			c.until("every leader knows the indexes", func() bool {
				for id := range uint16(3) {
					sh := c.leader(id)
					if sh == nil {
						return false
					}
					if known, _ := sh.engine.Schemas(); len(known) != i+1 {
						return false
					}
				}
				return true
			})
		}
		time.Sleep(time.Second) // what was delayed arrives: a bubble's time stands still once it has ended
	})
}
