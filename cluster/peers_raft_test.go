package cluster

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// refusingLog fails appends when told to, as a disk without room does.
type refusingLog struct {
	*raft.InmemStore
	refuse atomic.Bool
}

var errRefused = errors.New("no room")

func (l *refusingLog) StoreLogs(logs []*raft.Log) error {
	if l.refuse.CompareAndSwap(true, false) {
		time.Sleep(5 * time.Millisecond) // meanwhile the leader sends more, as it does to a slow disk
		return errRefused
	}
	return l.InmemStore.StoreLogs(logs)
}

// pipelined are links that remember the pipelines that raft makes.
type pipelined struct {
	*tcpPeers
	made *pipelines
}

func (p pipelined) open(group string) raft.Transport {
	return pipelinedTrans{p.tcpPeers.open(group).(safeTrans), p.made}
}

type pipelinedTrans struct {
	safeTrans
	made *pipelines
}

func (t pipelinedTrans) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.safeTrans.AppendEntriesPipeline(id, to)
	if err == nil {
		t.made.mu.Lock()
		defer t.made.mu.Unlock()
		t.made.all = append(t.made.all, p)
	}
	return p, err
}

type pipelines struct {
	mu  sync.Mutex
	all []raft.AppendPipeline
}

func (p *pipelines) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		one.Close()
	}
}

// standsStill lets a follower refuse an append now and then while the leader has much to send. It reports whether
// replication to that follower ended for good, although both live and the leader leads: it has the patience to keep its place
// on a busy machine.
func standsStill(t *testing.T, build newPeers, rounds int) bool {
	logs := map[string]*refusingLog{}
	trio := newTrioWith(t, 5*trioTick, build, func(node string, s *raft.InmemStore) raft.LogStore {
		logs[node] = &refusingLog{InmemStore: s}
		return logs[node]
	})
	leader := trio.leader(nil)
	var follower string
	for id, r := range trio.rafts {
		if r != leader {
			follower = id
		}
	}
	stop := pump(t, leader)
	defer stop()
	for range rounds {
		logs[follower].refuse.Store(true)
		await(t, func() bool { return !logs[follower].refuse.Load() })
		if !advances(trio.rafts[follower], leader.AppliedIndex()+1) {
			require.Equal(t, raft.Leader, leader.State(), "no election helps")
			return true
		}
	}
	return false
}

// pump proposes without a pause until stop is called.
func pump(t *testing.T, leader *raft.Raft) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := leader.Apply([]byte("entry"), 0).Error(); err != nil {
					t.Errorf("propose: %v", err)
					return
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// advances reports whether a follower has an entry within many heartbeats.
func advances(r *raft.Raft, index uint64) bool {
	for range 200 {
		if r.LastIndex() >= index {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// TestReplicationGoesOnAfterRefusals is the reason for raftInFlight: what stands still with raft's own setting goes on
// with ours.
func TestReplicationGoesOnAfterRefusals(t *testing.T) {
	t.Run("pipelined", func(t *testing.T) {
		n := newTCPNetwork(t, nil)
		var made pipelines
		defer made.closeAll() // or raft would never stop
		build := func(node string) peers {
			p := n.peers(node).(*tcpPeers)
			p.inFlight = raft.DefaultMaxRPCsInFlight
			return pipelined{p, &made}
		}
		require.True(t, standsStill(t, build, 100), "raft is mended: look again at raftInFlight")
	})
	t.Run("ours", func(t *testing.T) {
		require.False(t, standsStill(t, newTCPNetwork(t, nil).peers, 20))
	})
}
