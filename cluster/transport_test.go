package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// commandQueue is a state machine that tells what it is given.
type commandQueue struct {
	discardFSM
	commands chan string
}

func (q commandQueue) Apply(l *raft.Log) any {
	q.commands <- string(l.Data)
	return nil
}

// wire is a raft follower, and what a leader would send to it.
type wire struct {
	t      *testing.T
	leader raft.Transport
}

// newWire starts a follower whose leader speaks through a transport.
func newWire(t *testing.T, fsm raft.FSM, store interface {
	raft.LogStore
	raft.StableStore
}, snaps raft.SnapshotStore, through func(fullTransport) raft.Transport) wire {
	network := newMemoryNetwork()
	open := func(node string) fullTransport {
		return started(t, func(n string) peers { return network.peers(n) }, node, nil).open("group").(fullTransport)
	}
	w := wire{t, through(open("leader"))}
	c := raft.DefaultConfig()
	c.LocalID, c.Logger, c.NoSnapshotRestoreOnStart = "follower", hclog.NewNullLogger(), true
	c.HeartbeatTimeout, c.ElectionTimeout = time.Hour, time.Hour
	r, err := raft.NewRaft(c, fsm, store, store, snaps, open("follower"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Shutdown().Error()) })
	return w
}

func direct(f fullTransport) raft.Transport { return f }

// send sends a request, and reports whether the follower took it.
func (w wire) send(term, prev, prevTerm, commit uint64, entries ...*raft.Log) bool {
	var resp raft.AppendEntriesResponse
	require.NoError(w.t, w.leader.AppendEntries("follower", "follower", &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte("leader")},
		Term:      term, PrevLogEntry: prev, PrevLogTerm: prevTerm, Entries: entries, LeaderCommitIndex: commit,
	}, &resp))
	return resp.Success
}

// firstApplied is the first command that a follower applies to whom a deposed leader has left an entry that was never
// committed. The next leader commits another in its place without that follower, and tells it of this with a request that
// ends before that entry, as raft does after failures, see vouched.
func firstApplied(t *testing.T, through func(fullTransport) raft.Transport) string {
	fsm := commandQueue{commands: make(chan string, 2)}
	w := newWire(t, fsm, raft.NewInmemStore(), raft.NewDiscardSnapshotStore(), through)
	require.True(t, w.send(1, 0, 0, 1, &raft.Log{Index: 1, Term: 1, Type: raft.LogNoop}, &raft.Log{Index: 2, Term: 1, Data: []byte("left behind")}))
	require.True(t, w.send(2, 1, 1, 2))
	require.True(t, w.send(2, 1, 1, 2, &raft.Log{Index: 2, Term: 2, Data: []byte("committed")}))
	return <-fsm.commands
}

// TestFollowersApplyWhatIsCommitted is the reason for vouched.
func TestFollowersApplyWhatIsCommitted(t *testing.T) {
	require.Equal(t, "left behind", firstApplied(t, direct), "raft is mended: look again at vouched")
	require.Equal(t, "committed", firstApplied(t, func(f fullTransport) raft.Transport { return &guarded{fullTransport: f, group: new(group)} }))
}

// TestFollowersKnowTheirMarker sends to a replica that began with a checkpoint, and to which a deposed leader has left entries
// behind it, what the next leader has in their place.
func TestFollowersKnowTheirMarker(t *testing.T) {
	for _, ours := range []bool{false, true} {
		l := testLog(t, t.TempDir())
		snaps, err := openSnapshots(vfs.OS(), t.TempDir(), hclog.NewNullLogger())
		require.NoError(t, err)
		require.NoError(t, (&checkpointMark{applied: 7, index: 7, term: 1}).writeMarker(snaps, "follower"))
		var store interface {
			raft.LogStore
			raft.StableStore
		} = l
		if ours {
			store = l.ForRaft(snaps)
		}
		w := newWire(t, discardFSM{}, store, snaps, direct)
		require.True(t, w.send(1, 7, 1, 7, &raft.Log{Index: 8, Term: 1}, &raft.Log{Index: 9, Term: 1}))
		require.False(t, w.send(2, 6, 1, 7, &raft.Log{Index: 7, Term: 1}), "what was before the marker is not known")
		require.False(t, w.send(2, 7, 2, 7, &raft.Log{Index: 8, Term: 2}), "another entry than the marker's")
		taken := w.send(2, 7, 1, 7, &raft.Log{Index: 8, Term: 2})
		require.Equal(t, ours, taken, "if raft takes it by itself it is mended: look again at raftlog.Store.GetLog")
		if ours {
			last, err := l.LastIndex()
			require.NoError(t, err)
			require.EqualValues(t, 8, last)
			term, err := (&group{log: l}).termOf(8)
			require.NoError(t, err)
			require.EqualValues(t, 2, term)
		}
	}
}

// TestVotesAreAskedThroughStaleConnections has a node ask for votes that keeps connections to one that has started anew since: each
// would count as a refusal.
func TestVotesAreAskedThroughStaleConnections(t *testing.T) {
	n := newTCPNetwork(t, nil)
	asker, voter := started(t, n.peers, "asker", nil), started(t, n.peers, "voter", nil)
	from := asker.open("group").(fullTransport)
	defer from.Close()
	serve := func() (end func()) { // votes, two at a time, so that there are two connections
		trans, stop := voter.open("group").(fullTransport), make(chan struct{})
		go func() {
			var waiting []raft.RPC
			for {
				select {
				case rpc := <-trans.Consumer():
					if waiting = append(waiting, rpc); len(waiting) == raftPool {
						for _, w := range waiting {
							w.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
						}
						waiting = nil
					}
				case <-stop:
					return
				}
			}
		}()
		return func() { close(stop); require.NoError(t, trans.Close()) }
	}
	ask := func(t raft.Transport) error {
		errs := make(chan error, raftPool)
		for range raftPool {
			go func() {
				var resp raft.RequestVoteResponse
				errs <- t.RequestVote("voter", "voter", &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &resp)
			}()
		}
		return errors.Join(<-errs, <-errs)
	}
	end := serve()
	require.NoError(t, ask(from))
	end()
	end = serve()
	require.NoError(t, ask(&guarded{fullTransport: from}))
	end()
	end = serve()
	defer end()
	require.True(t, hasEnded(ask(from)), "without a second try: look again at throughStale")
}
