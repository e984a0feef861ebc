package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/internal/errs"
)

// hangingLog is a log on a disk that may hang.
type hangingLog struct {
	raft.LogStore
	clock *raftlog.Clock
	well  atomic.Pointer[chan struct{}] // closed while the disk answers
}

func (l *hangingLog) StoreLogs(entries []*raft.Log) error {
	l.clock.Begin(raftlog.Appending)
	defer l.clock.End(raftlog.Appending)
	<-*l.well.Load()
	return l.LogStore.StoreLogs(entries)
}

func (l *hangingLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// watchedPeers are links whose groups fall quiet.
type watchedPeers struct {
	peers
	group *group
}

func (p watchedPeers) open(name string) raft.Transport {
	return quieten(p.peers.open(name), &p.group.quiet)
}

// watched is a trio whose disks may hang, with what watches each.
type watched struct {
	*trio
	logs   map[string]*hangingLog
	groups map[string]*group
	dogs   map[string]*watchdog
}

func newWatched(t *testing.T) *watched {
	n := newMemoryNetwork()
	w := &watched{logs: map[string]*hangingLog{}, groups: map[string]*group{}, dogs: map[string]*watchdog{}}
	for _, id := range []string{"a", "b", "c"} {
		g := &group{name: "group", log: &raftlog.Log{}}
		well := make(chan struct{})
		close(well)
		w.groups[id] = g
		w.logs[id] = &hangingLog{clock: g.log.Clock()}
		w.logs[id].well.Store(&well)
		w.dogs[id] = &watchdog{groups: func() []*group { return []*group{g} }, alone: func() bool { return false }, fail: newFailure(testLogger()), logger: testLogger()}
	}
	w.trio = newTrioWith(t, trioTick, func(node string) peers { return watchedPeers{n.peers(node), w.groups[node]} },
		func(node string, s *raft.InmemStore) raft.LogStore {
			w.logs[node].LogStore = s
			return w.logs[node]
		})
	return w
}

func (w *watched) nodeOf(r *raft.Raft) string {
	for id, other := range w.rafts {
		if other == r {
			return id
		}
	}
	return ""
}

// hang makes a node's disk hang in the midst of a write. The function that it returns mends it.
func (w *watched) hang(leader *raft.Raft) (mend func()) {
	id := w.nodeOf(leader)
	well := make(chan struct{})
	w.logs[id].well.Store(&well)
	leader.Apply([]byte("stuck"), 0)
	return func() { close(well) }
}

func (w *watched) watch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, dog := range w.dogs {
		go dog.run(ctx)
	}
}

// TestHungDiskKeepsLeader shows the defect: a leader that cannot store anything is never replaced.
func TestHungDiskKeepsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		leader := w.leader(nil)
		mend := w.hang(leader)
		time.Sleep(time.Minute)
		for _, r := range w.rafts {
			require.Equal(t, r == leader, r.State() == raft.Leader)
		}
		mend()
	})
}

func TestWatchdogHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.watch(t)
		first := w.leader(nil)
		mend := w.hang(first)
		time.Sleep(stallQuiet - time.Second)
		require.Equal(t, raft.Leader, first.State(), "a short stall moves nothing")
		time.Sleep(2500 * time.Millisecond)
		second := w.leader(first)
		require.NoError(t, second.Apply([]byte("without the first"), 0).Error())
		mend()
		w.await(func() bool { return first.State() == raft.Follower && first.AppliedIndex() >= second.AppliedIndex() })
		time.Sleep(time.Second)
		for id, g := range w.groups {
			require.False(t, g.quiet.Load(), id)
			require.NoError(t, w.dogs[id].fail.Cause(), id)
		}
	})
}

func TestWatchdogGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.watch(t)
		leader := w.leader(nil)
		mend := w.hang(leader)
		time.Sleep(stallFatal - time.Second)
		dog := w.dogs[w.nodeOf(leader)]
		require.NoError(t, dog.fail.Cause())
		time.Sleep(2 * time.Second)
		require.Equal(t, errs.Unavailable, errs.KindOf(dog.fail.Cause()))
		require.ErrorContains(t, dog.fail.Cause(), "log of group")
		mend()
	})
}
