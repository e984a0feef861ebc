package cluster

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// memoryRPCTimeout is how long raft waits for an answer over a memoryNetwork.
const memoryRPCTimeout = time.Second

// memoryTransport is the transport of one group at one node of a memoryNetwork. Like the transport of real nodes it does
// not pipeline, and has no short cut for heartbeats.
type memoryTransport struct {
	peers    *memoryPeers
	group    string
	consumer chan raft.RPC
	ctx      context.Context // ends when the transport is closed or the node leaves
	cancel   context.CancelFunc
}

var (
	_ raft.WithPreVote = (*memoryTransport)(nil)
	_ raft.WithClose   = (*memoryTransport)(nil)
)

func newMemoryTransport(p *memoryPeers, group string) *memoryTransport {
	t := &memoryTransport{peers: p, group: group, consumer: make(chan raft.RPC)}
	t.ctx, t.cancel = context.WithCancel(p.ctx)
	return t
}

// Close implements raft.WithClose.
func (t *memoryTransport) Close() error {
	t.cancel()
	return nil
}

// Consumer implements raft.Transport.
func (t *memoryTransport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr implements raft.Transport: it is the node id.
func (t *memoryTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.peers.node) }

// EncodePeer implements raft.Transport.
func (t *memoryTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}

// DecodePeer implements raft.Transport.
func (t *memoryTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport. Heartbeats go through raft's main loop.
func (t *memoryTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline implements raft.Transport.
func (t *memoryTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *memoryTransport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if see := t.peers.network.onAppend; see != nil {
		see(t.group, args)
	}
	return exchange(t, id, args, nil, resp)
}

// RequestVote implements raft.Transport. Candidates ask all with the same request, which a ballot changes at one.
func (t *memoryTransport) RequestVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	own := *args
	return exchange(t, id, &own, nil, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *memoryTransport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return exchange(t, id, args, nil, resp)
}

// TimeoutNow implements raft.Transport.
func (t *memoryTransport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return exchange(t, id, args, nil, resp)
}

// InstallSnapshot implements raft.Transport. The data is taken along whole: the receiver must not read from a snapshot that
// the sender, who may have given up, has closed.
func (t *memoryTransport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(data, args.Size))
	if err != nil {
		return err
	}
	return exchange(t, id, args, bytes.NewReader(b), resp)
}

// exchange sends a request to a node's replica of the group and waits for the answer.
func exchange[T any](t *memoryTransport, to raft.ServerID, args any, data io.Reader, resp *T) error {
	ctx, cancel := context.WithTimeoutCause(t.ctx, memoryRPCTimeout, errLate)
	defer cancel()
	rpc := raft.RPC{Command: args, Reader: data}
	if t.peers.network.plain(t.peers.node, string(to)) {
		answer, err := t.send(ctx, ctx, string(to), rpc)
		if err == nil {
			*resp = *answer.(*T)
		}
		return err
	}
	done := make(chan raft.RPCResponse, 1)
	go func() {
		answer, err := t.send(ctx, context.WithoutCancel(ctx), string(to), rpc)
		done <- raft.RPCResponse{Response: answer, Error: err}
	}()
	select {
	case r := <-done:
		if r.Error == nil {
			*resp = *r.Response.(*T)
		}
		return r.Error
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send hands a request to the other replica's raft and returns what that answers. The request travels as long as travel
// goes on, and the answer is waited for as long as ctx does.
func (t *memoryTransport) send(ctx, travel context.Context, to string, rpc raft.RPC) (any, error) {
	lost, err := t.peers.network.carry(travel, t.peers.node, to)
	if err != nil {
		return nil, err
	}
	if lost {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	peer := t.peers.network.replica(to, t.group)
	if peer == nil {
		return nil, errGone
	}
	answers := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answers
	select {
	case peer.consumer <- rpc:
	case <-peer.ctx.Done():
		return nil, errGone
	case <-travel.Done():
		return nil, context.Cause(travel)
	}
	select {
	case a := <-answers:
		if a.Error != nil {
			return nil, a.Error
		}
		lost, err := t.peers.network.carry(ctx, to, t.peers.node)
		if lost || err != nil {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return a.Response, nil
	case <-peer.ctx.Done():
		return nil, errGone
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// replica is the transport of a group at a node, nil if there is none.
func (n *memoryNetwork) replica(node, group string) *memoryTransport {
	if p := n.node(node); p != nil {
		return p.transport(group)
	}
	return nil
}
