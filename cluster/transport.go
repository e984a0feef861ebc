package cluster

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// transports makes the transport of each group: the seam between a node alone and one with peers.
type transports interface {
	// open returns the transport of a group. raft closes it when the group shuts down. A group that is open already gets a
	// new transport, and the old one is closed.
	open(group string) raft.Transport
}

// loopback are the links of a node alone: they reach nobody, and groups have a single voter. Address and server id are both
// the node id, so that a later change of address touches no group's configuration.
type loopback struct{ node raft.ServerID }

var _ peers = loopback{}

func (l loopback) open(string) raft.Transport {
	_, t := raft.NewInmemTransport(raft.ServerAddress(l.node))
	return t
}

func (l loopback) handle(method, handler) {}

func (l loopback) start() error { return nil }

func (l loopback) call(_ context.Context, to string, _ method, _, dst []byte) ([]byte, error) {
	return dst, errs.New(errs.Unavailable, "node %s was not reached: this node has no links to others", to).
		WithHint("start this node with --peer-listen")
}

func (l loopback) callAddr(ctx context.Context, addr string, m method, request, dst []byte) ([]byte, error) {
	return l.call(ctx, addr, m, request, dst)
}

func (l loopback) addr() string { return "" }

func (l loopback) close() error { return nil }

// guarded has votes given as ballot says, and keeps raft from three things. Heartbeats go through its main loop like everything else: a second goroutine that
// changed the term under a leader's loop would let logs diverge (hashicorp/raft #695). No follower is told that more is
// committed than it has of this leader, see vouched. And a snapshot that is only a marker is not sent: a replica that the
// log does not reach back to needs the files themselves.
type guarded struct {
	fullTransport
	group  *group
	ballot *ballot
}

// guardTransport opens the transport of a group.
func guardTransport(o *groupOptions, g *group) *guarded {
	t := quieten(o.transports.open(o.name), &g.quiet).(fullTransport)
	return &guarded{t, g, newBallot(g, t.Consumer())}
}

// Consumer implements raft.Transport.
func (t *guarded) Consumer() <-chan raft.RPC { return t.ballot.out }

// Close implements raft.WithClose.
func (t *guarded) Close() error {
	t.ballot.close()
	return t.fullTransport.Close()
}

// AppendEntries implements raft.Transport.
func (t *guarded) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if last := vouched(args); args.LeaderCommitIndex > last { // heartbeats, of which several may be on their way, have none
		args.LeaderCommitIndex = last
	}
	err := t.fullTransport.AppendEntries(id, target, args, resp)
	t.group.opts.links.raftSent(string(id), err)
	return err
}

// vouched is the last entry that a follower has as the leader has it, once it takes the request: behind that its log may
// hold what a leader that was deposed has left there. A follower of raft's takes all that it has, up to LeaderCommitIndex,
// for committed (1.7.3, appendEntries; the Raft paper has the minimum with the last new entry). And leaders do send commit
// indexes beyond: what a request is to reach is settled before the pause that follows failures, the commit index behind it
// (replicateTo). A follower that missed the begin of a term then applied entries that were never committed.
func vouched(args *raft.AppendEntriesRequest) uint64 {
	return args.PrevLogEntry + uint64(len(args.Entries))
}

// RequestVote implements raft.Transport.
func (t *guarded) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return throughStale(func() error { return t.fullTransport.RequestVote(id, target, args, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *guarded) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return throughStale(func() error { return t.fullTransport.RequestPreVote(id, target, args, resp) })
}

// throughStale asks again where the connection had ended. raft keeps connections, and followers use theirs in elections alone:
// all that lead to a node that was restarted since are dead, and each would count as a vote refused, one election timeout
// after the other. Who is asked twice for the same vote gives the same answer.
func throughStale(ask func() error) (err error) {
	for range raftPool + 1 {
		if err = ask(); !hasEnded(err) {
			return err
		}
	}
	return err
}

// hasEnded reports whether an error is that of a connection that the other side has given up.
func hasEnded(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// SetHeartbeatHandler implements raft.Transport.
func (*guarded) SetHeartbeatHandler(func(raft.RPC)) {}

// InstallSnapshot implements raft.Transport.
func (t *guarded) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if !t.group.opts.markers {
		return t.fullTransport.InstallSnapshot(id, target, args, resp, data)
	}
	return t.group.offerCheckpoint(string(id), args, resp, data)
}
