package cluster

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// raftPatience bounds a request of raft to another node, dialling included.
	raftPatience = 5 * time.Second
	// raftPool is how many connections a group keeps to each node: one for entries, one for heartbeats. Each takes half a
	// MiB of buffers on both sides together.
	raftPool = 2
	// raftInFlight of 1 turns pipelining off. With 2, raft's default, the replication of a follower stands still for
	// ever when that refuses an append while the next is being sent: the channels are unbuffered, and nobody reads the
	// answer that is due (#612). The leader's heartbeats go on, so no election helps. Requests carry what has gathered
	// meanwhile, so little is lost (#541).
	raftInFlight = 1
	// raftBacklog is how many connections to a group may wait for raft to accept them.
	raftBacklog = 64
)

// safeTrans keeps raft from handling heartbeats in a goroutine of their own, which raises the term under the leader's
// loop: logs may then differ (#695). Without a handler the transport hands them to the main loop.
type safeTrans struct {
	*raft.NetworkTransport
	stream *raftStream
}

var (
	_ raft.WithPreVote = safeTrans{}
	_ raft.WithClose   = safeTrans{}
)

// SetHeartbeatHandler implements raft.Transport, and does nothing.
func (safeTrans) SetHeartbeatHandler(func(raft.RPC)) {}

// Close implements raft.WithClose. raft's own leaves its connections open.
func (t safeTrans) Close() error {
	err := t.NetworkTransport.Close()
	_ = t.stream.Close()
	return err
}

// raftStream is where a group's connections come from. Its addresses are node ids.
type raftStream struct {
	peers    *tcpPeers
	group    string
	accepted chan net.Conn
	conns    connSet // both accepted and dialled
	ctx      context.Context
	cancel   context.CancelFunc
	closing  sync.Once
}

// newRaftTransport makes the transport of a group.
func newRaftTransport(p *tcpPeers, group string) safeTrans {
	s := &raftStream{peers: p, group: group, accepted: make(chan net.Conn, raftBacklog)}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	return safeTrans{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: raftLogger(p.opts.logger, group), Stream: s, MaxPool: raftPool, MaxRPCsInFlight: p.inFlight, Timeout: raftPatience,
	}), s}
}

// listens reports whether raft can take another connection.
func (s *raftStream) listens() bool {
	return s.ctx.Err() == nil && len(s.accepted) < cap(s.accepted)
}

// offer hands a connection to raft. It never waits: when raft does not keep up, the connection is closed, and who dialled
// tries again.
func (s *raftStream) offer(conn net.Conn) {
	c, ok := s.conns.add(conn)
	if !ok {
		return
	}
	select {
	case s.accepted <- raftConn{c}:
	default:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (s *raftStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *raftStream) Close() error {
	s.closing.Do(func() {
		s.cancel()
		s.conns.closeAll()
		s.peers.forget(s)
	})
	return nil
}

// Addr implements net.Listener: it is the node id.
func (s *raftStream) Addr() net.Addr { return nodeAddr(s.peers.opts.node) }

// Dial implements raft.StreamLayer.
func (s *raftStream) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	addr, ok := s.peers.opts.resolve(string(node))
	if !ok {
		return nil, unreached(string(node), errNoAddress)
	}
	conn, err := s.peers.dial(ctx, addr, &hello{kind: helloRaft, to: string(node), group: s.group})
	if err != nil {
		return nil, unreached(string(node), err)
	}
	c, ok := s.conns.add(conn)
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

type nodeAddr string

func (nodeAddr) Network() string  { return "croft" }
func (a nodeAddr) String() string { return string(a) }

// raftConn is a connection from another node. That it breaks is no news, but raft would call anything save io.EOF an error.
type raftConn struct{ *setConn }

func (c raftConn) Read(b []byte) (int, error) {
	n, err := c.setConn.Read(b)
	if err != nil {
		err = io.EOF
	}
	return n, err
}
